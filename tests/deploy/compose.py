"""What docker-compose.prod.yml and the Dockerfile say, read as Compose and Docker read them.

Only what these files use: interpolation of `$$`, `${A:-default}` and `${A:?message}`, merged mappings,
the short forms of volumes, ports and tmpfs.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docker-compose.prod.yml"
ENVIRONMENT = {"ROLLCALL_HOST": "sessions.example.org", "ROLLCALL_SECRETS": "/srv/secrets"}
_VARIABLE = re.compile(r"\$(?:(\$)|\{(\w+)(?::([-?])([^}]*))?\})")


class VariableUnset(Exception):
    """A variable that the file requires is not set; the message is Compose's."""


def project(environ: Mapping[str, str] = ENVIRONMENT) -> dict[str, Any]:
    """Return the file with every variable filled in. Raises VariableUnset."""
    loaded = YAML(typ="safe", pure=True).load(FILE.read_text())
    return {
        name: _filled(part, environ) for name, part in loaded.items() if not name.startswith("x-")
    }


def _filled(part: Any, environ: Mapping[str, str]) -> Any:
    if isinstance(part, dict):
        return {name: _filled(value, environ) for name, value in part.items()}
    if isinstance(part, list):
        return [_filled(value, environ) for value in part]
    return interpolated(part, environ) if isinstance(part, str) else part


def interpolated(text: str, environ: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        dollar, name, operator, rest = match.groups()
        if dollar:
            return "$"
        if environ.get(name):
            return environ[name]
        if operator == "?":
            raise VariableUnset(f"required variable {name} is missing a value: {rest}")
        return rest if operator == "-" else ""

    return _VARIABLE.sub(value, text)


@dataclass(frozen=True)
class Mount:
    """A path of a container and where it comes from: a file of ours, or None for an empty directory."""

    target: str
    source: Path | None


def mounts(service: Mapping[str, Any], secrets: Mapping[str, Any]) -> list[Mount]:
    """Return every path that a service has beside its image."""
    found = [
        Mount(f"/run/secrets/{name}", Path(secrets[name]["file"]))
        for name in service.get("secrets", [])
    ]
    for volume in service.get("volumes", []):
        source, target = volume.split(":")[:2]
        found.append(Mount(target, ROOT / source if source.startswith(".") else None))
    found += [Mount(tmpfs.partition(":")[0], None) for tmpfs in service.get("tmpfs", [])]
    return found


def seconds(duration: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(s|m)", duration).groups()  # type: ignore[union-attr]
    return float(number) * (60 if unit == "m" else 1)


@dataclass(frozen=True)
class Dockerfile:
    """The last stage of the Dockerfile: what is in the image and how it runs."""

    bases: list[str]
    copied: list[tuple[str, str]]
    environment: dict[str, str]
    user: str
    command: list[str]


def dockerfile() -> Dockerfile:
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if re.match("[A-Z]+ ", line)]
    last = max(n for n, (word, _) in enumerate(lines) if word == "FROM")
    copied: list[tuple[str, str]] = []
    environment: dict[str, str] = {}
    for word, rest in lines[last:]:
        if word == "COPY" and not rest.startswith("--from"):
            *sources, target = rest.split()
            copied += [(s, target if len(sources) == 1 else s) for s in sources]
        elif word == "ENV":
            environment |= dict(pair.split("=", 1) for pair in rest.split())
    return Dockerfile(
        bases=[rest.split()[0] for word, rest in lines if word == "FROM"],
        copied=copied,
        environment=environment,
        user=next(rest for word, rest in lines[last:] if word == "USER"),
        command=json.loads(next(rest for word, rest in lines[last:] if word == "CMD")),
    )


def is_sent_to_the_build(path: str) -> bool:
    """Say whether .dockerignore lets a path into the build: the last line that matches it decides."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        kept, pattern = line.startswith("!"), line.removeprefix("!")
        parts = [path, *map(str, Path(path).parents)]
        bare = pattern.removeprefix("**/")
        if any(
            fnmatch(part, pattern) or (bare != pattern and Path(part).name == bare)
            for part in parts
        ):
            sent = kept
    return sent

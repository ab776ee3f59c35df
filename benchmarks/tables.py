"""Tables as Markdown, for the terminal and for docs/performance.md alike, and the machine in words."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

_LIBRARIES = ("flask", "flask-session", "flask-login", "sqlalchemy", "redis", "hiredis", "psycopg")


def table(heads: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table whose first column is text and whose others are numbers."""
    widths = [max(3, *(len(row[at]) for row in [heads, *rows])) for at in range(len(heads))]

    def line(cells: list[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        return f"| {' | '.join(padded)} |"

    ruler = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(heads), line(ruler), *map(line, rows)]) + "\n"


def machine(**servers: str) -> str:
    """Describe what the figures were taken on; `servers` are versions by name."""
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    of_servers = "".join(f", {name} {number}" for name, number in servers.items())
    return (
        f"{os.cpu_count()} cores of {_model()}, {platform.system()} {platform.machine()},"
        f" Python {platform.python_version()}{of_servers}; {libraries}.\n"
    )


def _model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "an unnamed processor"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()

"""The services of docker-compose.prod.yml as plain processes on loopback, without a container engine.

They run the shipped commands, environments, configuration files and health checks. What differs from
containers is all in `Service.here` and `Plain`'s "what the images do" part: paths lead into a directory of
the service's own, names and ports to loopback, nginx's template is filled in and PostgreSQL's cluster made
by us. Where the tests run as root, the file system is read-only to each service but for its tmpfs and
volumes. Not shown here: images, networks, limits, capabilities.
"""

import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests import servers
from tests.deploy import compose
from tests.logged import keeping

HOST = "rollcall.test"
PATIENCE = 90.0
"""Seconds that a service may take to be well on a busy machine."""

_PORTS = (8443, 8080, 8081, 8000, 8001, 6379, 5432)
_ACCOUNTS = {"proxy": "nobody", "valkey": "nobody", "database": "postgres"}
"""Whom they run as here if the tests run as root, in place of the user ids of their images."""

# In a mount namespace of its own: what is named stays writable, all else but /dev becomes read-only.
_READ_ONLY = """
set -e
mount --make-rprivate /
kept=" "
while [ "$1" != -- ]; do mount --bind "$1" "$1"; kept="$kept$1 "; shift; done
shift
for at in $(awk '$2 !~ "^/(proc|sys|dev)" {print $2}' /proc/self/mounts | sort -u); do
    case $kept in *" $at "*) ;; *) mount -o remount,bind,ro "$at" ;; esac
done
exec "$@"
"""


class Service:
    """One service: its directory, and what the files say translated to it."""

    def __init__(self, plain: "Plain", name: str, described: dict[str, Any]) -> None:
        self.plain = plain
        self.name = name
        self.described = described
        self.root = plain.directory / name
        self.log = plain.directory / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        mounts = compose.mounts(described, plain.project["secrets"])
        self.targets = [mount.target for mount in mounts]
        for mount in mounts:
            self._mount(mount)
        self.give_away()

    def _mount(self, mount: compose.Mount) -> None:
        place = self.root / mount.target.lstrip("/")
        if mount.source is None:
            place.mkdir(parents=True, exist_ok=True)
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(self.here(mount.source.read_text()))
        place.chmod(0o444)

    def give_away(self) -> None:
        self.root.mkdir(exist_ok=True)
        keeping.place(self.log, f"deployed-{self.name}")
        self.log.touch()
        if self.account is not None:
            # The log too: a container's standard output belongs to its user.
            for path in (self.log, self.root, *self.root.rglob("*")):
                os.chown(path, self.account.pw_uid, self.account.pw_gid)

    @property
    def account(self) -> pwd.struct_passwd | None:
        name = _ACCOUNTS.get(self.name)
        return pwd.getpwnam(name) if name and os.geteuid() == 0 else None

    def here(self, text: str) -> str:
        """Translate what a shipped file says to this machine. This is the whole list of substitutions."""
        ports = "|".join(map(str, _PORTS))
        text = re.sub(r"\b(web|valkey|database):(?=\d)", "127.0.0.1:", text)
        text = text.replace("0.0.0.0", "127.0.0.1")
        text = re.sub(rf"\b({ports})\b", lambda found: str(self.plain.ports[int(found[1])]), text)
        if not self.plain.nginx_knows_http2_on:
            text = text.replace("http2 on;", "")
        targets = "|".join(map(re.escape, sorted(self.targets, key=len, reverse=True)))
        return re.sub(rf"(?<![\w/.-])({targets})(?![\w.-])", lambda t: f"{self.root}{t[1]}", text)

    @property
    def environment(self) -> dict[str, str]:
        given = {
            name: self.here(str(v)) for name, v in self.described.get("environment", {}).items()
        }
        base = {"PATH": self.plain.path, "LANG": "C.UTF-8", "TMPDIR": str(self.root / "tmp")}
        if self.is_ours:
            image = compose.dockerfile().environment
            base |= {name: value for name, value in image.items() if name != "PATH"}
        if self.name == "database":
            base["PGDATA"] = str(self.root / "var/lib/postgresql/data")
        return base | given

    @property
    def is_ours(self) -> bool:
        return "build" in self.described

    def command(self, words: list[str]) -> list[str]:
        """Return a command of the container as one for this machine."""
        words = [self.here(word) for word in words]
        if self.account is not None:
            who = f"--reuid={self.account.pw_uid}", f"--regid={self.account.pw_gid}"
            words = ["setpriv", *who, "--clear-groups", *words]
        if self.plain.can_be_read_only and self.described["read_only"]:
            words = [
                "unshare",
                "--mount",
                "sh",
                "-c",
                _READ_ONLY,
                "sh",
                *map(self.here, self.writable),
                "--",
                *words,
            ]
        return words

    @property
    def writable(self) -> list[str]:
        """Where it may write: its tmpfs and its volumes, as the container names them."""
        mounts = compose.mounts(self.described, self.plain.project["secrets"])
        return [mount.target for mount in mounts if mount.source is None]

    def run(
        self, *words: str, text: str = "", within: float = PATIENCE, **more: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end as `docker compose run` or `exec` would; return what it printed."""
        process = subprocess.Popen(
            self.command(list(words)),
            cwd=self._directory,
            env=self.environment | more,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(text, within)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
        keeping.keep(err, f"deployed-{self.name}")
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    @property
    def _directory(self) -> Path:
        return self.plain.image if self.is_ours else self.root

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(self.described["command"]),
                cwd=self._directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A group of its own: what ends or freezes a container does so to all in it.
                start_new_session=True,
            )

    def is_well(self) -> bool:
        """Ask the shipped health check once."""
        if self.process is None or self.process.poll() is not None:
            return False
        kind, *words = self.described["healthcheck"]["test"]
        asked = ["sh", "-c", *words] if kind == "CMD-SHELL" else words
        within = compose.seconds(self.described["healthcheck"]["timeout"])
        try:
            return self.run(*asked, within=within).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    def until_well(self) -> None:
        def settled() -> bool:
            return self.is_well() or self.process is None or self.process.poll() is not None

        try:
            servers.wait_until(settled, PATIENCE)
        finally:
            assert self.is_well(), f"{self.name}: {self.printed[-3000:]}"

    @property
    def printed(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def stop(self) -> None:
        """End it as Compose would, by its stop signal and within its grace period."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.Signals[self.described.get("stop_signal", "SIGTERM")])
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(compose.seconds(self.described["stop_grace_period"]))
        self.kill()

    def kill(self) -> None:
        """End all of it at once, as a crash of its host would."""
        if self.process is not None:
            self.signal_all(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def signal_all(self, number: signal.Signals) -> None:
        assert self.process is not None
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


class Plain:
    """All services of one deployment, started in the order that the file gives."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.chmod(0o755)
        self.ports = {port: servers.free_port() for port in _PORTS}
        self._find_programs()
        self.can_be_read_only = can_be_read_only()
        self.secrets = directory / "secrets"
        make_secrets(self.secrets)
        make_certificate(self.secrets)
        for file in self.secrets.iterdir():
            if file.name.endswith(("password", "secret_key", "token")):
                keeping.note(file.read_text().strip())
        self.image = directory / "image"
        self._build()
        environ = {
            "ROLLCALL_HOST": HOST,
            "ROLLCALL_SECRETS": str(self.secrets),
            "WEB_CONCURRENCY": "2",
        }
        self.project = compose.project(environ)
        self.services = {
            name: Service(self, name, described)
            for name, described in self.project["services"].items()
        }

    def __getitem__(self, name: str) -> Service:
        return self.services[name]

    @property
    def port(self) -> int:
        return self.ports[8443]

    @property
    def certificate(self) -> Path:
        return self.secrets / "tls_certificate"

    def _find_programs(self) -> None:
        """Put what the images bring along on the path, Valkey's programs under their names there."""
        programs = self.directory / "programs"
        programs.mkdir()
        shutil.copy(servers.valkey_binary(), programs / "valkey-server")
        path = f"{os.environ['PATH']}:/usr/sbin"
        for name, needed in {
            "valkey-cli": "redis-cli",
            "nginx": "nginx",
            "curl": "curl",
            "openssl": "openssl",
        }.items():
            if (found := shutil.which(needed, path=path)) is None:
                servers.missing(f"{needed} is not installed")
            (programs / name).symlink_to(found)
        first = [programs, Path(sys.executable).parent, servers.postgresql_binaries()]
        self.path = ":".join([*map(str, first), path])
        version = subprocess.run(
            [str(programs / "nginx"), "-v"], check=True, capture_output=True, text=True
        ).stderr
        numbers = re.findall(r"\d+", version)
        self.nginx_knows_http2_on = tuple(map(int, numbers[:3])) >= (1, 25, 1)

    # What building and the images' own entrypoints do.

    def _build(self) -> None:
        self.image.mkdir()
        for source, target in compose.dockerfile().copied:
            place = self.image / target
            place.parent.mkdir(parents=True, exist_ok=True)
            if (compose.ROOT / source).is_dir():
                ignore = shutil.ignore_patterns("__pycache__")
                shutil.copytree(compose.ROOT / source, place, ignore=ignore)
            else:
                shutil.copy(compose.ROOT / source, place)

    def _fill_in_templates(self) -> None:
        """As /docker-entrypoint.d/20-envsubst-on-templates.sh of the nginx image."""
        proxy = self["proxy"]
        environ = proxy.environment
        wanted = [name for name in environ if re.search(environ["NGINX_ENVSUBST_FILTER"], name)]
        for template in (proxy.root / "etc/nginx/templates").glob("*.template"):
            text = template.read_text()
            for name in wanted:
                text = text.replace(f"${{{name}}}", environ[name])
            Path(environ["NGINX_ENVSUBST_OUTPUT_DIR"], template.stem).write_text(text)

    def _make_cluster(self) -> None:
        """As docker-entrypoint.sh of the postgres image, on an empty volume."""
        database = self["database"]
        given = database.described["environment"]
        who, password = given["POSTGRES_USER"], given["POSTGRES_PASSWORD_FILE"]
        arguments = given["POSTGRES_INITDB_ARGS"].split()
        done = database.run("initdb", f"--username={who}", f"--pwfile={password}", *arguments)
        assert done.returncode == 0, done.stderr
        database.start()
        database.until_well()
        psql = ["psql", "--set=ON_ERROR_STOP=1", "--no-psqlrc", "--no-password", "--quiet"]
        psql += ["--host=/var/run/postgresql", "--port=5432", f"--username={who}"]
        for target in database.targets:
            if target.startswith("/docker-entrypoint-initdb.d/"):
                opened = Path(database.here(password)).read_text()
                done = database.run(
                    *psql, "--dbname=postgres", f"--file={target}", PGPASSWORD=opened
                )
                assert done.returncode == 0, done.stderr
        database.stop()

    def up(self) -> None:
        """Start all in the order of depends_on, waiting for its conditions, as `docker compose up`."""
        self._fill_in_templates()
        self._make_cluster()
        done: set[str] = set()

        def start(name: str) -> None:
            if name in done:
                return
            service = self[name]
            for other in service.described.get("depends_on", {}):
                start(other)
            service.start()
            done.add(name)
            if service.described["restart"] == "no":
                assert service.process is not None
                assert service.process.wait(PATIENCE) == 0, service.printed
            else:
                service.until_well()

        for name in self.services:
            start(name)

    def down(self) -> None:
        for service in reversed(self.services.values()):
            service.stop()

    def flask(self, *words: str, text: str = "") -> str:
        """Run a command as `docker compose run --rm migrate flask ...` would."""
        done = self["migrate"].run("flask", *words, text=text)
        assert done.returncode == 0, done.stderr
        return done.stdout


def make_secrets(directory: Path) -> str:
    """Run the script that ships, and return what it said."""
    done = subprocess.run(
        [str(compose.ROOT / "deploy/make-secrets"), str(directory)],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def make_certificate(directory: Path) -> None:
    """Make a certificate for HOST, signed by itself."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += [
        "-nodes",
        "-days",
        "2",
        "-subj",
        f"/CN={HOST}",
        "-addext",
        f"subjectAltName=DNS:{HOST}",
    ]
    command += ["-keyout", str(directory / "tls_key"), "-out", str(directory / "tls_certificate")]
    subprocess.run(command, check=True, capture_output=True)
    for name in ("tls_key", "tls_certificate"):
        (directory / name).chmod(0o444)


def can_be_read_only() -> bool:
    """Say whether a process may have mounts of its own here."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    tried = ["unshare", "--mount", "sh", "-c", _READ_ONLY, "sh", "--", "true"]
    return subprocess.run(tried, check=False, capture_output=True).returncode == 0


def running() -> Iterator[Plain]:
    """Yield a deployment that is up; end every process by its own id and remove its directory."""
    directory = Path(tempfile.mkdtemp(prefix="rc-", dir="/tmp"))
    plain = None
    try:
        plain = Plain(directory)
        plain.up()
        yield plain
    finally:
        if plain is not None:
            plain.down()
        shutil.rmtree(directory, ignore_errors=True)


if sys.platform != "linux":
    pytest.skip("needs Linux: /proc and 127.0.0.0/8", allow_module_level=True)

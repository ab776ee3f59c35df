"""Redis and Valkey as people run them: with a password, over TLS.

`conftest` makes fixtures of them, one of each kind for a whole run.
"""

import shutil
import subprocess
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

import redis

from tests.servers import RedisServer, missing

PASSWORD = "p@ss:w/rd?tests#0123456789%"
"""It has what a URL must quote, and no space, which Sentinel's own file would not survive."""

QUOTED = quote(PASSWORD, safe="")
USER = "rollcall"


class PasswordRedis(RedisServer):
    """A server that wants a password: the default user's, or that of a user of its ACL."""

    @property
    def url(self) -> str:
        return f"redis://:{QUOTED}@127.0.0.1:{self.port}/0"

    @property
    def user_url(self) -> str:
        return f"redis://{USER}:{QUOTED}@127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        commands = ["+@read", "+@write", "+@connection", "+evalsha", "+eval", "+script|load"]
        user = ["--user", USER, "on", "#" + _digest(PASSWORD), "~*", *commands]
        return [*super().command(), "--requirepass", PASSWORD, *user]

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, password=PASSWORD, socket_timeout=5, protocol=2)


class TlsRedis(RedisServer):
    """A server that speaks nothing but TLS, with a certificate of its own making."""

    @property
    def url(self) -> str:
        return f"rediss://127.0.0.1:{self.port}?ssl_ca_certs={self.certificate}"

    @cached_property
    def certificate(self) -> Path:
        return made_certificate(self.directory)

    def command(self) -> list[str]:
        return [*super().command(), *_tls(self.port, self.certificate)]

    def client(self) -> redis.Redis:
        return redis.Redis(
            port=self.port,
            ssl=True,
            ssl_ca_certs=str(self.certificate),
            socket_timeout=5,
            protocol=2,
        )


def made_certificate(directory: Path) -> Path:
    """Make a certificate for loopback that vouches for itself; its key is in the same file."""
    if shutil.which("openssl") is None:
        missing("openssl is not installed")
    file = directory / "tls.pem"
    if not file.exists():
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        name = ["-subj", "/CN=tests", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
        made = ["openssl", "req", "-x509", *key, "-days", "2", *name]
        made += ["-keyout", str(file), "-out", f"{file}.crt"]
        subprocess.run(made, check=True, capture_output=True)
        with file.open("a") as whole:
            whole.write(Path(f"{file}.crt").read_text())
    return file


def _tls(port: int, certificate: Path) -> list[str]:
    at = str(certificate)
    files = ["--tls-cert-file", at, "--tls-key-file", at, "--tls-ca-cert-file", at]
    return ["--port", "0", "--tls-port", str(port), *files, "--tls-auth-clients", "no"]


def _digest(password: str) -> str:
    return sha256(password.encode()).hexdigest()

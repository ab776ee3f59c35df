"""The site as people meet it: gunicorn in a process of its own, plain or with TLS.

`conftest` makes fixtures of it, `screenshots` takes pictures of it.
"""

import os
import shutil
import ssl
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM
from urllib.error import URLError
from urllib.request import urlopen

from app import create_app
from app.extensions import db
from app.people.models import User
from app.sessions.models import UserAgent
from tests.servers import RedisServer, Server, missing, wait_until
from tests.site import CAST, SECRET, Site, settings

ROOT = Path(__file__).resolve().parents[2]

# Members keep the limit of one session. Staff may have three, so that a user with several exists.
LIMITS = dict.fromkeys(("viewer", "operator", "auditor", "admin"), "3")


@dataclass(frozen=True)
class Certificate:
    """A certificate for this host and its key, made for one test run."""

    cert: Path
    key: Path


def make_certificate(folder: Path) -> Certificate:
    """Make a certificate with the openssl command; a browser has to be told to accept it."""
    openssl = shutil.which("openssl")
    if openssl is None:
        missing("the openssl command is not installed")
    made = Certificate(folder / "cert.pem", folder / "key.pem")
    words = ["req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    words += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    words += ["-addext", "subjectAltName=IP:127.0.0.1"]
    words += ["-out", str(made.cert), "-keyout", str(made.key)]
    subprocess.run([openssl, *words], check=True, capture_output=True)
    return made


class WebServer(Server):
    """gunicorn with one worker, configured by its environment alone."""

    crash_signal = SIGTERM

    def __init__(self, environ: dict[str, str], certificate: Certificate | None = None) -> None:
        self.environ = environ
        self.certificate = certificate
        super().__init__()

    @property
    def url(self) -> str:
        scheme = "http" if self.certificate is None else "https"
        return f"{scheme}://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        environ = {"PATH": os.environ["PATH"], "WEB_CONCURRENCY": "1", **self.environ}
        pairs = [f"{name}={value}" for name, value in environ.items()]
        words = ["-m", "gunicorn", "-c", str(ROOT / "gunicorn.conf.py"), "--chdir", str(ROOT)]
        words += ["--bind", f"127.0.0.1:{self.port}"]
        if self.certificate is not None:
            words += ["--certfile", str(self.certificate.cert)]
            words += ["--keyfile", str(self.certificate.key)]
        return ["env", "-i", *pairs, sys.executable, *words, "wsgi:app"]

    def answers(self) -> bool:
        return self.status("/healthz") == 200

    def is_ready(self) -> bool:
        return self.status("/readyz") == 200

    def status(self, path: str) -> int | None:
        """Return the status of a page asked for without a cookie; None while nobody listens."""
        try:
            with urlopen(self.url + path, timeout=5, context=_any_certificate()) as response:
                return int(response.status)
        except URLError as error:
            return getattr(error, "code", None)
        except OSError:
            return None


def _any_certificate() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@dataclass
class Served:
    """A web server, the servers behind it, and the same site in this process to look into it."""

    web: WebServer
    valkey: RedisServer
    site: Site

    @property
    def url(self) -> str:
        return self.web.url

    def reset(self) -> None:
        """Forget all sessions, all events, and everybody who is not of the cast."""
        self.valkey.reset()
        wait_until(self.web.is_ready)
        kept = {User.__tablename__, UserAgent.__tablename__, "cutoff"}
        with self.site.system.ledger.transaction() as tx:
            for table in reversed(db.metadata.sorted_tables):
                if table.name not in kept:
                    tx.connection.execute(table.delete())
            users = User.__table__
            tx.connection.execute(users.delete().where(User.name_key.not_in(list(CAST))))
            values = {"name": User.name_key, "active": True, "disabled_at": None}
            tx.connection.execute(users.update().values(values))

    def close(self) -> None:
        self.web.close()
        self.site.close()


def serve(
    database: str,
    valkey: RedisServer,
    certificate: Certificate | None = None,
    limits: dict[str, str] = LIMITS,
) -> Served:
    """Start the site on a migrated database with the cast in it; with a certificate as in production."""
    environ = {
        "ROLLCALL_ENV": "development" if certificate is None else "production",
        "SECRET_KEY": SECRET,
        "DATABASE_URL": database,
        "REDIS_URL": valkey.url,
        "SESSION_LIMIT_BY_ROLE": ",".join(f"{role}={limit}" for role, limit in limits.items()),
    }
    site = Site(create_app(settings(database, valkey.url, SESSION_LIMIT_BY_ROLE=limits)))
    return Served(WebServer(environ, certificate), valkey, site)

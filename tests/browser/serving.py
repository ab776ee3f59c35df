"""The site as people meet it: gunicorn in a process of its own, plain or with TLS.

`conftest` makes fixtures of it.
"""

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM
from socket import create_connection
from urllib.error import URLError
from urllib.request import urlopen

from app import create_app
from app.extensions import db
from app.people.models import User
from app.sessions.models import UserAgent
from tests.servers import RedisServer, Server, missing, wait_until
from tests.site import CAST, SECRET, Site, password_hash, settings

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

    def __init__(self, environ: dict[str, str]) -> None:
        self.environ = environ
        super().__init__()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        environ = {"PATH": os.environ["PATH"], "WEB_CONCURRENCY": "1", **self.environ}
        pairs = [f"{name}={value}" for name, value in environ.items()]
        words = ["-m", "gunicorn", "-c", str(ROOT / "gunicorn.conf.py"), "--chdir", str(ROOT)]
        words += ["--bind", f"127.0.0.1:{self.port}"]
        return ["env", "-i", *pairs, sys.executable, *words, "wsgi:app"]

    def answers(self) -> bool:
        return self.status("/healthz") == 200

    def is_ready(self) -> bool:
        return self.status("/readyz") == 200

    def status(self, path: str) -> int | None:
        """Return the status of a page asked for without a cookie; None while nobody listens."""
        try:
            with urlopen(self.url + path, timeout=5) as response:
                return int(response.status)
        except URLError as error:
            return getattr(error, "code", None)
        except OSError:
            return None


class TlsProxy(Server):
    """nginx, where TLS ends as in production.

    gunicorn's own TLS is no stand-in: a browser's spare connection, on which nothing is asked yet, holds
    one of its threads, and four of them hold all.
    """

    crash_signal = SIGTERM

    def __init__(self, web: WebServer, certificate: Certificate) -> None:
        found = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        if found is None:
            missing("nginx is not installed")
        self.binary = found
        self.web = web
        self.certificate = certificate
        super().__init__()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        file = self.directory / "nginx.conf"
        file.write_text(
            f"""
            daemon off;
            pid {self.directory}/pid;
            error_log stderr warn;
            events {{}}
            http {{
                access_log off;
                client_body_temp_path {self.directory}/body;
                proxy_temp_path {self.directory}/proxy;
                fastcgi_temp_path {self.directory}/fastcgi;
                scgi_temp_path {self.directory}/scgi;
                uwsgi_temp_path {self.directory}/uwsgi;
                client_body_buffer_size 1m;
                proxy_max_temp_file_size 0;
                server {{
                    listen 127.0.0.1:{self.port} ssl;
                    ssl_certificate {self.certificate.cert};
                    ssl_certificate_key {self.certificate.key};
                    location / {{
                        proxy_set_header Host $http_host;
                        proxy_set_header X-Forwarded-For $remote_addr;
                        proxy_set_header X-Forwarded-Proto $scheme;
                        proxy_pass {self.web.url};
                    }}
                }}
            }}
            """
        )
        return [self.binary, "-e", "stderr", "-c", str(file)]

    def answers(self) -> bool:
        with suppress(OSError), create_connection(("127.0.0.1", self.port), timeout=5):
            return True
        return False


@dataclass
class Served:
    """A web server, the servers behind it, and the same site in this process to look into it."""

    web: WebServer
    valkey: RedisServer
    site: Site
    proxy: TlsProxy | None = None

    @property
    def url(self) -> str:
        return (self.proxy or self.web).url

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
            values |= {"password_hash": password_hash(), "new_password_required": False}
            tx.connection.execute(users.update().values(values))

    def close(self) -> None:
        if self.proxy is not None:
            self.proxy.close()
        self.web.close()
        self.site.close()


def serve(
    database: str,
    valkey: RedisServer,
    certificate: Certificate | None = None,
) -> Served:
    """Start the site on a migrated database with the cast in it; with a certificate as in production."""
    environ = {
        "ROLLCALL_ENV": "development" if certificate is None else "production",
        "SECRET_KEY": SECRET,
        "DATABASE_URL": database,
        "REDIS_URL": valkey.url,
        "SESSION_LIMIT_BY_ROLE": ",".join(f"{role}={limit}" for role, limit in LIMITS.items()),
        "TRUSTED_PROXIES": "0" if certificate is None else "1",
    }
    site = Site(create_app(settings(database, valkey.url, SESSION_LIMIT_BY_ROLE=LIMITS)))
    web = WebServer(environ)
    return Served(web, valkey, site, TlsProxy(web, certificate) if certificate else None)

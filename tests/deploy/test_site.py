"""The deployed site: signing in through TLS, restarts, and what stays inside."""

import json
import shutil
import signal
import ssl
import subprocess
from http.client import HTTPConnection
from pathlib import Path

import pytest
import redis

from tests.deploy.plain import HOST, Plain, Service
from tests.deploy.visitor import Visitor, header
from tests.servers import wait_until

STAYING = ("proxy", "web", "worker", "valkey", "database")


def sessions(site: Plain, **wanted: str) -> list[dict[str, object]]:
    """Return what `flask sessions list` knows of live sessions, newest first."""
    rows = json.loads(site.flask("sessions", "list", "--json"))
    rows = rows["sessions"] if isinstance(rows, dict) else rows
    return [row for row in rows if wanted.items() <= row.items()]


def valkey(site: Plain) -> redis.Redis:
    password = (site.secrets / "valkey_password").read_text()
    return redis.Redis(port=site.ports[6379], password=password, protocol=2)


@pytest.fixture
def signed_in(deployment: Plain) -> tuple[Visitor, Visitor]:
    """Alice, whose session lies in Valkey, and ada, whose lies in PostgreSQL."""
    alice, ada = Visitor(), Visitor()
    alice.sign_in(deployment, "alice")
    ada.sign_in(deployment, "ada")
    return alice, ada


def test_signing_in_through_tls_sets_a_cookie_for_this_host_alone(deployment):
    alice = Visitor()
    answer = alice.sign_in(deployment, "alice")
    (cookie,) = [c for c in header(answer, "Set-Cookie") if c.startswith("__Host-session=")]
    parts = {part.strip() for part in cookie.split(";")[1:]}
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} <= parts
    assert not any(part.lower().startswith("domain") for part in parts)
    assert header(answer, "Strict-Transport-Security") == ["max-age=63072000; includeSubDomains"]
    assert alice.is_signed_in(deployment)


def test_members_sessions_lie_in_valkey_and_staffs_in_postgresql(deployment, signed_in):
    assert [row["store"] for row in sessions(deployment, user="alice")] == ["redis"]
    assert [row["store"] for row in sessions(deployment, user="ada")] == ["sql"]


def test_the_clients_address_is_the_proxys_word_and_never_the_clients(deployment):
    """S38: a client that claims another address, scheme, host or request id is not believed."""
    claims = {
        "X-Forwarded-For": "203.0.113.7",
        "X-Real-IP": "203.0.113.7",
        "Forwarded": "for=203.0.113.7;proto=http;host=evil.example",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Prefix": "/evil",
        "X-Request-ID": "made-up-by-the-client",
    }
    bob = Visitor(address="127.0.0.77", headers=claims)
    answer = bob.sign_in(deployment, "bob")
    assert [row["ip"] for row in sessions(deployment, user="bob")] == ["127.0.0.77"]
    assert "evil" not in answer.location
    assert header(answer, "X-Request-ID") != ["made-up-by-the-client"]
    assert any("Secure" in cookie for cookie in header(answer, "Set-Cookie"))


def test_plain_http_leads_to_our_own_name_whatever_the_request_says(deployment):
    connection = HTTPConnection("127.0.0.1", deployment.ports[8080], timeout=10)
    connection.request("GET", "/login?next=/x", headers={"Host": "evil.example"})
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("Location")) == (308, f"https://{HOST}/login?next=/x")
    connection.close()


def test_another_name_gets_no_answer(deployment):
    with pytest.raises(ssl.SSLError):
        Visitor(name="evil.example").get(deployment, "/login")
    assert Visitor(headers={"Host": "evil.example"}).get(deployment, "/login").status == 421


def test_old_versions_of_tls_are_refused(deployment):
    asked = ["openssl", "s_client", "-connect", f"127.0.0.1:{deployment.port}", "-servername", HOST]
    for version, accepted in (("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)):
        done = subprocess.run(
            [*asked, version, "-cipher", "DEFAULT:@SECLEVEL=0"],
            input=b"", capture_output=True, check=False, timeout=30,
        )  # fmt: skip
        assert (b"Server certificate\n-----BEGIN" in done.stdout) is accepted, version


@pytest.mark.parametrize(
    "path", ["/readyz", "/metrics", "//metrics", "/%6Detrics", "/static/../metrics", "/metrics?x=1"]
)
def test_what_monitoring_asks_is_not_for_visitors(deployment, path):
    assert Visitor().get(deployment, path).status == 404


def test_inside_the_web_server_says_what_it_reaches(deployment):
    connection = HTTPConnection("127.0.0.1", deployment.ports[8000], timeout=10)
    connection.request("GET", "/readyz", headers={"Host": HOST})
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    connection.close()


@pytest.mark.parametrize(
    ("port", "host", "said"),
    [
        (8000, "web:8000", b'rollcall_up{dependency="redis"} 1.0'),
        (8001, "worker:8001", b"rollcall_worker_last_pass_timestamp_seconds "),
    ],
)
def test_a_scraper_on_the_inner_network_reads_metrics(deployment, port, host, said):
    """Under the name by which it calls the service, and nobody there who has not the token."""
    token = (deployment.secrets / "metrics_token").read_text()
    connection = HTTPConnection("127.0.0.1", deployment.ports[port], timeout=10)
    for headers, status in (({}, 401), ({"Authorization": f"Bearer {token}"}, 200)):
        connection.request("GET", "/metrics", headers={"Host": host, **headers})
        answer = connection.getresponse()
        assert answer.status == status
        assert (said in answer.read()) is (status == 200)
    connection.close()


def test_several_workers_serve_the_site(deployment):
    web = deployment["web"].process
    assert web is not None
    children = Path(f"/proc/{web.pid}/task/{web.pid}/children").read_text().split()
    assert len(children) == 2


@pytest.mark.parametrize("how", ["stopped", "killed"])
@pytest.mark.parametrize("name", STAYING)
def test_everybody_is_still_signed_in_after_a_restart(deployment, signed_in, name, how):
    service: Service = deployment[name]
    service.kill() if how == "killed" else service.stop()
    assert not service.is_well()
    service.start()
    service.until_well()
    for person in signed_in:
        # Web has to find its servers again; until then it answers 503 and signs nobody out.
        wait_until(lambda person=person: person.get(deployment, "/account/sessions").status != 503)
        assert person.is_signed_in(deployment)


def test_while_the_web_server_is_away_the_proxy_says_so(deployment, signed_in):
    web: Service = deployment["web"]
    web.stop()
    answer = signed_in[0].get(deployment, "/account/sessions")
    assert answer.status == 503
    assert header(answer, "Retry-After") == ["5"]
    assert header(answer, "Cache-Control") == ["no-store"]
    assert header(answer, "Strict-Transport-Security") == ["max-age=63072000; includeSubDomains"]
    assert header(answer, "Set-Cookie") == []
    web.start()
    web.until_well()
    assert signed_in[0].is_signed_in(deployment)


@pytest.mark.parametrize("name", STAYING)
def test_a_health_check_notices_a_process_that_hangs(deployment, name):
    service: Service = deployment[name]
    assert service.is_well()
    service.signal_all(signal.SIGSTOP)
    try:
        assert not service.is_well()
    finally:
        service.signal_all(signal.SIGCONT)
    wait_until(service.is_well, 30)


def test_a_revocation_holds_when_an_old_snapshot_of_valkey_is_restored(deployment, signed_in):
    """S35, A5: the snapshot brings the data back, and the ledger goes on refusing it."""
    alice, bob = signed_in[0], Visitor()
    bob.sign_in(deployment, "bob")
    server: Service = deployment["valkey"]
    data = Path(server.here("/data"))
    snapshot = deployment.directory / "snapshot"
    server.stop()
    shutil.copytree(data, snapshot)
    server.start()
    server.until_well()
    with valkey(deployment) as client:
        before = set(client.keys("rollcall:session:*"))
    (row,) = sessions(deployment, user="alice")
    assert deployment["worker"].is_well()
    revoked = ("sessions", "revoke", str(row["reference"]), "--reason", "incident", "--json")
    receipt = json.loads(deployment.flask(*revoked))
    assert (receipt["ended"], receipt["purged"], receipt["present"]) == (1, 1, 0)
    with valkey(deployment) as client:
        purged = before - set(client.keys("rollcall:session:*"))
    assert len(purged) == 1

    server.stop()
    shutil.rmtree(data)
    shutil.copytree(snapshot, data)
    server.give_away()
    server.start()
    server.until_well()
    with valkey(deployment) as client:
        assert purged <= set(client.keys("rollcall:session:*"))
    wait_until(lambda: bob.get(deployment, "/account/sessions").status != 503)
    assert not alice.is_signed_in(deployment)
    assert bob.is_signed_in(deployment)
    deployment.flask("sessions", "sweep")
    assert not alice.is_signed_in(deployment)
    assert bob.is_signed_in(deployment)


def test_flushing_the_counters_of_failed_sign_ins_leaves_the_sessions(deployment, signed_in):
    """F23: what is counted and what is kept have key spaces of their own."""
    Visitor().post(deployment, "/login", username="nobody", password="wrong")
    with valkey(deployment) as client:
        kept = set(client.keys("rollcall:session:*"))
        counters = set(client.keys("*")) - kept
        assert kept
        assert counters
        assert all(b"rollcall:throttle" in key for key in counters)
        client.delete(*counters)
    assert signed_in[0].is_signed_in(deployment)


def test_neither_server_lets_anybody_in_without_the_password(deployment):
    with redis.Redis(port=deployment.ports[6379], protocol=2) as client:
        with pytest.raises(redis.AuthenticationError):
            client.ping()
    psql = ["psql", "--no-psqlrc", "--host=127.0.0.1", "--port=5432", "--tuples-only", "--no-align"]
    select = ["--dbname=rollcall", "--command=SELECT rolsuper FROM pg_roles WHERE rolname = user"]
    database: Service = deployment["database"]
    wrong = database.run(*psql, "--username=rollcall", *select, PGPASSWORD="wrong")
    assert "password authentication failed" in wrong.stderr
    right = (deployment.secrets / "database_password").read_text()
    own = database.run(*psql, "--username=rollcall", *select, PGPASSWORD=right)
    assert own.stdout == "f\n", own.stderr
    # The superuser signs in from inside the container only.
    superuser = (deployment.secrets / "postgres_password").read_text()
    other = database.run(*psql, "--username=postgres", *select, PGPASSWORD=superuser)
    assert "no pg_hba.conf entry" in other.stderr


def test_valkey_runs_as_its_file_says(deployment):
    with valkey(deployment) as client:
        for name in ("appendonly", "appendfsync", "maxmemory-policy"):
            expected = {"appendonly": "yes", "appendfsync": "everysec"}.get(name, "noeviction")
            assert client.config_get(name)[name] == expected


@pytest.mark.parametrize("name", STAYING)
def test_a_service_writes_into_its_tmpfs_and_volumes_only(deployment, name):
    """All other tests of this file run like that too, so the read-only root is enough for them."""
    if not deployment.can_be_read_only:
        pytest.skip("a read-only root needs root and mount namespaces")
    service: Service = deployment[name]
    for place in service.writable:
        assert service.run("touch", f"{place}/written").returncode == 0
    # The last is where it works.
    for place in {"/tmp", "/var/tmp", "/etc", "."} - set(service.writable):
        done = service.run("touch", f"{place}/written")
        assert "Read-only file system" in done.stderr, place


def test_no_secret_is_in_a_log_an_argument_or_an_environment(deployment, signed_in):
    secrets = {
        path.name: path.read_bytes().strip()
        for path in deployment.secrets.iterdir()
        if path.name.endswith(("password", "url", "secret_key", "tls_key", "token"))
    }
    cookies = [value.encode() for person in signed_in for value in person.cookies.values()]
    for service in deployment.services.values():
        seen = {"log": service.log.read_bytes()}
        if service.process is not None and service.process.poll() is None:
            process = Path(f"/proc/{service.process.pid}")
            seen |= {part: process.joinpath(part).read_bytes() for part in ("cmdline", "environ")}
        for place, content in seen.items():
            assert not [n for n, secret in secrets.items() if secret in content], (
                service.name,
                place,
            )
            assert not [c for c in cookies if c in content], (service.name, place)

"""docs/session-facts.md: every fact's proof, run as it stands in the page."""

import ast
import re
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from flask import Flask, session
from flask_session import Session
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.docs.facts import DOCS, Block, Section, page, sections
from tests.servers import RedisServer, valkey_binary

FACTS = sections(page("session-facts.md"))

WRONG_ADVICE = (
    "session cookie is encrypted",
    "session.regenerate()",
    "(now - last_seen).seconds",
    "datetime.now()",
    '<a href="/logout">',
    "os.urandom",
    "in the server's memory",
    "session.commit()",
    "SESSION_USE_SIGNER",
    "SESSION_PERMANENT=False",
    'keys("session:*")',
    "Rename the session cookie",
    "SameSite=Lax",
    "session.clear()",
    "--requirepass $",
    "Restart the container",
    "Change `SECRET_KEY` to sign everyone out",
    "Delete the key in Redis",
)
"""A part of each advice that the page sets right."""


class ValkeyWith(RedisServer):
    """A Valkey with more options, which may want a password that we do not have."""

    def __init__(self, *options: str) -> None:
        self.options = options
        super().__init__(valkey_binary())

    def command(self) -> list[str]:
        return [*super().command(), *self.options]

    def answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture
def start_valkey() -> Iterator[Callable[..., redis.Redis]]:
    servers: list[ValkeyWith] = []
    clients: list[redis.Redis] = []

    def start(*options: str) -> redis.Redis:
        servers.append(ValkeyWith(*options))
        # Without the retries of the client: a refused password counts as a lost connection there.
        clients.append(redis.Redis(port=servers[-1].port, retry=Retry(NoBackoff(), 0)))
        return clients[-1]

    yield start
    for each in (*clients, *servers):
        each.close()


@pytest.fixture
def make_app(valkey: RedisServer) -> Iterator[Callable[..., Flask]]:
    clients: list[redis.Redis] = []

    def make(**settings: Any) -> Flask:
        app = Flask(__name__)
        app.config.from_mapping({"SECRET_KEY": "for tests", "TESTING": True} | settings)
        if "SESSION_TYPE" in settings:
            clients.append(valkey.client())
            app.config["SESSION_REDIS"] = clients[-1]
            Session(app)
        app.add_url_rule("/enter/<name>", view_func=enter)
        app.add_url_rule("/who", view_func=who)
        app.add_url_rule("/leave", view_func=leave)
        return app

    yield make
    for client in clients:
        client.close()


def enter(name: str) -> str:
    session["name"] = name
    return name


def who() -> str:
    return str(session.get("name", "nobody"))


def leave() -> str:
    session.clear()
    return ""


GIVEN = {"make_app", "valkey", "start_valkey", "site"}
HELPERS = {"raises": pytest.raises, "warns": pytest.warns}


def proofs(fact: Section) -> list[Block]:
    return [block for block in fact.blocks if block.language == "python"]


@pytest.mark.parametrize("fact", FACTS, ids=[fact.heading for fact in FACTS])
def test_the_fact_is_so(fact: Section, request: pytest.FixtureRequest) -> None:
    for proof in proofs(fact):
        # Numbered as in the page, so that a failure names the line to look at.
        tree = ast.parse("\n" * proof.lines_before + proof.text, str(DOCS / "session-facts.md"))
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        values = {name: request.getfixturevalue(name) for name in sorted(names & GIVEN)}
        exec(compile(tree, str(DOCS / "session-facts.md"), "exec"), values | HELPERS)


@pytest.mark.parametrize("fact", FACTS, ids=[fact.heading for fact in FACTS])
def test_a_fact_has_the_wrong_advice_a_proof_and_what_to_do(fact: Section) -> None:
    assert len(re.findall(r'^> ".+"$', fact.text, re.MULTILINE)) == 1
    assert len(re.findall(r"^\*\*Instead\.\*\* ", fact.text, re.MULTILINE)) == 1
    (proof,) = proofs(fact)
    tree = ast.parse(proof.text)
    assert any(isinstance(node, ast.Assert) for node in ast.walk(tree))
    assert 3 <= sum(bool(line.strip()) for line in proof.text.splitlines()) <= 15


def test_each_advice_is_set_right_once_and_no_fact_is_without_one() -> None:
    quotes = {f.heading: "".join(re.findall(r"^> .+$", f.text, re.MULTILINE)) for f in FACTS}
    found = [[head for head, quote in quotes.items() if part in quote] for part in WRONG_ADVICE]
    assert [part for part, heads in zip(WRONG_ADVICE, found, strict=True) if len(heads) != 1] == []
    assert {head for heads in found for head in heads} == set(quotes)


def test_every_file_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`((?:app|tests|deploy)/[\w./]+)`", page("session-facts.md")))
    assert len(named) > 10
    assert [name for name in sorted(named) if not (DOCS.parent / name).is_file()] == []


def test_the_list_at_the_top_leads_to_every_fact() -> None:
    listed = re.findall(r"^- \[(.+)\]\(#[a-z0-9_-]+\)$", page("session-facts.md"), re.MULTILINE)
    assert listed == [fact.heading for fact in FACTS]

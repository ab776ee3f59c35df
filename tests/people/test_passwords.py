"""Passwords are hashed slowly, compared whole, and judged before they are taken."""

import pytest
from flask import Flask
from flask_babel import Babel
from zxcvbn.frequency_lists import FREQUENCY_LISTS

from app.people.passwords import (
    SHORTEST,
    WeakPassword,
    check_strength,
    hash_password,
    verify_password,
)


@pytest.fixture(autouse=True)
def words() -> object:
    """A context in which messages have a language."""
    app = Flask(__name__)
    Babel(app)
    with app.test_request_context() as context:
        yield context


def test_a_password_is_its_hashs_and_no_other_is() -> None:
    kept = hash_password("correct horse battery staple")
    assert kept.startswith("$argon2id$")
    assert verify_password(kept, "correct horse battery staple")
    assert not verify_password(kept, "correct horse battery stapl")
    assert not verify_password(kept, "Correct horse battery staple")
    assert not verify_password(kept, "")


def test_two_hashes_of_one_password_differ() -> None:
    assert hash_password("correct horse") != hash_password("correct horse")


@pytest.mark.parametrize("password", ["anything", "nobody has this password", ""])
def test_without_a_user_no_password_is_right(password: str) -> None:
    assert not verify_password(None, password)


@pytest.mark.parametrize("kept", ["x", "", "$argon2id$broken", "plain text"])
def test_a_hash_that_is_none_is_never_right(kept: str) -> None:
    assert not verify_password(kept, "x")


def test_without_a_user_it_takes_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    from app.people import passwords

    tried: list[str] = []

    class Watched(type(passwords._hasher)):  # type: ignore[misc]
        """The real hasher, which notes what it is asked to compare with."""

        def verify(self, kept: str | bytes, password: str | bytes) -> bool:
            tried.append(str(kept))
            return bool(super().verify(kept, password))

    watched = Watched(time_cost=2, memory_cost=19 * 1024, parallelism=1)
    monkeypatch.setattr(passwords, "_hasher", watched)
    verify_password(None, "x")
    verify_password(hash_password("y"), "x")
    settings = [kept.split("$")[1:4] for kept in tried]
    assert settings[0] == settings[1]


def test_nothing_of_a_long_password_is_cut_off() -> None:
    long = "a" * 1000
    kept = hash_password(long + "b")
    assert verify_password(kept, long + "b")
    assert not verify_password(kept, long + "c")
    assert not verify_password(kept, long)


@pytest.mark.parametrize(
    "password",
    ["", "short", "eleven char", "aaaaaaaaaaaa", "password1234", "qwertyuiop12", "123456789012",
     "alice-is-the-best-9", "letmein12345"],
)  # fmt: skip
def test_a_weak_password_is_refused(password: str) -> None:
    with pytest.raises(WeakPassword):
        check_strength(password, "alice")


def test_none_of_the_commonest_passwords_is_taken() -> None:
    """The 3,000 commonest, nearly all too short, and the 100 commonest that are long enough."""
    by_rank = FREQUENCY_LISTS["passwords"]
    long = [each for each in by_rank if len(each) >= SHORTEST]
    for password in {*by_rank[:3000], *long[:100]}:
        with pytest.raises(WeakPassword):
            check_strength(password, "alice")


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery staple",
        "späte Züge über Öl",
        "x7!kQ9zR#mW2",
        "a" * 3 + " zebra omnibus",
    ],
)
def test_a_good_password_is_taken_spaces_and_all(password: str) -> None:
    check_strength(password, "alice")


def test_a_password_may_have_1024_characters_and_no_more() -> None:
    good = "correct horse battery staple "
    check_strength((good * 50)[:1024], "alice")
    with pytest.raises(WeakPassword):
        check_strength((good * 50)[:1025], "alice")

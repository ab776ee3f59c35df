"""What a user name may be, and which names are the same."""

import pytest
from flask import Flask
from flask_babel import Babel
from hypothesis import given
from hypothesis import strategies as st

from app.people.models import NAME_LENGTH
from app.people.names import BadName, check_name, name_key


@pytest.fixture(autouse=True)
def words() -> object:
    """A context in which messages have a language."""
    app = Flask(__name__)
    Babel(app)
    with app.test_request_context() as context:
        yield context


@pytest.mark.parametrize("name", ["alice", "a.b-c_d@e+f", "Zoë", "李明", "0", "x" * NAME_LENGTH])
def test_a_good_name_is_kept_as_it_is(name: str) -> None:
    assert check_name(name) == name


def test_space_around_a_name_is_dropped() -> None:
    assert check_name("  alice ") == "alice"


@pytest.mark.parametrize(
    "name",
    [
        "", "   ", "a b", ".a", "-a", "@a", "+a", "a\nb", "a\x00", "<b>", "=1+1", "a,b", "a'b", "a;b",
        "x" * (NAME_LENGTH + 1), "a\u202eb", "\u200b", "a/b",
    ],
)  # fmt: skip
def test_a_name_that_could_mislead_or_break_a_list_is_refused(name: str) -> None:
    with pytest.raises(BadName):
        check_name(name)


@pytest.mark.parametrize(
    ("one", "other"),
    [("alice", "ALICE"), ("straße", "STRASSE"), ("ﬁn", "fin"), ("Zoe\u0308", "Zoë"), (" a ", "a")],
)
def test_names_that_look_alike_are_one(one: str, other: str) -> None:
    assert name_key(one) == name_key(other)


@given(st.text(max_size=200))
def test_any_text_has_a_key_that_fits_its_column(text: str) -> None:
    assert len(name_key(text)) <= NAME_LENGTH * 2

"""The search box: tokens become fields, fields become tokens, and nothing is ever ignored."""

from collections.abc import Iterator

import pytest
from flask import Flask
from flask_babel import Babel
from hypothesis import given
from hypothesis import strategies as st

from app.sessions.tokens import TOKENS, BadSearch, fields_of, text_of, words_of


@pytest.fixture(scope="module", autouse=True)
def in_english() -> Iterator[None]:
    app = Flask(__name__)
    Babel(app)
    with app.test_request_context():
        yield


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("", {}),
        ("  ", {}),
        ("alice", {"q": "alice"}),
        ("user:alice", {"user": "alice"}),
        ("USER:Alice", {"user": "Alice"}),
        ("ref:k7m2q4x9ab smith", {"reference": "k7m2q4x9ab", "q": "smith"}),
        ("ip:2001:db8::/32", {"ip": "2001:db8::/32"}),
        ("2001:db8::7", {"q": "2001:db8::7"}),
        ("::ffff:10.0.0.1", {"q": "::ffff:10.0.0.1"}),
        ('client:"chrome 141 on windows" idle:>20m', {"client": "chrome 141 on windows", "idle": ">20m"}),
        ('"user:alice"', {"q": '"user:alice"'}),
        ("a b  c", {"q": "a b c"}),
    ],
)  # fmt: skip
def test_tokens_become_fields_and_the_rest_are_words(text: str, fields: dict[str, str]) -> None:
    assert fields_of(text) == fields


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("usr:alice", "There is no “usr:”. There are user: ip: store:"),
        ("user:", "“user:” needs a value"),
        ("user: alice", "“user:” needs a value"),
        ('user:""', "“user:” needs a value"),
        ("user:a user:b", "“user:” stands there twice"),
        ('client:"chrome', "A quotation mark is not closed"),
        ("http://10.0.0.1", "There is no “http:”"),
    ],
)
def test_what_is_not_understood_is_refused_and_says_what_is_allowed(text: str, said: str) -> None:
    with pytest.raises(BadSearch) as refused:
        fields_of(text)
    assert said in str(refused.value)


def test_words_lose_their_quotation_marks() -> None:
    assert words_of('smith "user:alice" ""') == ["smith", "user:alice"]


_values = st.text(
    st.characters(exclude_characters='"', exclude_categories=("Cc", "Cs")), min_size=1
)
_kept = _values.map(str.strip).filter(bool)


@given(fields=st.dictionaries(st.sampled_from([*TOKENS.values()]), _kept))
def test_fields_written_as_tokens_are_read_as_the_same_fields(fields: dict[str, str]) -> None:
    assert fields_of(text_of(fields)) == fields


@given(text=st.text(max_size=60))
def test_whatever_is_typed_is_understood_whole_or_refused(text: str) -> None:
    try:
        fields = fields_of(text)
    except BadSearch:
        return
    assert fields_of(text_of(fields)) == fields

"""Session ids are 256 random bits of our own, and nothing that is kept can be sent as one."""

import re

from hypothesis import given
from hypothesis import strategies as st

from app.sessions.handles import handle_for, new_data_key, new_reference, new_session_id


def test_a_hundred_thousand_ids_are_all_different() -> None:
    assert len({new_session_id() for _ in range(100_000)}) == 100_000


def test_an_id_has_256_bits_in_characters_that_a_cookie_takes_as_they_are() -> None:
    ids = [new_session_id() for _ in range(1000)]
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", each) for each in ids)


def test_a_handle_is_the_digest_of_an_id_and_not_the_id() -> None:
    session_id = new_session_id()
    handle = handle_for(session_id)
    assert handle is not None
    assert len(handle) == 32
    assert session_id.encode() not in handle
    assert handle == handle_for(session_id)


def test_neither_handle_nor_data_key_nor_reference_can_be_an_id() -> None:
    handle = handle_for(new_session_id())
    assert handle is not None
    assert handle_for(handle.hex()) is None
    assert handle_for(new_data_key()) is None
    assert handle_for(new_reference()) is None


@given(st.text())
def test_no_string_of_another_length_or_alphabet_has_a_handle(text: str) -> None:
    if len(text) != 43 or not text.isascii():
        assert handle_for(text) is None


def test_references_are_ten_small_letters_and_digits() -> None:
    assert all(re.fullmatch(r"[a-z2-7]{10}", new_reference()) for _ in range(100))


def test_references_and_data_keys_do_not_repeat() -> None:
    assert len({new_reference() for _ in range(10_000)}) == 10_000
    assert len({new_data_key() for _ in range(10_000)}) == 10_000

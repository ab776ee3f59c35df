"""What a session may hold comes back as it was; what is no payload is refused and never executed."""

import math
import os
import pickle
import uuid
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markupsafe import Markup

from app.sessions.payload import DEEPEST, PayloadCodec, PayloadTooLarge, merge
from app.sessions.store import UnreadablePayload

FORMS = ("msgpack", "json")
KATHMANDU = timezone(timedelta(hours=5, minutes=45))


@pytest.fixture(params=FORMS)
def codec(request: pytest.FixtureRequest) -> PayloadCodec:
    return PayloadCodec(request.param, 65536)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -(2**63),
        2**64 - 1,
        1.5,
        "",
        "日本 \U0001f600 \x00",
        b"\x00\xff",
        (1, (2, "three"), []),
        uuid.UUID(int=7),
        Markup("<b>bold</b>"),
        datetime(2026, 7, 1, 12, 30, 15, 123456, tzinfo=UTC),
        datetime(2026, 7, 1, 12, 30, 15, 1, tzinfo=KATHMANDU),
        datetime(2026, 7, 1, 12, 30, 15, 999999),  # noqa: DTZ001 - a naive one stays naive
        {"deep": [{"er": (uuid.UUID(int=1), {"at": datetime(2026, 1, 1, tzinfo=UTC)})}]},
        {" t": [1]},
        {" d": "a key that looks like Flask's tag"},
        {" f": "and one like ours"},
        {" k": [[1, 2]]},
        {" di": {" t__": [1]}},
        float("inf"),
        [float("-inf")],
        {1: "one", "1": "text", None: 0, (1, b"2"): uuid.UUID(int=3)},
        {uuid.UUID(int=1): {datetime(2026, 1, 1, tzinfo=UTC): {2.5: ()}}},
    ],
    ids=repr,
)
def test_a_value_comes_back_as_it_was(codec: PayloadCodec, value: Any) -> None:
    back = codec.decode(codec.encode({"key": value}))["key"]
    assert back == value
    assert type(back) is type(value)


def test_what_is_not_a_number_stays_so(codec: PayloadCodec) -> None:
    back = codec.decode(codec.encode({"top": float("nan"), "inner": [float("nan")]}))
    assert math.isnan(back["top"])
    assert math.isnan(back["inner"][0])


class Shelf(str):
    """Such as an extension's own kind of text."""

    __slots__ = ()


def test_a_subclass_of_a_plain_type_is_stored_as_that_type(codec: PayloadCodec) -> None:
    back = codec.decode(codec.encode({"top": Shelf("a"), "inner": [Shelf("b")]}))
    assert back == {"top": "a", "inner": ["b"]}


def test_an_aware_time_keeps_its_zone_and_microseconds(codec: PayloadCodec) -> None:
    at = datetime(2026, 7, 1, 12, 30, 15, 123456, tzinfo=KATHMANDU)
    back = codec.decode(codec.encode({"at": at}))["at"]
    assert back.utcoffset() == timedelta(hours=5, minutes=45)
    assert back.microsecond == 123456


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary()
    | st.uuids()
    | st.datetimes(timezones=st.just(UTC)),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(
    data=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), VALUES, max_size=5),
    form=st.sampled_from(FORMS),
)
def test_whatever_a_session_may_hold_comes_back(data: dict[str, Any], form: str) -> None:
    codec = PayloadCodec(form, 2**24)
    assert codec.decode(codec.encode(data)) == data


@given(st.binary(max_size=400))
def test_any_bytes_decode_to_a_mapping_or_are_unreadable(payload: bytes) -> None:
    codec = PayloadCodec("msgpack", 65536)
    try:
        data = codec.decode(payload)
    except UnreadablePayload:
        return
    assert all(isinstance(key, str) for key in data)


@given(data=st.dictionaries(st.text(max_size=5), VALUES, max_size=4), cut=st.integers(0, 200))
def test_a_truncated_payload_is_unreadable(data: dict[str, Any], cut: int) -> None:
    codec = PayloadCodec("msgpack", 65536)
    try:
        payload = codec.encode(data)
    except TypeError:
        return
    if cut < len(payload):
        with pytest.raises(UnreadablePayload):
            codec.decode(payload[:cut])


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_read_whichever_is_written(form: str) -> None:
    written = PayloadCodec(form, 65536).encode({"at": (1, b"2")})
    for reading in FORMS:
        assert PayloadCodec(reading, 65536).decode(written) == {"at": (1, b"2")}


class Opens:
    """Unpickled, it makes a file: what a decoder that executes would do."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (self.path,))


def test_a_pickle_is_unreadable_and_runs_nothing(codec: PayloadCodec, tmp_path: Any) -> None:
    made = tmp_path / "executed"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(UnreadablePayload):
            codec.decode(pickle.dumps(Opens(str(made)), protocol))
    assert not made.exists()


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\x90",
        b"\xc0",
        b"\x81\x01\x02",
        b"\x81\xc4\x01x\x01",
        b'{"a": {" t": 5}}',
        b'{"a": {" d": "yesterday"}}',
        b'{"a": {" d": 3}}',
        b'{"a": {" u": "x"}}',
        b'{"a": {" b": "x"}}',
        b'{"a": {" di": 3}}',
        b'{"a":' + b"[" * 20_000,
        b"\x81\xa1a" + b"\x91" * 20_000 + b"\x01",
        b"\x80\x80",
        b"\x81\xa1a\xdd\xff\xff\xff\xff",
        b"\x81\xa1a\xd4\x05x",
        b"\x81\xa1a\x81\xd4\x05x\x01",
        b"\x81\xa1\xff\x01",
        b'{"\xff": 1}',
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b'{"a": ' + b"1" * 30 + b"}",
        b'{"a": [' + b"1" * 5000 + b"]}",
        b'{"a": "\\ud800"}',
        b'{"a": {" f": "many"}}',
        b'{"a": {" k": [[{}, 1]]}}',
        b"\x81\xa1a" + b"\x91" * (DEEPEST + 1) + b"\x01",
    ],
    ids=lambda payload: repr(payload[:16]),
)
def test_what_is_no_payload_is_unreadable(codec: PayloadCodec, payload: bytes) -> None:
    with pytest.raises(UnreadablePayload):
        codec.decode(payload)


def test_more_bytes_than_allowed_are_refused_both_ways() -> None:
    small = PayloadCodec("msgpack", 1024)
    with pytest.raises(PayloadTooLarge, match="SESSION_MAX_BYTES"):
        small.encode({"key": "x" * 1024})
    with pytest.raises(UnreadablePayload, match="SESSION_MAX_BYTES"):
        small.decode(PayloadCodec("msgpack", 65536).encode({"key": "x" * 1024}))


@pytest.mark.parametrize(
    "value",
    [object(), [object()], {"x": 1j}, range(3), "\ud800", print],
    ids=["object", "in a list", "complex", "range", "half a character", "function"],
)
def test_what_cannot_be_stored_names_its_key(codec: PayloadCodec, value: Any) -> None:
    with pytest.raises(TypeError, match=r"session\['basket'\] cannot be stored"):
        codec.encode({"fine": 1, "basket": value})


def test_a_value_nested_too_deep_names_its_key(codec: PayloadCodec) -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(TypeError, match=r"session\['deep'\]"):
        codec.encode({"deep": deep})


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, [2**64], {2**64: 1}], ids=repr)
def test_a_number_too_large_for_messagepack_names_its_key(codec: PayloadCodec, value: Any) -> None:
    with pytest.raises(TypeError, match=r"session\['n'\].*64 bits"):
        codec.encode({"n": value})


def test_the_deepest_value_is_read_and_written_and_one_deeper_is_neither(
    codec: PayloadCodec,
) -> None:
    deepest: Any = ()
    for level in range(DEEPEST - 1):
        deepest = ([deepest], (deepest,), {level: deepest})[level % 3]
    assert codec.decode(codec.encode({"deep": deepest})) == {"deep": deepest}
    with pytest.raises(TypeError, match=r"session\['deep'\].*nested more than"):
        codec.encode({"deep": (deepest,)})


RAW = st.recursive(
    st.none() | st.booleans() | st.sampled_from([0, 2**64 - 1, 2**64, -(2**63) - 1]) | st.floats()
    | st.text(max_size=4) | st.binary(max_size=4) | st.datetimes(timezones=st.just(UTC)) | st.builds(
        msgspec.msgpack.Ext, st.integers(-128, 127), st.binary(max_size=4)
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from([" t", " di", " d", " u", " b", " m", " f", " k", " t__", "a", "", 1, b"x"]),
        inner, max_size=2,
    ),
    max_leaves=8,
)  # fmt: skip


@example(data={"a": [2**64]}, form="json")
@example(data={"a": {1: msgspec.msgpack.Ext(5, b"x")}}, form="msgpack")
@given(data=st.dictionaries(st.text(max_size=3), RAW, max_size=3), form=st.sampled_from(FORMS))
def test_what_can_be_read_can_be_written_again(data: dict[str, Any], form: str) -> None:
    """Otherwise a payload that somebody has planted would be a 500 at each change, for ever."""
    encoders = {"msgpack": msgspec.msgpack.encode, "json": msgspec.json.encode}
    try:
        planted = encoders[form](data)
    except (TypeError, ValueError, OverflowError):
        return
    for codec in (PayloadCodec(form, 2**24) for form in FORMS):
        try:
            read = codec.decode(planted)
        except UnreadablePayload:
            continue
        assert repr(codec.decode(codec.encode(read))) == repr(read)
        assert all(codec.size(value) > 0 for value in read.values())


@pytest.mark.parametrize(
    ("key", "value"), [("_flashes", "ab"), ("_flashes", [("one",)]), ("csrf_token", 1)], ids=repr
)
def test_another_type_under_a_name_of_flasks_is_refused_at_once(
    codec: PayloadCodec, key: str, value: Any
) -> None:
    with pytest.raises(TypeError, match=rf"session\['{key}'\] cannot be stored"):
        codec.encode({"fine": 1, key: value})


@pytest.mark.parametrize("key", [1, None, b"x", ("a",)], ids=repr)
def test_a_key_that_is_no_string_is_refused_at_once(codec: PayloadCodec, key: Any) -> None:
    with pytest.raises(TypeError, match="keys are strings"):
        codec.encode({key: 1})


def test_merging_keeps_what_either_side_changed() -> None:
    base = {"a": 1, "b": 1, "c": 1, "d": 1}
    mine = {"a": 2, "b": 1, "d": 1, "mine": 1}
    theirs = {"a": 1, "b": 3, "c": 1, "theirs": 1}
    assert merge(base, mine, theirs) == {"a": 2, "b": 3, "mine": 1, "theirs": 1}


def test_merging_the_same_key_takes_the_later_save() -> None:
    assert merge({"a": 1}, {"a": 2}, {"a": 3}) == {"a": 2}


def test_merging_keeps_a_key_deleted_on_either_side_deleted() -> None:
    assert merge({"a": 1, "b": 1}, {"b": 1}, {"a": 1, "b": 1}) == {"b": 1}
    assert merge({"a": 1, "b": 1}, {"a": 1, "b": 1}, {"b": 1}) == {"b": 1}


def test_merging_flashes_adds_what_was_added_and_takes_what_was_taken() -> None:
    base = {"_flashes": [("message", "shown")]}
    mine = {"_flashes": [("message", "mine")]}
    theirs = {"_flashes": [("message", "shown"), ("message", "theirs")]}
    merged = merge(base, mine, theirs)
    assert merged == {"_flashes": [("message", "theirs"), ("message", "mine")]}


def test_merging_flashes_that_both_have_shown_leaves_no_key() -> None:
    base = {"_flashes": [("message", "shown")]}
    assert merge(base, {}, {}) == {}
    assert merge(base, {}, base) == {}


DATA = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 3))


@given(base=DATA, mine=DATA, theirs=DATA)
def test_merging_is_decided_key_by_key(
    base: dict[str, int], mine: dict[str, int], theirs: dict[str, int]
) -> None:
    merged = merge(base, mine, theirs)
    for key in "abcd":
        changed = base.get(key) != mine.get(key)
        assert merged.get(key) == (mine if changed else theirs).get(key)


@pytest.mark.parametrize(
    "value",
    [{1}, frozenset({1}), Decimal("1.5"), date(2026, 1, 1), timedelta(1), [{"deep": {2}}]],
    ids=repr,
)
def test_what_would_come_back_as_something_else_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match=r"session\['basket'\] cannot be stored"):
        PayloadCodec("msgpack", 1000).encode({"basket": value})

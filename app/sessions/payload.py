"""Encode, decode and merge a session's data. Decoding never executes (CVE-class: pickle in session stores).

Values are those of Flask's tagged JSON (datetime, UUID, bytes, tuple, Markup, nested), carried in
MessagePack or JSON; the decoder reads both by their first byte. What cannot come back as it is is
refused when it is written, and what could not be written again is refused when it is read.
"""

from collections.abc import Mapping
from datetime import datetime
from math import isfinite
from typing import Any

import msgspec
from flask.json.tag import JSONTag, TagDateTime, TaggedJSONSerializer

from app.sessions.store import UnreadablePayload

DEEPEST = 64
"""Levels of lists and dicts in one value: far above need, far below Python's recursion."""

_PLAIN = (str, int, float, bool, type(None))
_UNFIT = (TypeError, ValueError, OverflowError, RecursionError)
_EASY = (str, bool, type(None))


class _TagExactDateTime(JSONTag):
    """A datetime with its microseconds and zone: Flask's own tag keeps whole seconds of UTC only."""

    key = " d"

    def check(self, value: Any) -> bool:
        return isinstance(value, datetime)

    def to_json(self, value: Any) -> str:
        return str(value.isoformat())

    def to_python(self, value: Any) -> datetime:
        return datetime.fromisoformat(value)


class _TagNotFinite(JSONTag):
    """NaN and the infinities, for which JSON has no word: written plainly they would come back as None."""

    key = " f"

    def check(self, value: Any) -> bool:
        return isinstance(value, float) and not isfinite(value)

    def to_json(self, value: Any) -> str:
        return repr(value)

    def to_python(self, value: Any) -> float:
        return float(value)


class _TagKeys(JSONTag):
    """A dict with keys that are no strings, as pairs: JSON would write the number 1 as "1"."""

    key = " k"

    def check(self, value: Any) -> bool:
        return isinstance(value, dict) and not all(isinstance(key, str) for key in value)

    def to_json(self, value: Any) -> list[Any]:
        return [[self.serializer.tag(part) for part in pair] for pair in value.items()]

    def to_python(self, value: Any) -> dict[Any, Any]:
        return dict(value)


class _Tagger(TaggedJSONSerializer):
    default_tags = [  # noqa: RUF012 - Flask looks for it on the class
        _TagKeys,
        *(
            _TagExactDateTime if tag is TagDateTime else tag
            for tag in TaggedJSONSerializer.default_tags
        ),
        _TagNotFinite,
    ]

    def tag(self, value: Any) -> Any:
        """Refuse what would come back as something else: a set as a list, a Decimal as text."""
        for tag in self.order:
            if tag.check(value):
                return tag.tag(value)
        if isinstance(value, _PLAIN):
            return value
        raise TypeError(f"a {type(value).__name__} is none of the types that a session holds")


_tagger = _Tagger()


def _as_plain(value: Any) -> Any:
    """Return a value of a subclass of a plain type as that type: msgspec takes no subclass."""
    for plain in (str, int, float):
        if isinstance(value, plain):
            return plain(value)
    raise TypeError(f"a {type(value).__name__} is none of the types that a session holds")


_MSGPACK = msgspec.msgpack.Encoder(enc_hook=_as_plain)
_JSON = msgspec.json.Encoder(enc_hook=_as_plain)


def _check_names(data: Mapping[str, Any]) -> None:
    """Refuse another type under the names that Flask and its forms look at on every page."""
    if not isinstance(data.get("csrf_token", ""), str):
        raise TypeError("a form's token is text")
    if "_flashes" not in data:
        return
    flashes = data["_flashes"]
    pairs = (isinstance(flash, list | tuple) and len(flash) == 2 for flash in flashes)
    if not isinstance(flashes, list) or not all(pairs):
        raise TypeError("messages are a list of pairs, each a category and a text")


class PayloadTooLarge(ValueError):
    """The application put more into a session than SESSION_MAX_BYTES allows."""


class PayloadCodec:
    """Turns session data into bytes and back.

    `max_bytes` caps both directions; `form` is what is written, `msgpack` or `json`.
    """

    def __init__(self, form: str, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._encoder = _JSON if form == "json" else _MSGPACK

    def encode(self, data: Mapping[str, Any]) -> bytes:
        """Return the payload of `data`. Raises TypeError, which names the key at fault, PayloadTooLarge."""
        try:
            payload = self._packed(data)
        except _UNFIT as error:
            raise TypeError(
                f"session[{self._culprit(data)!r}] cannot be stored: {error}"
            ) from error
        if len(payload) > self.max_bytes:
            raise PayloadTooLarge(
                f"the session's data takes {len(payload)} bytes and SESSION_MAX_BYTES is"
                f" {self.max_bytes}: keep large things in the database and their key in the session"
            )
        return payload

    def size(self, value: Any) -> int:
        """Return the bytes that one decoded value takes in a payload, whatever the cap says."""
        return len(self._encoder.encode(_tagged(value)))

    def _packed(self, data: Mapping[str, Any]) -> bytes:
        for key in data:
            if not isinstance(key, str):
                raise TypeError("a session's keys are strings")
        _check_names(data)
        return self._encoder.encode({key: _tagged(value) for key, value in data.items()})

    def _culprit(self, data: Mapping[str, Any]) -> object:
        for key, value in data.items():
            try:
                self._packed({key: value})
            except _UNFIT:
                return key
        return None

    def decode(self, payload: bytes) -> dict[str, Any]:
        """Return the data of a payload. Raises UnreadablePayload."""
        if len(payload) > self.max_bytes:
            raise UnreadablePayload(f"{len(payload)} bytes, more than SESSION_MAX_BYTES")
        try:
            decode = msgspec.json.decode if payload[:1] == b"{" else msgspec.msgpack.decode
            raw = decode(payload)
            if not isinstance(raw, dict) or not all(isinstance(key, str) for key in raw):
                raise UnreadablePayload("not a mapping of names")
            data = {
                key: value if type(value) in _EASY else _untagged(value)
                for key, value in raw.items()
            }
            _check_names(data)
            return data
        except Exception as error:
            raise UnreadablePayload(type(error).__name__) from error


def merge(
    base: Mapping[str, Any], mine: Mapping[str, Any], theirs: Mapping[str, Any]
) -> dict[str, Any]:
    """Apply to `theirs` the top-level keys that `mine` changed or deleted since `base`.

    The same key changed on both sides takes our value, but for `_flashes`, a list to which both
    sides add and from which both take.
    """
    merged = dict(theirs)
    for key in base.keys() - mine.keys():
        merged.pop(key, None)
    merged |= {key: mine[key] for key in mine if key not in base or base[key] != mine[key]}
    if "_flashes" in theirs or "_flashes" in mine:
        flashes = _merge_list(
            base.get("_flashes", []), mine.get("_flashes", []), theirs.get("_flashes", [])
        )
        if flashes:
            merged["_flashes"] = flashes
        else:
            merged.pop("_flashes", None)
    return merged


def _merge_list(base: list[Any], mine: list[Any], theirs: list[Any]) -> list[Any]:
    left = list(mine)
    removed = []
    for item in base:
        if item in left:
            left.remove(item)
        else:
            removed.append(item)
    kept = list(theirs)
    for item in removed:
        if item in kept:
            kept.remove(item)
    return kept + left


def _tagged(value: Any) -> Any:
    if type(value) in _EASY:
        return value
    _check(value, DEEPEST)
    return _tagger.tag(value)


def _untagged(value: Any) -> Any:
    value = _tagger._untag_scan(value)
    _check(value, DEEPEST)
    return value


def _check(value: Any, left: int) -> None:
    """Refuse what one form or one direction would take and another would not."""
    if isinstance(value, dict):
        inside: Any = (*value, *value.values())
    elif isinstance(value, list | tuple):
        inside = value
    elif isinstance(value, int) and not -(2**63) <= value < 2**64:
        raise OverflowError("an integer has at most 64 bits")
    elif isinstance(value, msgspec.msgpack.Ext):
        raise TypeError("an extension of MessagePack is none of the types that a session holds")
    else:
        return
    if left == 0:
        raise ValueError(f"it is nested more than {DEEPEST} deep")
    for each in inside:
        if type(each) not in _EASY:
            _check(each, left - 1)

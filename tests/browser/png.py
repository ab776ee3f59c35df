"""Make a screenshot small: of 256 colours instead of thousands that nobody tells apart. `tour` calls it.

A page has few colours, and the edges of its letters have the rest. PNG is read and written as far as
Chromium's screenshots need it (RGB, 8 bits, not interlaced; PNG specification, sections 9 and 11).
"""

import zlib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from struct import pack, unpack

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_RGB, _INDEXED = 2, 3
_BYTES = 3

Colour = tuple[int, ...]


def smaller(picture: bytes) -> bytes:
    """Return the picture with the 256 colours that it has most, each other one as the nearest of them."""
    chunks = [*_chunks(picture)]
    width, height, *kind = unpack(">IIBBBBB", chunks[0][1])
    assert kind == [8, _RGB, 0, 0, 0], kind
    data = zlib.decompress(b"".join(body for name, body in chunks if name == b"IDAT"))
    rows = [[*zip(*[iter(line)] * _BYTES, strict=True)] for line in _lines(data, width * _BYTES)]
    counts = Counter(colour for row in rows for colour in row)
    palette = [colour for colour, _count in counts.most_common(256)]
    place = {colour: number for number, colour in enumerate(palette)}
    place |= {colour: _nearest(colour, palette) for colour in counts.keys() - place.keys()}
    indexed = b"".join(b"\0" + bytes(place[colour] for colour in row) for row in rows)
    header = pack(">IIBBBBB", width, height, 8, _INDEXED, 0, 0, 0)
    parts = {b"IHDR": header, b"PLTE": b"".join(map(bytes, palette))}
    parts |= {b"IDAT": zlib.compress(indexed, 9), b"IEND": b""}
    return _SIGNATURE + b"".join(_chunk(name, body) for name, body in parts.items())


def _chunks(picture: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(_SIGNATURE)
    while at < len(picture):
        (length,) = unpack(">I", picture[at : at + 4])
        yield picture[at + 4 : at + 8], picture[at + 8 : at + 8 + length]
        at += 12 + length


def _chunk(name: bytes, body: bytes) -> bytes:
    return pack(">I", len(body)) + name + body + pack(">I", zlib.crc32(name + body))


def _lines(data: bytes, stride: int) -> Iterator[bytearray]:
    """Undo the filters, line by line."""
    above = bytearray(stride)
    for at in range(0, len(data), stride + 1):
        line = bytearray(data[at + 1 : at + 1 + stride])
        if data[at]:
            _unfilter(data[at], line, above)
        yield line
        above = line


def _unfilter(kind: int, line: bytearray, above: bytearray) -> None:
    left = corner = (0,) * _BYTES
    for at in range(0, len(line), _BYTES):
        up = above[at : at + _BYTES]
        match kind:
            case 1:
                near = left
            case 2:
                near = up
            case 3:
                near = [(a + b) // 2 for a, b in zip(left, up, strict=True)]
            case _:
                near = map(_paeth, left, up, corner)
        left = [(value + n) & 255 for value, n in zip(line[at : at + _BYTES], near, strict=True)]
        line[at : at + _BYTES] = bytes(left)
        corner = up


@cache
def _paeth(left: int, up: int, corner: int) -> int:
    """Return that of the three which is nearest to left + up - corner; the earlier one if two are."""
    return min((left, up, corner), key=lambda each: abs(left + up - corner - each))


def _nearest(colour: Colour, palette: list[Colour]) -> int:
    def distance(number: int) -> int:
        return sum((a - b) ** 2 for a, b in zip(colour, palette[number], strict=True))

    return min(range(len(palette)), key=distance)

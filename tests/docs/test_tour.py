"""The pictures of the docs: those that pages show, those that are there and those that `make tour` takes."""

import re
import zlib
from struct import pack, unpack

from tests.browser.png import smaller
from tests.browser.tour import PHONE, SHOTS, WIDE
from tests.docs.facts import DOCS

FILES = sorted((DOCS / "images").glob("*"))
_PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)]+)\)")


def shown() -> list[tuple[str, str, str]]:
    """Return page, text and file of each picture in README and docs."""
    root = DOCS.parent
    pages = [*root.glob("*.md"), *DOCS.glob("*.md")]
    return [
        (page.name, text, str((page.parent / target).resolve().relative_to(root)))
        for page in pages
        for text, target in _PICTURE.findall(page.read_text())
    ]


def test_pages_show_the_pictures_that_the_tour_takes_and_no_others_lie_about() -> None:
    taken = {f"docs/images/{name}.png" for name in SHOTS}
    assert {file for _page, _text, file in shown()} == taken
    assert {f"docs/images/{file.name}" for file in FILES} == taken
    assert {file for page, _text, file in shown() if page == "tour.md"} == taken


def test_each_picture_says_in_words_what_it_shows() -> None:
    assert [(page, file) for page, text, file in shown() if len(text) < 15] == []


def test_no_picture_is_larger_than_a_page_of_the_docs_should_load() -> None:
    for file in FILES:
        picture = file.read_bytes()
        size = dict(zip(("width", "height"), unpack(">II", picture[16:24]), strict=True))
        assert size in (WIDE, PHONE), file.name
        assert len(picture) <= 150 * 1024, file.name


def test_a_picture_of_few_colours_is_made_smaller_without_a_change() -> None:
    """Each line is filtered in another way: not, by the left, by the one above, by both, by the nearest."""
    data = bytes.fromhex(
        "00 010203 01010101 010203 01010102 010101 01010103 0a0a0a 00000004 010101 010101"
    )
    picture = b"\x89PNG\r\n\x1a\n"
    for name, body in (
        (b"IHDR", pack(">IIBBBBB", 2, 5, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(data)),
        (b"IEND", b""),
    ):
        picture += pack(">I", len(body)) + name + body + pack(">I", zlib.crc32(name + body))

    chunks = dict(re.findall(rb"(?s)(PLTE|IDAT)(.*?)(?=.{8}(?:IDAT|IEND))", smaller(picture)))

    lines = zlib.decompress(chunks[b"IDAT"])
    palette = [chunks[b"PLTE"][at : at + 3].hex() for at in range(0, len(chunks[b"PLTE"]), 3)]
    assert [[palette[i] for i in lines[at + 1 : at + 3]] for at in range(0, len(lines), 3)] == [
        ["010203", "010101"],
        ["010203", "020304"],
        ["020304", "030405"],
        ["0b0b0c", "070708"],
        ["0c0c0d", "080809"],
    ]

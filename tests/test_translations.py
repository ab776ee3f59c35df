"""The catalogs: complete, compiled, and one word for one word. Whether pages use them: test_texts."""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_dir
from babel.messages.frontend import parse_mapping_cfg
from babel.messages.mofile import read_mo, write_mo
from babel.messages.pofile import read_po

from app import choices

ROOT = Path(__file__).parent.parent
TRANSLATED = [tag for tag in choices.LANGUAGES if tag != "en"]
Message = tuple[str | None, tuple[str, ...]]

PLACE = re.compile(r"%\(\w+\)s|%\(\w+\)d|\{\w+\}")
_HAN = "[\u3400-\u9fff]"


@cache
def catalog(tag: str) -> Catalog:
    with (choices.CATALOGS / tag.replace("-", "_") / "LC_MESSAGES/messages.po").open() as file:
        return read_po(file)


@cache
def said_in_the_code() -> set[Message]:
    """Return context and text of everything that code and templates mark, as `make translations` does."""
    with (ROOT / "babel.cfg").open() as file:
        methods, options = parse_mapping_cfg(file)
    keywords = {**DEFAULT_KEYWORDS, "_l": None, "lazy_gettext": None}
    found = extract_from_dir(ROOT, methods, options, keywords)
    return {(context, forms(text)) for _file, _line, text, _comments, context in found}


def translations(tag: str) -> Iterator[tuple[str, str]]:
    """Yield each text, a plural's last form, with its translation."""
    for message in catalog(tag):
        if message.id:
            yield forms(message.id)[-1], forms(message.string)[-1]


def forms(text: str | Sequence[str]) -> tuple[str, ...]:
    """Return a text's forms for one and for many, of which most have but one."""
    return (text,) if isinstance(text, str) else tuple(text)


def glossary(tag: str) -> dict[str, list[str]]:
    """Return the words that the catalog's heading fixes: "#   store = 儲存區"."""
    entry = re.compile(r"^#\s+([a-z ]+) = (.+)$", re.MULTILINE)
    return {word: said.split(" / ") for word, said in entry.findall(catalog(tag).header_comment)}


@pytest.mark.parametrize("tag", TRANSLATED)
def test_each_text_is_translated_and_no_other(tag: str) -> None:
    there = {(message.context, forms(message.id)) for message in catalog(tag) if message.id}
    assert said_in_the_code() - there == set(), "run `make translations` and translate these"
    assert there - said_in_the_code() == set(), "run `make translations`"
    assert [text for text, said in translations(tag) if not said] == []
    assert [message.id for message in catalog(tag) if message.id and message.fuzzy] == []
    assert not catalog(tag).obsolete


@pytest.mark.parametrize("tag", TRANSLATED)
def test_a_translation_has_the_places_of_its_text(tag: str) -> None:
    wrong = [
        (text, said)
        for text, said in translations(tag)
        if sorted(PLACE.findall(text)) != sorted(PLACE.findall(said))
    ]
    assert wrong == []


@pytest.mark.parametrize("tag", TRANSLATED)
def test_what_is_compiled_is_what_is_written(tag: str, tmp_path: Path) -> None:
    with (tmp_path / "messages.mo").open("w+b") as file:
        write_mo(file, catalog(tag))
        file.seek(0)
        fresh = {(each.context, forms(each.id)): each.string for each in read_mo(file)}
    with (choices.CATALOGS / tag.replace("-", "_") / "LC_MESSAGES/messages.mo").open("rb") as file:
        kept = {(each.context, forms(each.id)): each.string for each in read_mo(file)}
    assert kept == fresh, "run `make translations`"


@pytest.mark.parametrize("tag", TRANSLATED)
def test_a_catalog_names_no_line_and_no_day(tag: str) -> None:
    """So that a changed text changes its own lines and no others."""
    file = choices.CATALOGS / tag.replace("-", "_") / "LC_MESSAGES/messages.po"
    assert not re.search(r"^#:", file.read_text(), re.MULTILINE)
    order = [forms(message.id)[0] for message in catalog(tag) if message.id]
    assert order == sorted(order)


@pytest.mark.parametrize("tag", TRANSLATED)
def test_one_word_is_translated_by_one_word(tag: str) -> None:
    words = glossary(tag)
    assert len(words) >= 20
    wrong = [
        (word, text, said)
        for word, allowed in words.items()
        for text, said in translations(tag)
        if re.search(rf"\b{word}s?\b", PLACE.sub("", text), re.IGNORECASE)
        if not any(each in said for each in allowed)
    ]
    assert wrong == []


@pytest.mark.parametrize(("tag", "charset"), [("zh-Hant", "cp950"), ("zh-Hans", "gb2312")])
def test_chinese_is_written_as_it_is_where_it_is_read(tag: str, charset: str) -> None:
    """Neither script has the other's characters, and both have full-width marks and spaced Latin."""
    for _text, said in translations(tag):
        said.encode(charset)
        plain = PLACE.sub("%", said)
        assert not re.search(rf"{_HAN}[,;:!?()]|[,;:!?()]{_HAN}|{_HAN}\.($|\s)", plain), said
        assert not re.search(rf"{_HAN}[A-Za-z0-9]|[A-Za-z0-9]{_HAN}", plain), said

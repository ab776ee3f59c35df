"""Charts as values: where each mark stands, for the one macro that draws them (`macros/chart.html`).

Across, places are per cent, so that a chart is as wide as its page; upwards they are pixels. The
macro's SVG is never scaled: text keeps its size on a phone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from unicodedata import east_asian_width

from app.filters import listed, number
from app.texts import gettext as _

HEIGHT = 160
"""Pixels between the axis and the topmost line."""

TOP = 20
"""Pixels above that line, where the words of upright lines stand."""

_STEPS = (1, 2, 3, 4, 5, 6, 8)
_LINES = 4
_LABELS = 4
_LETTER = 2.5
"""Per cent that a letter beside a chart takes on a phone; one of Chinese takes two."""


@dataclass(frozen=True, slots=True)
class Column:
    """What a column shows: its name, the words under the axis if it has any, a value for each series.

    None is no value: nobody looked, and that is not zero.
    """

    name: str
    label: str
    values: tuple[int | None, ...]

    @property
    def known(self) -> tuple[int, ...]:
        return tuple(value or 0 for value in self.values)


@dataclass(frozen=True, slots=True)
class Upright:
    """A line from the axis up, at a share of the width from 0 to 1: an event, or a limit."""

    share: float
    label: str
    title: str


@dataclass(frozen=True, slots=True)
class Part:
    """One series in a column: its number from 1 on, and where it begins and how high it is."""

    series: int
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Bar:
    """A column that is placed. `x` and `width` are per cent."""

    x: float
    width: float
    title: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Label:
    """Words at a place, and which side of them stands there: `start`, `middle` or `end`."""

    x: float
    anchor: str
    text: str


@dataclass(frozen=True, slots=True)
class Mark:
    """An upright line that is placed; `label` is None where there is no room on either side."""

    x: float
    title: str
    label: Label | None


@dataclass(frozen=True, slots=True)
class Chart:
    """All that the macro draws. `ticks` are the lines across: how far down, and the value."""

    series: tuple[str, ...]
    columns: tuple[Column, ...]
    bars: tuple[Bar, ...]
    ticks: tuple[tuple[float, int], ...]
    labels: tuple[Label, ...]
    marks: tuple[Mark, ...]
    height: int = HEIGHT + TOP


def chart(
    series: Sequence[str], columns: Sequence[Column], uprights: Sequence[Upright] = ()
) -> Chart:
    """Place columns side by side, their values on top of each other."""
    step = _step(max((sum(column.known) for column in columns), default=0))
    top = step * _LINES
    width = 100 / max(1, len(columns))
    return Chart(
        tuple(series),
        tuple(columns),
        tuple(_bar(series, column, i * width, width, top) for i, column in enumerate(columns)),
        tuple((_down(value, top), value) for value in range(0, top + 1, step)),
        tuple(_labels(columns, width)),
        _marks(uprights),
    )


def _step(most: int) -> int:
    """Return the smallest round number with which the lines reach the most."""
    size = 1
    while True:
        for step in _STEPS:
            if step * size * _LINES >= most:
                return step * size
        size *= 10


def _down(value: int, top: int) -> float:
    return round(TOP + HEIGHT * (1 - value / top), 1)


def _bar(series: Sequence[str], column: Column, x: float, width: float, top: int) -> Bar:
    named = zip(series, column.values, strict=True)
    said = [f"{name} {number(value)}" for name, value in named if value is not None]
    reached = list(accumulate(column.known))
    parts = tuple(
        Part(number, _down(upto, top), round(HEIGHT * value / top, 1))
        for number, (value, upto) in enumerate(zip(column.known, reached, strict=True), 1)
        if value
    )
    return Bar(
        round(x, 2), round(width, 2), listed([column.name, *(said or [_("no sample")])]), parts
    )


def _labels(columns: Sequence[Column], width: float) -> list[Label]:
    """Name every so many columns that have words, at their left edge as the time they begin is."""
    named = [(i * width, column.label) for i, column in enumerate(columns) if column.label]
    every = -(-len(named) // _LABELS) or 1
    return [
        Label(100, "end", text) if x + _width(text) > 100 else Label(round(x, 2), "start", text)
        for x, text in named[::every]
    ]


def _marks(uprights: Sequence[Upright]) -> tuple[Mark, ...]:
    """Place lines, each named on its right; on its left where another one is near."""
    lines = sorted(uprights, key=lambda line: line.share)
    places = [round(100 * line.share, 2) for line in lines]
    following = [*places[1:], 200.0]
    marks: list[Mark] = []
    free = 0.0
    for line, x, after in zip(lines, places, following, strict=False):
        width = _width(line.label)
        left, right = x - width >= free, x >= free and x + width <= 100
        label = None
        if left and (not right or after - x < 2 * width):
            label, free = Label(x, "end", line.label), x
        elif right:
            label, free = Label(x, "start", line.label), x + width
        marks.append(Mark(x, line.title, label))
    return tuple(marks)


def _width(text: str) -> float:
    return _LETTER * sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)

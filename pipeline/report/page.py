"""Renders a page: sections of text, charts, tables and images, as one HTML file that needs no network.

Everything from files is text on the page: jinja2 escapes it. Only the SVG of the charts, whose text matplotlib has
escaped, is put in as it is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    kind: str = "text"


@dataclass(frozen=True)
class Code:
    """A text in which every space counts, such as a recipe or a command; title: shown first, the text on a click."""

    text: str
    title: str = ""
    kind: str = "code"


@dataclass(frozen=True)
class Facts:
    """Short values with their names."""

    facts: Sequence[tuple[str, str]]
    kind: str = "facts"


@dataclass(frozen=True)
class Chart:
    """A chart and what it shows."""

    svg: str
    caption: str = ""
    kind: str = "chart"

    @property
    def markup(self) -> Markup:
        """The SVG element."""
        return Markup(self.svg)

    @property
    def width(self) -> int:
        """The width in pixels at which its text has the size of the page's."""
        found = re.search(r'width="(\d+)"', self.svg)
        assert found is not None
        return int(found[1])


@dataclass(frozen=True)
class Cell:
    """A cell of a table: what is shown, by what it is sorted, and an address that it links to."""

    text: str
    value: float | str = ""
    link: str = ""


@dataclass(frozen=True)
class Table:
    """A table that can be sorted by each column and, if it is long, filtered by the text of its first columns.

    numbers: the names of the columns that are numbers
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    numbers: Sequence[str] = ()
    caption: str = ""
    kind: str = "table"

    @property
    def is_long(self) -> bool:
        """True if a filter helps."""
        return len(self.rows) > 8


@dataclass(frozen=True)
class Card:
    """An image and what is known of it.

    images: addresses of its pictures
    title, lines: what stands below; the title in bold
    is_wrong: True to mark it
    names: the classes by which it can be filtered
    sort: values by which it can be sorted, by the name of the order
    """

    images: Sequence[str]
    title: str
    lines: Sequence[str] = ()
    is_wrong: bool = False
    names: Sequence[str] = ()
    sort: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Cards:
    """Images side by side, which can be filtered by class and sorted."""

    cards: Sequence[Card]
    caption: str = ""
    kind: str = "cards"

    @property
    def names(self) -> list[str]:
        """All classes, in alphabetical order."""
        return sorted({name for card in self.cards for name in card.names})

    @property
    def orders(self) -> list[str]:
        """The orders in which the images can be sorted."""
        return list(self.cards[0].sort) if self.cards else []


@dataclass(frozen=True)
class Section:
    """A part of the page, which answers one question.

    name: short, for the list of all parts; title: the question
    """

    name: str
    title: str
    blocks: Sequence[Any]

    @property
    def anchor(self) -> str:
        """The id of the part."""
        return self.name.replace(" ", "-")


def number(value: float | None, digits: int = 4) -> str:
    """A number with four digits after the point; an en dash if it is not known."""
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def table_of(
    frame: pd.DataFrame, formats: dict[str, str], caption: str = "", names: dict[str, str] | None = None
) -> Table:
    """A table from a frame; formats: how numbers are written, by column, such as ``".4f"``; names: of the columns."""
    rows = []
    for row in frame.itertuples(index=False):
        cells = []
        for column, value in zip(frame.columns, row, strict=True):
            if column not in formats:
                cells.append(Cell(str(value), str(value).lower()))
            elif pd.isna(value):
                cells.append(Cell("–", ""))
            else:
                cells.append(Cell(format(value, formats[column]), float(value)))
        rows.append(cells)
    shown = [(names or {}).get(column, column) for column in frame.columns]
    numbers = [(names or {}).get(column, column) for column in formats]
    return Table(shown, rows, numbers, caption)


def render(title: str, subtitle: str, sections: Sequence[Section], top: Any = None) -> str:
    """The whole page as HTML.

    top: what stands before the sections: the facts of the headline
    """
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return environment.get_template("page.html").render(
        title=title, subtitle=subtitle, sections=sections, top=top, style=Markup(style), script=Markup(script)
    )

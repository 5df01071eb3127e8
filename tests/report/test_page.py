"""The page as HTML: everything from outside is text."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pandas as pd

from pipeline.report.page import Card, Cards, Cell, Chart, Code, Facts, Section, Table, Text, number, render, table_of

EVIL = "<script>alert('x')</script>\"&'"


def every_block() -> list[object]:
    table = Table([EVIL, "n"], [[Cell(EVIL, EVIL, "a b.html")] * 2], ["n"], EVIL)
    cards = [
        Card(["data:,"], EVIL, [EVIL], True, [EVIL, "b"], {EVIL: 1.0}),
        Card([""], "two", [], False, ["b"], {EVIL: 2.0}),
    ]
    return [Text(EVIL), Code(EVIL), Code(EVIL, EVIL), Facts([(EVIL, EVIL)]), table, Cards(cards, EVIL)]


def test_text_from_outside_is_never_code() -> None:
    page = render(EVIL, EVIL, [Section(EVIL, EVIL, every_block())], Facts([(EVIL, EVIL)]))
    assert page.count("<script") == 1 and "alert('x')" not in page  # the page's own; quotes are escaped as well
    names: list[str] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            names.extend(name for name, _ in attrs)
            assert tag != "script" or not attrs

    Parser().feed(page)
    assert not [name for name in names if name.startswith("on")]
    assert not re.search(r'(src|href)="(?!data:|#|a b\.html)', page)


def test_the_page_asks_no_network() -> None:
    page = render("a", "b", [Section("c", "d", [])])
    assert "default-src 'none'" in page and "http:" not in page and "https:" not in page


def test_a_table_knows_what_its_numbers_are_sorted_by() -> None:
    frame = pd.DataFrame({"name": ["B"], "share": [0.123], "none": [float("nan")]})
    table = table_of(frame, {"share": ".1%", "none": ".2f"}, names={"share": "of all"})
    assert table.columns == ["name", "of all", "none"] and table.numbers == ["of all", "none"]
    assert table.rows == [[Cell("B", "b"), Cell("12.3%", 0.123), Cell("–", "")]]
    assert number(None) == number(float("nan")) == "–" and number(0.5) == "0.5000"


def test_a_chart_has_the_width_of_its_svg() -> None:
    assert Chart('<svg width="451" height="3">').width == 451

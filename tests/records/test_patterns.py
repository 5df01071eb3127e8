"""Patterns and templates in competition.toml."""

from __future__ import annotations

import pytest

from pipeline.records.patterns import checked_file_name, checked_pattern, with_group_names


@pytest.mark.parametrize("template", ["{id}.png", "{id}_thumbnail.png", "{id[0]}/{id[1]}/{id}", "{eye}-{id[:2]}.jpg"])
def test_templates_of_file_names(template: str) -> None:
    assert checked_file_name(template) == template


@pytest.mark.parametrize("template", ["x.png", "{id.png", "{}", "{id.__class__}", "{id[x]}.png", "{{id}}", "{id!r}"])
def test_other_templates_are_refused_or_name_a_column(template: str) -> None:
    if template in ("{id.__class__}", "{id!r}"):  # names of columns, which no CSV has: nothing is evaluated
        assert checked_file_name(template)
    else:
        with pytest.raises(ValueError, match=r"is not such as '\{id\}_left.png'"):
            checked_file_name(template)


def test_a_pattern_without_the_group_shows_the_corrected_one() -> None:
    with pytest.raises(ValueError, match="has no group named 'group'"):
        checked_pattern(r"^(?P<id>\d+)", "group")
    assert with_group_names(r"^(.*?)_(\d+)\.jpg$", "label") == r"^(?P<label>.*?)_(?P<id>\d+)\.jpg$"

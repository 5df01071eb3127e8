"""Groups beside any source of labels."""

from __future__ import annotations

import pytest

from pipeline.records.paths import Paths
from pipeline.records.tables import read_manifest
from tests.conftest import Edit, Failure, Stage

SOURCES = [
    ("group_pattern = '_(?P<group>\\d)\\d*\\.png$'", ""),
    ('groups = "groups.csv"', "".join(f"{kind}_{n},{str(n)[0]}\n" for n in range(60) for kind in ("circle", "square"))),
]


@pytest.mark.parametrize(("key", "rows"), SOURCES)
def test_the_groups_of_file_names_and_of_a_csv(shapes: Paths, stage: Stage, edit: Edit, key: str, rows: str) -> None:
    (shapes.raw / "groups.csv").write_text("image,digit\n" + rows)
    edit("[test]", f"{key}\n[test]")
    stage("manifest")
    train = read_manifest(shapes.manifest).query("split == 'train'")
    assert list(train["group"]) == list(train["image_id"].str.extract(r"_(\d)")[0])


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ('group_column = "x"', "group_column needs groups"),
        ('group_id_column = "x"', "group_id_column needs groups"),
        ('groups = "g.csv"\ngroup_pattern = "(?P<group>.)"', "not from several"),
        ('group_pattern = "(?P<label>.)"', "has no group named 'group'"),
        ('groups = "two.csv"', "lists 'square_1' with two groups, 'a' and 'b'"),
        ('groups = "other.csv"', "names none of the train images, such as 'nobody'"),
        ('groups = "narrow.csv"', "needs an id and a group column"),
    ],
)
def test_groups_that_cannot_be_used(shapes: Paths, failure: Failure, edit: Edit, keys: str, said: str) -> None:
    (shapes.raw / "two.csv").write_text("image,who\nsquare_1,a\nsquare_1,b\n")
    (shapes.raw / "other.csv").write_text("image,who\nnobody,a\n")
    (shapes.raw / "narrow.csv").write_text("image\nsquare_1\n")
    edit("[test]", f"{keys}\n[test]")
    assert said in failure("manifest")


def test_images_without_a_group_are_listed(shapes: Paths, stage: Stage, edit: Edit) -> None:
    (shapes.raw / "groups.csv").write_text("image,who\nsquare_1,a\nsquare_3,a\n")
    edit("[test]", 'groups = "groups.csv"\n[test]')
    stage("manifest")
    train = read_manifest(shapes.manifest).query("split == 'train'")
    assert list(train["image_id"][train["group"] == "a"]) == ["square_1", "square_3"]
    assert shapes.problems.read_text().count("no group,not listed in groups.csv") == 58

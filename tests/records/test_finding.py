"""The file of each id."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from pipeline.records.finding import Images, find_files, with_fields
from pipeline.records.paths import Paths
from pipeline.records.tables import read_manifest
from pipeline.system.errors import InputError
from tests.conftest import Edit, Failure, Stage, picture, write_image

CSV = Path("x.csv")


def found(ids: list[str], names: list[str], tops: tuple[str, ...] = ("",)) -> dict[str, str]:
    return dict(
        zip(ids, find_files(pd.Series(ids), Images(Path("train"), sorted(names), tops), CSV).names, strict=True)
    )


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("a", "a.png"),
        ("a.png", "a.png"),
        ("./a.png", "a.png"),
        ("A.PNG", "a.png"),
        (" a", "a.png"),
        ("a.jpg", "a.png"),  # another extension
        ("a.dcm", "a.png"),
        ("caf\u00e9", "cafe\u0301.png"),
        ("0001", "x/y/0001.png"),  # in a subfolder
        ("x/0001.png", "x/0001.png"),
        ("train/0001.png", "0001.png"),
        ("x\\0001.png", "x/0001.png"),
        ("1.2.840.5", "1.2.840.5.png"),
        ("1.2.840.5", "scan/1.2.840.5"),
        ("A1", "deep/a1.JPG"),
    ],
)
def test_the_file_of_an_id(name: str, file: str) -> None:
    assert found([name], [file, "other.png"]) == {name: file}


def test_what_fits_exactly_comes_first() -> None:
    names = ["Ab.png", "aB.png", "x/ab.png", "1.png", "x/1.png"]
    assert found(["Ab", "aB", "1", "x/1"], names) == {"Ab": "Ab.png", "aB": "aB.png", "1": "1.png", "x/1": "x/1.png"}


def test_the_folder_of_an_id_counts() -> None:
    names = ["cat/1.jpg", "dog/2.jpg", "unsure/9.png"]
    assert found(["cat/1", "cat/2", "cat/9", "../dog/2"], names) == {
        "cat/1": "cat/1.jpg", "cat/2": "", "cat/9": "", "../dog/2": ""
    }  # fmt: skip


def test_one_file_is_not_two_ids() -> None:
    result = find_files(pd.Series(["a", "a.png", "b"]), Images(Path(), ["a.jpg", "b.jpg"]), CSV)
    assert list(result.names) == ["", "", "b.jpg"] and "fits another id too" in result.reasons["a"]


def test_a_clash_names_both() -> None:
    result = find_files(pd.Series(["1", "a/2", "b/2"]), Images(Path(), ["2.png", "x/1.png", "y/1.png"]), CSV)
    assert list(result.names) == ["", "", ""]
    assert "'x/1.png' and 'y/1.png'" in result.reasons["1"]


def test_several_folders() -> None:
    names, tops = ["stage1/1.jpg", "stage2/2.jpg", "stage2/s/3.jpg"], ("stage1/", "stage2/")
    assert found(["1", "stage2/2.jpg", "s/3"], names, tops) == {
        "1": names[0], "stage2/2.jpg": names[1], "s/3": names[2]
    }  # fmt: skip


@pytest.mark.parametrize(("first_id", "first_file"), [(1, 0), (0, 1)])
def test_ids_that_are_counted_from_another_number(first_id: int, first_file: int) -> None:
    ids, names = [str(first_id + n) for n in range(12)], [f"{first_file + n}.png" for n in range(12)]
    result = find_files(pd.Series(ids), Images(Path(), sorted(names)), CSV)
    assert list(result.names) == names
    assert f"id {first_id} is the file '{first_file}.png'" in result.note
    # Also if some files are missing or too many, as long as more ids have a file in this way.
    some = [*names[:5], *names[6:], "notes.png"]
    assert list(found(ids, some).values()) == [*names[:5], "", *names[6:]]
    assert found(ids[:11], names)["1"] == (
        "1.png" if first_id else "2.png"
    )  # all ids have a file by name: no reason to think so


def test_the_advice_is_a_template_or_the_nearest_name() -> None:
    names = [f"{n}_thumbnail.png" for n in (4, 17, 41)]
    result = find_files(pd.Series(["4", "17", "41"]), Images(Path(), names), CSV)
    assert "set file_name = '{id}_thumbnail.png'" in result.reasons["17"]
    result = find_files(pd.Series(["imgae_7"]), Images(Path(), ["image_7.png", "x.png"]), CSV)
    assert result.reasons["imgae_7"] == "the nearest name is 'image_7.png'"


def test_fields_of_a_template() -> None:
    table = pd.DataFrame({"scan": ["abc", "x"], "eye": ["left", "right"]})
    names = with_fields("{id[0]}/{id[1]}/{id[:2]}_{eye[-1]}.png", table, table["scan"], CSV)
    assert list(names) == ["a/b/ab_t.png", "x//x_t.png"]
    with pytest.raises(InputError, match="names the column 'eyes', but x"):
        with_fields("{eyes}", table, table["scan"], CSV)


def test_too_many_test_rows_without_an_image_stop_before_training(shapes: Paths, failure: Failure, edit: Edit) -> None:
    edit("pattern = '^(?P<id>\\d+)\\.png$'", 'ids = "sample_submission.csv"')
    for number in (3, 4):
        (shapes.raw / "test" / f"{number}.png").unlink()
    said = failure("manifest")
    assert "2 of 11 test rows have no image, more than max_missing = 0.01 allows, such as '3'" in said


def test_two_test_folders_a_template_and_a_group_of_a_second_csv(shapes: Paths, stage: Stage, edit: Edit) -> None:
    for number in (12, 13):
        write_image(shapes.raw / "test2" / f"{number}_left.png", picture(number))
    for path in sorted((shapes.raw / "test").iterdir()):
        path.rename(path.with_name(f"{path.stem}_left.png"))
    ids = "".join(f"{number},circle\n" for number in range(1, 14))
    (shapes.raw / "sample_submission.csv").write_text("id,label\n" + ids)
    edit('images  = "test"', 'images = ["test", "test2"]\nfile_name = "{id}_left.png"')
    edit("pattern = '^(?P<id>\\d+)\\.png$'", 'ids = "sample_submission.csv"')
    names = sorted(path.name for path in (shapes.raw / "train").iterdir())
    people = "".join(f"p{number % 4} ,{name}\n" for number, name in enumerate(names))
    (shapes.raw / "people.csv").write_text("person,image\n" + people)
    edit("[test]", 'groups = "people.csv"\ngroup_id_column = "image"\ngroup_column = "person"\n[test]')
    stage("manifest")
    manifest = read_manifest(shapes.manifest)
    test = manifest[manifest["split"] == "test"].set_index("image_id")["path"]
    assert test["12"] == "raw/test2/12_left.png" and test["3"] == "raw/test/3_left.png" and len(test) == 13
    train = manifest[manifest["split"] == "train"]
    assert list(train["group"]) == [f"p{number % 4}" for number in range(60)]

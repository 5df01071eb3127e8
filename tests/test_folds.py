"""Folds: stratified, grouped, made once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import StratifiedKFold

from pipeline.folds import assign_folds, resolve_groups, without_empty_folds
from pipeline.records.competition import Folds
from pipeline.records.paths import Paths
from pipeline.system.errors import FoldwiseError
from tests.checkouts import make
from tests.conftest import Failure, Stage, picture, write_image


def rows(labels: list[str], groups: list[str] | None = None, hashes: list[str] | None = None) -> pd.DataFrame:
    """A manifest's train rows."""
    ids = [f"image{n}" for n in range(len(labels))]
    return pd.DataFrame(
        {"image_id": ids, "label": labels, "group": groups or [""] * len(labels), "sha256": hashes or ids}
    )


def test_without_groups_the_folds_are_scikit_learns() -> None:
    train = rows(["cat"] * 37 + ["dog"] * 63)
    settings = Folds(n=5, seed=7)
    folds = assign_folds(train, train["label"], resolve_groups(train), False, settings)
    splitter = StratifiedKFold(5, shuffle=True, random_state=7)
    for number, (_, val) in enumerate(splitter.split(train, train["label"])):
        assert set(np.flatnonzero(folds == number)) == set(val)


def test_groups_follow_names_and_bytes_in_chains() -> None:
    #               a-b by name, b-c by bytes, d alone, e-f by bytes, g alone with a name
    train = rows(["x"] * 7, ["p1", "p1", "", "", "", "", "p2"], ["1", "2", "2", "3", "4", "4", "5"])
    groups = resolve_groups(train)
    assert list(groups) == ["p1", "p1", "p1", "", "image4", "image4", "p2"]


def test_groups_share_a_fold_and_classes_stay_balanced() -> None:
    rng = np.random.default_rng(0)
    patients = [f"patient{n}" for n in rng.integers(0, 60, 400)]
    train = rows([("sick", "well")[hash_ % 2] for hash_ in rng.integers(0, 9, 400)], patients)
    groups = resolve_groups(train)
    folds = assign_folds(train, train["label"], groups, True, Folds(n=4))
    assert (pd.Series(folds).groupby(groups).nunique() == 1).all()
    shares = train.assign(fold=folds).groupby("fold")["label"].value_counts(normalize=True).unstack()["sick"]
    assert shares.max() - shares.min() < 0.15


def test_no_fold_stays_empty_if_there_are_enough_groups() -> None:
    """Five groups, five folds: scikit-learn's splitter leaves a fold empty."""
    sizes, labels = (5, 1, 2, 1, 3), "ababa"
    groups = pd.Series([f"p{n}" for n, size in enumerate(sizes) for _ in range(size)])
    train = rows([labels[n] for n, size in enumerate(sizes) for _ in range(size)], list(groups))
    given = assign_folds(train, train["label"], groups, True, Folds(n=5))
    assert len({*given}) < 5
    folds = without_empty_folds(given, groups, 5)
    assert sorted({*folds}) == [0, 1, 2, 3, 4]
    assert (pd.Series(folds).groupby(groups).nunique() == 1).all()
    assert list(without_empty_folds(folds, groups, 5)) == list(folds)


@pytest.mark.parametrize(
    ("labels", "groups", "said"),
    [
        (["a", "b"], ["", ""], "each class has only one image"),
        (["a", "a", "b", "b"], ["p", "p", "q", "q"], "all images are of the class"),
    ],
)
def test_folds_that_nothing_could_be_learnt_from_are_refused(
    plain: Paths, stage: Stage, failure: Failure, labels: list[str], groups: list[str], said: str
) -> None:
    cells = "".join(f"Train_{n},{label},{group}\n" for n, (label, group) in enumerate(zip(labels, groups, strict=True)))
    (plain.raw / "train.csv").write_text("image_id,label,who\n" + cells)
    for path in sorted((plain.raw / "images").iterdir()):
        if int(path.stem.partition("_")[2]) >= len(labels):
            path.unlink()
    group_column = 'group_column = "who"\n' if any(groups) else ""
    plain.toml.write_text(plain.toml.read_text().replace("[folds]", f"{group_column}[folds]"))
    stage("manifest")
    assert said in failure("folds")


def test_identical_images_share_a_fold_and_fold_sizes_stay_equal() -> None:
    train = rows(["a", "b"] * 50, hashes=[str(n // 4) for n in range(100)])
    folds = assign_folds(train, train["label"], resolve_groups(train), False, Folds(n=5))
    assert (pd.Series(folds).groupby(train["sha256"]).nunique() == 1).all()
    assert set(pd.Series(folds).value_counts()) == {20}


def test_a_class_smaller_than_the_folds_is_spread_and_said(
    shapes: Paths, stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(shapes.raw / "test" / "1.png", shapes.raw / "train" / "triangle_1.png")
    stage("manifest")
    stage("folds")
    assert "1 class with fewer images or groups than folds ('triangle')" in capsys.readouterr().out
    assert pd.read_csv(shapes.folds)["label"].value_counts()["triangle"] == 1


def test_fewer_images_or_groups_than_folds_are_refused() -> None:
    with pytest.raises(FoldwiseError, match="largest class has 2 images"):
        train = rows(["a", "a", "b", "b", "c"])
        assign_folds(train, train["label"], resolve_groups(train), False, Folds(n=4))
    with pytest.raises(FoldwiseError, match="2 images or groups cannot make 3 folds"):
        train = rows(["a", "b"] * 6, ["p", "q"] * 6)
        assign_folds(train, train["label"], resolve_groups(train), True, Folds(n=3))


def test_made_once(shapes: Paths, stage: Stage, failure: Callable[..., str], edit: Callable[[str, str], None]) -> None:
    stage("manifest")
    stage("folds")
    first = shapes.folds.read_bytes()
    stage("folds")
    assert shapes.folds.read_bytes() == first
    edit("seed = 42", "seed = 43")
    stage("folds")  # no run depends on them yet
    assert shapes.folds.read_bytes() != first
    stage("train", "--fold", "0")
    second = shapes.folds.read_bytes()
    edit("seed = 43", "seed = 44")
    message = failure("folds")
    assert "tiny/fold0" in message and "FORCE=1" in message
    assert shapes.folds.read_bytes() == second
    stage("folds", "--force")
    assert shapes.folds.read_bytes() != second
    assert "folds_sha256 differs" in failure("predict", "--folds", "0")


def test_a_users_own_folds(
    shapes: Paths, stage: Stage, failure: Callable[..., str], edit: Callable[[str, str], None]
) -> None:
    stage("manifest")
    stage("folds")
    own = pd.read_csv(shapes.folds, dtype=str)[["image_id", "fold"]].sample(frac=1, random_state=0)
    own["fold"] = (2 - own["fold"].astype(int)).astype(str)
    own.to_csv(shapes.home / "my_folds.csv", index=False)
    edit("n    = 3", 'n = 3\nfile = "my_folds.csv"')
    stage("folds")
    made = pd.read_csv(shapes.folds, dtype=str).set_index("image_id")["fold"]
    assert (made.loc[own["image_id"]].to_numpy() == own["fold"].to_numpy()).all()
    own.iloc[1:].to_csv(shapes.home / "my_folds.csv", index=False)
    assert f"1 id missing (such as '{own['image_id'].iloc[0]}')" in failure("folds")
    own.assign(fold="0").to_csv(shapes.home / "my_folds.csv", index=False)
    assert "contains the folds 0, but [folds] n = 3" in failure("folds")


def test_facts_change_under_trained_folds(drawn: Path) -> None:
    """It stops before anything becomes invalid, and names the flag."""
    checkout = drawn.parents[1]
    words = ["COMPETITION=shapes", "SET=epochs=1", "FOLDS=0"]
    assert make(checkout, "train", *words).returncode == 0
    weights = next(drawn.rglob("weights.safetensors"))
    trained, folds = weights.stat().st_mtime_ns, (drawn / "folds.csv").read_bytes()
    write_image(drawn / "raw" / "train" / "circle_98.png", picture(5))
    ended = make(checkout, "submit", *words)
    assert ended.returncode == 2 and "FORCE=1" in ended.stderr and "tiny~epochs=1/fold0" in ended.stderr
    assert "[manifest] runs again: data/shapes/raw/train/circle_98.png is new" in ended.stdout
    assert (drawn / "folds.csv").read_bytes() == folds and weights.stat().st_mtime_ns == trained
    (drawn / "raw" / "train" / "circle_98.png").unlink()
    assert make(checkout, "submit", *words).returncode == 0 and weights.stat().st_mtime_ns == trained


def test_one_image_under_two_names_shares_a_fold(split: Paths, stage: Stage) -> None:
    for number in range(0, 20, 2):
        shutil.copy(split.raw / "train" / f"circle_{number}.png", split.raw / "train" / f"circle_{500 + number}.png")
    stage("manifest")
    stage("folds")
    fold = pd.read_csv(split.folds).set_index("image_id")["fold"]
    assert all(fold[f"circle_{number}"] == fold[f"circle_{500 + number}"] for number in range(0, 20, 2))
    assert "identical" in set(pd.read_csv(split.problems)["problem"])


@pytest.mark.parametrize("images", [1, 2])
def test_a_class_smaller_than_the_folds(
    shapes: Paths, stage: Stage, images: int, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(images):
        write_image(shapes.raw / "train" / f"star_{number}.png", np.full((20, 20, 3), 90 + number, np.uint8))
    for name in ("prepare", "manifest", "folds"):
        stage(name)
    assert "1 class with fewer images or groups than folds ('star')" in capsys.readouterr().out
    folds = pd.read_csv(shapes.folds)
    assert (folds["label"] == "star").sum() == images and set(folds["fold"]) == {0, 1, 2}

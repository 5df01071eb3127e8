"""A synthetic competition of tiny images with a learnable signal, and the stages as functions to call."""

from __future__ import annotations

import importlib
import io
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.records.paths import Paths
from pipeline.system import places
from pipeline.system.console import run_stage
from tests.checkouts import heed_signals, new_checkout
from tests.trainings import FOLD_0, SETTINGS, Trained, trained

PLAIN_TOML = """
title = "Pictures"
recipe = "tiny"
[train]
images = "images"
labels = "train.csv"
[folds]
n = 2
"""

# The tests promise bits, which a GPU does not keep: they run on the CPU, also where there is a GPU. `make check-gpu`
# sets this variable, to run some of them on the GPU.
if os.environ.get("FOLDWISE_TEST_DEVICE") != "cuda":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

#: Made absolute here, before a test moves to its own folder.
SHARED_DATA = os.environ.get("FOLDWISE_SHARED_DATA", "") and str(Path(os.environ["FOLDWISE_SHARED_DATA"]).resolve())

SHAPES_TOML = r"""
title   = "Squares and circles"
metric  = "accuracy"
recipe  = "tiny"
[train]
images  = "train"
pattern = '^(?P<label>.*?)_(?P<id>\d+)\.png$'
[test]
images  = "test"
pattern = '^(?P<id>\d+)\.png$'
[folds]
n    = 3
seed = 42
[submission]
columns = ["id", "label"]
value   = "class"
sample  = "sample_submission.csv"
"""


def draw_shape(kind: str, rng: np.random.Generator) -> np.ndarray:
    """A bright square or circle on a dark ground, uint8 (20, 20, 3)."""
    image = rng.integers(0, 60, (20, 20, 3), dtype=np.uint8)
    x, y, size = (int(value) for value in rng.integers((6, 6, 4), (14, 14, 6)))
    color = [int(value) for value in rng.integers(160, 255, 3)]
    if kind == "square":
        cv2.rectangle(image, (x - size, y - size), (x + size, y + size), color, -1)
    else:
        cv2.circle(image, (x, y), size, color, 1)
    return image


def write_image(path: Path, image: np.ndarray) -> None:
    """Writes an image in the format of its extension."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place for data/ and submissions/."""
    monkeypatch.setattr(places, "ROOT", tmp_path)
    monkeypatch.setenv("FOLDWISE_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def draw_shapes(home: Path) -> None:
    """A competition of 60 train and 11 test images (ids 1 to 11, so that 10 sorts after 2), lying in raw/."""
    rng = np.random.default_rng(0)
    for number in range(60):
        kind = "square" if number % 2 else "circle"
        write_image(home / "raw" / "train" / f"{kind}_{number}.png", draw_shape(kind, rng))
    for number in range(1, 12):
        write_image(home / "raw" / "test" / f"{number}.png", draw_shape("square" if number % 2 else "circle", rng))
    rows = "".join(f"{number},circle\n" for number in range(1, 12))
    (home / "raw" / "sample_submission.csv").write_text("id,label\n" + rows)
    (home / "competition.toml").write_text(SHAPES_TOML)


@pytest.fixture
def shapes(root: Path) -> Paths:
    """The shapes as a user drops them."""
    draw_shapes(root / "data" / "shapes")
    return Paths("shapes")


Stage = Callable[..., None]


def run(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: str, competition: str = "shapes") -> None:
    """Runs a stage as its command line would."""
    module = importlib.import_module(f"pipeline.{name}")
    steady = ["--deterministic"] if name == "train" and os.environ.get("FOLDWISE_TEST_DEVICE") == "cuda" else []
    monkeypatch.setattr(sys, "argv", [f"pipeline.{name}", "--competition", competition, *steady, *arguments])
    run_stage(module.main)


@pytest.fixture(scope="session")
def split_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shapes up to their folds, made once for all tests."""
    base = tmp_path_factory.mktemp("split")
    draw_shapes(base / "data" / "shapes")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(places, "ROOT", base)
        for name in ("prepare", "manifest", "folds"):
            run(patched, name)
    return base


@pytest.fixture
def split(root: Path, split_once: Path) -> Paths:
    """The shapes up to their folds."""
    shutil.copytree(split_once, root, dirs_exist_ok=True)
    return Paths("shapes")


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    """``stage("folds", "--force")`` runs a stage of the shapes as its command line would."""
    return partial(run, monkeypatch)


def start_stage(root: Path, *arguments: str, prepare: Callable[[], object] = lambda: None) -> subprocess.Popen:
    """``python -m pipeline.<stage>`` on the shapes as a process group of its own, which heeds signals. prepare: called
    in the new process first."""

    def begin() -> None:
        heed_signals()
        prepare()

    return subprocess.Popen(
        [sys.executable, "-m", f"pipeline.{arguments[0]}", "--competition", "shapes", *arguments[1:]],
        cwd=Path(__file__).parents[1], env={**os.environ, "FOLDWISE_ROOT": str(root)}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=begin,
    )  # fmt: skip


def wait_for(found: Callable[[], object], process: subprocess.Popen, seconds: float = 90) -> None:
    """Waits until something is there that the process makes."""
    end = time.monotonic() + seconds
    while not found():
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.005)


@pytest.fixture
def failure(stage: Stage, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a stage that must fail as expected faults do, and returns its sentence."""

    def fail(name: str, *arguments: str, competition: str = "shapes") -> str:
        with pytest.raises(SystemExit) as stopped:
            stage(name, *arguments, competition=competition)
        message = str(stopped.value.code)
        assert message.startswith("error: ")
        assert "traceback" not in message
        assert "Traceback" not in message + capsys.readouterr().err
        assert "\n" not in message
        return message

    return fail


@pytest.fixture
def edit(root: Path) -> Callable[[str, str], None]:
    """Replaces a text in the shapes' competition.toml."""

    def replace(old: str, new: str) -> None:
        toml = root / "data" / "shapes" / "competition.toml"
        text = toml.read_text()
        assert old in text
        toml.write_text(text.replace(old, new))

    return replace


@pytest.fixture
def shared_data() -> Path:
    """The folder of real data sets that FOLDWISE_SHARED_DATA names; the test is skipped visibly without it."""
    if not SHARED_DATA or not Path(SHARED_DATA).is_dir():
        pytest.skip("FOLDWISE_SHARED_DATA names no folder of data sets")
    return Path(SHARED_DATA)


@pytest.fixture
def shared_competition(root: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Paths]:
    """Sets up a competition from the shared data, with the TOML that ships with Foldwise or with the data."""

    def set_up(name: str) -> Paths:
        home = root / "data" / name
        shutil.copytree(shared_data / name, home / "raw")
        shipped = Path(__file__).parents[1] / "data" / name / "competition.toml"
        shutil.copy(shipped if shipped.exists() else home / "raw" / "competition.toml", home / "competition.toml")
        return Paths(name)

    return set_up


def picture(number: int) -> np.ndarray:
    """One of many pictures."""
    return draw_shape("square", np.random.default_rng(number))


def archive(path: Path, names: list[str], first: int = 0) -> None:
    """A zip of pictures."""
    with zipfile.ZipFile(path, "w") as file:
        for number, name in enumerate(names, start=first):
            buffer = io.BytesIO()
            Image.fromarray(picture(number)).save(buffer, "PNG")
            file.writestr(name, buffer.getvalue())


@pytest.fixture
def plain(root: Path) -> Paths:
    """An unpacked folder of the user's that is called images, and a label CSV, in raw/ as they are."""
    home = root / "data" / "shapes"
    for number in range(20):
        write_image(home / "raw" / "images" / f"Train_{number}.png", picture(number))
    rows = "".join(f"Train_{number},{'ab'[number % 2]}\n" for number in range(20))
    (home / "raw" / "train.csv").write_text("image_id,label\n" + rows)
    (home / "competition.toml").write_text(PLAIN_TOML)
    return Paths("shapes")


Failure = Callable[..., str]


@pytest.fixture(scope="session")
def undisturbed(split_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Fold 0 trained in one go, elsewhere, once for all tests."""
    base = tmp_path_factory.mktemp("undisturbed")
    shutil.copytree(split_once, base, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(places, "ROOT", base)
        run(patched, "train", *FOLD_0, *SETTINGS)
        return trained(Paths("shapes"))


Edit = Callable[[str, str], None]


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Path]:
    """The Makefile and the code, with the digits' facts and nothing made yet, in a folder with a space in its name."""
    folder = new_checkout(tmp_path / "my checkout")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(places, "ROOT", folder)
        patched.chdir(folder)
        yield folder


@pytest.fixture
def drawn(checkout: Path) -> Path:
    """A checkout with the 71 images of the shapes in data/shapes/raw; its folder."""
    draw_shapes(checkout / "data" / "shapes")
    return checkout / "data" / "shapes"


@pytest.fixture
def folded(checkout: Path, split_once: Path) -> Path:
    """As ``drawn``, with the stages up to the folds done."""
    home = checkout / "data" / "shapes"
    shutil.copytree(split_once / "data" / "shapes", home)
    return home

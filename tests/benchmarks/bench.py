"""How fast Foldwise is on this machine, as ratios to a notebook-style reference in the same run.

    make bench                     loader, step, inference, an epoch: at most 15 minutes
    make bench FULL=1              also folds to their score and five folds to a submission, seven pairs of each: hours
    make bench ONLY=loader,step    some of: loader step inference epoch fold five

Reads   the folder of data sets that FOLDWISE_SHARED_DATA names (its dogs-vs-cats)
Writes  data/bench/results.json, table.md and bench.png

Variants take turns (A B A B ...), so that both meet the machine as it is at the time; a ratio is the median of the
ratios of neighbours. CPU seconds stand beside wall seconds, since other work on the machine stretches the one more than
the other. A unit of work is a batch or an epoch on two hundred pictures, or a whole process.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import platform
import re
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import albumentations as A
import cv2
import pandas as pd
import timm
import torch
from torch import nn
from torch.utils.data import DataLoader

from pipeline.learner.batches import Normalize
from pipeline.learner.device import Arrangement, keep_freed_memory
from pipeline.learner.inference import folded
from pipeline.learner.models import IMAGENET
from pipeline.learner.optim import build_optimizer
from pipeline.pixels.augment import Augmenter, train_transforms
from pipeline.pixels.cache import Pixels, open_pixels, readable_rows
from pipeline.pixels.dataset import EpochBatches, ImageDataset, Loader
from pipeline.records.console import duration
from pipeline.records.errors import count_of, nearest
from pipeline.records.files import write_json, write_text
from pipeline.records.paths import Paths, shown
from pipeline.records.recipe import Recipe
from pipeline.records.tables import read_manifest
from tests.benchmarks import reference
from tests.benchmarks.arena import CHECKOUT, COMPETITION, Arena, Finished, run

SIDES = {224: 16, 64: 64}  # image side and batch size
CPU = torch.device("cpu")
OUT = CHECKOUT / "data" / "bench"


@dataclass
class Result:
    """A quantity: ours against the reference, lower or higher than a target. ratios: one for each pair."""

    name: str
    ours: float
    theirs: float
    unit: str
    ratios: list[float]
    target: str
    note: str = ""

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)


def clocks() -> tuple[float, float]:
    """Wall and CPU seconds."""
    return time.perf_counter(), time.process_time()


def taking_turns(variants: dict[str, Callable[[], float]], pairs: int, clock: str = "cpu") -> dict[str, list[float]]:
    """Units of work a second, by variant and turn. Each variant does its work and returns how many units that was."""
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for work in variants.values():
        work()  # warm-up
    for _ in range(pairs):
        for name, work in variants.items():
            before = clocks()
            units = work()
            wall, cpu = (after - start for after, start in zip(clocks(), before, strict=True))
            rates[name].append(units / (cpu if clock == "cpu" else wall))
    return rates


def compared(
    name: str,
    rates: dict[str, list[float]],
    ours: str,
    theirs: str,
    target: str,
    unit: str = "images/s",
    note: str = "",
) -> Result:
    """The result of two variants of ``taking_turns``."""
    ratios = [mine / other for mine, other in zip(rates[ours], rates[theirs], strict=True)]
    result = Result(name, statistics.median(rates[ours]), statistics.median(rates[theirs]), unit, ratios, target, note)
    print(
        f"  {name:58} {result.ours:10,.1f} {result.theirs:10,.1f} {unit:9} ratio {result.ratio:6.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}, n={len(ratios)}), target {target}",
        flush=True,
    )
    return result


@dataclass(frozen=True)
class ArenaPaths(Paths):
    """The files of the arena's competition, for parts that run in this process."""

    arena_home: Path = OUT

    @property
    def home(self) -> Path:
        return self.arena_home


# --- the loader -------------------------------------------------------------------------------------------------


def bench_recipe(side: int, **changes: object) -> Recipe:
    """ResNet-18 with crops and flips, as in the reference of performance measurements."""
    return Recipe.model_validate(
        {
            "model": "resnet18", "image_size": side, "epochs": 10, "lr": 1e-3, "batch_size": SIDES[side],
            "augment": {"random_resized_crop": {"scale": [0.35, 1.0]}}, "resize": "crop", **changes,
        }
    )  # fmt: skip


def bench_loader(arena: Arena, pairs: int, limit: int = 200) -> Iterator[Result]:
    """One process, one thread, real pictures, page cache warm: decode or read, augment, collate, normalise."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    paths = ArenaPaths(COMPETITION, arena_home=arena.home)
    rows = readable_rows(read_manifest(paths.manifest))
    train = rows[rows["split"] == "train"].iloc[:: len(rows) // limit]
    for side, batch_size in SIDES.items():
        recipe = bench_recipe(side)
        cached = open_pixels(paths, rows, recipe.cache_side, "bench")
        direct = Pixels(paths.home, rows, recipe.cache_side, None)
        short = train_transforms(recipe, ["hflip"])
        whole = [Augmenter(short[0].transforms, side)]
        pictures = reference.PictureFolder([paths.home / path for path in train["path"]], [0] * len(train), side)
        rates = taking_turns(
            {
                "seed": epoch_of(DataLoader(pictures, batch_size, shuffle=True)),
                "plain albumentations": epoch_of(DataLoader(PlainAlbumentations(pictures), batch_size, shuffle=True)),
                "cached, albumentations": our_epoch(cached, train, whole, batch_size),
                "cached, shortest path": our_epoch(cached, train, short, batch_size),
                "cached, uint8": our_epoch(cached, train, short, batch_size, floats=False),
                "uncached": our_epoch(direct, train, short, batch_size),
                **others(pictures, batch_size),
            },
            pairs,
        )
        names = ("cached, albumentations", "cached, shortest path", "cached, uint8", "uncached")
        for name, target in zip(names, LOADER_TARGETS[side], strict=True):
            yield compared(f"loader {side} px, {name}", rates, name, "seed", target)
        yield compared(
            f"loader {side} px, uncached, to albumentations", rates, "uncached", "plain albumentations", "> 1"
        )
        for name in ("timm", "fastai"):
            if name in rates:
                yield compared(f"loader {side} px, {name}", rates, name, "seed", "-")
        yield from bench_cache(paths, rows, recipe, statistics.median(rates["plain albumentations"]))


#: With albumentations, by the shortest path, as uint8, and without the cache.
LOADER_TARGETS = {224: (">= 8", ">= 10", ">= 18", ">= 2"), 64: (">= 20", ">= 25", "-", ">= 3")}


def epoch_of(loader: Iterable) -> Callable[[], float]:
    """An epoch of a plain loader: how many images came."""
    return lambda: sum(len(images) for images, _ in loader)


def our_epoch(
    pixels: Pixels, rows: pd.DataFrame, transforms: list[Augmenter], batch_size: int, floats: bool = True
) -> Callable[[], float]:
    """The next epoch of our loader, normalised unless uint8 is what a device would get."""
    loader = Loader(ImageDataset(pixels, rows, transforms), EpochBatches(len(rows), batch_size, seed=0), 0, False)
    normalize, epochs = Normalize(*IMAGENET, channels_last=True), itertools.count()

    def one_epoch() -> float:
        return sum(len(normalize(images) if floats else images) for images, _ in loader.epoch(next(epochs)))

    return one_epoch


def bench_cache(paths: Paths, rows: pd.DataFrame, recipe: Recipe, plain_rate: float) -> Iterator[Result]:
    """Building the cache with all cores, against an epoch of the plain albumentations loader on one."""
    torch.set_num_threads(1)
    walls = []
    for _ in range(3):
        for old in paths.cache.glob(f"side{recipe.cache_side}-*"):
            old.unlink()
        began = time.perf_counter()
        open_pixels(paths, rows, recipe.cache_side, "bench")
        walls.append(time.perf_counter() - began)
    epoch = len(rows) / plain_rate
    ratios = [wall / epoch for wall in walls]
    result = Result(
        f"building the cache of {recipe.cache_side} px", statistics.median(walls), epoch, "s", ratios, "<= 1",
        "against one epoch of the plain albumentations loader",
    )  # fmt: skip
    print(
        f"  {result.name:58} {result.ours:10.1f} {epoch:10.1f} s         ratio {result.ratio:6.2f}, target <= 1",
        flush=True,
    )
    yield result


class PlainAlbumentations(reference.PictureFolder):
    """The loader of many notebooks: cv2.imread and an albumentations Compose that ends in Normalize and ToTensorV2."""

    def __init__(self, pictures: reference.PictureFolder) -> None:
        super().__init__(pictures.files, pictures.labels, pictures.side)
        side = self.side
        self.compose = A.Compose(
            [
                A.RandomResizedCrop((side, side), scale=(0.35, 1.0)),
                A.HorizontalFlip(p=0.5),
                A.Normalize(*IMAGENET),
                A.ToTensorV2(),
            ]
        )

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        pixels = cv2.imread(str(self.files[row]))
        assert pixels is not None
        image = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
        return self.compose(image=image)["image"], self.labels[row]


def others(pictures: reference.PictureFolder, batch_size: int) -> dict[str, Callable[[], float]]:
    """timm's loader, and fastai's where it is installed."""
    from timm.data import create_loader

    loader = create_loader(
        TimmPictures(pictures.files, pictures.labels, pictures.side), (3, pictures.side, pictures.side), batch_size,
        is_training=True, use_prefetcher=False, num_workers=0, device=CPU, persistent_workers=False, scale=(0.35, 1.0),
    )  # fmt: skip
    found = {"timm": epoch_of(loader)}
    if importlib.util.find_spec("fastai") is not None:
        from fastai.vision.all import Flip, ImageDataLoaders, RandomResizedCrop  # type: ignore[import-not-found]

        loaders = ImageDataLoaders.from_path_func(
            pictures.files[0].parent, list(pictures.files), lambda path: path.name[:3], valid_pct=0, bs=batch_size,
            num_workers=0, item_tfms=RandomResizedCrop(pictures.side, min_scale=0.35), batch_tfms=Flip(),
        )  # fmt: skip
        found["fastai"] = epoch_of(loaders.train)
    return found


class TimmPictures(reference.PictureFolder):
    """Pictures for timm's loader, which sets the transform itself."""

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        from PIL import Image

        return self.transform(Image.open(self.files[row]).convert("RGB")), self.labels[row]


# --- the model --------------------------------------------------------------------------------------------------


def gemm_limit(threads: int) -> float:
    """GFLOP/s of a large float32 matrix product: what this machine can do at the most (best of ten)."""
    torch.set_num_threads(threads)
    left, right = torch.randn(1024, 1024), torch.randn(1024, 1024)
    seconds = []
    for _ in range(10):
        began = time.perf_counter()
        for _ in range(4):
            left @ right
        seconds.append((time.perf_counter() - began) / 4)
    return 2 * 1024**3 / min(seconds) / 1e9


def flops_of_step(side: int) -> float:
    """Floating-point operations of a training step for one image (forward and backward, two per multiply-add)."""
    from torch.utils.flop_counter import FlopCounterMode

    model = timm.create_model("resnet18", num_classes=2)
    with FlopCounterMode(display=False) as counter:
        model(torch.randn(1, 3, side, side).requires_grad_(False)).sum().backward()
    return float(counter.get_total_flops())


def our_step(side: int, threads: int) -> Callable[[], float]:
    """A step as train.py takes it, from uint8 images on: layout, normalisation, loss, fused optimizer."""
    recipe = bench_recipe(side)
    arrangement = Arrangement.chosen(recipe, CPU, threads, 1)
    torch.manual_seed(0)
    model = arrangement.place(timm.create_model("resnet18", num_classes=2), CPU)
    normalize = Normalize(*IMAGENET, arrangement.channels_last)
    optimizer = build_optimizer(model, recipe, CPU)
    images = torch.randint(0, 256, (recipe.batch_size, side, side, 3), dtype=torch.uint8)
    targets = torch.eye(2)[torch.randint(0, 2, (recipe.batch_size,))]

    def step() -> float:
        nn.functional.cross_entropy(model(normalize(images)), targets).backward()
        optimizer.step()
        optimizer.zero_grad()
        return recipe.batch_size

    return step


def default_step(side: int) -> Callable[[], float]:
    """A step of the notebook, from normalised float images on."""
    torch.manual_seed(0)
    model, optimizer = reference.make_step(timm.create_model("resnet18", num_classes=2))
    images, labels = torch.randn(SIDES[side], 3, side, side), torch.randint(0, 2, (SIDES[side],))

    def step() -> float:
        reference.train_step(model, optimizer, images, labels)
        return SIDES[side]

    return step


def bench_step(arena: Arena, pairs: int, threads: int = 0) -> Iterator[Result]:
    """Training steps of ResNet-18 on all cores, and their share of what a matrix product can do."""
    del arena
    threads = threads or os.cpu_count() or 1
    for side in SIDES:
        torch.set_num_threads(threads)
        theirs, mine = default_step(side), our_step(side, threads)
        rates = taking_turns({"seed": repeated(theirs, 3), "ours": repeated(mine, 3)}, pairs, clock="wall")
        target = {224: "1.4", 64: "1.03"}[side]
        result = compared(f"step {side} px, {threads} threads", rates, "ours", "seed", f">= {target}")
        yield result
        limit = gemm_limit(threads) / (flops_of_step(side) / 1e9)
        shares = [rate / limit for rate in rates["ours"]]
        target = {224: "0.58", 64: "0.50"}[side]
        yield Result(
            f"step {side} px, share of the GEMM limit", result.ours, limit, "images/s", shares, f">= {target}",
            f"limit {gemm_limit(threads):.0f} GFLOP/s",
        )  # fmt: skip
        print(
            f"  step {side} px: {statistics.median(shares):.0%} of the limit of {limit:.0f} images/s, target {target}"
        )


def repeated(work: Callable[[], float], times: int) -> Callable[[], float]:
    """The work several times over."""
    return lambda: sum(work() for _ in range(times))


def bench_inference(arena: Arena, pairs: int) -> Iterator[Result]:
    """ResNet-18 at inference: eval and no_grad, against inference_mode, layout and folded BatchNorm."""
    del arena
    threads = os.cpu_count() or 1
    torch.set_num_threads(threads)
    for side, batch_size in SIDES.items():
        model = timm.create_model("resnet18", num_classes=2).eval()
        arrangement = Arrangement.chosen(bench_recipe(side), CPU, threads, 1)
        quick = arrangement.place(folded(timm.create_model("resnet18", num_classes=2)), CPU)
        images = torch.randn(batch_size, 3, side, side)
        laid_out = images.contiguous(
            memory_format=torch.channels_last if arrangement.channels_last else torch.contiguous_format
        )

        @torch.no_grad()
        def theirs(model: nn.Module = model, images: torch.Tensor = images) -> float:
            return len(model(images))

        @torch.inference_mode()
        def ours(quick: nn.Module = quick, laid_out: torch.Tensor = laid_out) -> float:
            return len(quick(laid_out))

        rates = taking_turns({"seed": repeated(theirs, 4), "ours": repeated(ours, 4)}, pairs, clock="wall")
        yield compared(f"inference {side} px", rates, "ours", "seed", ">= 1.4" if side == 224 else "-")


def bench_epoch(arena: Arena, pairs: int) -> Iterator[Result]:
    """The share of a training's time that is not the model's: waiting for batches, normalising, metrics, saving."""
    del pairs
    shutil.rmtree(arena.home / "runs" / "resnet18_sprint~epochs=2~seed=99~start_size=64", ignore_errors=True)
    seconds = json.loads(arena.python("tests.benchmarks.epoch_share", COMPETITION).output.splitlines()[-1])
    result = Result("time of an epoch not spent in the model, 64 px", seconds["other"], seconds["all"], "s",
                    [seconds["other"] / seconds["all"]], "<= 0.03")  # fmt: skip
    print(f"  {result.name}: {result.ratio:.1%}, target 3 %", flush=True)
    yield result


# --- whole processes --------------------------------------------------------------------------------------------

SPRINT = "resnet18_sprint"
EQUAL = "start_size=64"  # every epoch at the reference's size


def our_fold(arena: Arena, seed: int, *settings: str) -> tuple[Finished, float]:
    """Fold 0 of the ten-epoch recipe on one thread, from its start, and its accuracy after the last epoch."""
    words = sorted([f"seed={seed}", *settings])
    folder = arena.home / "runs" / "~".join([SPRINT, *words]) / "fold0"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(arena.home / "cache", ignore_errors=True)
    done = arena.python(
        "pipeline.train", "--competition", COMPETITION, "--recipe", SPRINT, "--fold", "0", "--threads", "1",
        "--set", *words,
    )  # fmt: skip
    return done, json.loads((folder / "trained.json").read_text())["last_epoch"]["val_score"]


def their_fold(arena: Arena, module: str, seed: int, *words: str) -> tuple[Finished, float]:
    """The same fold by the reference or by fastai."""
    python = os.environ.get("FASTAI_PYTHON", sys.executable) if module.startswith("fastai") else sys.executable
    data = ["--folds", str(arena.folds), "--images", str(arena.images)]
    done = run(
        [python, "-m", f"tests.benchmarks.{module}", *words, *data, "--seed", str(seed), "--threads", "1"], CHECKOUT
    )
    return done, float(json.loads(done.output.splitlines()[-1])["accuracy"])


def has_fastai() -> bool:
    """Whether fastai can be compared: here, or in the environment whose python FASTAI_PYTHON names."""
    return "FASTAI_PYTHON" in os.environ or importlib.util.find_spec("fastai") is not None


def bench_fold(arena: Arena, pairs: int) -> Iterator[Result]:
    """Ten epochs of fold 0 as whole processes on one thread: CPU seconds, memory, and accuracy by seed."""
    kinds: dict[str, Callable[[int], tuple[Finished, float]]] = {
        "seed": lambda seed: their_fold(arena, "reference", seed, "fold"),
        "ours, equal FLOPs": lambda seed: our_fold(arena, seed, EQUAL),
        "ours": lambda seed: our_fold(arena, seed),
    }
    if has_fastai():
        kinds["fastai"] = lambda seed: their_fold(arena, "fastai_fold", seed)
    done: dict[str, list[tuple[Finished, float]]] = {name: [] for name in kinds}
    for seed in range(pairs):
        for name, fold in kinds.items():
            finished, accuracy = fold(seed)
            done[name].append((finished, accuracy))
            print(f"  fold 0, seed {seed}, {name}: {finished.cpu:.0f} CPU s, {finished.wall:.0f} s, "
                  f"{finished.memory:.0f} MB, accuracy {accuracy:.4f}", flush=True)  # fmt: skip
    cpu = {name: [finished.cpu for finished, _ in runs] for name, runs in done.items()}
    memory = {name: [finished.memory for finished, _ in runs] for name, runs in done.items()}
    accuracies = {name: [accuracy for _, accuracy in runs] for name, runs in done.items()}
    for name in ("ours, equal FLOPs", "ours"):
        yield compared(f"one fold, ten epochs, 64 px, {name}", cpu, name, "seed", "<= 0.80", "CPU s")
    yield compared("peak memory of a fold", memory, "ours", "seed", "<= 1 + cache", "MB")
    for name in [name for name in kinds if name != "ours"]:
        yield compared(f"accuracy of fold 0, to {name}", accuracies, "ours", name, ">= 1", "accuracy")


def bench_five(arena: Arena, pairs: int) -> Iterator[Result]:
    """Five folds of ten epochs to a submission on all cores, from raw pixels: wall seconds, and the accuracy of all."""
    walls: dict[str, list[float]] = {"seed": [], "ours, equal FLOPs": [], "ours": []}
    accuracy: dict[str, list[float]] = {name: [] for name in walls}
    for turn in range(pairs):
        done = arena.python(
            "tests.benchmarks.reference", "five", "--folds", str(arena.folds), "--images", str(arena.images),
            "--seed", str(turn),
        )  # fmt: skip
        walls["seed"].append(done.wall)
        accuracy["seed"].append(float(json.loads(done.output.splitlines()[-1])["accuracy"]))
        for name, settings in (("ours, equal FLOPs", f"seed={turn} {EQUAL}"), ("ours", f"seed={turn}")):
            run_folder = arena.home / "runs" / "~".join([SPRINT, *settings.split()])
            shutil.rmtree(run_folder, ignore_errors=True)
            shutil.rmtree(arena.home / "cache", ignore_errors=True)
            walls[name].append(arena.make("submit", f"RECIPE={SPRINT}", f"SET={settings}").wall)
            accuracy[name].append(json.loads((run_folder / "score.json").read_text())["cv_score"])
        print(f"  five folds, turn {turn}: " + ", ".join(
            f"{name} {walls[name][-1]:.0f} s, accuracy {accuracy[name][-1]:.4f}" for name in walls
        ), flush=True)  # fmt: skip
    yield compared("five folds to a submission, equal FLOPs", walls, "ours, equal FLOPs", "seed", "<= 0.72", "s")
    yield compared("five folds to a submission", walls, "ours", "seed", "<= 0.5", "s")
    yield compared(
        "out-of-fold accuracy, growing to equal size", accuracy, "ours", "ours, equal FLOPs", ">= 1", "accuracy"
    )


# --- the report -------------------------------------------------------------------------------------------------

PARTS: dict[str, Callable[[Arena, int], Iterator[Result]]] = {
    "loader": bench_loader,
    "step": bench_step,
    "inference": bench_inference,
    "epoch": bench_epoch,
    "fold": bench_fold,
    "five": bench_five,
}
QUICK = ["loader", "step", "inference", "epoch"]


def processor() -> str:
    """The name of the processor, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor()
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def write_report(results: list[Result], heading: str) -> None:
    """Writes results.json, table.md and bench.png."""
    OUT.mkdir(parents=True, exist_ok=True)
    write_json(OUT / "results.json", {"heading": heading, "results": [asdict(result) for result in results]})
    lines = [
        heading,
        "",
        "| quantity | Foldwise | reference | ratio (spread) | n | target |",
        "|---|---|---|---|---|---|",
    ]
    for result in results:
        spread = f"{result.ratio:.2f} ({min(result.ratios):.2f} to {max(result.ratios):.2f})"
        numbers = " | ".join(f"{value:,.4g} {result.unit}" for value in (result.ours, result.theirs))
        lines.append(f"| {result.name} | {numbers} | {spread} | {len(result.ratios)} | {result.target} |")
    write_text(OUT / "table.md", "\n".join(lines) + "\n")
    draw(results, heading)


def draw(results: list[Result], heading: str) -> None:
    """A picture of all ratios with their spread and targets."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.34 * len(results) + 1.4), layout="constrained")
    axis = figure.subplots()
    places = range(len(results))[::-1]
    for place, result in zip(places, results, strict=True):
        bound = re.search(r"(>=|<=|>) ([\d.]+)", result.target)
        met = (
            bound is None or (result.ratio <= float(bound[2])) == (bound[1] == "<=") or result.ratio == float(bound[2])
        )
        color = "tab:gray" if bound is None else "tab:green" if met else "tab:red"
        axis.barh(place, result.ratio, color=color, alpha=0.75)
        axis.plot([min(result.ratios), max(result.ratios)], [place, place], color="black", linewidth=1)
        if bound:
            axis.plot([float(bound[2])] * 2, [place - 0.4, place + 0.4], color="black", linewidth=2)
        axis.text(max(result.ratios) * 1.05, place, f"{result.ratio:.2f}", va="center", fontsize=8)
    axis.set_yticks(list(places), [result.name for result in results], fontsize=8)
    axis.set_xscale("log")
    axis.set_xlim(right=max(max(result.ratios) for result in results) * 1.6)
    axis.axvline(1, color="black", linewidth=0.5)
    axis.set_xlabel(
        "ratio to the reference (thick tick: target; thin line: smallest to largest of all pairs)", fontsize=8
    )
    figure.suptitle(heading, fontsize=9)
    figure.savefig(OUT / "bench.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="everything, with seven pairs of each: hours")
    parser.add_argument("--only", default="", metavar="PART,PART", help=f"some of {' '.join(PARTS)}")
    parser.add_argument("--pairs", type=int, default=7, help="turns of each variant (default: 7)")
    args = parser.parse_args()
    shared = os.environ.get("FOLDWISE_SHARED_DATA")
    if not shared or not (Path(shared) / COMPETITION).is_dir():
        sys.exit(f"error: FOLDWISE_SHARED_DATA names no folder with {COMPETITION}/train.zip; set it to one")
    names = args.only.replace(",", " ").split() or (list(PARTS) if args.full else QUICK)
    for name in names:
        if name not in PARTS:
            sys.exit(f"error: unknown part '{name}'{nearest(name, PARTS)}")

    keep_freed_memory()
    began = time.monotonic()
    arena = Arena.open(OUT / "arena", Path(shared))
    results: list[Result] = []
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    threads = os.cpu_count() or 1
    heading = (
        f"{date.today()}, {processor()}, {count_of(threads, 'core')}, GEMM {gemm_limit(threads):.0f} GFLOP/s, "
        f"load {load:.1f} at the start, torch {torch.__version__}"
    )
    print(heading)
    for name in names:
        for result in PARTS[name](arena, args.pairs):
            results.append(result)
            write_report(results, heading)
    print(f"[bench] {duration(time.monotonic() - began)} -> {shown(OUT / 'table.md')}, {shown(OUT / 'bench.png')}")


if __name__ == "__main__":
    main()

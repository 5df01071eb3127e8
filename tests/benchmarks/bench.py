"""How fast Foldwise is on this machine, as ratios to a notebook-style reference in the same run.

    make bench                     loader, step, inference, an epoch: at most 15 minutes
    make bench FULL=1              also folds to their score and five folds to a submission, seven pairs of each: hours
    make bench ONLY=loader,step    some of: loader step inference epoch fold five

Reads   the folder of data sets that FOLDWISE_SHARED_DATA names (its dogs-vs-cats); FASTAI_PYTHON may name the python
        of an environment with fastai, to be compared with
Writes  data/bench/results.json, table.md and bench.png

Variants take turns (A B A B ...), so that both meet the machine as it is at the time; a ratio is the median of the
ratios of neighbours. CPU seconds stand beside wall seconds, since other work on the machine stretches the one more than
the other. A unit of work is a batch or an epoch on two hundred pictures, or a whole process.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import re
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import date
from pathlib import Path

import timm
import torch

from pipeline.pixels.cache import open_pixels
from pipeline.system.console import duration
from pipeline.system.errors import count_of, suggestion
from pipeline.system.files import write_json, write_text
from pipeline.system.places import shown
from pipeline.system.threads import cores
from tests.benchmarks import variants
from tests.benchmarks.arena import CHECKOUT, COMPETITION, Arena, Finished, run
from tests.benchmarks.turns import Result, compared, rated, taking_turns

OUT = CHECKOUT / "data" / "bench"


Part = Iterator[Result]

# --- parts of this process's making -----------------------------------------------------------------------------

#: With albumentations, by the shortest path, as uint8, and without the cache.
LOADER_TARGETS = {224: (">= 8", ">= 10", ">= 18", ">= 2"), 64: (">= 20", ">= 25", "-", ">= 3")}


def bench_loader(arena: Arena, pairs: int) -> Part:
    """Images a CPU second of one thread, and the building of the cache."""
    for side, targets in LOADER_TARGETS.items():
        groups = [(variants.their_loaders, (arena.home, side)), (variants.our_loaders, (arena.home, side))]
        clocks = taking_turns(groups, pairs)
        names = ("cached, albumentations", "cached, shortest path", "cached, uint8", "uncached")
        for name, target in zip(names, targets, strict=True):
            yield rated(f"loader {side} px, {name}", clocks, "cpu", name, "seed", target)
        name = f"loader {side} px, uncached, to albumentations"
        yield rated(name, clocks, "cpu", "uncached", "plain albumentations", "> 1")
        for name in sorted(clocks["cpu"].keys() & {"timm", "fastai"}):
            yield rated(f"loader {side} px, {name}", clocks, "cpu", name, "seed", "-")
        yield bench_cache(arena, side, statistics.median(clocks["cpu"]["plain albumentations"]))


def bench_cache(arena: Arena, side: int, plain_rate: float) -> Result:
    """Building the cache with all cores, against an epoch of the plain albumentations loader on one."""
    paths, rows = variants.ArenaPaths(COMPETITION, folder=arena.home), variants.rows_of(arena.home)
    cache_side = variants.recipe_of(side).cache_side
    walls = []
    for _ in range(3):
        for old in paths.cache.glob(f"side{cache_side}-*"):
            old.unlink()
        began = time.perf_counter()
        open_pixels(paths, rows, cache_side, "bench")
        walls.append(time.perf_counter() - began)
    epoch = len(rows) / plain_rate
    ratios = [wall / epoch for wall in walls]
    return Result(f"building the cache of {cache_side} px", statistics.median(walls), epoch, "s", ratios, "<= 1")


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


def bench_step(arena: Arena, pairs: int) -> Part:
    """Training steps of ResNet-18 on all cores, and their share of what a matrix product can do."""
    del arena
    threads = cores()
    for side, target, share in ((224, ">= 1.4", ">= 0.58"), (64, ">= 1.03", ">= 0.50")):
        groups = [(variants.their_step, (side, threads)), (variants.our_step, (side, threads))]
        clocks = taking_turns(groups, pairs)
        result = rated(f"step {side} px, {count_of(threads, 'thread')}", clocks, "wall", "ours", "seed", target)
        yield result
        limit = max(gemm_limit(threads) for _ in range(5)) * 1e9 / flops_of_step(side)  # on the quietest of moments
        shares = [rate / limit for rate in clocks["wall"]["ours"]]
        yield Result(f"step {side} px, share of the GEMM limit", result.ours, limit, "images/s", shares, share)


def bench_inference(arena: Arena, pairs: int) -> Part:
    """ResNet-18 at inference on all cores, against eval and no_grad."""
    del arena
    for side, target in ((224, ">= 1.4"), (64, "-")):
        groups = [(variants.their_inference, (side, cores())), (variants.our_inference, (side, cores()))]
        yield rated(f"inference {side} px", taking_turns(groups, pairs), "wall", "ours", "seed", target)


def bench_epoch(arena: Arena, pairs: int) -> Part:
    """The share of a training's time that is not the model's: waiting for batches, normalising, metrics, saving."""
    del pairs
    shutil.rmtree(arena.home / "runs" / "resnet18_sprint~epochs=4~seed=99~start_scale=1", ignore_errors=True)
    seconds = json.loads(arena.python("tests.benchmarks.epoch_share", COMPETITION).output.splitlines()[-1])
    result = Result("time of epochs not spent in the model, 64 px", seconds["other"], seconds["all"], "s",
                    [seconds["other"] / seconds["all"]], "<= 0.03")  # fmt: skip
    yield result


# --- whole processes --------------------------------------------------------------------------------------------

SPRINT = "resnet18_sprint"
GROWING = "start_scale=0.85"  # two of ten epochs at 48 px: fewer FLOPs


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


def bench_fold(arena: Arena, pairs: int) -> Part:
    """Ten epochs of fold 0 as whole processes on one thread: CPU seconds, memory, and accuracy by seed."""
    kinds: dict[str, Callable[[int], tuple[Finished, float]]] = {
        "seed": lambda seed: their_fold(arena, "reference", seed, "fold"),
        "ours": lambda seed: our_fold(arena, seed),
        "ours, growing": lambda seed: our_fold(arena, seed, GROWING),
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
    for name in ("ours", "ours, growing"):
        yield compared(f"one fold, ten epochs, 64 px, {name}", cpu, name, "seed", "<= 0.80", "CPU s")
    yield compared("peak memory of a fold", memory, "ours", "seed", "<= 1 + cache", "MB")
    for name in [name for name in kinds if name != "ours"]:
        yield compared(f"accuracy of fold 0, to {name}", accuracies, "ours", name, ">= 1", "accuracy")


def bench_five(arena: Arena, pairs: int) -> Part:
    """Five folds of ten epochs to a submission on all cores, from raw pixels: wall seconds, and the accuracy of all."""
    walls: dict[str, list[float]] = {"seed": [], "ours": [], "ours, growing": []}
    accuracy: dict[str, list[float]] = {name: [] for name in walls}
    for turn in range(pairs):
        done = arena.python(
            "tests.benchmarks.reference", "five", "--folds", str(arena.folds), "--images", str(arena.images),
            "--seed", str(turn),
        )  # fmt: skip
        walls["seed"].append(done.wall)
        accuracy["seed"].append(float(json.loads(done.output.splitlines()[-1])["accuracy"]))
        for name, settings in (("ours", f"seed={turn}"), ("ours, growing", f"seed={turn} {GROWING}")):
            run_folder = arena.home / "runs" / "~".join([SPRINT, *settings.split()])
            shutil.rmtree(run_folder, ignore_errors=True)
            shutil.rmtree(arena.home / "cache", ignore_errors=True)
            walls[name].append(arena.make("submit", f"RECIPE={SPRINT}", f"SET={settings}").wall)
            accuracy[name].append(json.loads((run_folder / "score.json").read_text())["cv_score"])
        print(f"  five folds, turn {turn}: " + ", ".join(
            f"{name} {walls[name][-1]:.0f} s, accuracy {accuracy[name][-1]:.4f}" for name in walls
        ), flush=True)  # fmt: skip
    yield compared("five folds to a submission", walls, "ours", "seed", "<= 0.72", "s")
    yield compared("five folds to a submission, growing", walls, "ours, growing", "seed", "<= 0.5", "s")
    yield compared("out-of-fold accuracy, growing to equal size", accuracy, "ours, growing", "ours", ">= 1", "accuracy")


# --- the report -------------------------------------------------------------------------------------------------

PARTS: dict[str, Callable[[Arena, int], Part]] = {
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
        "| quantity | Foldwise | reference | ratio (spread) | by the other clock | n | target |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        spread = f"{result.ratio:.3g} ({min(result.ratios):.3g} to {max(result.ratios):.3g})"
        numbers = " | ".join(f"{value:,.4g} {result.unit}" for value in (result.ours, result.theirs))
        other = f"{result.by_other:.3g}" if result.by_other else ""
        lines.append(f"| {result.name} | {numbers} | {spread} | {other} | {len(result.ratios)} | {result.target} |")
    write_text(OUT / "table.md", "\n".join(lines) + "\n")
    draw(results, heading)


def draw(results: list[Result], heading: str) -> None:
    """A picture of all ratios with their spread and targets."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, StrMethodFormatter

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
        axis.text(1.01, place, f"{result.ratio:.3g}", transform=axis.get_yaxis_transform(), va="center", fontsize=8)
    axis.set_yticks(list(places), [result.name for result in results], fontsize=8)
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_ylim(-0.7, len(results) - 0.3)
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
            sys.exit(f"error: unknown part '{name}'{suggestion(name, PARTS)}")

    began = time.monotonic()
    arena = Arena.open(OUT / "arena", Path(shared))
    results: list[Result] = []
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    threads = cores()
    heading = (
        f"{date.today()}, {processor()}, {count_of(threads, 'core')}, GEMM {gemm_limit(threads):.0f} GFLOP/s, "
        f"load {load:.1f} at the start, torch {torch.__version__}"
    )
    print(heading)
    for name in names:
        for result in PARTS[name](arena, args.pairs):
            print(result, flush=True)
            results.append(result)
            write_report(results, heading)
    print(f"[bench] {duration(time.monotonic() - began)} -> {shown(OUT / 'table.md')}, {shown(OUT / 'bench.png')}")


if __name__ == "__main__":
    main()

"""Updates the table of the five tutorials in tests/benchmarks/README.md from the submissions on this machine.

    make results
    python -m pipeline.tools.results

Reads   submissions/<competition>/<run>.json of the runs in the table, with seeds 0 to 9
Writes  tests/benchmarks/README.md, between its two marks; a row without a submission keeps its content

To fill a row, run its command; SET="seed=1" adds a seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import mean, stdev
from typing import Any

from pipeline.records.competition import load_competition
from pipeline.records.names import Members, parse_folds, run_name
from pipeline.records.paths import Paths, known_competitions
from pipeline.system import places
from pipeline.system.console import duration, run_stage, say
from pipeline.system.errors import InputError
from pipeline.system.files import read_json, write_text
from pipeline.system.places import shown

PAGE = places.CHECKOUT / "tests" / "benchmarks" / "README.md"
BEGIN, END = "<!-- make results: begin -->", "<!-- make results: end -->"
COLUMNS = (
    "tutorial", "reported score", "system", "out-of-fold", "on test labels", "on train images", "seeds",
    "training time", "command",
)  # fmt: skip
SCORE_KEYS = {"metric", "cv_score", "accuracy", "train_score", "training_seconds", "device"}
SEEDS = range(1, 10)  # in addition to that of the recipe, which is 0
FROM_CIFAR = "pretrained=data/cifar-10/runs/cifar/fold0/weights.safetensors"


@dataclass(frozen=True)
class Row:
    """One system of a tutorial, a row of the table.

    tutorial: the tutorial; "" if it is that of the row above
    figure: the score that the tutorial's author reports
    here: description of our system
    competition, recipe, folds, settings: select our run
    missing: text for a row without a submission
    """

    tutorial: str
    figure: str
    here: str
    competition: str
    recipe: str = ""
    folds: str = ""
    settings: list[str] = field(default_factory=list)
    missing: str = "not run yet"

    @property
    def command(self) -> str:
        """The command that makes the run with seed 0."""
        words = [f"make submit COMPETITION={self.competition}"]
        words += [f"RECIPE={self.recipe}"] if self.recipe else []
        words += [f"FOLDS={self.folds}"] if self.folds else []
        words += [f'SET="{" ".join(self.settings)}"'] if self.settings else []
        return " ".join(words)


NEEDS_HUB = "needs the hub's weights; not run here"
NEEDS_GPU = "needs a GPU; none was available"
ROWS = [
    Row("0 cats/dogs in folders", "–", "ResNet-50, pretrained", "cats-dogs", "resnet50_transfer", missing=NEEDS_HUB),
    Row("", "", "EfficientNet-Lite0 instead, frozen, head fitted", "cats-dogs", "features"),
    Row("1 hand signs", "94 to 96.7 % (public)", "ResNet-34 from blocks, fold 0", "signs", "resnet34_scratch", "0"),
    Row("", "", "recommended: small CNN, five folds", "signs"),
    Row("2 cats/dogs by regex", "–", "LeNet, fold 0", "dogs-vs-cats", "lenet", "0"),
    Row("", "", "ResNet-18 from scratch, fold 0", "dogs-vs-cats", "resnet18", "0"),
    Row("3 CIFAR-10", "70.78 % (50,000 images)", "plain CNN, 10 epochs, fold 0", "cifar-10", "cnn", "0"),
    Row("", "", "with augmentation", "cifar-10", "cnn_augmented", "0"),
    Row("", "", "with Dropout", "cifar-10", "cnn_dropout", "0"),
    Row("", "", "with BatchNorm", "cifar-10", "cnn_batchnorm", "0"),
    Row("", "", "recommended: fast CNN, fold 0", "cifar-10", "", "0"),
    Row("", "", "frozen ResNet-18, pretrained", "cifar-10", "resnet18_frozen", "0", missing=NEEDS_HUB),
    Row("", "", "frozen EfficientNet-Lite0 instead, fold 0", "cifar-10", "features", "0", ["image_size=112"]),
    Row("4 hotdog", "–", "small CNN from scratch, five folds", "hotdog"),
    Row("", "", "fine-tuned from CIFAR-10, head x10", "hotdog", settings=["lr=3e-4", "head_lr_scale=10", FROM_CIFAR]),
    Row("", "", "fine-tuned from ImageNet, head x10", "hotdog", "resnet18_finetune", missing=NEEDS_HUB),
    Row("", "", "EfficientNet-Lite0 instead, frozen, head fitted", "hotdog", "features"),
    Row("", "", "EfficientNet-Lite0 instead, fine-tuned", "hotdog", "finetune"),
    Row("on a GPU", "–", "CIFAR-10, 30,000 images, fold 0", "cifar-10", "gpu_strong", "0", missing=NEEDS_GPU),
    Row("", "", "dogs-vs-cats, five folds", "dogs-vs-cats", "gpu_strong", missing=NEEDS_GPU),
]  # fmt: skip


def records(row: Row) -> Iterator[dict[str, Any]]:
    """Yields the records that submit wrote for the row's run, one for each seed."""
    if row.competition not in known_competitions():
        return
    competition = load_competition(Paths(row.competition))
    recipe, num_folds = row.recipe or competition.recipe, competition.folds.n
    folds = parse_folds(row.folds, num_folds)
    for settings in [row.settings, *([*row.settings, f"seed={seed}"] for seed in SEEDS)]:
        name = Members(folds, num_folds).name(run_name(recipe, settings), ".json")
        path = places.ROOT / "submissions" / row.competition / name
        if path.exists():
            record = read_json(path, "test_score", "score")
            if record["score"].keys() >= SCORE_KEYS:  # else an older version of Foldwise wrote it
                yield record


def figure(values: list[float | None]) -> str:
    """The mean over seeds and, for several seeds, the standard deviation; "–" if there is no value."""
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    return f"{mean(known):.4f}" + (f" ± {stdev(known):.4f}" if len(known) > 1 else "")


def cells(row: Row) -> list[str] | None:
    """The cells of a row; None if there is no submission of its run."""
    found = list(records(row))
    if not found:
        return None
    scores = [record["score"] for record in found]
    metric = scores[0]["metric"].replace("_", " ")
    oof = f"{metric} {figure([score['cv_score'] for score in scores])}"
    if metric != "accuracy":
        oof += f", accuracy {figure([score['accuracy'] for score in scores])}"
    device = "GPU" if scores[0]["device"].startswith("cuda") else "CPU"
    seconds = mean(score["training_seconds"] for score in scores)
    return [
        row.tutorial,
        row.figure,
        row.here,
        oof,
        figure([record["test_score"] for record in found]),
        figure([score["train_score"] for score in scores]),
        f"{len(found)} ({device})",
        duration(seconds),
        f"`{row.command}`",
    ]


def table(before: str) -> str:
    """The Markdown table; a row without a submission is copied from the old table, ``before``."""
    kept = {line.split("|")[-2].strip(): line for line in before.splitlines() if line.startswith("|")}
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    for row in ROWS:
        made = cells(row)
        command = f"`{row.command}`"
        if made is None and command in kept and row.missing not in kept[command]:
            lines.append(kept[command])
            continue
        made = made or [row.tutorial, row.figure, row.here, row.missing, "–", "–", "–", "–", command]
        lines.append(f"| {' | '.join(made)} |")
    return "\n".join(lines)


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    if not 0 <= text.find(BEGIN) < text.find(END):
        raise InputError(f"{shown(PAGE)} lacks the marks {BEGIN} and {END} around the table; restore them")
    head, rest = text.split(BEGIN, 1)
    before, tail = rest.split(END, 1)
    made = table(before)
    write_text(PAGE, f"{head}{BEGIN}\n{made}\n{END}{tail}")
    print(made)
    say("results", f"-> {shown(PAGE)}")


if __name__ == "__main__":
    run_stage(main)

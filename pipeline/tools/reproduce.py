"""Compare a submission that was built again with the first one, and say what differs.

    make reproduce COMPETITION=dogs-vs-cats SUBMISSION=resnet18
    python -m pipeline.tools.reproduce --competition dogs-vs-cats --submission resnet18

Reads   submissions/<competition>/<name>.json, and the same of data/<competition>/reproduced/<name>/, where the driver
        has built it again
Writes  nothing; deletes that folder if the bytes are the same

If the bytes differ, it says what else does: the data, the folds, the recipe, the versions of packages and the machine,
the code, or competition.toml.
"""

from __future__ import annotations

from pipeline.records.command_line import parser_for
from pipeline.system.console import answer_early

PARSER = parser_for(__doc__)
PARSER.add_argument("--submission", required=True, metavar="NAME", help="a file of submissions/, without .csv")
if __name__ == "__main__":  # before the imports that take seconds
    answer_early(PARSER)

import shutil
from typing import Any

from pipeline.records.paths import Paths
from pipeline.records.runs import differences
from pipeline.system import places
from pipeline.system.console import run_stage, say
from pipeline.system.errors import FoldwiseError, StaleError
from pipeline.system.files import fingerprint, read_json
from pipeline.system.places import shown

#: Keys of a run's identity that say something of the data; "folds_sha256" is of the folds, the others of the recipe.
OF_DATA = ("train_images_sha256", "class_names", "task", "symmetries_granted")


def changes(before: dict[str, Any], now: dict[str, Any]) -> dict[str, str]:
    """What differs between two JSONs of a submission: the kind of cause -> in words; {} if nothing does."""
    found = {}
    score, score_now = before["score"], now["score"]
    runs = [
        (before["made_of"].get(name) or {}, made_of or {}) for name, made_of in now["made_of"].items()
    ]  # of each run, then and now
    data = [differences(*(only(made_of, OF_DATA) for made_of in pair)) for pair in runs]
    if any(data) or score["manifest_sha256"] != score_now["manifest_sha256"]:
        found["data"] = next((text for text in data if text), "manifest.csv differs: images, labels or test rows")
    elif score["folds_sha256"] != score_now["folds_sha256"]:
        found["folds"] = "folds.csv differs"
    not_recipe = (*OF_DATA, "folds_sha256")
    recipes = [differences(*(without(made_of, not_recipe) for made_of in pair)) for pair in runs]
    if any(recipes):
        found["recipe"] = next(text for text in recipes if text)
    packages = differences(before["packages"] | machine_of_json(before), now["packages"] | machine_of_json(now))
    if packages:
        found["versions"] = packages
    if before.get("code_sha256") != now["code_sha256"]:
        found["code"] = f"commit {before['commit']} then, {now['commit']} now; files of pipeline/ differ"
    learnt = [name for name in ("steps", "rule") if score.get(name) != score_now.get(name)]
    if learnt and not found:
        found["what was learnt"] = f"the {' and the '.join(learnt)} of score.json"
    if before["competition_sha256"] != now["competition_sha256"]:
        found["competition.toml"] = "its text differs"
    return found


def machine_of_json(about: dict[str, Any]) -> dict[str, Any]:
    """The Python and the machine that a submission was made with."""
    return {"python": about["python"], "system": about["system"], "cpus": about["cpus"]} | {
        "device": about["score"]["device"]
    }


def only(content: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """The content of these keys."""
    return {key: content.get(key) for key in keys}


def without(content: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """The content of all other keys."""
    return {key: value for key, value in content.items() if key not in keys}


def run(paths: Paths, name: str) -> None:
    """Compares both submissions; raises FoldwiseError if their bytes differ."""
    about = read_json(paths.submission(name).with_name(f"{name}.json"), "submission", "submission_sha256", "score")
    base = paths.reproduced(name)
    made = base / paths.submissions.relative_to(places.ROOT) / about["submission"]
    if not made.exists():
        raise StaleError(f"{shown(made)} was not built; delete {shown(base)} and type make reproduce again")
    now = read_json(made.with_name(f"{made.stem}.json"), "submission_sha256", "score")
    found = changes(about, now)
    told = "; ".join(f"{cause}: {text}" for cause, text in found.items())
    if fingerprint(made) == about["submission_sha256"]:
        shutil.rmtree(base)
        say("reproduce", f"the bytes of {about['submission']} are the same" + (f", although {told}" if found else ""))
        return
    why = told or (
        "no cause was found: data, folds, recipe, versions, machine and code are the same (on CUDA, only "
        "DETERMINISTIC=1 repeats bit for bit)"
    )
    raise FoldwiseError(f"the bytes of {about['submission']} differ from {shown(made)}; what changed: {why}")


def main(argv: list[str] | None = None) -> None:
    args = PARSER.parse_args(argv)
    run(Paths(args.competition, args.dry_run), args.submission)


if __name__ == "__main__":
    run_stage(main)

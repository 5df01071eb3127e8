"""Says in words what score.json holds: the score, and what to expect of the test images."""

from __future__ import annotations

from typing import Any

from pipeline.system.console import say
from pipeline.system.errors import count_of


def report_score(score: dict[str, Any], test_images: int, stage: str = "ensemble") -> None:
    """Prints the score of a run or blend and what to expect of the submission; stage: who says so."""
    by_fold = ", ".join(f"{value:.4f}" for value in score["fold_scores"])
    spread = ""
    if score["fold_sd"] is not None:
        spread = f"; mean {score['fold_mean']:.4f} ± {score['fold_sd']:.4f}"
    say(
        stage,
        f"out-of-fold {score['metric']} {score['cv_score']:.4f} on {count_of(score['rows'], 'image')} "
        f"(by fold {by_fold}{spread})",
    )
    more = []
    if "seed_scores" in score:
        by_seed = ", ".join(f"{value:.4f}" for value in score["seed_scores"])
        more.append(f"average of {score['seeds']} seeds, alone {by_seed}")
    if score["train_score"] is not None:
        alone = ", each alone" if score["seeds"] > 1 else ""
        on_train = f"{score['metric']} {score['train_score']:.4f} on images that the models were trained on"
        more.append(on_train + alone)
    if "accuracy" in score and score["metric"] != "accuracy":
        more.append(f"out-of-fold accuracy {score['accuracy']:.4f}")
    if score["decided_by"]:
        learnt = [f"{value:.3g}" for value in next((v for v in score["rule"].values() if isinstance(v, list)), [])]
        learnt = learnt[:1] if len({*learnt}) == 1 else learnt
        values = f" ({', '.join(learnt[:6])}{', ...' if len(learnt) > 6 else ''})" if learnt else ""
        nested = "; what was learnt for that was scored on other folds" if len(score["fold_scores"]) > 1 else ""
        gain = f", {score['decided_gain']:+.4f}" if score.get("decided_gain") else ""
        more.append(f"decided by {score['decided_by']}{values}{gain}{nested}")
    if score.get("steps"):
        more.append(words_of_steps(score["steps"]))
    if more:
        say(stage, "; ".join(more))
    if score["all_alike"]:
        say(stage, "note: all out-of-fold rows are predicted alike, so the score and its interval say little")
    low, high = score["interval_95"]
    if not test_images:
        say(stage, f"95 % interval for the same number of unseen images: {low:.4f} to {high:.4f}")
        return
    if len(score["folds"]) > 1:
        say(
            stage,
            f"averaging {count_of(len(score['folds']), 'fold')} should change the score by "
            f"{score['averaging_gain']:+.4f}",
        )
    interval = f"95 % interval {low:.4f} to {high:.4f}"
    say(stage, f"expect {score['expected_score']:.4f} on the {test_images:,} test images, {interval}")


def words_of_steps(steps: list[dict[str, Any]]) -> str:
    """``"changed by temperature 1.31 (-0.0120 out of fold)"``."""
    named = []
    for step in steps:
        gains = [f"{step['gain']:+.4f} out of fold"] if step["gain"] else []
        gains += [f"{step['expected_gain']:+.4f} expected of the mean"] if "expected_gain" in step else []
        named.append(f"{step['step']} {step['value']:.3g} ({', '.join(gains)})")
    return f"predictions are changed by {', '.join(named)}"


def report_twin(score: dict[str, Any], train_folds: str) -> None:
    """Prints what is known of a training on all rows.

    train_folds: the command that trains and combines the folds, for a score
    """
    if score["twin"]:
        low, high = score["interval_95"]
        networks = "one network" if score["seeds"] == 1 else f"the mean of {score['seeds']} networks"
        say(
            "ensemble",
            f"trained on all rows, so no row is left to score it; the folds of {score['twin']} have out-of-fold "
            f"{score['metric']} {score['cv_score']:.4f}, 95 % interval {low:.4f} to {high:.4f} for {networks}",
        )
    else:
        say("ensemble", f"note: trained on all rows, so no row is left to score it; for a score, type: {train_folds}")


def known_of(score: dict[str, Any]) -> str:
    """The score and what to expect, in words; score: the content of score.json."""
    if score["cv_score"] is None:
        return "trained on all rows, and not all folds of the run are predicted, so nothing is known of the score"
    low, high = score["interval_95"]
    whose = f" of {score['twin']}" if score.get("twin") else ""
    return (
        f"out-of-fold {score['metric']} {score['cv_score']:.4f}{whose}; expect {score['expected_score']:.4f} on the "
        f"leaderboard, 95 % interval {low:.4f} to {high:.4f}"
    )

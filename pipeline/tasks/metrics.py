"""Defines the metrics, with the results of scikit-learn's functions.

A metric compares the truth with values, which are one of three kinds:

    classes   truth (N,) int, the position of the right class; values (N, C), probabilities or one-hot decisions
    tags      truth (N, C) of 0 and 1; values (N, C), probabilities or decisions of 0 and 1
    numbers   truth (N, T); values (N, T)

A metric that is ``decided`` does not look at probabilities: it is computed from what the task decides by them.
"""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from pipeline.tasks import scores

Kind = Literal["classes", "tags", "numbers"]


@dataclass(frozen=True)
class Metric:
    """A score.

    name: as in competition.toml
    function: (truth (N, ...), values (N, C)) -> float
    greater_is_better: False if a lower score is better
    bounds: the smallest and the largest possible score
    of: what the values are
    decided: True if the values are decisions instead of probabilities
    beta: of an F-beta score, else None
    """

    name: str
    function: Callable[[np.ndarray, np.ndarray], float]
    greater_is_better: bool = True
    bounds: tuple[float, float] = (0.0, 1.0)
    of: Kind = "classes"
    decided: bool = False
    beta: float | None = None

    def clip(self, value: float) -> float:
        """The value, limited to the bounds of the metric."""
        return float(np.clip(value, *self.bounds))

    def __call__(self, truth: np.ndarray, values: np.ndarray) -> float:
        """The score; NaN if it is undefined, such as roc_auc if the rows lack a class."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # scikit-learn warns about missing classes and returns NaN
                return float(self.function(truth, values))
        except ValueError:
            return float("nan")

    def is_better(self, score: float, than: float) -> bool:
        """True if a score is better than another one; a score is better than NaN."""
        if np.isnan(than):
            return not np.isnan(score)
        return score > than if self.greater_is_better else score < than


#: To add a metric, add a line. Names with a number in them (map@5, sample_f2) are in ``metric_with_number``.
METRICS: tuple[Metric, ...] = (
    Metric("accuracy", scores.accuracy, decided=True),
    Metric("balanced_accuracy", scores.balanced_accuracy, decided=True),
    Metric("macro_f1", scores.class_f_beta, decided=True),
    Metric("matthews", scores.matthews, bounds=(-1, 1), decided=True),
    Metric("quadratic_kappa", scores.quadratic_kappa, bounds=(-1, 1), decided=True),
    Metric("log_loss", scores.log_loss, False, (0, np.inf)),
    Metric("balanced_log_loss", scores.balanced_log_loss, False, (0, np.inf)),
    Metric("roc_auc", scores.roc_auc),
    Metric("subset_accuracy", scores.subset_accuracy, of="tags", decided=True),
    Metric("log_loss", scores.tag_log_loss, False, (0, np.inf), of="tags"),
    Metric("roc_auc", scores.tag_roc_auc, of="tags"),
    Metric("mean_average_precision", scores.mean_average_precision, of="tags"),
    Metric("rmse", scores.rmse, False, (0, np.inf), of="numbers"),
    Metric("mae", scores.mae, False, (0, np.inf), of="numbers"),
    Metric("rmsle", scores.rmsle, False, (0, np.inf), of="numbers"),
    Metric("r2", scores.r2, bounds=(-np.inf, 1), of="numbers"),
    Metric("spearman", scores.spearman, bounds=(-1, 1), of="numbers"),
)
#: The names with a number, as they are listed.
WITH_NUMBER: dict[Kind, list[str]] = {
    "classes": ["map@k", "topk_accuracy", "macro_fb", "micro_fb"],
    "tags": ["map@k", "sample_fb", "macro_fb", "micro_fb"],
    "numbers": [],
}
#: What else people call a metric; compared without case and punctuation.
ALIASES = {
    "qwk": "quadratic_kappa", "quadraticweightedkappa": "quadratic_kappa",
    "auc": "roc_auc", "aucroc": "roc_auc", "rocaucscore": "roc_auc", "mcauc": "roc_auc",
    "crossentropy": "log_loss", "mclogloss": "log_loss", "multiclasslogloss": "log_loss",
    "balancedlogarithmicloss": "balanced_log_loss", "mcc": "matthews", "matthewscorrcoef": "matthews",
    "meanf1": "sample_f1", "samplesf1": "sample_f1", "f1samples": "sample_f1", "meanfscore": "sample_f1",
    "f1macro": "macro_f1", "macrof1score": "macro_f1", "f1micro": "micro_f1", "microf1score": "micro_f1",
    "rootmeansquarederror": "rmse", "meanabsoluteerror": "mae", "r2score": "r2", "spearmanr": "spearman",
    "accuracyscore": "accuracy", "exactmatch": "subset_accuracy", "meanap": "mean_average_precision",
}  # fmt: skip


def metric_with_number(name: str, of: Kind) -> Metric | None:
    """The metric with a number in its name, such as map@5, top3_accuracy or sample_f2; None if there is none."""
    if match := re.fullmatch(r"map@([1-9]\d{0,2})", name):
        of_kind = {"classes": scores.map_at_k, "tags": scores.tag_map_at_k}
        return Metric(name, partial(of_kind[of], k=int(match[1])), of=of) if of in of_kind else None
    if (match := re.fullmatch(r"top([1-9]\d{0,2})_accuracy", name)) and of == "classes":
        return Metric(name, partial(scores.top_k_accuracy, k=int(match[1])))
    if match := re.fullmatch(r"(sample|macro|micro)_f(\d(?:\.\d+)?)", name):
        average, beta = match[1], float(match[2])
        if of == "tags" and beta > 0:
            return Metric(name, partial(scores.f_beta, beta=beta, average=average), of=of, decided=True, beta=beta)
        if of == "classes" and beta > 0 and average != "sample":
            function = partial(scores.class_f_beta, beta=beta, average=average)
            return Metric(name, function, decided=True)
    return None


def find_metric(name: str, of: Kind) -> Metric | None:
    """The metric of this name for values of this kind; None if there is none."""
    return next((metric for metric in METRICS if (metric.name, metric.of) == (name, of)), metric_with_number(name, of))


def names_of_metrics(kinds: Sequence[Kind] = ("classes", "tags", "numbers")) -> str:
    """The names of the metrics of these kinds, as text."""
    names = [metric.name for metric in METRICS if metric.of in kinds]
    return ", ".join(dict.fromkeys(names + [name for kind in kinds for name in WITH_NUMBER[kind]]))


def same_metric(name: str) -> str:
    """The right name of a metric, for a name that others use or that has a slip of the keyboard; "" if it is unclear.

    It is never the name of another metric: mse and rmse, or mape and mae, are too far apart to be a slip.
    """
    plain = re.sub(r"[^a-z0-9.]", "", name.lower())
    plain = re.sub(r"^map(\d)$", r"map@\1", plain)
    plain = re.sub(r"^(?:top(\d+)(?:acc|accuracyscore)?|(?:acc|accuracy)(\d+))$", r"top\1\2_accuracy", plain)
    plain = re.sub(r"^(?:(sample|macro|micro)s?f(?:beta)?|f)(\d)(sample|macro|micro)?s?(?:score)?$", _f_name, plain)
    known = {re.sub(r"[^a-z0-9]", "", metric.name): metric.name for metric in METRICS}
    found = ALIASES.get(re.sub(r"[^a-z0-9]", "", plain)) or known.get(plain, plain)
    if any(find_metric(found, of) for of in ("classes", "tags", "numbers")):
        return found
    digits = re.sub(r"\D", "", name)
    close = difflib.get_close_matches(name, [metric.name for metric in METRICS], n=1, cutoff=0.9)
    is_slip = bool(close) and re.sub(r"\D", "", close[0]) == digits and close[0] not in name
    return close[0] if is_slip else ""


def _f_name(match: re.Match[str]) -> str:
    average = match[1] or match[3]
    return f"{average}_f{match[2]}" if average else match[0]

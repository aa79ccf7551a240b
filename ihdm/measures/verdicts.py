"""The verdicts of the ledger, and how numbers with intervals lead to them.

A claim is *supported* or *contradicted* if its statistic, with its 95 % interval, lies on one side
of the threshold; *undecided* if the interval reaches over it; *not tested here* if a gate is not
passed, and the remark names it; *by construction* if it follows from definitions, or if a network
that learned nothing satisfies it as well.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

__all__ = [
    "BY_CONSTRUCTION",
    "CONTRADICTED",
    "NOT_TESTED",
    "SUPPORTED",
    "TRAININGS",
    "UNDECIDED",
    "VERDICTS",
    "Compared",
    "Judged",
    "Metrics",
    "Trainings",
    "above",
    "below",
    "both",
    "compared",
    "mean_of",
    "missing",
    "percent",
    "values",
]

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"
NOT_TESTED, BY_CONSTRUCTION = "not tested here", "by construction"
VERDICTS = (SUPPORTED, CONTRADICTED, UNDECIDED, BY_CONSTRUCTION, NOT_TESTED)
# Fewer trainings of a model give no verdict on it.
TRAININGS = 3

Metrics = Mapping[str, Any]
# Model -> the statistics of each of its trainings; see `record`.
Trainings = Mapping[str, Sequence[Metrics]]


class Judged(NamedTuple):
    """A claim, judged by numbers.

    Attributes:
        value: our numbers in words.
        verdict: one of `VERDICTS`.
        remark: the gate that was not passed, or a limit of the verdict.
        trainings: how many trainings of each model the verdict rests on; 0 if it needs none.
    """

    value: str
    verdict: str
    remark: str = ""
    trainings: int = 0


class Compared(NamedTuple):
    """The means of one statistic over the trainings of two models.

    Attributes:
        first: mean over the trainings of the first model.
        second: mean over those of the second.
        difference: second minus first.
        half: half of the 95 % interval of the difference, by Welch's t.
        trainings: the smaller number of trainings.
    """

    first: float
    second: float
    difference: float
    half: float
    trainings: int


def above(value: float, half: float, threshold: float) -> str:
    """The verdict on `value > threshold`, for a value with half of its 95 % interval."""
    if value - half > threshold:
        return SUPPORTED
    return CONTRADICTED if value + half < threshold else UNDECIDED


def below(value: float, half: float, threshold: float) -> str:
    """The verdict on `value < threshold`."""
    return above(-value, half, -threshold)


def both(*verdicts: str) -> str:
    """The verdict on a claim that needs all of its parts."""
    for verdict in (CONTRADICTED, NOT_TESTED, UNDECIDED):
        if verdict in verdicts:
            return verdict
    return SUPPORTED


def missing(trainings: Trainings, *models: str) -> Judged | None:
    """The judgement on a claim for which trainings are missing, or None if there are enough.

    Args:
        trainings: the statistics of each model's trainings.
        models: those that the claim compares.
    """
    few = {m: len(trainings.get(m, ())) for m in models if len(trainings.get(m, ())) < TRAININGS}
    if not few:
        return None
    told = ", ".join(f"{count} of {model}" for model, count in few.items())
    return Judged("", NOT_TESTED, f"the record has {told}; a verdict needs {TRAININGS}")


def values(trainings: Trainings, model: str, key: str) -> list[float]:
    """A statistic of each training of a model."""
    return [each[key] for each in trainings[model]]


def mean_of(trainings: Trainings, model: str, key: str) -> tuple[float, float]:
    """The mean of a statistic over trainings, and half of its 95 % interval by Student's t.

    Args:
        trainings: the statistics of each model's trainings, at least two of this model.
        model: its name in the record.
        key: the statistic.
    """
    x = np.array(values(trainings, model, key))
    half = stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / len(x) ** 0.5
    return float(x.mean()), float(half)


def compared(trainings: Trainings, first: str, second: str, key: str) -> Compared:
    """Compares a statistic of two models over their trainings, which are independent.

    Args:
        trainings: the statistics of each model's trainings, at least two of each model.
        first: the first model.
        second: the second model.
        key: the statistic.
    """
    x, y = values(trainings, first, key), values(trainings, second, key)
    low, high = stats.ttest_ind(y, x, equal_var=False).confidence_interval()
    half = float(high - low) / 2
    mean_x, mean_y = float(np.mean(x)), float(np.mean(y))
    return Compared(mean_x, mean_y, mean_y - mean_x, half, min(len(x), len(y)))


def percent(value: float, half: float | None = None) -> str:
    """A fraction in words, with half of its interval."""
    interval = "" if half is None else f" ± {100 * half:.0f}"
    return f"{100 * value:.0f}{interval} %"

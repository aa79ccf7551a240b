"""The record of repeated trainings: the statistics of each, one line of JSON for a training.

`python -m ihdm.pipeline.repeating` adds to it (`make seeds`). Verdicts between models read it.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ihdm.data.datasets import Images
from ihdm.measures import trials
from ihdm.project import root
from ihdm.settings import Experiment, Params

__all__ = [
    "Line",
    "append",
    "by_sigma",
    "chosen",
    "described",
    "file",
    "lines",
    "matches",
    "trainings",
]

Line = dict[str, Any]


def file() -> Path:
    """The file of the record."""
    return root() / "data" / "seeds.jsonl"


def lines() -> list[Line]:
    """Every line of the record, the oldest first.

    Raises:
        ProjectError: the record is damaged; the message names the line.
    """
    return trials.lines(file())


def append(line: Line) -> None:
    """Adds a line in one write, so that an interruption leaves no part of it."""
    with file().open("a") as record:
        record.write(json.dumps(line) + "\n")


def described(params: Params, name: str) -> tuple[Experiment, str]:
    """The description of a repeated training with its first seed, and the name of its data set.

    The sampling noise delta keeps its ratio to sigma if a change is of sigma.

    Args:
        params: the settings.
        name: its name under `repeated.trainings` in params.yaml.

    Raises:
        ProjectError: its experiment is not switched on.
    """
    repeated = params.repeated.trainings[name]
    experiment, data = params.experiment(repeated.of)
    new = experiment.changed(repeated.changes)
    old_sigma, new_sigma = experiment.numbers.get("sigma"), new.numbers.get("sigma")
    if old_sigma and new_sigma != old_sigma:
        scaled = {"delta": experiment.numbers["delta"] * new_sigma / old_sigma}
        new = new.model_copy(update={"sampling": new.sampling.model_copy(update=scaled)})
    return new, data


def matches(line: Line, params: Params, name: str, images: Images) -> bool:
    """Whether a line is of a repeated training as params.yaml describes it, its seed aside.

    Args:
        line: a line of the record; what it was called does not count.
        params: the settings.
        name: under `repeated.trainings`.
        images: the prepared data.
    """
    experiment, _ = described(params, name)
    same = (line["data"], line["untrained"])
    return same == (
        images.fingerprint,
        params.repeated.trainings[name].untrained,
    ) and not trials.differences(line, experiment)


def chosen(params: Params, images: Images, recorded: Iterable[Line]) -> dict[str, list[Line]]:
    """The lines of the record that count.

    KID by two classifiers cannot be compared. Trainings of one budget are compared with each other:
    those with the budget of their experiment, and those that change `train.steps` to the same
    number. Of each budget, lines of the classifier with the most lines count.

    Args:
        params: the settings; lines of other settings are left out.
        images: the prepared data.
        recorded: lines of the record.

    Returns:
        Name under `repeated.trainings` -> a line for each of its trainings, by seed; of a training
        that was recorded twice, the last one.
    """
    every = params.repeated.trainings
    recorded = list(recorded)
    found = [
        (name, line) for name in every for line in recorded if matches(line, params, name, images)
    ]
    classifiers: dict[Any, Counter[str]] = defaultdict(Counter)
    for name, line in found:
        classifiers[every[name].changes.get("train.steps")][line["features"]] += 1
    by_seed: dict[str, dict[int, Line]] = {name: {} for name in every}
    for name, line in found:
        [(most, _)] = classifiers[every[name].changes.get("train.steps")].most_common(1)
        if line["features"] == most:
            by_seed[name][line["train"]["seed"]] = line
    return {name: [own[seed] for seed in sorted(own)] for name, own in by_seed.items()}


def trainings(
    params: Params, images: Images, recorded: Iterable[Line]
) -> dict[str, list[dict[str, float]]]:
    """The statistics of every repeated training that the record holds, by name as in `chosen`."""
    found = chosen(params, images, recorded)
    return {name: [line["statistics"] for line in own] for name, own in found.items()}


def by_sigma(params: Params, images: Images) -> dict[float, list[dict[str, float]]]:
    """The trainings of the record that differ in the training noise sigma alone.

    They are those that change `process.sigma`, and the ones with the same other changes.

    Args:
        params: the settings.
        images: the prepared data.

    Returns:
        sigma, rising -> the statistics of each training; empty if there is none yet.
    """
    every = params.repeated.trainings
    found = trainings(params, images, lines())

    def aside(name: str) -> tuple[str, tuple[tuple[str, Any], ...]]:
        others = {k: v for k, v in every[name].changes.items() if k != "process.sigma"}
        return every[name].of, tuple(sorted(others.items()))

    families = {aside(name) for name in every if "process.sigma" in every[name].changes}
    sigmas = {
        described(params, name)[0].numbers["sigma"]: found[name]
        for name in every
        if aside(name) in families
    }
    return dict(sorted(sigmas.items()))

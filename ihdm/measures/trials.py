"""The log of trials: the settings of each trial and its scores.

`python -m ihdm.pipeline.tuning` adds to it.
"""

import json
from pathlib import Path
from typing import Any

from ihdm.data.datasets import Images
from ihdm.project import ProjectError, root
from ihdm.settings import Experiment, Train

__all__ = [
    "Trial",
    "best",
    "differences",
    "file",
    "lines",
    "listing",
    "recorded",
    "summary",
]

# Settings that hardly change the result of a training, or are meant to differ in its repetitions.
ASIDE = {"train.seed", "train.log_every", *(f"train.{key}" for key in Train.WITHOUT_EFFECT)}

Trial = dict[str, Any]


def file() -> Path:
    """The file of the log."""
    return root() / "data" / "tuning.jsonl"


def recorded(images: Images) -> list[Trial]:
    """Every trial in the log that was made on some data, the oldest first.

    Args:
        images: the prepared data.

    Raises:
        ProjectError: the log is damaged; the message names the line.
    """
    return [trial for trial in lines(file()) if trial["data"] == images.fingerprint]


def lines(path: Path) -> list[Trial]:
    """The lines of a file of JSON lines; none if there is no such file.

    Raises:
        ProjectError: a line is damaged; the message names it.
    """
    read: list[Trial] = []
    for number, line in enumerate(path.read_text().splitlines() if path.is_file() else [], 1):
        try:
            read.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ProjectError(f"{path}, line {number}, is damaged ({error}): delete it") from None
    return read


def differences(trial: Trial, experiment: Experiment) -> dict[str, Any]:
    """The settings in which a trial differs from an experiment, seeds of training aside.

    Args:
        trial: a recorded trial.
        experiment: the description to compare with.

    Returns:
        Path of the key -> the trial's value; None if the trial is older than the setting.
    """
    theirs = {f"{part}.{key}": v for part in Experiment.TRAINED for key, v in trial[part].items()}
    ours = {
        key: v
        for key, v in experiment.flat().items()
        if key.partition(".")[0] in Experiment.TRAINED
    }
    every = [key for key in (ours | theirs) if key not in ASIDE]
    return {k: theirs.get(k) for k in every if k not in ours or theirs.get(k) != ours[k]}


def summary(trials: list[Trial], experiment: Experiment, keys: set[str]) -> list[dict[str, Any]]:
    """Repetitions of a setting as one row each, the lowest mean KID first.

    Args:
        trials: recorded trials.
        experiment: the description to compare with.
        keys: the settings that may differ from it, as `train.gamma`; trials that differ in others
            are left out.

    Returns:
        For each setting: the value of each key, delta in units of sigma, `samples`, the
        classifier (`features`), the KID of each
        seed by its number, in order, their number and their mean.
    """
    rows: dict[str, dict[str, Any]] = {}
    flat = experiment.flat()
    for trial in trials:
        changes = differences(trial, experiment)
        if changes.keys() <= keys:
            values = {key: changes.get(key, flat.get(key)) for key in sorted(keys)}
            values |= {"delta": trial["delta"], "samples": trial.get("samples", 1000)}
            values |= {"features": trial.get("features")}
            row = rows.setdefault(json.dumps(values), {**values, "kid": {}})
            row["kid"][trial["train"]["seed"]] = trial["kid"]
    for row in rows.values():
        row["kid"] = dict(sorted(row["kid"].items()))
        row |= {"trainings": len(row["kid"]), "mean": sum(row["kid"].values()) / len(row["kid"])}
    return sorted(rows.values(), key=lambda row: row["mean"])


def best(trials: list[Trial]) -> list[Trial]:
    """Of each training the trial at the delta of the lowest KID, the lowest first.

    Args:
        trials: recorded trials of one experiment.
    """
    lowest: dict[str, Trial] = {}
    for trial in trials:
        key = json.dumps([trial[part] for part in Experiment.TRAINED], sort_keys=True)
        lowest[key] = min(trial, lowest.get(key, trial), key=lambda each: each["kid"])
    return sorted(lowest.values(), key=lambda trial: trial["kid"])


def listing(trials: list[Trial], experiment: Experiment) -> list[dict[str, Any]]:
    """Each training of a log as a row of a table, the lowest KID first.

    Args:
        trials: recorded trials of one experiment.
        experiment: the description to compare with.

    Returns:
        `changes` against the experiment, `seed`, the best `delta` in units of sigma, and `KID`.
    """
    rows = []
    for trial in best(trials):
        changes = differences(trial, experiment).items()
        rows.append(
            {
                "changes": ", ".join(f"{key.partition('.')[2]} {value}" for key, value in changes),
                "seed": trial["train"]["seed"],
                "delta / sigma": trial["delta"],
                "KID": f"{trial['kid']:.3f} ± {trial['kid_half']:.3f}",
            }
        )
    return rows

"""Trials of other settings: `python -m ihdm.tuning EXPERIMENT KEY=VALUE ...`.

    python -m ihdm.tuning mnist network.channels=48 train.batch=32 --delta 1.25 1.5

trains an experiment of params.yaml with some settings changed, draws from it, and appends its KID
against the images for tuning to `data/tuning.jsonl`. The images that numbers are reported on
take no part. The notebook `13-fid-tables` shows all trials; no stage of the pipeline makes any.
"""

import argparse
import json
import os
import time
from typing import Any

import torch
from accelerate import Accelerator
from ruamel.yaml import YAML
from scipy import stats

from ihdm import datasets, fidelity, loop, params, processes, progress, training
from ihdm.datasets import Images
from ihdm.precision import Autocast
from ihdm.processes import InverseHeat, Process
from ihdm.settings import Experiment, ProjectError

__all__ = ["advantage", "best", "changed", "differences", "recorded", "trained", "trial"]

SAMPLES, BOOTSTRAPS = 1000, 200
RECORD = "data/tuning.jsonl"
TRAINED = ("process", "network", "train")
# What has no part in what a training ends with, or is meant to differ between its repetitions.
ASIDE = {"train.seed", "train.log_every", *(f"train.{key}" for key in training.ASIDE)}

Trial = dict[str, Any]


def changed(experiment: Experiment, changes: dict[str, Any]) -> Experiment:
    """An experiment with other values.

    Args:
        experiment: the validated description.
        changes: path of a key of process, network or train, as `train.batch`, and its new value.

    Raises:
        ProjectError: a key does not exist, or a value is not valid.
    """
    description = experiment.model_dump(mode="json")
    for path, value in changes.items():
        section, _, key = path.partition(".")
        if section not in TRAINED or key not in description[section]:
            raise ProjectError(f"a trial cannot change '{path}': there is no such setting")
        description[section][key] = value
    try:
        return Experiment.model_validate_json(json.dumps(description))
    except ValueError as error:
        raise ProjectError(str(error)) from None


def trained(experiment: Experiment, images: Images) -> torch.nn.Module:
    """Trains from nothing, in memory, as `training` does.

    Args:
        experiment: the description.
        images: the prepared data.

    Returns:
        The network with the moving average of the weights, in evaluation mode.

    Raises:
        ProjectError: the training diverged.
    """
    accelerator = Accelerator()
    process, state = training.fresh(experiment, images, accelerator)
    with progress.bar(experiment.train.steps, "training") as bar:
        for _ in loop.steps(process, state, images.train, experiment.train, accelerator):
            bar.update()
    if state.step < experiment.train.steps:
        raise ProjectError(f"the training diverged at step {state.step + 1}")
    return Autocast(state.ema.module, experiment.train, accelerator.device).eval()


def at_delta(process: Process, factors: list[float]) -> dict[float | None, Process]:
    """The process at each delta, in units of sigma; itself under None where it has no delta."""
    if not isinstance(process, InverseHeat):
        return {None: process}
    sigma = process.sigma
    try:
        return {f: InverseHeat(process.heat, sigma, f * sigma) for f in factors}
    except ValueError as error:
        raise ProjectError(str(error)) from None


def trial(name: str, changes: dict[str, Any], factors: list[float]) -> list[Trial]:
    """Trains with other settings and scores what is drawn against the images for tuning.

    Args:
        name: an experiment that is switched on.
        changes: see `changed`.
        factors: values of delta in units of sigma, for inverse heat dissipation.

    Returns:
        A trial for each delta: the hash of the data, the settings, delta, FID and KID with half of
        their intervals, and the seconds of training on which device.

    Raises:
        ProjectError: the experiment is not switched on, a change or a delta is not valid, data or
            the features are missing, or the training diverged.
    """
    experiment, data = params.load().experiment(name)
    experiment = changed(experiment, changes)
    images = datasets.load(data)
    reference = fidelity.features(images.tune, "digits")
    models = at_delta(processes.from_params(experiment, *images.shape[1:]), factors)
    began = time.monotonic()
    network = trained(experiment, images)
    about = {
        "experiment": name,
        "data": images.fingerprint,
        **experiment.model_dump(mode="json", include=set(TRAINED)),
        "device": next(network.parameters()).device.type,
        "seconds": round(time.monotonic() - began),
    }
    found = []
    for factor, model in models.items():
        seed = experiment.sampling.seed
        x = fidelity.features_of_draws(model, network, images, seed, SAMPLES)
        scores = {"delta": factor}
        for measure in (fidelity.fid, fidelity.kid):
            value, half = measure(x, reference, seed, BOOTSTRAPS)
            scores |= {
                measure.__name__: round(value, 4),
                f"{measure.__name__}_half": round(half, 4),
            }
        found.append(about | scores)
    return found


def recorded(images: Images) -> list[Trial]:
    """Every trial on record that was made on some data, the first one first.

    Args:
        images: the prepared data.

    Raises:
        ProjectError: the record is damaged; the message names the line.
    """
    path = params.root() / RECORD
    found = []
    for number, line in enumerate(path.read_text().splitlines() if path.is_file() else [], 1):
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ProjectError(f"{path}, line {number}, is damaged ({error}): delete it") from None
    return [trial for trial in found if trial["data"] == images.fingerprint]


def differences(found: Trial, experiment: Experiment) -> dict[str, Any]:
    """The settings in which a trial differs from an experiment, seeds of training aside.

    Args:
        found: a recorded trial.
        experiment: the description to compare with.

    Returns:
        Path of the key -> the trial's value; None where the trial is older than the setting.
    """
    theirs = {f"{part}.{key}": v for part in TRAINED for key, v in found[part].items()}
    ours = {key: v for key, v in experiment.flat().items() if key.partition(".")[0] in TRAINED}
    every = [key for key in (ours | theirs) if key not in ASIDE]
    return {k: theirs.get(k) for k in every if k not in ours or theirs.get(k) != ours[k]}


def best(trials: list[Trial]) -> list[Trial]:
    """Of each training the trial at the delta of the lowest KID, the lowest first.

    Args:
        trials: recorded trials of one experiment.
    """
    lowest = {}
    for found in trials:
        key = json.dumps([found[part] for part in TRAINED], sort_keys=True)
        lowest[key] = min(found, lowest.get(key, found), key=lambda trial: trial["kid"])
    return sorted(lowest.values(), key=lambda trial: trial["kid"])


def advantage(better: Experiment, worse: Experiment, trials: list[Trial]) -> dict[str, float]:
    """By how much the KID of one experiment is below that of another, over training seeds.

    Args:
        better: the first experiment.
        worse: the second.
        trials: recorded trials, of which those count that have the settings of either experiment.

    Returns:
        `difference` of the means over seeds, `half_interval` of its 95 % interval (Welch's t; 0
        where there are fewer than two seeds) and the smaller number of `seeds`.
    """
    seeds = []
    for experiment in (better, worse):
        delta, sigma = experiment.sampling.delta, getattr(experiment.process, "sigma", None)
        own = [t for t in trials if not differences(t, experiment)]
        own = [t for t in own if delta is None or abs(t["delta"] * sigma - delta) < 1e-9]
        seeds.append({t["train"]["seed"]: t["kid"] for t in own})
    first, second = (list(kids.values()) for kids in seeds)
    fewest = min(len(first), len(second))
    if fewest < 2:
        return {"difference": 0.0, "half_interval": 0.0, "seeds": fewest}
    test = stats.ttest_ind(second, first, equal_var=False)
    low, high = map(float, test.confidence_interval())
    return {"difference": (low + high) / 2, "half_interval": (high - low) / 2, "seeds": fewest}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ihdm.tuning", description=__doc__)
    parser.add_argument("experiment", help="an experiment that `run` in params.yaml switches on")
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="as train.batch=32")
    parser.add_argument("--delta", nargs="+", type=float, default=[1.25], help="in units of sigma")
    arguments = parser.parse_args()
    with params.exit_on_error():
        changes = {}
        for change in arguments.changes:
            key, _, value = change.partition("=")
            changes[key] = YAML(typ="safe", pure=True).load(value)
        lines = [json.dumps(t) for t in trial(arguments.experiment, changes, arguments.delta)]
        path = params.root() / RECORD
        before = path.read_text() if path.is_file() else ""
        partial = path.with_suffix(".partial")
        partial.write_text(before + "".join(f"{line}\n" for line in lines))
        os.replace(partial, path)
        print(*lines, sep="\n")


if __name__ == "__main__":
    main()

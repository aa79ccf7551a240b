"""Trials of other settings: `python -m ihdm.tuning EXPERIMENT KEY=VALUE ...`.

    python -m ihdm.tuning mnist network.channels=48 train.batch=32 --delta 1.25 1.5

trains an experiment of params.yaml with some settings changed, draws from it, and appends its KID
against the images for tuning to `data/tuning.jsonl`. The images that numbers are reported on
take no part. The notebook `13-fid-tables` shows all trials; no stage of the pipeline makes any.
"""

import argparse
import json
import time
from typing import Any

import torch
from accelerate import Accelerator
from ruamel.yaml import YAML
from scipy import stats

from ihdm import datasets, fidelity, loop, params, progress, sampling, training
from ihdm.datasets import Images
from ihdm.precision import Autocast
from ihdm.processes import InverseHeat, Process
from ihdm.settings import Experiment, ProjectError

__all__ = ["advantage", "changed", "differences", "record", "trained", "trial"]

SAMPLES, BOOTSTRAPS = 1000, 200
RECORD = "data/tuning.jsonl"
TRAINED = ("process", "network", "train")
# What has no part in what a training ends with, or is meant to differ between its repetitions.
ASIDE = {"train.seed", "train.log_every", "train.checkpoint_every"}

Trial = dict[str, Any]


def changed(experiment: Experiment, changes: dict[str, Any]) -> Experiment:
    """An experiment with other values.

    Args:
        experiment: the validated description.
        changes: path of a key below the experiment, as `train.batch`, and its new value.

    Raises:
        ProjectError: a key does not exist, or a value is not valid.
    """
    description = experiment.model_dump(mode="json")
    for path, value in changes.items():
        section, _, key = path.partition(".")
        if key not in description.get(section, {}):
            raise ProjectError(f"experiments have no setting '{path}'")
        description[section][key] = value
    try:
        return Experiment.model_validate_json(json.dumps(description))
    except ValueError as error:
        raise ProjectError(str(error)) from None


def trained(experiment: Experiment, images: Images) -> tuple[Process, torch.nn.Module]:
    """Trains from nothing, in memory.

    Args:
        experiment: the description.
        images: the prepared data.

    Returns:
        The process, and the network with the moving average of the weights.

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
    precision = experiment.train.precision
    return process, Autocast(state.ema.module, precision, accelerator.device).eval()


def trial(name: str, changes: dict[str, Any], factors: list[float]) -> list[Trial]:
    """Trains with other settings and scores what is drawn against the images for tuning.

    Args:
        name: an experiment that is switched on.
        changes: see `changed`.
        factors: values of delta in units of sigma, for inverse heat dissipation.

    Returns:
        A trial for each delta: the settings, delta, FID and KID with their intervals, and the
        seconds of training on which device.

    Raises:
        ProjectError: the experiment is not switched on, a change is not valid, data or the features
            are missing, or the training diverged.
    """
    experiment, data = params.load().experiment(name)
    experiment = changed(experiment, changes)
    images = datasets.load(data)
    reference = fidelity.features(images.tune, "digits")
    began = time.monotonic()
    process, network = trained(experiment, images)
    about = {
        "experiment": name,
        **experiment.model_dump(mode="json", include=set(TRAINED)),
        "device": next(network.parameters()).device.type,
        "seconds": round(time.monotonic() - began),
    }
    models = {None: process}
    if isinstance(process, InverseHeat):
        sigma = process.sigma
        models = {f: InverseHeat(process.heat, sigma, f * sigma) for f in factors}
    found = []
    for factor, model in models.items():
        seed, chosen = experiment.sampling.seed, range(SAMPLES)
        u_K = sampling.starts(model, images.train, seed, chosen)
        u_0 = sampling.draw(model, network, u_K, seed, chosen, batch=250)[0]
        x = fidelity.features(u_0, "digits")
        scores = {
            f"{name}{part}": round(number, 4)
            for name, measure in (("fid", fidelity.fid), ("kid", fidelity.kid))
            for part, number in zip(
                ("", "_half"), measure(x, reference, seed, BOOTSTRAPS), strict=True
            )
        }
        found.append({**about, "delta": factor, **scores})
    return found


def record() -> list[Trial]:
    """Every trial that was recorded, the first one first."""
    path = params.root() / RECORD
    lines = path.read_text().splitlines() if path.is_file() else []
    return [json.loads(line) for line in lines]


def differences(found: Trial, experiment: Experiment) -> dict[str, Any]:
    """The settings in which a trial differs from an experiment, seeds of training aside.

    Args:
        found: a recorded trial.
        experiment: the description to compare with.
    """
    ours = experiment.flat()
    theirs = {f"{part}.{key}": v for part in TRAINED for key, v in found[part].items()}
    return {k: v for k, v in theirs.items() if k not in ASIDE and ours.get(k) != v}


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
    low, high = test.confidence_interval()
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
        found = trial(arguments.experiment, changes, arguments.delta)
        with (params.root() / RECORD).open("a") as file:
            for row in found:
                line = json.dumps(row)
                file.write(line + "\n")
                print(line)


if __name__ == "__main__":
    main()

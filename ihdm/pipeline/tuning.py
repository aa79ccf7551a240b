"""Trials of other settings: `python -m ihdm.pipeline.tuning EXPERIMENT KEY=VALUE ...`.

    python -m ihdm.pipeline.tuning mnist network.channels=48 train.batch=32 --delta 1.25 1.5

trains an experiment of params.yaml with some settings changed, draws from it, and appends its KID
against the validation images to `data/tuning.jsonl`. Test images take no part. The notebook
`13-fid-tables` shows all trials; no stage of the pipeline makes any.
"""

import argparse
import json
import time
from typing import Any

from ruamel.yaml import YAML

from ihdm import loop, progress, settings
from ihdm.data import datasets
from ihdm.data.datasets import Images
from ihdm.measures import classifier, fidelity
from ihdm.measures.features import features, features_of_draws
from ihdm.measures.trials import Trial, file
from ihdm.model import Model
from ihdm.pipeline import launching
from ihdm.project import ProjectError, exit_on_error
from ihdm.settings import Experiment

__all__ = ["trained", "trial"]

BOOTSTRAPS = 200


def trained(experiment: Experiment, images: Images) -> Model:
    """Trains from nothing, in memory, as `training` does.

    Args:
        experiment: the description.
        images: the prepared data.

    Returns:
        The model, with the moving average of the weights.

    Raises:
        ProjectError: the training diverged.
    """
    accelerator, budget = launching.accelerator(), experiment.train
    process, state = loop.begin(experiment, images, accelerator.device)
    with progress.bar(budget.steps, "training") as bar:
        for _ in loop.steps(process, state, images.train, budget, accelerator):
            bar.update()
    if state.step < budget.steps:
        raise ProjectError(f"the training diverged at step {state.step}")
    return Model.of(experiment, state.average, images.train, accelerator.device)


def at_deltas(experiment: Experiment, factors: list[float]) -> dict[float | None, float | None]:
    """Each factor of sigma and the delta that it gives; None and None for a process without delta.

    Raises:
        ProjectError: a factor is negative.
    """
    if experiment.process.kind != "inverse_heat":
        return {None: None}
    if min(factors) < 0:
        raise ProjectError(f"delta must not be negative: {min(factors):g} times sigma")
    return {factor: factor * experiment.process.sigma for factor in factors}


def trial(name: str, changes: dict[str, Any], factors: list[float], samples: int) -> list[Trial]:
    """Trains with other settings and scores samples against the images for tuning.

    Args:
        name: an experiment that is switched on.
        changes: path of a key, as `train.batch`, and its new value.
        factors: values of delta in units of sigma, for inverse heat dissipation.
        samples: how many to draw at each delta.

    Returns:
        A trial for each delta: hashes of data and classifier, the settings, delta, FID and KID with
        half of their intervals, the number of samples, and the seconds of training on which device.

    Raises:
        ProjectError: the experiment is not switched on, a change or a delta is not valid, data or
            the features are missing, or the training diverged.
    """
    experiment, data = settings.load().experiment(name)
    try:
        experiment = experiment.changed(changes)
    except ValueError as error:
        raise ProjectError(f"a trial of {name}: {error}") from None
    images = datasets.load(data)
    deltas = at_deltas(experiment, factors)
    reference = features(images.tune, "digits")
    began = time.monotonic()
    model = trained(experiment, images)
    about = {
        "experiment": name,
        "data": images.fingerprint,
        **experiment.model_dump(mode="json", include=set(Experiment.TRAINED)),
        "features": classifier.digest(),
        "device": model.device.type,
        "seconds": round(time.monotonic() - began),
    }
    trials = []
    for factor, delta in deltas.items():
        own = model if delta is None else model.with_delta(delta)
        x = features_of_draws(own, samples)
        scores: Trial = {"delta": factor, "samples": samples}
        for measure in (fidelity.fid, fidelity.kid):
            value, half = measure(x, reference, model.seed, BOOTSTRAPS)
            scores |= {
                measure.__name__: round(value, 4),
                f"{measure.__name__}_half": round(half, 4),
            }
        trials.append(about | scores)
    return trials


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ihdm.pipeline.tuning", description=__doc__)
    parser.add_argument("experiment", help="an experiment that `run` in params.yaml switches on")
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="as train.batch=32")
    parser.add_argument("--delta", nargs="+", type=float, default=[1.25], help="in units of sigma")
    parser.add_argument("--samples", type=int, default=1000, help="to draw at each delta")
    arguments = parser.parse_args()
    with exit_on_error():
        changes = {}
        for change in arguments.changes:
            key, _, value = change.partition("=")
            changes[key] = YAML(typ="safe", pure=True).load(value)
        made = trial(arguments.experiment, changes, arguments.delta, arguments.samples)
        lines = [json.dumps(each) for each in made]
        # One write at the end of the file, so that trials beside this one lose nothing.
        with file().open("a") as log:
            log.write("".join(f"{line}\n" for line in lines))
        print(*lines, sep="\n")


if __name__ == "__main__":
    main()

"""Repeated trainings for verdicts: `python -m ihdm.pipeline.repeating [NAME ...]` (`make seeds`).

Each training under `repeated` in params.yaml is made with each of its seeds, one at a time, its
statistics are measured, and a line is added to `data/seeds.jsonl`. A training that the record holds
is not repeated; one that was interrupted goes on from its last checkpoint. No stage of the pipeline
runs this: it takes hours, and the record is committed.
"""

import argparse
import time
from pathlib import Path

import torch

from ihdm import networks, processes, settings, weights
from ihdm.data import datasets
from ihdm.data.datasets import Images
from ihdm.measures import classifier, record, trained
from ihdm.measures.linear import linear_step
from ihdm.model import Model
from ihdm.pipeline import fingerprint, launching, locks, training
from ihdm.precision import resolved
from ihdm.project import ProjectError, exit_on_error, root
from ihdm.settings import Experiment

__all__ = ["repeat", "trained_weights"]


def trained_weights(name: str, experiment: Experiment, images: Images) -> Path:
    """The finished weights of a training, which is made or continued if it has to be.

    Args:
        name: under which its state is kept; a finished training counts under any name.
        experiment: the validated description.
        images: the prepared data.

    Raises:
        ProjectError: the loss is not finite, or another process trains the same.
        KeyboardInterrupt: it was asked to stop; the state is saved.
    """
    identity = fingerprint.of_training(experiment, images)
    state = root() / "state"
    for finished in sorted(state.glob(f"*-{identity}/{training.FINAL}")):
        return finished
    folder = state / f"{name}-{identity}"
    with locks.locked(folder):
        training.train(name, experiment, images, folder, launching.accelerator(), None)
    return folder / training.FINAL


def repeat(name: str, seed: int) -> record.Line | None:
    """Makes one training of the record and measures it.

    Args:
        name: under `repeated.trainings` in params.yaml.
        seed: of the training.

    Returns:
        The line of the record: hashes of data, weights and classifier, the settings, where it was
        made, seconds, and the statistics; None if the record holds it.

    Raises:
        ProjectError: as `trained_weights`; or data or the classifier are missing.
    """
    params = settings.load()
    experiment, data = record.described(params, name)
    images, untrained = datasets.load(data), params.repeated.trainings[name].untrained
    features = classifier.digest()
    known = [line for line in record.lines() if record.matches(line, params, name, images)]
    if any(line["train"]["seed"] == seed and line["features"] == features for line in known):
        return None
    budget = experiment.train.model_copy(update={"seed": seed})
    own = experiment.model_copy(update={"train": budget})
    began = time.monotonic()
    path = None if untrained else trained_weights(f"{name}_{seed}", own, images)
    seconds = round(time.monotonic() - began)
    model = model_of(own, images, path)
    return {
        "name": name,
        "untrained": untrained,
        "data": images.fingerprint,
        "features": features,
        "weights": datasets.sha256(path) if path else None,
        **own.model_dump(mode="json", include=set(Experiment.TRAINED)),
        "delta": own.sampling.delta,
        "device": model.device.type,
        "precision": resolved(budget, model.device),
        "threads": torch.get_num_threads(),
        "seconds": seconds,
        "statistics": trained.statistics(model, images, params.repeated.samples),
    }


def model_of(experiment: Experiment, images: Images, path: Path | None) -> Model:
    """The model with the weights in a file, or with the best linear step if there is none."""
    process = processes.make(*images.shape[1:], **experiment.numbers)
    modes = torch.from_numpy(images.modes)
    if path is None:
        network: torch.nn.Module = linear_step(process, modes)
    else:
        network = weights.load(path, networks.make(experiment, process, modes))
    return Model.of(experiment, network, images.train, launching.accelerator().device)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ihdm.pipeline.repeating",
        description="Makes repeated trainings and adds their statistics to data/seeds.jsonl.",
    )
    parser.add_argument("names", nargs="*", help="of `repeated.trainings`; all if none is given")
    parser.add_argument("--seeds", nargs="+", type=int, help="only these seeds")
    arguments = parser.parse_args()
    with exit_on_error():
        repeated = settings.load().repeated
        unknown = set(arguments.names) - set(repeated.trainings)
        if unknown:
            raise ProjectError(
                f"params.yaml has no repeated.trainings.{min(unknown)}: there are "
                f"{', '.join(repeated.trainings)}"
            )
        own = classifier.digest()
        if others := sorted({line["features"] for line in record.lines()} - {own}):
            print(
                f"data/seeds.jsonl has lines by other classifiers ({', '.join(others)}); that of "
                f"this machine is {own}. KIDs by two classifiers cannot be compared: of each "
                "budget, the lines of the classifier with the most lines count.",
                flush=True,
            )
        # All models once before any a second time.
        for seed in arguments.seeds or repeated.seeds:
            for name in arguments.names or repeated.trainings:
                if repeated.trainings[name].untrained and seed != repeated.seeds[0]:
                    continue
                line = repeat(name, seed)
                if line is None:
                    print(f"{name}, seed {seed}: in the record")
                    continue
                record.append(line)
                print(f"{name}, seed {seed}: {line['statistics']}", flush=True)


if __name__ == "__main__":
    main()

"""Trained weights in git, in place of trainings: `python -m ihdm.pipeline.adopting`.

    weights/EXPERIMENT.safetensors  --adopt-->  state/EXPERIMENT-FINGERPRINT/

`weights/` is a source of the pipeline. A file there is adopted if its training had the settings and
the data of now; another version of the code, or another precision, does not count. An adopted
training is a finished one, for `dvc repro` too, and `adopted.json` in its folder says where it is
from. `make quick` adopts.

`python -m ihdm.pipeline.adopting export` writes these files from trainings that finished here.
`python -m ihdm.pipeline.adopting drop` undoes the adoptions, for `make retrain`.
"""

import argparse
import json
import platform
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from ihdm import networks, processes, settings, weights
from ihdm.data import datasets
from ihdm.data.datasets import Images
from ihdm.pipeline import locks, training
from ihdm.precision import resolved
from ihdm.project import ProjectError, exit_on_error, replacing, root
from ihdm.settings import Experiment, Train
from ihdm.weights import Portable

__all__ = ["adopt", "differences", "drop", "export"]

FOLDER = "weights"
# Training images in a file, for the prior to draw from.
IMAGES = 256
WITHOUT_EFFECT = {f"train.{key}" for key in (*Train.WITHOUT_EFFECT, "precision")}


def adopt() -> None:
    """Adopts the file of every experiment that is switched on and has no finished training.

    Raises:
        ProjectError: there is no folder, data are not prepared, or files are missing, damaged or of
            other settings or data; the message says what differs. The other files are adopted.
    """
    params = settings.load()
    if not (root() / FOLDER).is_dir():
        raise ProjectError(
            f"there is no folder {FOLDER}/: `git restore {FOLDER}` brings it back; `make repro` "
            "trains the models here instead"
        )
    refused = []
    for name, data in params.run.items():
        experiment, images = params.experiments[name], datasets.load(data)
        folder = training.state_folder(name)
        with locks.locked(folder):
            if (folder / training.FINAL).exists():
                print(f"{name}: {training.result(folder).origin}, nothing to adopt")
                continue
            try:
                put(path_of(name), experiment, images, folder)
                print(f"{name}: {training.result(folder).origin}")
            except ProjectError as error:
                refused.append(str(error))
    print("`dvc repro` takes adopted trainings as done; `make retrain` trains them here instead.")
    if refused:
        raise ProjectError("; ".join(refused) + ". `make repro` trains what could not be adopted")


def put(path: Path, experiment: Experiment, images: Images, folder: Path) -> None:
    held = Portable.read(path)
    if other := differences(held, experiment, images):
        raise ProjectError(f"{path.relative_to(root())} is another model: {'; '.join(other)}")
    network = weights.fill(untrained(experiment, images), held.tensors, path)
    origin = {"file": str(path.relative_to(root())), "sha256": datasets.sha256(path), **held.made}
    for name, content in (("history.json", held.history), (training.ADOPTED, origin)):
        with replacing(folder / name) as temporary:
            temporary.write_text(json.dumps(content))
    # The last one: with it, the training is finished.
    weights.save(folder / training.FINAL, network)


def differences(held: Portable, experiment: Experiment, images: Images) -> list[str]:
    """The settings and data of a file that are not those of now, each as a phrase.

    Args:
        held: the file.
        experiment: its description in params.yaml.
        images: its prepared data.
    """
    theirs, ours = counted(held.experiment), counted(experiment)
    found = [
        f"{key} is {theirs.get(key)} there and {ours.get(key)} in params.yaml"
        for key in sorted(theirs.keys() | ours.keys())
        if theirs.get(key) != ours.get(key)
    ]
    if held.data != images.fingerprint:
        found.append(f"its training images were not those of '{images.name}'")
    return found


def counted(experiment: Experiment) -> dict[str, object]:
    """The settings that make a model, under the paths of their keys."""
    return {
        key: value
        for key, value in experiment.flat().items()
        if key.startswith(("process.", "network.", "train.")) and key not in WITHOUT_EFFECT
    }


def export(names: list[str]) -> None:
    """Writes `weights/EXPERIMENT.safetensors` of trainings that finished on this machine.

    Args:
        names: experiments; all that are switched on if empty.

    Raises:
        ProjectError: an experiment is not switched on, or has no training of its own; nothing is
            written then.
    """
    params = settings.load()
    finished = {}
    for name in names or params.run:
        folder = training.state_folder(name)
        if not (folder / training.FINAL).exists():
            raise ProjectError(f"{name} is not trained: `dvc repro train@{name}` does it")
        finished[name] = training.result(folder)
        if (folder / training.ADOPTED).exists():
            raise ProjectError(f"{name} was {finished[name].origin}: `make retrain` trains it")
    for name, result in finished.items():
        experiment, data = params.experiment(name)
        images = datasets.load(data)
        network = weights.load(result.weights, untrained(experiment, images))
        Portable(
            experiment=experiment,
            data=images.fingerprint,
            history=result.history,
            made=made(result.weights, experiment),
            images=np.array(images.train[:IMAGES]),
            tensors=weights.rounded(network),
        ).write(path_of(name))
        print(f"{path_of(name).relative_to(root())}: {path_of(name).stat().st_size:,} bytes")


def made(path: Path, experiment: Experiment) -> dict[str, str]:
    """When a training ended, and the kind of this machine, as far as numbers depend on it."""
    device = Accelerator().device
    instructions = f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
    cuda = device.type == "cuda"
    return {
        "date": datetime.fromtimestamp(path.stat().st_mtime, UTC).date().isoformat(),
        "processor": torch.cuda.get_device_name(device) if cuda else instructions,
        "precision": resolved(experiment.train, device),
        "torch": torch.__version__,
        "stored": "matrices and kernels in bfloat16, everything else in float32",
    }


def drop() -> None:
    """Undoes all adoptions.

    The weights among the results go too, of every experiment without a finished training, so that
    `dvc repro` runs the stages of these trainings.

    Raises:
        ProjectError: data are not prepared, or another process trains.
    """
    for name in settings.load().run:
        folder = training.state_folder(name)
        if (folder / training.ADOPTED).exists():
            with locks.locked(folder):
                for file in (training.FINAL, "history.json", training.ADOPTED):
                    (folder / file).unlink(missing_ok=True)
            print(f"{name}: no longer adopted")
        if not (folder / training.FINAL).exists():
            (root() / "results" / "weights" / f"{name}.safetensors").unlink(missing_ok=True)


def path_of(name: str) -> Path:
    return root() / FOLDER / f"{name}.safetensors"


def untrained(experiment: Experiment, images: Images) -> nn.Module:
    process = processes.make(*images.shape[1:], **experiment.numbers)
    return networks.make(experiment, process, torch.from_numpy(images.modes))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ihdm.pipeline.adopting", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    writer = commands.add_parser("export", help="write weights/ from trainings that finished here")
    writer.add_argument("experiments", nargs="*", help="all that are switched on if not given")
    commands.add_parser("drop", help="undo all adoptions")
    arguments = parser.parse_args()
    with exit_on_error():
        if arguments.command == "export":
            export(arguments.experiments)
        elif arguments.command == "drop":
            drop()
        else:
            adopt()


if __name__ == "__main__":
    main()

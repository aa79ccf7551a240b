"""Large sets of samples as files: `python -m ihdm.pipeline.sample_sets EXPERIMENT COUNT`.

    state/EXPERIMENT-draws-FINGERPRINT/00012.npy      (64, C, H, W) uint8, samples 768 to 831

Every sample has random generators of its own (see `sampling`) and every file the same samples, so
that a set does not depend on how many processes draw it. Existing files are not drawn again.
`torchrun -m ihdm.pipeline.sample_sets EXPERIMENT COUNT` draws on several machines with a common
file system.
"""

import argparse
import io
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ihdm import progress, settings
from ihdm.data import datasets
from ihdm.model import Model
from ihdm.pipeline import fingerprint, launching
from ihdm.project import ProjectError, exit_on_error, replacing, root

__all__ = ["files", "follow", "run", "save"]

PART = 64


def files(name: str, count: int) -> list[Path]:
    """The files of samples of an experiment, as its weights and params.yaml are now.

    Args:
        name: the experiment in params.yaml.
        count: how many samples; rounded up to whole files.

    Raises:
        ProjectError: the experiment is not switched on, or data or weights are missing.
    """
    experiment, data = settings.load().experiment(name)
    weights = root() / "results" / "weights" / f"{name}.safetensors"
    if not weights.is_file():
        raise ProjectError(f"{weights} does not exist: `dvc repro train@{name}` makes it")
    identity = fingerprint.of_samples(experiment, datasets.load(data), weights)
    folder = root() / "state" / f"{name}-draws-{identity}"
    return [folder / f"{number:05d}.npy" for number in range(math.ceil(count / PART))]


def run(name: str, count: int, parent: int | None = None) -> list[Path]:
    """Draws the first samples of an experiment, as far as they are missing.

    If `machine.processes` is above 1, it starts as many processes and waits for them.

    Args:
        name: the experiment in params.yaml.
        count: how many; rounded up to whole files.
        parent: a process; its end is a request to stop.

    Returns:
        The files, in order.

    Raises:
        ProjectError: the experiment is not switched on, or data or weights are missing or damaged.
        KeyboardInterrupt: the process above has ended; whole files are kept.
    """
    paths = files(name, count)
    if launching.wanted() > 1:
        launching.launch("ihdm.pipeline.sample_sets", [name, str(count)], parent)
        return paths
    accelerator = launching.accelerator()
    model = Model.trained(name)
    numbers = range(accelerator.process_index, len(paths), accelerator.num_processes)
    missing = [number for number in numbers if not paths[number].is_file()]
    is_main, ranks = accelerator.is_main_process, accelerator.num_processes
    if is_main:
        print(f"{name}: samples in {len(paths)} files, processes: {ranks}", flush=True)
    with (
        launching.explained(name, min(PART, model.network.at_once)),
        progress.bar(len(missing), f"drawing from {name}", "file", shown=is_main) as bar,
    ):
        for number in missing:
            if launching.orphaned(parent):
                raise KeyboardInterrupt
            save(paths[number], model.draw_bytes(range(number * PART, (number + 1) * PART)))
            bar.update()
    return paths


def save(path: Path, values: NDArray) -> None:
    """Writes an array as a file, which is replaced in one step.

    Args:
        path: the file.
        values: of any shape and type.
    """
    content = io.BytesIO()
    np.save(content, values)
    with replacing(path, shared=True) as temporary:
        # NumPy's own write to a file hides that the disk is full.
        temporary.write_bytes(content.getbuffer())


def follow(name: str, count: int) -> list[Path]:
    """Draws in a process of its own and shows its log, for notebooks; see `launching.follow`.

    Args:
        name: the experiment in params.yaml.
        count: how many samples; rounded up to whole files.

    Returns:
        The files, in order; see `run`.

    Raises:
        ProjectError: drawing failed; with its message.
    """
    paths = files(name, count)
    launching.follow("ihdm.pipeline.sample_sets", [name, str(count)])
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ihdm.pipeline.sample_sets", description=__doc__
    )
    parser.add_argument("experiment", help="an experiment that `run` in params.yaml switches on")
    parser.add_argument("count", type=int, help="how many samples")
    parser.add_argument("--parent", type=int, help="stop when this process above it ends")
    arguments = parser.parse_args()
    with exit_on_error():
        run(arguments.experiment, arguments.count, arguments.parent)


if __name__ == "__main__":
    main()

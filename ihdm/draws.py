"""Large sets of samples as files, drawn by any number of processes: `python -m ihdm.draws`.

    state/EXPERIMENT-draws-FINGERPRINT/00012.npy      (64, C, H, W) uint8, samples 768 to 831

Every sample has random generators of its own (see `sampling`) and every file the same samples, so
that a set does not depend on how many processes draw it. Files that are there are not drawn again.
`torchrun -m ihdm.draws EXPERIMENT COUNT` draws on several machines with a common file system.
"""

import argparse
import hashlib
import inspect
import io
import math
import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ihdm import (
    checkpoints,
    datasets,
    heat,
    launching,
    params,
    precision,
    processes,
    progress,
    sampling,
    seeds,
    training,
    unet,
)
from ihdm.datasets import Images
from ihdm.processes import Process
from ihdm.settings import ProjectError

__all__ = ["files", "follow", "part", "run", "save"]

PART = 64


def files(name: str, count: int) -> list[Path]:
    """Where the samples of an experiment are, as its weights and params.yaml are now.

    Args:
        name: the experiment in params.yaml.
        count: how many samples; rounded up to whole files.

    Raises:
        ProjectError: the experiment is not switched on, or data or weights are missing.
    """
    experiment, data = params.load().experiment(name)
    weights = params.root() / "results" / "weights" / f"{name}.safetensors"
    if not weights.is_file():
        raise ProjectError(f"{weights} does not exist: `dvc repro train@{name}` makes it")
    parts = [params.digest(experiment.process, experiment.network, experiment.sampling)]
    parts += [experiment.train.precision, datasets.load(data).fingerprint, datasets.sha256(weights)]
    deciding = (seeds, heat, processes, unet, precision, sampling, part)
    parts += [training.syntax(inspect.getsource(code)) for code in deciding]
    identity = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
    folder = params.root() / "state" / f"{name}-draws-{identity}"
    return [folder / f"{number:05d}.npy" for number in range(math.ceil(count / PART))]


@torch.no_grad()
def part(
    process: Process,
    network: nn.Module,
    images: Images,
    seed: int,
    chosen: range,
) -> NDArray[np.uint8]:
    """Samples as 8-bit images, drawn at once.

    Args:
        process: the process to reverse.
        network: its trained network, in evaluation mode.
        images: the data set that it was trained on, for the prior.
        seed: of the set of samples.
        chosen: indices of the samples in the set.

    Returns:
        (len(chosen), C, H, W) uint8.
    """
    u_K = sampling.starts(process, images.train, seed, chosen)
    noise = sampling.noises(u_K.shape[1:], seed, chosen)
    *_, last = sampling.reverse(process, network, u_K.to(next(network.parameters()).device), noise)
    return (255 * last.state.clamp(0, 1)).round().byte().cpu().numpy()


def run(name: str, count: int, parent: int | None = None) -> list[Path]:
    """Draws the first samples of an experiment, or what is missing of them.

    Where `machine.processes` is above 1, it starts as many and waits for them.

    Args:
        name: the experiment in params.yaml.
        count: how many; rounded up to whole files.
        parent: a process whose end is a request to stop.

    Returns:
        The files, in order.

    Raises:
        ProjectError: the experiment is not switched on, or data or weights are missing or damaged.
        KeyboardInterrupt: the process above has ended; whole files are kept.
    """
    found = files(name, count)
    if launching.wanted() > 1:
        launching.launch("ihdm.draws", [name, str(count)], parent)
        return found
    accelerator = launching.accelerator()
    process, network, images = checkpoints.trained(name)
    settings = params.load().experiment(name)[0]
    seed, size = settings.sampling.seed, min(PART, settings.train.images_per_pass or PART)
    found[0].parent.mkdir(parents=True, exist_ok=True)
    numbers = range(accelerator.process_index, len(found), accelerator.num_processes)
    missing = [number for number in numbers if not found[number].is_file()]
    main, processes = accelerator.is_main_process, accelerator.num_processes
    if main:
        print(f"{name}: samples in {len(found)} files, processes: {processes}", flush=True)
    with (
        launching.memory_explained(name, size),
        progress.bar(len(missing), f"drawing from {name}", "file", shown=main) as bar,
    ):
        for number in missing:
            if launching.orphaned(parent):
                raise KeyboardInterrupt
            end = (number + 1) * PART
            passes = [range(i, min(i + size, end)) for i in range(number * PART, end, size)]
            drawn = [part(process, network, images, seed, chosen) for chosen in passes]
            save(found[number], np.concatenate(drawn))
            bar.update()
    return found


def save(path: Path, values: NDArray) -> None:
    """Writes an array as a file, under another name first.

    Args:
        path: the file.
        values: of any shape and type.
    """
    content = io.BytesIO()
    np.save(content, values)
    partial = path.with_suffix(f".partial-{os.getpid()}")
    # NumPy's own write to a file hides that the disk is full.
    partial.write_bytes(content.getbuffer())
    os.replace(partial, path)


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
    found = files(name, count)
    launching.follow("ihdm.draws", [name, str(count)])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ihdm.draws", description=__doc__)
    parser.add_argument("experiment", help="an experiment that `run` in params.yaml switches on")
    parser.add_argument("count", type=int, help="how many samples")
    parser.add_argument("--parent", type=int, help="stop when this process above it ends")
    arguments = parser.parse_args()
    with params.exit_on_error():
        run(arguments.experiment, arguments.count, arguments.parent)


if __name__ == "__main__":
    main()

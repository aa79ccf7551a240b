"""Draws from a model in a file: `python -m ihdm.draw weights/mnist.safetensors --out digits.png`.

It needs no project and no data.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ihdm.model import Model
from ihdm.project import ProjectError, exit_on_error, replacing
from ihdm.show import videos

__all__ = ["drawn"]

SIDE = 112  # pixels of an image, at least


def drawn(model: Model, samples: int) -> Tensor:
    """Samples at every level, with a progress bar.

    Args:
        model: the model.
        samples: how many.

    Returns:
        (K + 1, samples, C, H, W) float32 on the CPU, the prior states first.
    """
    states = model.draw(samples, levels=range(model.process.K + 1))
    return torch.stack([states[k] for k in range(model.process.K, -1, -1)])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m ihdm.draw", description=__doc__)
    parser.add_argument("file", type=Path, help="a model, as `weights/` holds them")
    parser.add_argument("--out", type=Path, help="picture of the samples, as digits.png")
    parser.add_argument(
        "--film", type=Path, help="film of the reverse process, as digits.mp4; its poster is a PNG"
    )
    parser.add_argument("--samples", type=int, default=16, help="how many; 16 if not given")
    parser.add_argument("--seed", type=int, help="another one draws other samples")
    given = parser.parse_args(arguments)
    with exit_on_error():
        check(given)
        model = Model.from_file(given.file)
        model = model if given.seed is None else model.with_seed(given.seed)
        states = drawn(model, given.samples)
        columns = round(given.samples**0.5)
        if given.film:
            videos.write(videos.mosaic(states, columns, SIDE), given.film)
        if given.out:
            picture = Image.fromarray(videos.mosaic(states[-1:], columns, SIDE)[0])
            with replacing(given.out) as temporary:
                picture.save(temporary, format="PNG")
        for path in filter(None, (given.out, given.film)):
            print(f"{path}: {given.samples} samples")


def check(given: argparse.Namespace) -> None:
    """Whether there is something to do, and whether it can be done, before any work."""
    if not (given.out or given.film):
        raise ProjectError("nothing to write: give --out digits.png, --film digits.mp4, or both")
    for path, ending in ((given.out, ".png"), (given.film, ".mp4")):
        if path and path.suffix != ending:
            raise ProjectError(f"{path} has to end in {ending}")
    if given.samples < 1 or (given.seed or 0) < 0:
        raise ProjectError("--samples has to be at least 1, and --seed must not be negative")


if __name__ == "__main__":
    main()

"""The batches of training: which images, at which levels, with which noise.

Step n draws from generators seeded by (seed, n), and takes its images from a permutation seeded by
(seed, epoch). A batch may be divided among processes, and in each process among passes through the
network. Every image of a batch has noise of its own, so that the gradient is that of one pass, up
to rounding and the draws of dropout.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from ihdm import seeds
from ihdm.pixels import UInt8, to_unit
from ihdm.processes import Process
from ihdm.settings import Train

__all__ = ["Batch", "batch_indices", "flips", "passes"]


class Batch(NamedTuple):
    """The share of this process in the batch of a step, on the CPU.

    Attributes:
        first: index of its first image in the whole batch.
        u_0: (B, C, H, W) uint8 images.
        mirrored: (B,) which of them are mirrored.
        k: (B,) levels.
        noise: (B, C, H, W) of unit variance.
    """

    first: int
    u_0: Tensor
    mirrored: Tensor
    k: Tensor
    noise: Tensor

    @classmethod
    def of(
        cls, step: int, process: Process, images: UInt8, train: Train, accelerator: Accelerator
    ) -> "Batch":
        own = share(train, accelerator)
        k = process.levels(train.batch, seeds.generator(train.seed, seeds.DRAWS, step))
        # A generator for each image, so that no process draws the noise of others.
        numbers = range(step * train.batch + own.start, step * train.batch + own.stop)
        each = (seeds.generator(train.seed, seeds.TRAINING_NOISE, number) for number in numbers)
        noise = torch.stack([torch.randn(images.shape[1:], generator=draws) for draws in each])
        chosen = batch_indices(step, len(images), train)[own]
        u_0 = torch.from_numpy(images[chosen])
        if accelerator.device.type == "cuda":
            u_0, noise = u_0.pin_memory(), noise.pin_memory()
        return cls(own.start, u_0, flips(step, train)[own], k[own], noise)

    def part(self, part: slice, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Images in [0, 1] and noise on a device, and levels, of a part of the whole batch."""
        own = slice(part.start - self.first, part.stop - self.first)
        u_0, noise = (t[own].to(device, non_blocking=True) for t in (self.u_0, self.noise))
        return flipped(to_unit(u_0), self.mirrored[own].to(device)), self.k[own], noise


@lru_cache(maxsize=2)
def epoch_order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, seeds.ORDER, epoch]).permutation(count)


def batch_indices(step: int, count: int, train: Train) -> NDArray[np.int64]:
    """The images of a step: the next `batch` ones in a sequence of seeded permutations."""
    positions = np.arange(step * train.batch, (step + 1) * train.batch)
    return np.array([epoch_order(train.seed, p // count, count)[p % count] for p in positions])


def share(train: Train, accelerator: Accelerator) -> slice:
    """The images of a batch that this process computes."""
    rank, workers = accelerator.process_index, accelerator.num_processes
    return slice(*(train.batch * r // workers for r in (rank, rank + 1)))


def passes(train: Train, accelerator: Accelerator) -> list[slice]:
    """The share of this process in a batch, in parts of at most `images_per_pass`."""
    own, size = share(train, accelerator), train.images_per_pass or train.batch
    return [slice(i, min(i + size, own.stop)) for i in range(own.start, own.stop, size)]


def flips(step: int, train: Train) -> Tensor:
    """(batch,) which images of a step are mirrored."""
    draws = seeds.generator(train.seed, seeds.FLIPS, step)
    chance = 0.5 if train.flips else 0.0
    return torch.rand(train.batch, generator=draws) < chance


def flipped(u: Tensor, chosen: Tensor) -> Tensor:
    return torch.where(chosen[:, None, None, None], u.flip(-1), u)

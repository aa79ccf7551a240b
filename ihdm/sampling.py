"""The reverse process as a generator over its steps (Alg. 2), and the draws that feed it.

    u_K ~ p(u_K);   u_{k-1} ~ p_theta(u_{k-1} | u_k),   k = K ... 1;   no noise at the end

The process defines p_theta: for inverse heat dissipation, the mean plus noise of scale delta (Eq.
8). Every sample has random generators of its own, seeded by the seed of the set and the index of
the sample: one for its prior state, one for its noise. So the draws of a sample do not depend on
the batch that it is in, and two samples can share either of the two. A sample can also lie between
two others (App. D); see `measures.interpolation`.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ihdm import seeds
from ihdm.gaussian import Process, Step
from ihdm.pixels import to_unit

__all__ = ["Between", "Sample", "Step", "noises", "reverse", "starts"]


class Between(NamedTuple):
    """A sample between two others.

    Attributes:
        first: index of the sample at the angle 0.
        second: index of the sample at the angle pi/2.
        angle: in radians.
    """

    first: int
    second: int
    angle: float


Sample = int | Between


@torch.no_grad()
def reverse(
    process: Process,
    network: nn.Module,
    u_K: Tensor,
    noise: Iterable[Tensor] | None = None,
    generator: torch.Generator | None = None,
    k: int | None = None,
) -> Iterator[Step]:
    """Runs the reverse process and yields every step (Alg. 2).

    Args:
        process: the process to reverse.
        network: its trained network, in evaluation mode.
        u_K: (B, C, H, W) prior states, from `process.prior`; or states at the level `k`.
        noise: unit-variance tensors of the shape of `u_K`, that of the first step first, one for
            each step but the last (which adds none); drawn from `generator` if not given.
        generator: source of the noise; draws are made on its device.
        k: the level of the given states, for a process that goes on from the middle; K if not
            given.

    Yields:
        The steps k-1 ... 0 with `.k`, `.mean` and `.state`; the last state is its mean.

    Raises:
        ValueError: the noise ends too early.
    """
    u, k = u_K, process.K if k is None else k
    noise = iter(noise) if noise is not None else normals(u.shape, u, generator)
    while k > 0:
        eps = next(noise, None)
        if eps is None:
            if k > 1:
                raise ValueError(f"the noise ended at level {k}: it needs one tensor for each step")
            eps = torch.zeros_like(u)
        step = process.step(network, u, k, eps.to(u))
        yield step
        u, k = step.state, step.k


def normals(
    shape: Sequence[int], like: Tensor, generator: torch.Generator | None
) -> Iterator[Tensor]:
    device = generator.device if generator is not None else like.device
    while True:
        yield torch.randn(shape, generator=generator, device=device, dtype=like.dtype)


def starts(
    process: Process, images: NDArray[np.uint8], seed: int, samples: Sequence[Sample]
) -> Tensor:
    """Prior states u_K ~ p(u_K) of chosen samples (Sec. 3.2).

    Args:
        process: the process, with its prior.
        images: (N, C, H, W) uint8 training images; only those that are drawn are read.
        seed: seed of the set of samples.
        samples: index of each sample in the set, or the two that it lies between.

    Returns:
        (len(samples), C, H, W) float32 on the CPU.
    """
    chosen, eps = {}, {}
    for index in indices(samples):
        generator = seeds.generator(seed, seeds.PRIOR, index)
        image = int(torch.randint(len(images), (1,), generator=generator))
        chosen[index] = to_unit(images[image])
        eps[index] = torch.randn(chosen[index].shape, generator=generator)
    u_0 = torch.stack([linear(sample, chosen) for sample in samples])
    return process.prior(u_0, torch.stack([spherical(sample, eps) for sample in samples]))


def noises(shape: Sequence[int], seed: int, samples: Sequence[Sample]) -> Iterator[Tensor]:
    """The noise of chosen samples, endlessly, one tensor for each step of `reverse`.

    Args:
        shape: (C, H, W) of one image.
        seed: seed of the set of samples.
        samples: index of each sample in the set, or the two that it lies between; a repeated index
            repeats its noise.

    Yields:
        (len(samples), C, H, W) float32 of unit variance, on the CPU.
    """
    own = {index: seeds.generator(seed, seeds.NOISE, index) for index in indices(samples)}
    while True:
        drawn = {index: torch.randn(tuple(shape), generator=own[index]) for index in own}
        yield torch.stack([spherical(sample, drawn) for sample in samples])


def indices(samples: Sequence[Sample]) -> list[int]:
    """Every index that samples need, once."""
    pairs = ((s.first, s.second) if isinstance(s, Between) else (s,) for s in samples)
    return list(dict.fromkeys(index for pair in pairs for index in pair))


def linear(sample: Sample, drawn: dict[int, Tensor]) -> Tensor:
    if not isinstance(sample, Between):
        return drawn[sample]
    share = sample.angle / (math.pi / 2)
    return (1 - share) * drawn[sample.first] + share * drawn[sample.second]


def spherical(sample: Sample, drawn: dict[int, Tensor]) -> Tensor:
    """Keeps the variance of independent noise."""
    if not isinstance(sample, Between):
        return drawn[sample]
    a, b = drawn[sample.first], drawn[sample.second]
    return math.cos(sample.angle) * a + math.sin(sample.angle) * b

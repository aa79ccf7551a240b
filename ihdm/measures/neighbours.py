"""Euclidean nearest neighbours among training images (App. D.4)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from scipy.stats import beta, binom, binomtest
from torch import Tensor

from ihdm.pixels import UInt8, to_unit

__all__ = [
    "LEVEL",
    "NEAR",
    "Copying",
    "Neighbours",
    "copying",
    "detectable",
    "nearest",
    "normalised_shape",
    "typical",
]

NEAR = 0.05  # the fraction of new images that counts as near
LEVEL = 0.05  # of the test, and the chance that it misses what it can detect


@dataclass(frozen=True)
class Neighbours:
    """The nearest training images of each image.

    Attributes:
        distance: (N, count) float32 Euclidean distances over all pixels, the nearest first; of an
            image that is not finite, infinite.
        index: (N, count) indices of the training images.
    """

    distance: Tensor
    index: Tensor


class Copying(NamedTuple):
    """Whether samples lie nearer to the training images than new images do.

    Attributes:
        share: fraction of the samples that are nearer than the nearest 5 % of new images.
        half: half of its 95 % interval by Wilson, the longer side.
        p: the chance of as large a share or a larger one among new images (binomial test).
        too_far: the median sample is farther than 95 % of new images. Such samples are bad, and
            their distance says nothing about copying.
        detectable: the fraction of copies that the test would have found; see `detectable`.
    """

    share: float
    half: float
    p: float
    too_far: bool
    detectable: float


def copying(samples: Tensor, new: Tensor) -> Copying:
    """Compares distances to the nearest training image.

    Args:
        samples: (N,) of samples.
        new: (M,) of images that were not trained on.
    """
    near, count = int((samples < new.quantile(NEAR)).sum()), len(samples)
    test = binomtest(near, count, NEAR, alternative="greater")
    low, high = binomtest(near, count).proportion_ci(method="wilson")
    share = near / count
    return Copying(
        share,
        float(max(share - low, high - share)),
        float(test.pvalue),
        not typical(samples, new),
        detectable(count, share),
    )


def detectable(count: int, background: float) -> float:
    """The fraction of copies among samples that the test of `copying` finds 19 times out of 20.

    All copies are near, and a fraction `background` of the other samples. The test finds copies if
    at least n samples are near, n the smallest number with `P(Bin(count, 0.05) >= n) <= 0.05`. Then
    `P(Bin(count, q) >= n) = 0.95` gives q, and `q = c + (1 - c) background` the fraction c.

    Args:
        count: how many samples.
        background: measured fraction of near samples, in [0, 1].

    Returns:
        c in [0, 1].
    """
    needed = int(binom.isf(LEVEL, count, NEAR)) + 1
    q = float(beta.ppf(1 - LEVEL, needed, count - needed + 1))
    return max(0.0, (q - background) / (1 - background)) if background < 1 else 0.0


def typical(samples: Tensor, new: Tensor) -> bool:
    """Whether the median sample lies within 95 % of new images, by their distances.

    Args:
        samples: (N,) distances of samples to the nearest training image.
        new: (M,) of images that were not trained on.
    """
    return bool(samples.median() <= new.quantile(1 - NEAR))


def normalised_shape(images: Tensor) -> Tensor:
    """Images without their colour, brightness and contrast, to compare shapes alone.

    Args:
        images: (..., C, H, W).

    Returns:
        (..., H, W), the mean over channels, shifted and scaled to mean 0 and standard deviation 1
        in each image.
    """
    grey = images.mean(-3)
    spread = grey.flatten(-2).std(-1)[..., None, None].clamp(min=1e-6)
    return (grey - grey.mean((-2, -1), keepdim=True)) / spread


def nearest(
    queries: Tensor,
    images: UInt8,
    count: int = 1,
    view: Callable[[Tensor], Tensor] = lambda images: images,
    batch: int = 1024,
) -> Neighbours:
    """The training images nearest to each image, in batches, so that any set fits into memory.

    Args:
        queries: (N, C, H, W) images in [0, 1].
        images: (M, C, H, W) uint8 training images, memory-mapped or not.
        count: how many neighbours, at most M.
        view: what of the images is compared, such as `normalised_shape`.
        batch: training images at a time.
    """
    flat = view(queries.float()).flatten(1)
    distance = torch.empty(len(flat), 0)
    index = torch.empty(len(flat), 0, dtype=torch.long)
    for first in range(0, len(images), batch):
        part = view(to_unit(images[first : first + batch])).flatten(1)
        # Without the matrix product, whose cancellation would blur small distances.
        apart = torch.cdist(flat, part, compute_mode="donot_use_mm_for_euclid_dist")
        distance = torch.cat([distance, apart.nan_to_num(torch.inf, posinf=torch.inf)], 1)
        index = torch.cat([index, torch.arange(first, first + len(part)).expand(len(flat), -1)], 1)
        distance, order = distance.sort(dim=1, stable=True)
        distance, index = distance[:, :count], index.gather(1, order[:, :count])
    return Neighbours(distance, index)

"""Euclidean nearest neighbours among training images (App. D.4)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from scipy.stats import binomtest
from torch import Tensor

from ihdm.pixels import UInt8, to_unit

__all__ = ["NEAR", "Copying", "Neighbours", "copying", "nearest", "normalised_shape", "typical"]

NEAR = 0.05


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
        share: of the samples that are nearer than the nearest 5 % of new images.
        p: the chance of as large a share or a larger one among new images (binomial test).
        too_far: the median sample is farther than 95 % of new images. Such samples are bad, and
            their distance says nothing about copying.
    """

    share: float
    p: float
    too_far: bool


def copying(samples: Tensor, new: Tensor) -> Copying:
    """Compares distances to the nearest training image.

    Args:
        samples: (N,) of samples.
        new: (M,) of images that were not trained on.
    """
    near = int((samples < new.quantile(NEAR)).sum())
    p = binomtest(near, len(samples), NEAR, alternative="greater").pvalue
    return Copying(near / len(samples), float(p), not typical(samples, new))


def typical(samples: Tensor, new: Tensor) -> bool:
    """Whether the median sample lies within 95 % of new images, by their distances.

    Args:
        samples: (N,) distances of samples to the nearest training image.
        new: (M,) of images that were not trained on.
    """
    return bool(samples.median() <= new.quantile(1 - NEAR))


def normalised_shape(images: Tensor) -> Tensor:
    """What is left of images where colour, brightness and contrast do not count.

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

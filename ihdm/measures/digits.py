"""Which digits a model draws, and how clearly, by the classifier of the features `digits`."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ihdm.measures import classifier
from ihdm.pixels import UInt8, to_bytes, to_unit

__all__ = ["Drawn", "distance", "drawn", "of_features"]


class Drawn(NamedTuple):
    """The digits in a set of images.

    Attributes:
        shares: (10,) fraction of the images that the classifier takes for each digit.
        confidence: the classifier's probability of the digit it names, averaged over images.
    """

    shares: NDArray[np.float64]
    confidence: float


@torch.no_grad()
def drawn(images: Tensor | UInt8) -> Drawn:
    """Classifies images as if they had been written to 8-bit files.

    Args:
        images: (N, 1, 28, 28) in [0, 1], clipped and rounded to 8 bits; or uint8.

    Raises:
        ProjectError: the classifier is missing.
    """
    pixels = to_bytes(images).numpy() if isinstance(images, Tensor) else images
    return counted(classifier.load()(to_unit(pixels)))


@torch.no_grad()
def of_features(features: NDArray[np.float64]) -> Drawn:
    """As `drawn`, from the features `digits` of the images.

    Args:
        features: (N, 64), as `measures.features.features` gives them.

    Raises:
        ProjectError: the classifier is missing.
    """
    return counted(classifier.load().scores(F.relu(torch.from_numpy(features).float())))


def counted(scores: Tensor) -> Drawn:
    most, named = scores.softmax(1).max(1)
    counts = np.bincount(named.numpy(), minlength=10)
    return Drawn(counts / len(scores), most.mean().item())


def distance(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """The total variation distance of two distributions over the digits, `sum_i |p_i - q_i| / 2`.

    Args:
        first: (10,) p.
        second: (10,) q.

    Returns:
        0 if they are equal, 1 if they share no digit.
    """
    return float(np.abs(first - second).sum() / 2)

r"""Interpolation between samples (Apps. D and D.2).

Between two samples a and b, at an angle phi from 0 to pi/2, training images are mixed linearly and
all Gaussian noise along the sphere, of the start as of every step:

    u_0 = (1 - 2 phi / pi) u_0^a + (2 phi / pi) u_0^b,    nu = cos(phi) nu_a + sin(phi) nu_b

so that noise keeps unit variance. For inverse heat dissipation, whose blur is linear, this is the
paper's linear interpolation of the blurred start; a diffusion model's start is noise. App. D prints
`sin(phi) nu_1 + cos(pi/2 - phi) nu_2`, which is `sin(phi) (nu_1 + nu_2)`: it leaves the sphere and
does not begin at nu_1; we use what its text describes.

Smoothness alone is no merit: a path of blurs is smooth. So the classifier of digits looks at every
image of a path, too.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ihdm.measures import classifier
from ihdm.measures.statistics import mean_interval
from ihdm.model import Model
from ihdm.pixels import to_bytes, to_unit
from ihdm.sampling import Between

__all__ = [
    "Smoothness",
    "Validity",
    "confidence",
    "measures",
    "paths",
    "scores",
    "smoothness",
    "validity",
]


class Smoothness(NamedTuple):
    """How paths between images move, with Euclidean distances in units of that of the ends.

    Attributes:
        jump: (P,) the largest distance of neighbours.
        length: (P,) the sum of the distances of neighbours; 1 for a straight line.
    """

    jump: Tensor
    length: Tensor


class Validity(NamedTuple):
    """Whether the images between the ends of paths are digits, by the classifier.

    Attributes:
        confidence: (P,) mean over the images between of the probability of the likeliest digit.
        foreign: (P,) fraction of the images between whose likeliest digit is that of neither end.
    """

    confidence: Tensor
    foreign: Tensor


def paths(model: Model, ends: Tensor, points: int) -> Tensor:
    """Paths of images between samples 0 and 1, 2 and 3, and so on, of a model.

    The ends were drawn before; only the images between them are drawn here.

    Args:
        model: the model.
        ends: (2P, C, H, W) its first samples.
        points: images of each path, both ends included; at least 3.

    Returns:
        (P, points, C, H, W) float32 on the CPU.
    """
    angles = torch.linspace(0, math.pi / 2, points, dtype=torch.float64).tolist()[1:-1]
    pairs = range(0, len(ends), 2)
    between = model.draw([Between(i, i + 1, angle) for i in pairs for angle in angles])[0]
    return torch.cat([ends[::2, None], between.unflatten(0, (len(pairs), -1)), ends[1::2, None]], 1)


def smoothness(images: Tensor) -> Smoothness:
    """Largest jump and length of paths.

    Args:
        images: (P, points, C, H, W), at least 2 points, whose ends differ.
    """
    flat = images.double().flatten(2)
    steps = flat.diff(dim=1).norm(dim=2)
    ends = (flat[:, -1] - flat[:, 0]).norm(dim=1)
    return Smoothness(steps.amax(1) / ends, steps.sum(1) / ends)


@torch.no_grad()
def confidence(images: Tensor) -> tuple[Tensor, Tensor]:
    """The probability of the likeliest digit of each image, and this digit, by the classifier.

    Args:
        images: (..., 1, 28, 28) in [0, 1], clipped and rounded to 8 bits.

    Returns:
        (...) float32 and (...) int64.

    Raises:
        ProjectError: the classifier is missing.
    """
    pixels = to_unit(to_bytes(images.flatten(0, -4)))
    highest, digit = classifier.load()(pixels).softmax(1).max(1)
    return highest.view(images.shape[:-3]), digit.view(images.shape[:-3])


def validity(images: Tensor) -> Validity:
    """Confidence between the ends of paths, and digits that neither end is.

    Args:
        images: (P, points, 1, 28, 28), at least 3 points.

    Raises:
        ProjectError: the classifier is missing.
    """
    highest, digit = confidence(images)
    between = digit[:, 1:-1]
    foreign = (between != digit[:, :1]) & (between != digit[:, -1:])
    return Validity(highest[:, 1:-1].mean(1), foreign.double().mean(1))


def scores(images: Tensor) -> dict[str, Tensor]:
    """`jump`, `length`, `confidence` and `foreign` of paths, by `smoothness` and `validity`: (P,).

    Args:
        images: (P, points, 1, 28, 28), from `paths`; at least 3 points.

    Raises:
        ProjectError: the classifier is missing.
    """
    return smoothness(images)._asdict() | validity(images)._asdict()


def measures(images: Tensor) -> dict[str, dict[str, float]]:
    """Means over at least 2 paths of each of `scores`: `mean` and `half_interval` (95 %)."""
    pairs = {name: mean_interval(values) for name, values in scores(images).items()}
    return {name: {"mean": mean, "half_interval": half} for name, (mean, half) in pairs.items()}

r"""Input gradients of a step: how an output pixel depends on the input (Sec. 4, Fig. 8).

    g = d (E[u_{k-1} | u_k] - u_k)[c, y, x] / d u_k

For inverse heat dissipation the step is the network's answer f_theta. A model that predicts noise
is asked for its step too, so that like is compared with like. The step of the denoising model is a
multiple of the state minus a multiple of the noise, so away from the pixel itself its gradient has
the form of that of the noise. The pixel's own derivative contains what the step removes of itself;
it is left out of the measures, which ask how the surroundings act.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ihdm import seeds
from ihdm.measures.statistics import mean_interval
from ihdm.model import Model

__all__ = [
    "Shape",
    "Signs",
    "along",
    "forward_gradient",
    "input_gradient",
    "measures",
    "shape",
    "signs",
    "surroundings",
]

ENERGY = 0.9


class Shape(NamedTuple):
    """The form of input gradients around their pixel, which itself is left out.

    A gradient of independent values would have a symmetry of about the number of distances over
    that of pixels, 0.13 on 28x28, and up to 0.25 where its energy lies next to the pixel.

    Attributes:
        symmetry: (B,) share of the energy that a function of the distance alone explains.
        radius: (B,) distance within which 90 % of the energy lies, in pixels; not a number where
            the gradient is not finite.
        adjacent: (B,) mean over the four adjacent pixels, signed.
    """

    symmetry: Tensor
    radius: Tensor
    adjacent: Tensor


class Signs(NamedTuple):
    """Whether networks sharpen (negative next to the pixel) or smooth, as shares of images.

    Attributes:
        opposite: the two networks have opposite signs.
        sharpens: the first is negative.
        smooths: the second is positive.
    """

    opposite: float
    sharpens: float
    smooths: float


def input_gradient(model: Model, u_k: Tensor, k: int, pixel: tuple[int, int]) -> Tensor:
    """The gradient of the first channel of one pixel of a step with respect to the input.

    Args:
        model: the model.
        u_k: (B, C, H, W) states.
        k: their level.
        pixel: row and column of the output.

    Returns:
        (B, C, H, W) float32 on the CPU, per unit of the scale where images lie in [0, 1].
    """
    u = u_k.detach().clone().to(model.device).requires_grad_()
    # Without autocast, since bfloat16 has the precision of a percent.
    step = model.process.step(model.network.network, u, k, torch.zeros_like(u)).mean - u
    # Images do not see each other, so that the sum has the gradient of each in its place.
    (gradient,) = torch.autograd.grad(step[:, 0, pixel[0], pixel[1]].sum(), u)
    return gradient.cpu()


def forward_gradient(
    model: Model, u_0: Tensor, k: int, noise: Tensor, pixel: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """States of the forward process, and the input gradients at them.

    Args:
        model: the model.
        u_0: (B, C, H, W) images in [0, 1], on the CPU.
        k: level.
        noise: (B, C, H, W) of unit variance.
        pixel: row and column of the output.

    Returns:
        Two (B, C, H, W): the states and the gradients.
    """
    u_k = model.process.example(u_0, torch.full((len(u_0),), k), noise)[0]
    return u_k, input_gradient(model, u_k, k, pixel)


def along(model: Model, u_0: Tensor, shares: Sequence[float], seed: int) -> Shape:
    """The form of the input gradients of the centre pixel at several levels.

    Args:
        model: the model.
        u_0: (B, C, H, W) images in [0, 1], on the CPU.
        shares: fractions of K, L of them.
        seed: seed of the noise, which is the same for all models with the same levels.

    Returns:
        (L, B) tensors.
    """
    centre = u_0.shape[2] // 2, u_0.shape[3] // 2
    found = []
    for k in map(model.process.level, shares):
        noise = torch.randn(u_0.shape, generator=seeds.generator(seed, seeds.HELD_OUT, k))
        found.append(shape(forward_gradient(model, u_0, k, noise, centre)[1], centre))
    return Shape(*map(torch.stack, zip(*found, strict=True)))


def measures(found: Shape) -> dict[str, dict[str, float]]:
    """Means over levels and images, with half of the 95 % interval over images.

    Args:
        found: (L, B) tensors, from `along`.

    Returns:
        `symmetry`, `radius` and `sharpens`, the fraction of gradients that are negative next to the
        pixel -> `mean` and `half_interval`.
    """
    values = {
        "symmetry": found.symmetry,
        "radius": found.radius,
        "sharpens": (found.adjacent < 0).double(),
    }
    pairs = {name: mean_interval(value.mean(0)) for name, value in values.items()}
    return {name: {"mean": mean, "half_interval": half} for name, (mean, half) in pairs.items()}


def surroundings(gradient: Tensor, pixel: tuple[int, int]) -> Tensor:
    """A copy of (..., H, W) gradients with 0 in the place of the pixel's own derivative."""
    others = gradient.clone()
    others[..., pixel[0], pixel[1]] = 0
    return others


def shape(gradient: Tensor, pixel: tuple[int, int]) -> Shape:
    """Symmetry, radius and sign of input gradients; only the first channel is looked at.

    Symmetry is measured on the largest disc around the pixel that lies inside the image, where each
    distance has all its directions.

    Args:
        gradient: (B, C, H, W), from `input_gradient`.
        pixel: the output pixel that it belongs to.
    """
    g = gradient[:, 0].double()
    H, W = g.shape[1:]
    y, x = torch.arange(H)[:, None] - pixel[0], torch.arange(W) - pixel[1]
    squared = y**2 + x**2
    distance, others = squared.double().sqrt(), squared > 0
    reach = min(pixel[0], pixel[1], H - 1 - pixel[0], W - 1 - pixel[1])
    inside = others & (squared <= reach**2)
    ring, flat = squared[inside], g[:, inside]
    explained = torch.zeros(len(g), dtype=torch.float64)
    for r in ring.unique():
        explained += (ring == r).sum() * flat[:, ring == r].mean(1) ** 2
    order = distance[others].argsort()
    energy = g[:, others][:, order].square().cumsum(1)
    first = (energy >= ENERGY * energy[:, -1:]).double().argmax(1)
    radius = distance[others][order][first].where(energy[:, -1].isfinite(), torch.nan)
    return Shape(
        explained / flat.square().sum(1).clamp(min=1e-300),
        radius,
        g[:, squared == 1].mean(1),
    )


def signs(first: Shape, second: Shape) -> Signs:
    """Compares the signs next to the pixel, image by image.

    Args:
        first: of the network that is expected to sharpen.
        second: of the one that is expected to smooth, at the same images.
    """
    a, b = first.adjacent, second.adjacent
    return Signs(*(sign.double().mean().item() for sign in (a * b < 0, a < 0, b > 0)))

r"""How far the kernel density prior is from the forward process: L_K (Sec. 3.2, App. A.3).

    L_K = KL[ q(u_K | u_0) || p(u_K) ]
    p(u_K) = (1/N_T) sum_i N(F(t_K) u_0^i, delta^2 I)                                       (Eq. 36)

with q(u_K | u_0) = N(F(t_K) u_0, sigma^2 I). The paper bounds it from above (Eqs. 38-42),

    L_K <= log N_T - log sum_i exp(-D_i),   D_i = KL[ q(u_K | u_0) || N(F(t_K) u_0^i, delta^2 I) ]

where the best mixture weights are phi_i proportional to exp(-D_i). (Eq. 37 prints sigma^2 for the
variance delta^2 of the kernels.) What the bound gives away is the mean of another divergence,

    L_K = bound - E_q(u_K | u_0) KL[ phi || pi(u_K) ]

from phi to the responsibilities pi_i(u) of the kernels for a point u, proportional to
N(u | F(t_K) u_0^i, delta^2 I): insert log p(u) = sum_i phi_i (log N_i(u) - log N_T - log pi_i(u)).
A Monte Carlo estimate of this mean gives L_K itself, with little noise where the gap is small.

Both need distances of blurred images alone, and at level K nearly all frequencies are blurred away.
They are computed in the few frequencies that are left, in float64; see `subspace`.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ihdm import progress
from ihdm.datasets import to_unit
from ihdm.heat import HeatEquation, cosine_basis, frequencies

__all__ = ["Subspace", "divergence_of_scales", "overlap", "overlap_bound", "subspace"]

TOLERANCE = 1e-6
CHUNK = 2**23


class Subspace(NamedTuple):
    """Blurred images in the frequencies that separate them.

    Attributes:
        train: (N, D) float64 coefficients of the blurred training images.
        test: (M, D) float64, of the others.
        total: number of all dimensions, C H W.
        error: nats; neither the bound nor L_K moves by more, for what was left out.
    """

    train: Tensor
    test: Tensor
    total: int
    error: float


def divergence_of_scales(sigma: float, delta: float) -> float:
    """`KL[ N(0, sigma^2) || N(0, delta^2) ]` in nats, the constant part of Eq. 33 per dimension.

    Args:
        sigma: standard deviation of the first.
        delta: standard deviation of the second, in the same unit.
    """
    return ((sigma / delta) ** 2 - 1) / 2 + math.log(delta / sigma)


def subspace(
    train: Tensor | NDArray[np.uint8],
    test: Tensor | NDArray[np.uint8],
    heat: HeatEquation,
    sigma: float,
    delta: float,
) -> Subspace:
    """The lowest frequencies of images at level K, as many as 1e-6 nats need.

    In a frequency where all blurred images agree, the kernels coincide and add a constant. With
    Delta_i the differences of test and training images that are dropped, what is lost lies between
    0 and M = max_i |Delta_i|^2 / (2 delta^2) for the bound, and for L_K, by Jensen's inequality on
    either side, between -M max(0, sigma^2 / delta^2 - 1) and M. Differences are bounded by the
    range of each coefficient, and where even images of opposite black and white would agree,
    without looking at the images, so that the cost does not grow with their size.

    Args:
        train: (N, C, H, W) training images, in [0, 1] or uint8.
        test: (M, C, H, W) other images, likewise.
        heat: the forward process, whose last level is taken.
        sigma: training noise, in units of the pixel range [0, 1].
        delta: sampling noise in the same unit.

    Raises:
        ValueError: sigma or delta is not positive.
    """
    if not (sigma > 0 and delta > 0):
        raise ValueError(f"sigma and delta must be positive: {sigma}, {delta}")
    C, H, W = train.shape[1:]
    # Squared differences that may be lost in all.
    allowed = TOLERANCE * 2 * delta**2 / max(1.0, (sigma / delta) ** 2 - 1)
    time = heat.sigma_blur[-1].item() ** 2 / 2
    squared = frequencies(H)[:, None] ** 2 + frequencies(W) ** 2
    decay = torch.exp(-squared * time)
    # The coefficients of a difference of two images have squares that add up to at most C H W.
    possible = decay.square() * (C * H * W)
    rest = possible > allowed / 2
    rest[0, 0] = True
    rows, columns = rest.any(1).sum().item(), rest.any(0).sum().item()
    inside = rest[:rows, :columns]
    weights = decay[:rows, :columns][inside]
    found = [coefficients(images, rows, columns)[..., inside] for images in (train, test)]
    found = [(c * weights).transpose(1, 2) for c in found]
    lowest = torch.minimum(*(c.amin((0, 2)) for c in found))
    highest = torch.maximum(*(c.amax((0, 2)) for c in found))
    ranges = C * (highest - lowest) ** 2
    order = ranges.argsort()
    kept = order[ranges[order].cumsum(0) > allowed / 2]
    lost = allowed / 2 + (ranges.sum() - ranges[kept].sum()).item()
    error = lost / (2 * delta**2) * max(1.0, (sigma / delta) ** 2 - 1)
    assert error <= TOLERANCE * (1 + 1e-9)
    train, test = (c[:, kept].flatten(1) for c in found)
    return Subspace(train, test, C * H * W, error)


def coefficients(images: Tensor | NDArray[np.uint8], rows: int, columns: int) -> Tensor:
    """(N, C, rows, columns) float64: the lowest frequencies of `to_frequencies`, image by image."""
    vertical, horizontal = (cosine_basis(size) for size in images.shape[-2:])
    parts = []
    for part in chunks(len(images), math.prod(images.shape[1:]), "frequencies"):
        batch = to_unit(images[part]) if isinstance(images, np.ndarray) else images[part]
        parts.append(vertical[:rows] @ batch.double() @ horizontal[:columns].T)
    return torch.cat(parts)


def chunks(count: int, size: int, label: str) -> Iterator[slice]:
    """Slices of a range, of which each holds at most CHUNK numbers where a row holds `size`."""
    step = max(1, CHUNK // size)
    starts = progress.over(range(0, count, step), label, unit="chunk")
    return (slice(first, first + step) for first in starts)


def log_kernels(points: Tensor, centres: Tensor, delta: float) -> Tensor:
    """`-|points_j - centres_i|^2 / (2 delta^2)`: (J, D), (I, D) -> (J, I)."""
    squared = points.square().sum(1)[:, None] + centres.square().sum(1)
    return (squared - 2 * points @ centres.T).clamp(min=0) / (-2 * delta**2)


def overlap_bound(
    train: Tensor | NDArray[np.uint8],
    test: Tensor | NDArray[np.uint8],
    heat: HeatEquation,
    sigma: float,
    delta: float,
) -> Tensor:
    """The variational upper bound on L_K (App. A.3, Eqs. 41-42), in chunks.

    What is held at once is the coefficients that `subspace` keeps of every image, and a chunk.

    Args:
        train: (N, C, H, W) training images, in [0, 1] or uint8.
        test: (M, C, H, W) images u_0 to evaluate, likewise.
        heat: the forward process, whose last level is taken.
        sigma: training noise, in units of the pixel range [0, 1].
        delta: sampling noise in the same unit.

    Returns:
        (M,) float64, in nats; not negative.

    Raises:
        ValueError: sigma or delta is not positive.
    """
    return bound_of(subspace(train, test, heat, sigma, delta), sigma, delta)


def bound_of(space: Subspace, sigma: float, delta: float) -> Tensor:
    parts = [
        log_kernels(space.test[part], space.train, delta).logsumexp(1)
        for part in chunks(len(space.test), len(space.train), "bound on L_K")
    ]
    constant = space.total * divergence_of_scales(sigma, delta)
    return constant + math.log(len(space.train)) - torch.cat(parts)


def overlap(
    train: Tensor | NDArray[np.uint8],
    test: Tensor | NDArray[np.uint8],
    heat: HeatEquation,
    sigma: float,
    delta: float,
    draws: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """L_K itself: the bound less the expectation of what it gives away, by Monte Carlo.

    Args:
        train: (N, C, H, W) training images, in [0, 1] or uint8.
        test: (M, C, H, W) images u_0 to evaluate, likewise.
        heat: the forward process, whose last level is taken.
        sigma: training noise, in units of the pixel range [0, 1].
        delta: sampling noise in the same unit.
        draws: points u_K for each image, at least 2.
        generator: source of the draws, on the CPU.

    Returns:
        Two (M,) float64, in nats: L_K and the standard error of its estimate.

    Raises:
        ValueError: sigma or delta is not positive.
    """
    space = subspace(train, test, heat, sigma, delta)
    means, errors = [], []
    for part in chunks(len(space.test), draws * len(space.train), "L_K"):
        centre = space.test[part]
        phi = log_kernels(centre, space.train, delta).log_softmax(1)
        noise = torch.randn(len(centre), draws, centre.shape[1], generator=generator).double()
        points = (centre[:, None] + sigma * noise).flatten(0, 1)
        pi = log_kernels(points, space.train, delta).log_softmax(1).unflatten(0, (-1, draws))
        gap = (phi.exp()[:, None] * (phi[:, None] - pi)).sum(2)
        means.append(gap.mean(1))
        errors.append(gap.std(1) / draws**0.5)
    return bound_of(space, sigma, delta) - torch.cat(means), torch.cat(errors)

r"""How far the kernel density prior is from the forward process: L_K (Sec. 3.2, App. A.3).

    L_K = KL[ q(u_K | u_0) || p(u_K) ]
    p(u_K) = (1/N_T) sum_i N(F(t_K) u_0^i, delta^2 I)                                       (Eq. 36)

with q(u_K | u_0) = N(F(t_K) u_0, sigma^2 I). The paper bounds it from above (Eqs. 38-42),

    L_K <= log N_T - log sum_i exp(-D_i),   D_i = KL[ q(u_K | u_0) || N(F(t_K) u_0^i, delta^2 I) ]

where the best mixture weights are phi_i proportional to exp(-D_i). (Eq. 37 prints sigma^2 for the
variance delta^2 of the kernels. In the published version of the paper the kernels have the variance
sigma^2, Eq. 37 is right as it stands, and the constant part of D_i vanishes.) The bound exceeds L_K
by the mean of another divergence,

    L_K = bound - E_q(u_K | u_0) KL[ phi || pi(u_K) ]

from phi to the responsibilities pi_i(u) of the kernels for a point u, proportional to
N(u | F(t_K) u_0^i, delta^2 I): insert log p(u) = sum_i phi_i (log N_i(u) - log N_T - log pi_i(u)).
A Monte Carlo estimate of this mean gives L_K itself, with little noise where the gap is small.

Both need distances of blurred images alone, and at level K nearly all frequencies are blurred away.
They are computed in the few frequencies that are left, in float64; see `subspace`.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ihdm import progress, seeds
from ihdm.heat import HeatEquation, cosine_basis, log_decay
from ihdm.measures.statistics import mean_interval
from ihdm.pixels import UInt8, to_unit

__all__ = [
    "Images",
    "Overlap",
    "Subspace",
    "at_width",
    "divergence_of_scales",
    "fall",
    "subspace",
]

Images = Tensor | UInt8

TOLERANCE = 1e-6
CHUNK = 2**23


def divergence_of_scales(sigma: float, delta: float) -> float:
    """`KL[ N(0, sigma^2) || N(0, delta^2) ]` in nats, the constant part of Eq. 33 per dimension.

    Args:
        sigma: standard deviation of the first.
        delta: standard deviation of the second, in the same unit.
    """
    return ((sigma / delta) ** 2 - 1) / 2 + math.log(delta / sigma)


@dataclass(frozen=True)
class Subspace:
    """Blurred images in the frequencies that separate them, with the noise that they are under.

    Attributes:
        train: (N, D) float64 coefficients of the blurred training images.
        test: (M, D) float64, of the others.
        total: number of all dimensions, C H W.
        error: nats; neither the bound nor L_K moves by more, for the frequencies left out.
        sigma: training noise, in units of the pixel range [0, 1].
        delta: sampling noise in the same unit.
    """

    train: Tensor
    test: Tensor
    total: int
    error: float
    sigma: float
    delta: float

    def with_delta(self, delta: float) -> "Subspace":
        """The same images under kernels of another width; `error` holds for larger ones, too.

        Raises:
            ValueError: delta is smaller than that of this subspace, which may lack frequencies.
        """
        if delta < self.delta:
            raise ValueError(f"the subspace of delta = {self.delta:g} does not serve {delta:g}")
        return replace(self, delta=delta)

    def log_kernels(self, points: Tensor) -> Tensor:
        """`-|point - train_i|^2 / (2 delta^2)`: (J, D) -> (J, N)."""
        squared = points.square().sum(1)[:, None] + self.train.square().sum(1)
        return (squared - 2 * points @ self.train.T).clamp(min=0) / (-2 * self.delta**2)

    def bound(self) -> Tensor:
        """The variational upper bound on L_K (App. A.3, Eqs. 41-42): (M,) float64, in nats."""
        parts = [
            self.log_kernels(self.test[part]).logsumexp(1)
            for part in chunks(len(self.test), len(self.train), "bound on L_K")
        ]
        constant = self.total * divergence_of_scales(self.sigma, self.delta)
        return constant + math.log(len(self.train)) - torch.cat(parts)

    def exact(self, draws: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """L_K itself: the bound minus the expectation of its excess, by Monte Carlo.

        Args:
            draws: points u_K for each image, at least 2.
            generator: source of the draws, on the CPU.

        Returns:
            Two (M,) float64, in nats: L_K and the standard error of its estimate.
        """
        means, errors = [], []
        for part in chunks(len(self.test), draws * len(self.train), "L_K"):
            centre = self.test[part]
            phi = self.log_kernels(centre).log_softmax(1)
            noise = torch.randn(len(centre), draws, centre.shape[1], generator=generator).double()
            points = (centre[:, None] + self.sigma * noise).flatten(0, 1)
            pi = self.log_kernels(points).log_softmax(1).unflatten(0, (-1, draws))
            gap = (phi.exp()[:, None] * (phi[:, None] - pi)).sum(2)
            means.append(gap.mean(1))
            errors.append(gap.std(1) / draws**0.5)
        return self.bound() - torch.cat(means), torch.cat(errors)


class Overlap(NamedTuple):
    """L_K of images at one width of blur.

    Attributes:
        bound: (M,) the paper's upper bound, in nats.
        exact: (M,) L_K.
        error: (M,) standard errors of `exact`, from Monte Carlo alone.
        dimensions: how many dimensions separate the images.
        constant: the part that has nothing to do with images, in nats.
    """

    bound: Tensor
    exact: Tensor
    error: Tensor
    dimensions: int
    constant: float

    def summary(self) -> dict[str, float]:
        """Means over images, `exact` with half of its 95 % interval."""
        mean, half = mean_interval(self.exact)
        return {
            "bound": self.bound.mean().item(),
            "exact": mean,
            "half_interval": half,
            "monte_carlo_error": self.error.square().sum().sqrt().item() / len(self.error),
            "dimensions": self.dimensions,
            "constant": self.constant,
        }


def at_width(
    train: Images,
    test: Images,
    width: float,
    sigma: float,
    deltas: Sequence[float],
    draws: int,
    seed: int,
) -> list[Overlap]:
    """L_K at a width of blur, for kernels of several widths, with the same draws of u_K.

    Args:
        train: training images.
        test: images u_0 to evaluate.
        width: sigma_blur_max, in pixels.
        sigma: training noise.
        deltas: standard deviations of the kernels: the sampling noise, or sigma itself, as in the
            published version of the paper (Sec. 2.1.4 there).
        draws: points u_K for each image, at least 2.
        seed: seed of the draws.

    Returns:
        One for each of `deltas`.
    """
    H, W = train.shape[2:]
    heat = HeatEquation(H, W, torch.tensor([0.0, width]))
    space = subspace(train, test, heat, sigma, min(deltas))
    found = []
    for own in map(space.with_delta, deltas):
        exact, error = own.exact(draws, seeds.generator(seed, seeds.PRIOR, 0))
        constant = own.total * divergence_of_scales(sigma, own.delta)
        found.append(Overlap(own.bound(), exact, error, own.train.shape[1], constant))
    return found


def fall(first: Tensor, second: Tensor, base: float = 0.0) -> tuple[float, float]:
    """By which fraction L_K falls from one width to the next, and half of its 95 % interval.

    The interval is that of the mean difference, image by image, over the mean of the first.

    Args:
        first: (M,) L_K at one width.
        second: (M,) L_K of the same images at another.
        base: nats that are subtracted from both, as the constant part.
    """
    whole = first.mean().item() - base
    mean, half = mean_interval(first - second)
    return mean / whole, half / whole


def subspace(
    train: Images, test: Images, heat: HeatEquation, sigma: float, delta: float
) -> Subspace:
    """The lowest frequencies of images at level K, as many as 1e-6 nats need.

    At a frequency at which all blurred images agree, the kernels coincide and add a constant. Let
    Delta_i be the dropped differences of test and training images. The loss lies between 0 and
    M = max_i |Delta_i|^2 / (2 delta^2) for the bound, and for L_K, by Jensen's inequality on either
    side, between -M max(0, sigma^2 / delta^2 - 1) and M. Differences are bounded by the range of
    each coefficient. Frequencies at which even opposite black and white images would agree are
    dropped without a look at the images, so that the cost does not grow with their size.

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
    decay = log_decay(H, W, torch.tensor(time, dtype=torch.float64)).exp()
    # The coefficients of a difference of two images have squares that add up to at most C H W.
    possible = decay.square() * (C * H * W)
    rest = possible > allowed / 2
    rest[0, 0] = True
    rows, columns = int(rest.any(1).sum()), int(rest.any(0).sum())
    inside = rest[:rows, :columns]
    weights = decay[:rows, :columns][inside]
    both = [coefficients(images, rows, columns)[..., inside] for images in (train, test)]
    both = [(c * weights).transpose(1, 2) for c in both]
    lowest = torch.minimum(*(c.amin((0, 2)) for c in both))
    highest = torch.maximum(*(c.amax((0, 2)) for c in both))
    ranges = C * (highest - lowest) ** 2
    order = ranges.argsort()
    kept = order[ranges[order].cumsum(0) > allowed / 2]
    lost = allowed / 2 + (ranges.sum() - ranges[kept].sum()).item()
    error = lost / (2 * delta**2) * max(1.0, (sigma / delta) ** 2 - 1)
    assert error <= TOLERANCE * (1 + 1e-9)
    known, new = (c[:, kept].flatten(1) for c in both)
    return Subspace(known, new, C * H * W, error, sigma, delta)


def coefficients(images: Images, rows: int, columns: int) -> Tensor:
    """(N, C, rows, columns) float64: the lowest frequencies of `to_frequencies`, image by image."""
    vertical, horizontal = (cosine_basis(size) for size in images.shape[-2:])
    parts = []
    for part in chunks(len(images), math.prod(images.shape[1:]), "frequencies"):
        batch = to_unit(images[part]) if isinstance(images, np.ndarray) else images[part]
        parts.append(vertical[:rows] @ batch.double() @ horizontal[:columns].T)
    return torch.cat(parts)


def chunks(count: int, size: int, label: str) -> Iterator[slice]:
    """Slices of a range; each holds at most CHUNK numbers if a row holds `size` of them."""
    step = max(1, CHUNK // size)
    starts = progress.over(range(0, count, step), label, unit="chunk")
    return (slice(first, first + step) for first in starts)

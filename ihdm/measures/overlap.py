r"""How far the kernel density prior is from the forward process: L_K (Sec. 3.2, App. A.3).

    L_K = KL[ q(u_K | u_0) || p(u_K) ]
    p(u_K) = (1/N_T) sum_i N(F(t_K) u_0^i, delta^2 I)                                       (Eq. 36)

with q(u_K | u_0) = N(F(t_K) u_0, sigma^2 I). The paper bounds it from above (Eqs. 38-42),

    L_K <= log N_T - log sum_i exp(-D_i),   D_i = KL[ q(u_K | u_0) || N(F(t_K) u_0^i, delta^2 I) ]

where the best mixture weights are phi_i proportional to exp(-D_i). (Eq. 37 prints sigma^2 for the
variance delta^2 of the kernels.) The bound exceeds L_K by the mean of another divergence,

    L_K = bound - E_q(u_K | u_0) KL[ phi || pi(u_K) ]

from phi to the responsibilities pi_i(u) of the kernels for a point u, proportional to
N(u | F(t_K) u_0^i, delta^2 I): insert log p(u) = sum_i phi_i (log N_i(u) - log N_T - log pi_i(u)).
A Monte Carlo estimate of this mean gives L_K itself, with little noise where the gap is small.

Both need distances of blurred images alone, and at level K nearly all frequencies are blurred away.
They are computed in the few frequencies that are left, in float64; see `subspace`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ihdm import progress
from ihdm.heat import HeatEquation, cosine_basis, log_decay
from ihdm.pixels import UInt8, to_unit

__all__ = ["Images", "Subspace", "bound", "divergence_of_scales", "exact", "subspace"]

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


def bound(train: Images, test: Images, heat: HeatEquation, sigma: float, delta: float) -> Tensor:
    """The variational upper bound on L_K (App. A.3, Eqs. 41-42), in chunks.

    Args:
        train: training images; all of these as in `subspace`.
        test: images u_0 to evaluate.
        heat: the forward process.
        sigma: training noise.
        delta: sampling noise.

    Returns:
        (M,) float64, in nats; not negative.

    Raises:
        ValueError: sigma or delta is not positive.
    """
    return subspace(train, test, heat, sigma, delta).bound()


def exact(
    train: Images,
    test: Images,
    heat: HeatEquation,
    sigma: float,
    delta: float,
    draws: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """L_K itself, by Monte Carlo.

    Args:
        train: training images; all of these as in `subspace`.
        test: images u_0 to evaluate.
        heat: the forward process.
        sigma: training noise.
        delta: sampling noise.
        draws: points u_K for each image, at least 2.
        generator: source of the draws, on the CPU.

    Returns:
        Two (M,) float64, in nats: L_K and the standard error of its estimate.

    Raises:
        ValueError: sigma or delta is not positive.
    """
    return subspace(train, test, heat, sigma, delta).exact(draws, generator)


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

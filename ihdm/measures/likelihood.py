r"""Negative evidence lower bounds of trained models, in nats for each image (Sec. 3.2, App. A.2).

Inverse heat dissipation (Eqs. 6-7, 32-35), with N = C H W:

    -log p(u_0) <= L_K + sum_{k=2}^K L_{k-1} + L_0
    L_{k-1} = N KL[N(0, sigma^2) || N(0, delta^2)]
              + E_q |mu_theta(u_k, k) - F(t_{k-1}) u_0|^2 / (2 delta^2)
    L_0     = -E_q log N(u_0 | mu_theta(u_1, 1), delta^2 I)

The expectations of squared errors hold everything that the network says, and they depend on
neither delta nor L_K: `squared_errors` measures them in one pass over the levels, and `heat_terms`
gives the bound for any delta. `overlap` computes L_K.

Models that predict noise (Ho et al. 2020, Eq. 5; the same for BDM): the prior is N(0, I), each
step's divergence is that of two Gaussians of equal variance, by frequency, with B3-B4,

    L_{k-1} = 1/2 sum ((posterior mean with u_0) - (with the network's u_0))^2 / sigma^2_{t->s}

and the image is read off the state of lowest noise: of z_0 where sigma_0 > 0 (BDM), else of the
last step with the variance sigma^2_{1|0} (DDPM).

All of it is on the scale of images in [0, 1]. The data term comes in two conventions,
which must not be mixed in one column: as a density, and as the probability of the image's 8-bit
values, in bins of 1/255 whose outermost are open (Ho et al. 2020, Eq. 13).
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ihdm import progress, seeds
from ihdm.heat import to_frequencies
from ihdm.measures.overlap import divergence_of_scales
from ihdm.measures.statistics import mean_interval
from ihdm.model import Model
from ihdm.processes import NoisePrediction

__all__ = [
    "SquaredErrors",
    "Terms",
    "bits_per_dimension",
    "heat_terms",
    "noise_terms",
    "optimal_delta",
    "squared_errors",
]

BINS = 255
BATCH = 128  # images at a time


class SquaredErrors(NamedTuple):
    """The result of one pass over the levels of inverse heat dissipation, before any delta.

    Attributes:
        by_level: (K, M) float64, squared distance of mu_theta(u_k, k) and F(t_{k-1}) u_0 for
            k = 1..K, one draw of u_k for each image and level.
        mean: (M, C, H, W) mu_theta(u_1, 1), by which an image is read off.
    """

    by_level: Tensor
    mean: Tensor


class Terms(NamedTuple):
    """The parts of a bound, in nats for each of M images, float64.

    Attributes:
        steps: (levels, M) divergences of the steps, lowest level first.
        discrete: (M,) -log of the probability of 8-bit values given the last state.
        density: (M,) -log of the density on [0, 1] given the last state.
        prior: (M,) divergence from the prior.
        constant: the part of the steps' sum that comes from delta and sigma alone (Eq. 33).
    """

    steps: Tensor
    discrete: Tensor
    density: Tensor
    prior: Tensor
    constant: float = 0.0

    def summary(self, dimensions: int) -> dict[str, tuple[float, float]]:
        """Means over images, with half of their 95 % intervals, by part and in all.

        Args:
            dimensions: values in an image.

        Returns:
            name -> mean and half interval; the parts are in nats, with L_0 of the 8-bit values, and
            `errors` are the steps without their constant part.
            Bits of the density are those of density times the width 1/255 of a bin.
        """
        without = self.prior + self.steps.sum(0)
        total, density = without + self.discrete, without + self.density
        parts = {
            "L_K": self.prior,
            "constant": torch.full_like(self.prior, self.constant),
            "errors": self.steps.sum(0) - self.constant,
            "L_0": self.discrete,
            "total (nats)": total,
            "bits per value, 8-bit bins": bits_per_dimension(total, dimensions),
            "bits per value, density": bits_per_dimension(density, dimensions, density=True),
        }
        return {name: mean_interval(part) for name, part in parts.items()}


def passes(
    model: Model, u_0: Tensor, levels: Sequence[int], seed: int
) -> Iterator[tuple[int, slice, Tensor, Tensor, Tensor]]:
    """(k, images, u_0, level, noise) on the model's device, for every level and batch."""
    batches = range(0, len(u_0), BATCH)
    with progress.bar(len(levels) * len(batches), f"bound of {len(u_0)} images") as bar:
        for k in levels:
            noise = torch.randn(u_0.shape, generator=seeds.generator(seed, seeds.LIKELIHOOD, k))
            for first in batches:
                part = slice(first, first + BATCH)
                images = u_0[part].to(model.device)
                level = torch.full((len(images),), k, device=model.device)
                yield k, part, images, level, noise[part].to(model.device)
                bar.update()


@torch.no_grad()
def squared_errors(model: Model, u_0: Tensor, seed: int) -> SquaredErrors:
    """Squared errors of the network at every level (the expectations in Eqs. 33 and 35).

    Args:
        model: of inverse heat dissipation; its delta is not used.
        u_0: (M, C, H, W) images in [0, 1].
        seed: seed of the draws of u_k; the draws of a level do not depend on other levels.

    Raises:
        TypeError: the model has another process.
    """
    process = model.inverse_heat
    squares = torch.zeros(process.K, len(u_0), dtype=torch.float64)
    mean = torch.empty(u_0.shape)
    levels = range(1, process.K + 1)
    for k, part, images, level, noise in passes(model, u_0, levels, seed):
        u_k, target = process.example(images, level, noise)
        step = process.predict(model.network, u_k, level)
        # On the CPU, because Apple's GPUs have no float64.
        squares[k - 1, part] = (step - target).cpu().double().square().flatten(1).sum(1)
        if k == 1:
            mean[part] = (u_k + step).cpu()
    return SquaredErrors(squares, mean)


def heat_terms(
    errors: SquaredErrors, u_0: Tensor, sigma: float, delta: float, prior: Tensor
) -> Terms:
    """The bound of inverse heat dissipation for any delta (Eqs. 33-35).

    Args:
        errors: of the same images, from `squared_errors`.
        u_0: (M, C, H, W) images in [0, 1], of 8-bit values.
        sigma: training noise, in units of the pixel range [0, 1].
        delta: sampling noise in the same unit.
        prior: (M,) L_K at this delta, or a bound on it, from `overlap`.

    Returns:
        The terms, of which `steps` has K-1 rows.
    """
    constant = u_0[0].numel() * divergence_of_scales(sigma, delta)
    steps = constant + errors.by_level[1:] / (2 * delta**2)
    data = data_terms(u_0, errors.mean, delta)
    return Terms(steps, *data, prior, constant * len(steps))


def optimal_delta(errors: SquaredErrors, sigma: float, dimensions: int) -> tuple[float, float]:
    """The delta that makes the bound on the density of the given images smallest, L_K aside.

    With v = delta^2 the sum of Eqs. 33 and 35 over levels has the derivative
    `-((K-1) N sigma^2 + S) / (2 v^2) + K N / (2 v)`, with S the squared errors of all levels, so

        delta^2 = ((K-1) N sigma^2 + mean of S) / (K N).

    Args:
        errors: from `squared_errors`.
        sigma: training noise.
        dimensions: N, number of values in an image.

    Returns:
        delta in the unit of sigma, and half of its 95 % interval over images (delta method).
    """
    K = len(errors.by_level)
    squares = ((K - 1) + errors.by_level.sum(0) / (dimensions * sigma**2)) / K
    mean, half = mean_interval(squares)
    return math.sqrt(mean), half / (2 * math.sqrt(mean))


@torch.no_grad()
def noise_terms(model: Model, u_0: Tensor, seed: int) -> Terms:
    """The bound of a model that predicts noise (Ho et al. 2020, Eq. 5).

    Args:
        model: of a denoising or a blurring process.
        u_0: (M, C, H, W) images in [0, 1], of 8-bit values.
        seed: seed of the draws of u_k; the draws of a level do not depend on other levels.

    Returns:
        The terms, with `prior`. `steps` has K rows if level 0 has noise of its own, else K-1.

    Raises:
        TypeError: the model does not predict noise.
    """
    process, network = model.process, model.network
    if not isinstance(process, NoisePrediction):
        raise TypeError(f"{process!r} does not predict noise")
    zero = torch.zeros(1)
    noisy = process.noise_scale(zero).item() > 0
    first = 1 if noisy else 2
    steps = torch.zeros(process.K + 1 - first, len(u_0), dtype=torch.float64)
    mean = torch.empty(u_0.shape)
    levels = range(1, process.K + 1)
    for k, part, images, level, noise in passes(model, u_0, levels, seed):
        if k >= first:
            u_k, _ = process.example(images, level, noise)
            wrong = to_frequencies(process.predict(network, u_k, level) - noise).cpu()
            weighted = step_weight(process, k)[:, None] * wrong.double().square()
            steps[k - first, part] = weighted.flatten(1).sum(1)
        else:
            u_1, _ = process.example(images, level, noise)
            mean[part] = process.step(network, u_1, 1, torch.zeros_like(u_1)).mean.cpu()
    if noisy:
        noise = torch.randn(u_0.shape, generator=seeds.generator(seed, seeds.LIKELIHOOD, 0))
        scale = process.noise_scale(zero).item() / process.log_signal(zero).exp()[0, 0, 0].item()
        mean, scale = u_0 + scale / 2 * noise, scale / 2
    else:
        scale = process.transition(zero, zero + 1)[1][0, 0, 0].item() ** 0.5 / 2
    return Terms(steps, *data_terms(u_0, mean, scale), gaussian_prior(process, u_0))


def step_weight(process: NoisePrediction, k: int) -> Tensor:
    """(1, H, W) float64: nats of L_{k-1} for a unit squared error of the noise, by frequency.

    The two means differ by `weight(u_0) (u_0 - estimate)`, and the estimate of u_0 by
    `sigma_t / alpha_t` times the error of the noise.
    """
    s, t = torch.full((1,), k - 1.0), torch.full((1,), float(k))
    _, of_u_0, variance = process.posterior(s, t)
    moved = of_u_0 * process.noise_scale(t)[:, None, None] / process.log_signal(t).exp()
    return moved**2 / (2 * variance)


def gaussian_prior(process: NoisePrediction, u_0: Tensor) -> Tensor:
    """`KL[ q(u_K | u_0) || N(0, I) ]` on [-1, 1]: (M, C, H, W) images -> (M,) nats."""
    top = torch.full((1,), float(process.K))
    signal = process.log_signal(top).exp() * to_frequencies(2 * u_0.double() - 1)
    variance = process.noise_scale(top).item() ** 2
    return (variance - 1 - math.log(variance) + signal.square()).flatten(1).sum(1) / 2


def data_terms(u_0: Tensor, mean: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """-log p(u_0) of Gaussians on [0, 1], as the probability of 8-bit values and as a density.

    Args:
        u_0: (M, C, H, W) images of 8-bit values in [0, 1].
        mean: (M, C, H, W) of the Gaussians.
        scale: their standard deviation.

    Returns:
        Two (M,) float64, in nats.
    """
    u_0, mean = u_0.double(), mean.double()
    away = (u_0 - mean) / scale
    density = (away.square() / 2 + math.log(scale * math.sqrt(2 * math.pi))).flatten(1).sum(1)
    half = 1 / (2 * BINS * scale)
    lower = torch.where(u_0 <= 0.5 / BINS, -math.inf, away - half)
    upper = torch.where(u_0 >= 1 - 0.5 / BINS, math.inf, away + half)
    # In the lower tail, where differences of the distribution function keep their digits.
    lower, upper = (
        torch.where(lower > 0, -upper, lower),
        torch.where(lower > 0, -lower, upper),
    )
    below, above = torch.special.log_ndtr(lower), torch.special.log_ndtr(upper)
    log_probability = above + torch.log1p(-torch.exp(below - above))
    return -log_probability.flatten(1).sum(1), density


def bits_per_dimension(nats: Tensor, dimensions: int, density: bool = False) -> Tensor:
    """Nats of an image as bits for each of its values.

    Args:
        nats: any shape.
        dimensions: values in an image.
        density: whether the nats are of a density on [0, 1], which is multiplied by the width 1/255
            of a bin; a probability of 8-bit values is not.
    """
    return nats / (dimensions * math.log(2)) + (math.log2(BINS) if density else 0.0)

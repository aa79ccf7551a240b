r"""The optimal step of inverse heat dissipation on Gaussian data, in closed form.

Let the cosine coefficients of images be independent Gaussians with mean `m` and variance `v`. With
`c_k = exp(-lambda t_k)`, `y = V^T u_k` and `V_k = c_k^2 v + sigma^2` the variance of y, the network
that minimises Eq. 10 answers, for each frequency,

    f*(u_k, k) = c_{k-1} E[u_0 | u_k] - y,    E[u_0 | u_k] = m + c_k v / V_k (y - c_k m).

With `c_k` in place of `c_{k-1}` this is the denoising step `sigma^2 grad log q(u_k)`, by Tweedie's
formula, which is the answer that denoising score matching looks for. Widths of blur are in pixels,
`t = sigma_blur^2 / 2` (Sec. 3.1).

The first version of the paper remarks on the resemblance (Sec. 3.2). Its published version states
the limit of many levels, and the Langevin step at `delta = sqrt(2) sigma` (Sec. 2.1.5, App. A.4).
Ours are the closed forms for Gaussian data: `relative_gap`, `preserving_delta`, `chain_optima`.
"""

from typing import NamedTuple

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from ihdm.heat import HeatEquation, log_decay, to_frequencies, to_pixels

__all__ = [
    "ChainOptima",
    "GaussianData",
    "chain_optima",
    "fitted",
    "optimal_step",
    "preserving_delta",
    "relative_gap",
]


class GaussianData(NamedTuple):
    """Images with independent Gaussian cosine coefficients.

    Attributes:
        mean: (C, H, W) float64, m.
        variance: (C, H, W) float64, v.
    """

    mean: Tensor
    variance: Tensor

    def decay(self, width: float) -> Tensor:
        """`c = exp(-lambda width^2 / 2)` of Eqs. 21 and 23: (H, W) float64."""
        H, W = self.mean.shape[1:]
        return log_decay(H, W, torch.tensor(width**2 / 2, dtype=torch.float64)).exp()

    def blurred_variance(self, sigma: float, width: float) -> Tensor:
        """`V_k = c^2 v + sigma^2`: (C, H, W) float64."""
        return self.decay(width) ** 2 * self.variance + sigma**2


def fitted(images: Tensor) -> GaussianData:
    """Gaussian data with the mean and the power of real images at every frequency.

    Args:
        images: (N, C, H, W), N at least 2.
    """
    coefficients = to_frequencies(images.double())
    return GaussianData(coefficients.mean(0), coefficients.var(0))


def optimal_step(
    data: GaussianData, u_k: Tensor, sigma: float, width: float, previous: float
) -> Tensor:
    """f*(u_k, k); the denoising step `sigma^2 grad log q(u_k)` if `previous` is `width`.

    Args:
        data: the distribution of u_0.
        u_k: (B, C, H, W) states.
        sigma: training noise.
        width: blur of level k.
        previous: blur of level k - 1, smaller or equal.

    Returns:
        (B, C, H, W) float64.
    """
    y, c = to_frequencies(u_k.double()), data.decay(width)
    gain = c * data.variance / data.blurred_variance(sigma, width)
    estimate = data.mean + gain * (y - c * data.mean)
    return to_pixels(data.decay(previous) * estimate - y)


def relative_gap(data: GaussianData, sigma: float, width: float, previous: float) -> float:
    """The distance of the optimal step from the denoising step, as a fraction of the latter.

    `sqrt(E |f* - d|^2 / E |d|^2)` over u_k ~ q(u_k), d the denoising step, in closed form.

    Args:
        data: the distribution of u_0.
        sigma: training noise.
        width: blur of level k.
        previous: blur of level k - 1.
    """
    c, V = data.decay(width), data.blurred_variance(sigma, width)
    estimate = data.mean**2 + (c * data.variance) ** 2 / V
    gap = ((data.decay(previous) - c) ** 2 * estimate).sum()
    return (gap / (sigma**4 / V).sum()).sqrt().item()


def preserving_delta(data: GaussianData, sigma: float, width: float) -> Tensor:
    """The sampling noise that keeps the variance of each frequency through a denoising step.

    `(1 - sigma^2 / V)^2 V + delta^2 = V` gives `delta^2 = 2 sigma^2 - sigma^4 / V`: between sigma,
    if there is nothing but noise (V = sigma^2), and sqrt(2) sigma, a step of the Langevin sampler
    `u + e grad log q(u) + sqrt(2 e) z` of size `e = sigma^2`, if noise is negligible.

    Args:
        data: the distribution of u_0.
        sigma: training noise.
        width: blur of the level.

    Returns:
        (C, H, W) float64, in the unit of sigma.
    """
    V = data.blurred_variance(sigma, width)
    return (2 * sigma**2 - sigma**4 / V).sqrt()


class ChainOptima(NamedTuple):
    """The best sampling noise for normally distributed images, in closed form.

    Attributes:
        elbo: delta of the smallest negative ELBO, L_K aside, in the unit of sigma.
        frechet: delta of samples with the smallest Frechet distance to the images, likewise.
    """

    elbo: float
    frechet: float


def chain_optima(data: GaussianData, heat: HeatEquation, sigma: float) -> ChainOptima:
    """The two optima of Fig. 11 for the best possible steps, in the unit of sigma.

    With `P_k = c_{k-1}^2 v sigma^2 / (c_k^2 v + sigma^2)`, the posterior variance of a frequency of
    the less blurred image, the negative ELBO is smallest at `delta^2 = sigma^2 + mean of P_k` over
    levels and frequencies (Eqs. 33 and 35; level 0 lacks the sigma^2). A variance M of the states
    becomes `M' = g_k^2 M + delta^2` in one step, with `g_k = c_k c_{k-1} v / (c_k^2 v + sigma^2)`,
    and with the last step's mean the samples' distance from the images is
    `sum (sqrt(M_0) - sqrt(v))^2`.

    Args:
        data: the distribution of u_0.
        heat: the forward process with its levels.
        sigma: training noise.
    """
    v = data.variance
    c = torch.stack([data.decay(width) for width in heat.sigma_blur.tolist()])[:, None]
    marginal = c[1:] ** 2 * v + sigma**2
    posterior = c[:-1] ** 2 * v * sigma**2 / marginal
    K = heat.K
    elbo = ((K - 1) / K * sigma**2 + posterior.mean().item()) ** 0.5
    gain = c[1:] * c[:-1] * v / marginal

    def distance(factor: float) -> float:
        added = (factor * sigma) ** 2
        state = c[-1] ** 2 * v + added
        for k in range(K, 0, -1):
            state = gain[k - 1] ** 2 * state + (added if k > 1 else 0)
        return (state.sqrt() - v.sqrt()).square().sum().item()

    best = minimize_scalar(distance, bounds=(0, 3), method="bounded", options={"xatol": 1e-5})
    return ChainOptima(elbo / sigma, float(best.x))

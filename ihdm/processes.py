"""The forward and reverse processes between an image u_0 and its prior state u_K.

Inverse heat dissipation (Sec. 3.2):

    q(u_k | u_0)         = N(F(t_k) u_0, sigma^2 I)                          (Eq. 4)
    p_theta(u_{k-1}|u_k) = N(u_k + f_theta(u_k, k), delta^2 I)               (Eq. 8)
    p(u_K)               = mean over training images of N(F(t_K) u_0, delta^2 I)

A process owns its pixel range; outside, images lie in [0, 1]. Sampling and training see a process
only through `loss`, `prior`, `step` and `K`.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ihdm.heat import HeatEquation, blur_schedule
from ihdm.params import Experiment

__all__ = ["InverseHeat", "Step", "from_params"]


class Step(NamedTuple):
    """One step of the reverse process.

    Attributes:
        k: the level that was reached.
        mean: (B, C, H, W) mean of p_theta(u_k | u_{k+1}).
        state: (B, C, H, W) the draw from it; the mean itself at k = 0.
    """

    k: int
    mean: Tensor
    state: Tensor


class InverseHeat:
    """The inverse heat dissipation model (Sec. 3.2, Algs. 1 and 2).

    Args:
        heat: the forward process with its levels.
        sigma: training noise, in units of the pixel range [0, 1].
        delta: sampling noise in the same unit; used for sampling and likelihood, never in
            training.

    Raises:
        ValueError: sigma or delta is negative.
    """

    def __init__(self, heat: HeatEquation, sigma: float, delta: float | None = None):
        if sigma < 0 or (delta is not None and delta < 0):
            raise ValueError(f"sigma and delta must not be negative: {sigma}, {delta}")
        self.heat, self.sigma, self._delta = heat, sigma, delta

    @property
    def K(self) -> int:
        """Number of steps of the reverse process."""
        return self.heat.K

    @property
    def delta(self) -> float:
        """Sampling noise; asking for it raises ValueError where none was given."""
        if self._delta is None:
            raise ValueError("this InverseHeat was made without delta, which sampling needs")
        return self._delta

    def loss(
        self,
        network: nn.Module,
        u_0: Tensor,
        k: Tensor | None = None,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """`||u_k + f_theta(u_k, k) - F(t_{k-1}) u_0||^2` with u_k ~ q(u_k | u_0) (Alg. 1, Eq. 10).

        Args:
            network: f_theta; called with (B, C, H, W) images and (B,) levels.
            u_0: (B, C, H, W) images in [0, 1].
            k: (B,) integer levels in 1..K; drawn uniformly where not given.
            noise: (B, C, H, W) of unit variance; drawn where not given.
            generator: source of what is not given; draws are made on its device.

        Returns:
            (B,) the sum of squares over pixels and channels of each example.
        """
        device = generator.device if generator is not None else u_0.device
        if k is None:
            k = torch.randint(1, self.K + 1, u_0.shape[:1], generator=generator, device=device)
        if noise is None:
            noise = torch.randn(u_0.shape, generator=generator, device=device, dtype=u_0.dtype)
        k, noise = k.to(u_0.device), noise.to(u_0.device)
        target = self.heat.blur(u_0, k - 1)
        u_k = self.heat.blur(u_0, k) + self.sigma * noise
        return (u_k + network(u_k, k) - target).square().flatten(1).sum(1)

    def prior(self, u_0: Tensor, noise: Tensor) -> Tensor:
        """A draw from the kernel density prior p(u_K) (Sec. 3.2): `F(t_K) u_0 + delta noise`.

        Args:
            u_0: (B, C, H, W) training images in [0, 1], chosen uniformly.
            noise: (B, C, H, W) of unit variance.

        Returns:
            (B, C, H, W) prior states u_K.
        """
        return self.heat.blur(u_0, self.K) + self.delta * noise

    def step(self, network: nn.Module, u_k: Tensor, k: int, noise: Tensor) -> Step:
        """One step of Alg. 2, `u_k + f_theta(u_k, k) + delta noise` (Eq. 8).

        The last step, to k = 0, adds no noise (App. B.1).

        Args:
            network: f_theta.
            u_k: (B, C, H, W) states at level k.
            k: the level to leave, 1..K.
            noise: (B, C, H, W) of unit variance.

        Returns:
            The step to level k - 1.
        """
        mean = u_k + network(u_k, torch.full((len(u_k),), k, device=u_k.device))
        return Step(k - 1, mean, mean + self.delta * noise if k > 1 else mean)


def from_params(experiment: Experiment, height: int, width: int) -> InverseHeat:
    """The process that an experiment of params.yaml describes.

    Args:
        experiment: the validated description.
        height: image height in pixels.
        width: image width in pixels.
    """
    settings = experiment.process
    schedule = blur_schedule(settings.K, settings.sigma_blur_min, settings.sigma_blur_max)
    heat = HeatEquation(height, width, schedule)
    return InverseHeat(heat, settings.sigma, experiment.sampling.delta)

r"""A process between an image u_0 and its prior state u_K, diagonal in the cosine basis.

Blurring diffusion models (BDM, Sec. 3) describe any such process by a signal scale for each
frequency and one noise scale. With `V` the cosine basis of the image plane,

    q(u_k | u_0) = N(V alpha_k V^T u_0, sigma_k^2 I)                                     (B1)
    q(u_t | u_s) = N(V alpha_{t|s} V^T u_s, V sigma^2_{t|s} V^T),  s < t                 (B2)
    q(u_s | u_t, u_0) = N(V (weights of u_t and u_0), V sigma^2_{t->s} V^T)              (B3, B4)

Time is the level k on the scale 0..K. A process owns the pixel range that its network sees; all
images and states that it takes or gives are on the scale where an image lies in [0, 1].
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ihdm.heat import to_frequencies, to_pixels

__all__ = ["Conditional", "Process", "Step", "as_images"]


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


class Conditional(NamedTuple):
    r"""The target of the network given u_k, for images whose modes are independent Gaussians.

    With `d = V^T u_k - alpha_k m`, the target is normal in every mode, of mean and deviation

        mean * m + deviation * d    and    |residual|

    Attributes:
        mean: (B, C, H, W) float64, the factor of m.
        deviation: (B, C, H, W) float64, the factor of d.
        residual: (B, C, H, W) float64, the standard deviation; negative if the target falls as u_0
            rises.
    """

    mean: Tensor
    deviation: Tensor
    residual: Tensor


class Process(ABC):
    """A process that is diagonal in the cosine basis: the Gaussians of B1-B4, and its interface.

    The Gaussians of B1-B4 are given in the process's own pixel range, per frequency, in float64.

    Args:
        height: image height H in pixels.
        width: image width W in pixels.
        K: number of steps of the reverse process.

    Attributes:
        low: black in the process's own pixel range.
        high: white in it.
    """

    low, high = 0, 1

    def __init__(self, height: int, width: int, K: int):
        self.height, self.width, self.K = height, width, K

    def level(self, share: float) -> int:
        """The level nearest to a share of K, at least 1."""
        return max(1, round(share * self.K))

    @abstractmethod
    def log_signal(self, k: Tensor) -> Tensor:
        """log alpha_k of B1: (B,) levels -> (B, H, W) float64."""

    @abstractmethod
    def noise_scale(self, k: Tensor) -> Tensor:
        """sigma_k of B1: (B,) levels -> (B,) float64."""

    @abstractmethod
    def example(self, u_0: Tensor, k: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """A state u_k ~ q(u_k | u_0) and the target of the network.

        Args:
            u_0: (B, C, H, W) images in [0, 1].
            k: (B,) levels.
            noise: (B, C, H, W) of unit variance.

        Returns:
            Two (B, C, H, W): the state and the target.
        """

    @abstractmethod
    def predict(self, network: nn.Module, u_k: Tensor, k: Tensor) -> Tensor:
        """The network's answer to (B, C, H, W) states at (B,) levels."""

    @abstractmethod
    def conditional(self, k: Tensor, v: Tensor) -> Conditional:
        """The target of the network given u_k, for images with independent Gaussian modes.

        Args:
            k: (B,) levels.
            v: (C, H, W) float64 variance of each mode of images, in the process's own range.
        """

    @abstractmethod
    def prior(self, u_0: Tensor, noise: Tensor) -> Tensor:
        """A draw from p(u_K).

        Args:
            u_0: (B, C, H, W) training images in [0, 1], chosen uniformly.
            noise: (B, C, H, W) of unit variance.

        Returns:
            (B, C, H, W) prior states u_K.
        """

    @abstractmethod
    def step(self, network: nn.Module, u_k: Tensor, k: int, noise: Tensor) -> Step:
        """One step of the reverse process; the last one, to k = 0, adds no noise.

        Args:
            network: the trained network.
            u_k: (B, C, H, W) states at level k.
            k: the level to leave, 1..K.
            noise: (B, C, H, W) of unit variance.

        Returns:
            The step to level k - 1.
        """

    def levels(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """(count,) levels as training draws them: integers 1..K, on the generator's device."""
        device = generator.device if generator is not None else None
        return torch.randint(1, self.K + 1, (count,), generator=generator, device=device)

    def loss(
        self,
        network: nn.Module,
        u_0: Tensor,
        k: Tensor | None = None,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """`||network(u_k, k) - target||^2` for u_k ~ q(u_k | u_0); see `example`.

        Args:
            network: called with (B, C, H, W) images and (B,) levels.
            u_0: (B, C, H, W) images in [0, 1].
            k: (B,) levels; drawn where not given.
            noise: (B, C, H, W) of unit variance; drawn where not given.
            generator: source of what is not given; draws are made on its device.

        Returns:
            (B,) the sum of squares over pixels and channels of each example.
        """
        device = generator.device if generator is not None else u_0.device
        if k is None:
            k = self.levels(len(u_0), generator)
        if noise is None:
            noise = torch.randn(u_0.shape, generator=generator, device=device, dtype=u_0.dtype)
        u_k, target = self.example(u_0, k, noise.to(u_0.device))
        return (self.predict(network, u_k, k) - target).square().flatten(1).sum(1)

    def mean(self, x_0: Tensor, k: Tensor) -> Tensor:
        """The mean of B1, `V alpha_k V^T x_0`.

        Args:
            x_0: (B, C, H, W) images in the process's own pixel range.
            k: (B,) levels.

        Returns:
            (B, C, H, W), of the dtype of `x_0`.
        """
        alpha = as_images(self.log_signal(k).exp(), x_0)
        return to_pixels(alpha * to_frequencies(x_0))

    def transition(self, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """`alpha_{t|s}` and `sigma^2_{t|s}` of q(u_t | u_s), for levels s < t (B2).

        Args:
            s: (B,) levels.
            t: (B,) higher levels.

        Returns:
            Two (B, H, W) float64: signal scale and variance for each frequency.

        Raises:
            ValueError: the signal-to-noise ratio of a frequency rises from s to t, so that there is
                no such transition.
        """
        log_ratio, _, added = self._between(s, t)
        return log_ratio.exp(), added * self.noise_scale(t)[:, None, None] ** 2

    def posterior(self, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q(u_s | u_t, u_0) for levels s < t (B3, B4).

        In the form `mu = (alpha_{t|s} sigma_s^2 u_t + alpha_s sigma^2_{t|s} u_0) / sigma_t^2` and
        `sigma^2_{t->s} = sigma_s^2 sigma^2_{t|s} / sigma_t^2`, which equals B3-B4 and stays finite
        where sigma^2_{t|s} is 0, as it is for heat dissipation at frequency zero.

        Args:
            s: (B,) levels.
            t: (B,) higher levels.

        Returns:
            Three (B, H, W) float64: the weights of u_t and of u_0 in the mean, and the variance.

        Raises:
            ValueError: as `transition`.
        """
        log_ratio, kept, added = self._between(s, t)
        of_u_0 = self.log_signal(s).exp() * added
        return log_ratio.exp() * kept, of_u_0, added * self.noise_scale(s)[:, None, None] ** 2

    def _between(self, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log alpha_{t|s}, sigma_s^2 / sigma_t^2 and sigma^2_{t|s} / sigma_t^2."""
        log_ratio = self.log_signal(t) - self.log_signal(s)
        sigma_s, sigma_t = self.noise_scale(s), self.noise_scale(t)
        # Equal scales are kept apart, so that sigma = 0 has its limit.
        kept = torch.where(sigma_s == sigma_t, 1.0, (sigma_s / sigma_t) ** 2)[:, None, None]
        # Quotients of alpha underflow to 0 / 0 and differences of variances cancel; this does not.
        added = -torch.expm1(2 * log_ratio + kept.log())
        # In this form, so that a schedule that is not a number is refused too.
        if not (added >= -1e-9).all():
            worst, n, m = (int(i) for i in (~(added >= -1e-9)).nonzero()[0])
            raise ValueError(
                f"the schedule of {self!r} gives no transition from level {s[worst].item():g} to "
                f"{t[worst].item():g}: the signal-to-noise ratio does not fall at the frequency "
                f"({n}, {m})"
            )
        return log_ratio, kept, added.clamp(min=0)


def as_images(table: Tensor, like: Tensor) -> Tensor:
    """(B, H, W) float64 as (B, 1, H, W) of the type and on the device of some images."""
    return table[:, None].to(like.dtype).to(like.device)

r"""Three processes between an image u_0 and its prior state u_K, behind one interface.

    InverseHeat   alpha_k = exp(-lambda t_k), constant sigma        Sec. 3.2 of the paper
    Denoising     one alpha_k for all frequencies                   DDPM, Ho et al. 2020
    Blurring      both kinds of decay, in continuous time           BDM, Hoogeboom and Salimans 2023

with the squared frequencies `lambda` of Eq. 21, and the marginals `q(u_k | u_0)` of B1 (see
`gaussian`). They differ in alpha, sigma, in what the network predicts, and in the reverse step.
Training and sampling know a process by `K`, `levels`, `loss`, `prior` and `step` alone.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ihdm.gaussian import Conditional, Process, Step, as_images
from ihdm.heat import HeatEquation, blur_schedule, log_decay, to_frequencies, to_pixels

__all__ = ["Blurring", "Denoising", "InverseHeat", "NoisePrediction", "Process", "Step", "make"]


def on_double(k: Tensor) -> Tensor:
    """Levels on a device that has float64: their own, or the CPU."""
    return k.cpu() if k.device.type == "mps" else k


class InverseHeat(Process):
    """The inverse heat dissipation model (Sec. 3.2, Algs. 1 and 2).

        q(u_k | u_0)          = N(F(t_k) u_0, sigma^2 I)                         (Eq. 4)
        p_theta(u_{k-1}|u_k)  = N(u_k + f_theta(u_k, k), delta^2 I)              (Eq. 8)
        p(u_K)                = mean over training images of N(F(t_K) u_0, delta^2 I)

    Its marginals are those of B1 with `alpha_k = exp(-lambda t_k)`. Its joint distribution is not
    that of B2, since its u_k are independent given u_0, and its reverse step is not B3-B4.

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
        super().__init__(heat.height, heat.width, heat.K)
        self.heat, self.sigma, self._delta = heat, sigma, delta

    def __repr__(self) -> str:
        first, last = self.heat.sigma_blur[[1, -1]].tolist()
        return f"InverseHeat(K={self.K}, sigma_blur={first:g}..{last:g}, sigma={self.sigma:g})"

    @property
    def delta(self) -> float:
        """Sampling noise; asking for it raises ValueError where none was given."""
        if self._delta is None:
            raise ValueError("this InverseHeat was made without delta, which sampling needs")
        return self._delta

    def log_signal(self, k: Tensor) -> Tensor:
        """`-lambda t_k` with `t_k = sigma_blur_k^2 / 2` (Eqs. 21, 23)."""
        k = on_double(k)
        time = self.heat.sigma_blur.to(k.device)[k] ** 2 / 2
        return log_decay(self.height, self.width, time)

    def noise_scale(self, k: Tensor) -> Tensor:
        """sigma, at every level (Eq. 4)."""
        return torch.full(k.shape, self.sigma, dtype=torch.float64)

    def mean(self, x_0: Tensor, k: Tensor) -> Tensor:
        """`F(t_k) x_0`, by the tables of the heat equation."""
        return self.heat.blur(x_0, k)

    def example(self, u_0: Tensor, k: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """u_k and the step from it to the less blurred image, `F(t_{k-1}) u_0 - u_k` (Alg. 1)."""
        u_k = self.heat.blur(u_0, k) + self.sigma * noise
        return u_k, self.heat.blur(u_0, k - 1) - u_k

    def predict(self, network: nn.Module, u_k: Tensor, k: Tensor) -> Tensor:
        """f_theta(u_k, k) of Eq. 8; the network sees [0, 1]."""
        return network(u_k, k)

    def conditional(self, k: Tensor, v: Tensor) -> Conditional:
        """`alpha_{k-1} V^T u_0 - V^T u_k`, by the Wiener estimate of u_0."""
        alpha, before = (self.log_signal(level).exp()[:, None] for level in (k, k - 1))
        marginal = alpha**2 * v + self.sigma**2
        residual = before * self.sigma * (v / marginal).sqrt()
        mean = (before - alpha).expand_as(residual)
        return Conditional(mean, before * alpha * v / marginal - 1, residual)

    def prior(self, u_0: Tensor, noise: Tensor) -> Tensor:
        """`F(t_K) u_0 + delta noise`, the kernel density prior (Sec. 3.2)."""
        return self.heat.blur(u_0, self.K) + self.delta * noise

    def step(self, network: nn.Module, u_k: Tensor, k: int, noise: Tensor) -> Step:
        """`u_k + f_theta(u_k, k) + delta noise` (Eq. 8, Alg. 2; App. B.1 for the last step)."""
        level = torch.full((1,), k, device=u_k.device).expand(len(u_k))
        mean = u_k + self.predict(network, u_k, level)
        return Step(k - 1, mean, mean + self.delta * noise if k > 1 else mean)


class NoisePrediction(Process):
    """A process whose network predicts the noise in pixel space and whose reverse step is B3-B4.

    The network sees images in [-1, 1]; the prior is the standard normal in that range.
    """

    low = -1

    def example(self, u_0: Tensor, k: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """`V alpha_k V^T u_0 + sigma_k noise`, and the noise."""
        sigma = self.noise_scale(k).to(u_0.dtype).to(u_0.device)[:, None, None, None]
        return from_symmetric(self.mean(to_symmetric(u_0), k) + sigma * noise), noise

    def predict(self, network: nn.Module, u_k: Tensor, k: Tensor) -> Tensor:
        """eps_theta(u_k, k)."""
        return network(to_symmetric(u_k), k)

    def conditional(self, k: Tensor, v: Tensor) -> Conditional:
        """The noise, `(V^T u_k - alpha_k V^T u_0) / sigma_k`, by the Wiener estimate of u_0."""
        alpha = self.log_signal(k).exp()[:, None]
        sigma = self.noise_scale(k)[:, None, None, None]
        marginal = alpha**2 * v + sigma**2
        residual = -alpha * (v / marginal).sqrt()
        return Conditional(torch.zeros_like(residual), sigma / marginal, residual)

    def prior(self, u_0: Tensor, noise: Tensor) -> Tensor:
        """The noise itself, a draw from N(0, I) on [-1, 1]; the images do not enter."""
        return from_symmetric(noise)

    def step(self, network: nn.Module, u_k: Tensor, k: int, noise: Tensor) -> Step:
        """A draw from B3-B4 with `u_0 = (u_k - sigma_k V^T eps_theta) / alpha_k`."""
        s, t = (torch.full((1,), level, device=u_k.device) for level in (k - 1, k))
        log_ratio, kept, added = self._between(s, t)
        sigma_s, sigma_t = (self.noise_scale(level)[:, None, None] for level in (s, t))
        # alpha_s / alpha_t as one factor, which stays finite where alpha_t is nearly 0.
        of_estimate = added * torch.exp(-log_ratio)
        of_state = log_ratio.exp() * kept + of_estimate
        eps = to_frequencies(self.predict(network, u_k, t.expand(len(u_k))))
        x_k = to_frequencies(to_symmetric(u_k))
        mean = as_images(of_state, u_k) * x_k - as_images(of_estimate * sigma_t, u_k) * eps
        state = mean
        if k > 1:
            state = mean + as_images(sigma_s * added.sqrt(), u_k) * to_frequencies(noise)
        return Step(k - 1, from_symmetric(to_pixels(mean)), from_symmetric(to_pixels(state)))


def to_symmetric(u: Tensor) -> Tensor:
    """From [0, 1] to [-1, 1]."""
    return 2 * u - 1


def from_symmetric(x: Tensor) -> Tensor:
    """From [-1, 1] to [0, 1]."""
    return (x + 1) / 2


class Denoising(NoisePrediction):
    """The denoising diffusion model (DDPM, Ho et al. 2020), the baseline of the paper.

    Its linear schedule of 1,000 steps, from 1e-4 to 0.02, rescaled to any number of steps by the
    limit that the product of its `1 - beta` approaches,

        alpha_k^2 = exp(-0.1 s - 9.95 s^2),  s = k / K,   sigma_k^2 = 1 - alpha_k^2

    (rescaled betas themselves would exceed 1 for K up to 20).

    Args:
        height: image height in pixels.
        width: image width in pixels.
        K: number of steps.
    """

    def __repr__(self) -> str:
        return f"Denoising(K={self.K})"

    def log_signal(self, k: Tensor) -> Tensor:
        """`-(0.1 s + 9.95 s^2) / 2`, the same for every frequency."""
        return self._log_alpha(k)[:, None, None].expand(-1, self.height, self.width)

    def noise_scale(self, k: Tensor) -> Tensor:
        """`sqrt(1 - alpha_k^2)`."""
        return (-torch.expm1(2 * self._log_alpha(k))).sqrt()

    def _log_alpha(self, k: Tensor) -> Tensor:
        s = on_double(k).double() / self.K
        return -(0.1 * s + 9.95 * s**2) / 2


class Blurring(NoisePrediction):
    """The blurring diffusion model (BDM, Hoogeboom and Salimans 2023), B5-B8, with t = k / K.

        alpha_t = a_t ((1 - d_min) exp(-lambda tau_t) + d_min)                  (B6, B7)
        tau_t   = (sigma_blur_max sin(pi t / 2)^2)^2 / 2                        (B5)
        log(a_t^2 / sigma_t^2) = -2 log tan(t (b - c) + c),  a_t^2 + sigma_t^2 = 1,
        b = arctan(e^5), c = arctan(e^-5)                                       (B8)

    Args:
        height: image height in pixels.
        width: image width in pixels.
        K: number of steps of the reverse process; training draws real levels.
        sigma_blur_max: width of the blur at t = 1 in pixels; 0 gives a DDPM with cosine schedule.
        d_min: share of every frequency that is never blurred away.
    """

    def __init__(
        self, height: int, width: int, K: int, sigma_blur_max: float = 20, d_min: float = 0.001
    ):
        super().__init__(height, width, K)
        self.sigma_blur_max, self.d_min = sigma_blur_max, torch.tensor(d_min, dtype=torch.float64)

    def __repr__(self) -> str:
        d_min = self.d_min.item()
        return f"Blurring(K={self.K}, sigma_blur_max={self.sigma_blur_max:g}, d_min={d_min:g})"

    def log_signal(self, k: Tensor) -> Tensor:
        """log alpha_t of B6-B7."""
        t = on_double(k).double() / self.K
        tau = (self.sigma_blur_max * torch.sin(torch.pi * t / 2) ** 2) ** 2 / 2
        d_min = self.d_min.to(t.device)
        heat = torch.log1p(-d_min) + log_decay(self.height, self.width, tau)
        log_a = F.logsigmoid(self._log_snr(t)) / 2
        return log_a[:, None, None] + torch.logaddexp(heat, d_min.log())

    def noise_scale(self, k: Tensor) -> Tensor:
        """sigma_t of B8."""
        return torch.sigmoid(-self._log_snr(on_double(k).double() / self.K)).sqrt()

    def levels(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Real numbers in [0, K)."""
        device = generator.device if generator is not None else None
        return self.K * torch.rand(count, generator=generator, device=device)

    def _log_snr(self, t: Tensor) -> Tensor:
        low, high = torch.tensor([-5.0, 5.0], dtype=torch.float64).exp().arctan()
        return -2 * torch.log(torch.tan(t * (high - low) + low))


def make(
    height: int, width: int, *, kind: str, delta: float | None = None, **numbers: float
) -> Process:
    """A process by its name and its numbers, as params.yaml describes it.

    Args:
        height: image height in pixels.
        width: image width in pixels.
        kind: `inverse_heat`, `denoising` or `blurring`.
        delta: sampling noise of inverse heat dissipation.
        numbers: K, and the other arguments of the process.

    Raises:
        ValueError: there is no process of this name.
    """
    K = int(numbers.pop("K"))
    match kind:
        case "inverse_heat":
            ends = numbers["sigma_blur_min"], numbers["sigma_blur_max"]
            heat = HeatEquation(height, width, blur_schedule(K, *ends))
            return InverseHeat(heat, numbers["sigma"], delta)
        case "denoising":
            return Denoising(height, width, K)
        case "blurring":
            return Blurring(height, width, K, **numbers)
    raise ValueError(f"there is no process {kind!r}")

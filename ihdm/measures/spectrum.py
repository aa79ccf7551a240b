r"""Power spectra of images in the cosine basis.

    PSD(f) = mean of |V^T u|^2 over the coefficients (n, m) whose frequency is near f     (App. B.6)

The frequency of coefficient (n, m) is `pi sqrt(n^2/W^2 + m^2/H^2)` radians per pixel (Eq. 21).
"""

from typing import NamedTuple

import torch
from scipy.stats import linregress
from scipy.stats import t as student
from torch import Tensor

from ihdm.heat import frequencies, to_frequencies
from ihdm.measures.statistics import correlation
from ihdm.processes import InverseHeat, Process

__all__ = [
    "PowerLaw",
    "additivity",
    "crossing",
    "decades",
    "fine_power",
    "power_law",
    "radial_psd",
    "retraced",
    "rings",
    "signal_and_noise",
    "state_psd",
]


def rings(height: int, width: int) -> Tensor:
    """The partition of the frequency plane into equal-frequency contours (Fig. 10).

    The contours are rings of width `pi / max(H, W)` around its multiples.

    Args:
        height: image height H in pixels.
        width: image width W in pixels.

    Returns:
        (H, W) integers, the ring of each coefficient; those from max(H, W) on lie in the corner of
        the plane, beyond the highest frequency of one axis.
    """
    size = max(height, width)
    n, m = (torch.arange(side, dtype=torch.float64) * (size / side) for side in (height, width))
    return torch.hypot(n[:, None], m).round().long()


def radial_psd(images: Tensor) -> tuple[Tensor, Tensor]:
    """The one-dimensional PSD, averaged over equal-frequency contours (App. B.6).

    Coefficients in the corners of the plane are left out; see `rings`.

    Args:
        images: (B, C, H, W), in any unit.

    Returns:
        frequency: (R,) float64, radians per pixel, 0 first; R = max(H, W).
        power: (R,) float64, squared orthonormal DCT coefficients in squared units of the images,
            averaged over contour, channels and images.
    """
    H, W = images.shape[-2:]
    squared = to_frequencies(images.detach().to("cpu", torch.float64)).square().mean((0, 1))
    ring = rings(H, W)
    power = torch.stack([squared[ring == r].mean() for r in range(max(H, W))])
    return frequencies(max(H, W)), power


def decades(power: Tensor, reference: Tensor) -> float:
    """How far two spectra are apart: root mean square over rings of the log10 of their ratio.

    Args:
        power: (R,) a PSD.
        reference: (R,) another, of the same rings.
    """
    return (power / reference).log10().square().mean().sqrt().item()


def crossing(frequency: Tensor, power: Tensor, floor: float) -> float:
    """The lowest frequency at which a spectrum is below a floor, as that of noise.

    Args:
        frequency: (R,) radians per pixel, 0 first and rising.
        power: (R,) a PSD.
        floor: a power.

    Returns:
        The frequency; the highest if all of the spectrum is above the floor.
    """
    below = frequency[power < floor]
    return (below.min() if len(below) else frequency[-1]).item()


def fine_power(images: Tensor, reference: Tensor) -> float:
    """The power of images in the upper half of frequencies, relative to that of others.

    Args:
        images: (B, C, H, W).
        reference: (N, C, H, W), in the same unit.
    """
    frequency, power = radial_psd(images)
    upper = frequency > frequency[-1] / 2
    return (power[upper].sum() / radial_psd(reference)[1][upper].sum()).item()


class PowerLaw(NamedTuple):
    """`power = constant / frequency^alpha`.

    Attributes:
        alpha: the exponent.
        half_interval: half of its 95 % interval, as if the bins of the fit were independent.
        constant: the power at 1 radian per pixel.
        explained: share of the variance of log power that the law explains (R squared).
    """

    alpha: float
    half_interval: float
    constant: float
    explained: float


def power_law(frequency: Tensor, power: Tensor, band: tuple[float, float]) -> PowerLaw:
    """Least squares of log power on log frequency within a band (Sec. 3.3).

    Rings count as often as a logarithmic axis shows them: frequencies are first averaged in bins of
    equal width in log frequency, since three quarters of all rings lie in the upper two octaves.

    Args:
        frequency: (R,) radians per pixel, as `radial_psd` gives it.
        power: (R,) the PSD.
        band: lowest and highest frequency of the fit, in radians per pixel.

    Raises:
        ValueError: fewer than three bins lie in the band.
    """
    inside = (frequency >= band[0]) & (frequency <= band[1])
    x, y = frequency[inside].log2(), power[inside].log2()
    bins = (4 * x).floor().unique(return_inverse=True)[1]
    if bins.unique().numel() < 3:
        raise ValueError(f"the band {band} holds fewer than three quarter-octaves of frequencies")
    means = [(x[bins == b].mean().item(), y[bins == b].mean().item()) for b in bins.unique()]
    fit = linregress(*zip(*means, strict=True))
    half = student.ppf(0.975, len(means) - 2) * fit.stderr
    return PowerLaw(-float(fit.slope), float(half), float(2**fit.intercept), float(fit.rvalue**2))


def state_psd(process: Process, u_0: Tensor, k: int, noise: Tensor) -> Tensor:
    """The PSD of a drawn state, as an image's beside which it is drawn (Fig. 4).

    Args:
        process: the forward process.
        u_0: (B, C, H, W) images in [0, 1].
        k: level.
        noise: (B, C, H, W) of unit variance.

    Returns:
        (R,) float64, divided by the squared signal alpha_k^2 of frequency zero, which is that of
        all frequencies in a denoising process and 1 in inverse heat dissipation.
    """
    level = torch.tensor([k])
    u_k = process.example(u_0, level, noise)[0]
    return radial_psd(u_k)[1] / (2 * process.log_signal(level)[0, 0, 0]).exp()


def retraced(process: InverseHeat, samples: Tensor, states: Tensor, k: int) -> float:
    """Whether blurred samples lead back to the states that they came through.

    Args:
        process: the forward process.
        samples: (B, C, H, W) finished samples.
        states: (B, C, H, W) the states of the same samples at level k.
        k: level.

    Returns:
        The correlation over pixels of the blurred sample with the state, both blurred once more by
        the same width, which takes the fresh noise off the state; averaged over samples.
    """
    back = process.heat.blur(process.heat.blur(samples, k), k)
    pairs = zip(back, process.heat.blur(states, k), strict=True)
    return sum(correlation(a, b) for a, b in pairs) / len(samples)


def signal_and_noise(process: Process, u_0: Tensor, k: int) -> tuple[Tensor, float]:
    """The two parts of `E |V^T u_k|^2 = alpha_k^2 |V^T u_0|^2 + sigma_k^2` (B1).

    At frequency zero the first part is that of the mean as it is on [0, 1], with the offset of a
    process that works on [-1, 1].

    Args:
        process: the forward process.
        u_0: (B, C, H, W) images in [0, 1].
        k: level.

    Returns:
        (B, C, H, W) float64 power of the mean of u_k, and the variance of the noise, both on the
        scale where images lie in [0, 1].
    """
    level, none = torch.tensor([k]), torch.zeros_like(u_0, dtype=torch.float64)
    mean = process.example(u_0.double(), level, none)[0]
    sigma = (process.example(u_0.double(), level, none + 1)[0] - mean).mean().item()
    return to_frequencies(mean).square(), sigma**2


def additivity(process: Process, u_0: Tensor, k: int, noise: Tensor) -> float:
    """How far the spectrum of a drawn u_k is from the sum of the spectra of its two parts.

    Args:
        process: the forward process.
        u_0: (B, C, H, W) images in [0, 1].
        k: level.
        noise: (B, C, H, W) of unit variance.

    Returns:
        The root mean square over rings, but that of frequency zero, of the difference in units of
        the standard deviation that the sum predicts; 1 is expected where they add.
    """
    B, C, H, W = u_0.shape
    signal, variance = signal_and_noise(process, u_0, k)
    drawn = radial_psd(process.example(u_0, torch.tensor([k]), noise)[0])[1]
    ring, scores = rings(H, W), []
    for r in range(1, max(H, W)):
        power = signal[..., ring == r].mean()
        # Of a squared Gaussian with this mean square and variance, averaged over the ring.
        spread = 2 * variance**2 + 4 * variance * power
        scores.append((drawn[r] - power - variance) / (spread / (B * C * (ring == r).sum())).sqrt())
    return torch.stack(scores).square().mean().sqrt().item()

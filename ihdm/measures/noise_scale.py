"""The effect of the sampling noise delta on samples (Sec. 4, Fig. 6)."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from ihdm.measures.spectrum import fine_power, retraced
from ihdm.measures.statistics import contrast, jackknife
from ihdm.processes import InverseHeat

__all__ = ["bend", "measures"]


def measures(
    process: InverseHeat, path: Mapping[int, Tensor], k: int, digits: Tensor
) -> dict[str, tuple[float, float]]:
    """Measures samples that were drawn at one delta.

    Args:
        process: the forward process.
        path: level -> (B, C, H, W) states of the same samples; has 0 and k. B at least 2.
        k: a level at which states have detail.
        digits: (N, C, H, W) real images.

    Returns:
        Each with half of its 95 % interval: `fine`, the power of the upper half of frequencies over
        that of real images; `contrast`, the standard deviation over pixels over theirs; `retraced`,
        the correlation of the samples, blurred to level k, with the states that they came through.
    """
    samples, states, real = path[0], path[k], contrast(digits)

    def fine(u: Tensor) -> float:
        return fine_power(u, digits)

    def back(u: Tensor, u_k: Tensor) -> float:
        return retraced(process, u, u_k, k)

    return {
        "fine": (fine(samples), jackknife(fine, samples)),
        "contrast": (contrast(samples) / real, jackknife(contrast, samples) / real),
        "retraced": (back(samples, states), jackknife(back, samples, states)),
    }


def bend(
    samples: Mapping[float, Tensor], slopes: Sequence[float], digits: Tensor
) -> dict[str, float]:
    """How fast fine detail grows with delta, below a point and above it.

    Args:
        samples: delta in units of sigma -> (B, C, H, W) samples of the same starts and noise.
        slopes: three values of delta among them, rising; the second is the point.
        digits: (N, C, H, W) real images.

    Returns:
        Growth of the power of the upper half of frequencies (over that of real images) for each
        sigma: `below` and `above` the point, their `difference`, and half of its 95 % interval,
        `half_interval`.
    """
    low, point, high = slopes

    def growth(*three: Tensor) -> tuple[float, float]:
        first, second, third = (fine_power(u, digits) for u in three)
        return (second - first) / (point - low), (third - second) / (high - point)

    def difference(*three: Tensor) -> float:
        below, above = growth(*three)
        return above - below

    three = [samples[factor] for factor in slopes]
    below, above = growth(*three)
    half = jackknife(difference, *three)
    return {"below": below, "above": above, "difference": above - below, "half_interval": half}

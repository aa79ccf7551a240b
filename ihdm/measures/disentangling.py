"""How far noise decides the shape of a sample, and the prior state its colour (Sec. 4, Fig. 7a).

A grid of samples: `u_0(i, j)` has the noise of the i-th sample and the prior state of the j-th.
"""

from typing import Any

from torch import Tensor

from ihdm.measures import neighbours, statistics
from ihdm.model import Model
from ihdm.pixels import UInt8, to_unit

__all__ = ["grid", "legibility", "shares"]

NEW = 1000  # new images that distances are compared with


def grid(model: Model, noises: int, starts: int) -> tuple[Tensor, Tensor]:
    """Draws a sample for every pair of a noise and a prior state.

    Args:
        model: the model.
        noises: how many noises; those of its first samples.
        starts: how many prior states; those of its first samples.

    Returns:
        (starts, C, H, W) prior states and (noises, starts, C, H, W) samples.
    """
    u_K = model.starts(starts)
    noise_of = [row for row in range(noises) for _ in range(starts)]
    drawn = model.draw(noise_of, start=u_K.repeat(noises, 1, 1, 1))[0]
    return u_K, drawn.unflatten(0, (noises, starts))


def shares(starts: Tensor, samples: Tensor) -> dict[str, Any]:
    """The causes of the variance of shape and of colour, and how well the mean colour is kept.

    Shape is `neighbours.normalised_shape`; colour is the mean of each channel. 95 % intervals
    cover the draw of noises and of prior states: jackknives over each, added in quadrature.

    Args:
        starts: (J, C, H, W) prior states, J at least 2.
        samples: (I, J, C, H, W), I at least 2.

    Returns:
        `shape` and `colour`, each the fractions of the variance of `rows` (noise), `columns` (prior
        state) and `interaction` (only both together); `shape_half_interval` and
        `colour_half_interval` for each; and `mean_colour`, the `correlation` of the mean of a
        channel in a sample with that in its prior state, over all channels, with `half_interval`.
    """
    found: dict[str, Any] = {}
    colours = samples.mean((-2, -1))
    for name, values in (
        ("shape", neighbours.normalised_shape(samples)),
        ("colour", colours),
    ):
        found[name] = statistics.two_way(values)._asdict()
        found[f"{name}_half_interval"] = {part: half(values, part) for part in found[name]}
    of_samples = colours.transpose(0, 1)
    of_starts = starts.mean((-2, -1))[:, None].expand_as(of_samples)
    found["mean_colour"] = {
        "correlation": statistics.correlation(of_starts, of_samples),
        "half_interval": statistics.jackknife(statistics.correlation, of_starts, of_samples),
    }
    return found


def half(values: Tensor, part: str) -> float:
    """Half of the 95 % interval of one of the shares of the variance of (I, J, ...) values."""
    rows = statistics.jackknife(lambda x: getattr(statistics.two_way(x), part), values)
    columns = statistics.jackknife(
        lambda x: getattr(statistics.two_way(x.transpose(0, 1)), part),
        values.transpose(0, 1),
    )
    return float((rows**2 + columns**2) ** 0.5)


def legibility(samples: Tensor, train: UInt8, new: UInt8) -> dict[str, float]:
    """Whether samples have the shape and the contrast of images.

    Args:
        samples: (N, C, H, W).
        train: (M, C, H, W) training images.
        new: images that were not trained on; the first 1,000 are compared.

    Returns:
        `median` distance of the shape of a sample to the nearest training shape; `limit`, within
        which 95 % of new images lie; and `contrast` over that of new images.
    """
    real = to_unit(new[:NEW])
    ours, theirs = (
        neighbours.nearest(u, train, view=neighbours.normalised_shape).distance[:, 0]
        for u in (samples, real)
    )
    grey, real_grey = (statistics.contrast(u.mean(1, keepdim=True)) for u in (samples, real))
    return {
        "median": ours.median().item(),
        "limit": theirs.quantile(1 - neighbours.NEAR).item(),
        "contrast": grey / real_grey,
    }

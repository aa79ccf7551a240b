"""The statistics of one training, as the record keeps them for verdicts between models."""

import numpy as np
import torch

from ihdm.data.datasets import Images
from ihdm.measures import branching, digits, fidelity, gradients, interpolation
from ihdm.measures.features import BATCH, features
from ihdm.measures.statistics import contrast, correlation
from ihdm.model import Model
from ihdm.pixels import to_unit
from ihdm.processes import InverseHeat

__all__ = ["statistics"]

Statistics = dict[str, float]

BOOTSTRAPS = 200
PAIRS, POINTS = 6, 41  # of interpolations, as in Fig. 7b
SEQUENCES, BRANCHES = 16, 4
EARLY, LATE = 0.9, 0.1  # shares of K, at which sequences are split
END = (0.05, 0.1, 0.2)  # shares of K: the end of the process, with input gradients as in Fig. 8
STATES = 64  # of gradients


def statistics(model: Model, images: Images, samples: int) -> Statistics:
    """Measures a trained model of digits.

    Args:
        model: the model.
        images: the prepared data; samples are compared with those to report on.
        samples: how many to draw.

    Returns:
        `kid` with half of its interval, `kid_half`; `confidence` and `distance` of the digits drawn
        (`digits`); `contrast` over that of test digits; `symmetry`, `radius` and `sharpens` of the
        input gradients at the end of the process (`gradients`); `early` and `late`, the spread of
        branches (`branching`); of 41-point paths the mean `jump`, `length` and `foreign`
        (`interpolation`); and, for inverse heat dissipation, `brightness`, the correlation of the
        mean of a sample with that of its start, and `still`, the contrast of samples drawn without
        noise.
    """
    drawn = model.draw(samples, batch=BATCH)[0]
    real = contrast(to_unit(images.report))
    found = of_images(drawn, images, model.seed)
    found |= {"contrast": contrast(drawn) / real}
    found |= of_gradients(model, images)
    if torch.isfinite(drawn).all():
        found |= of_paths(model, drawn)
        spread = branching.spread(model, (EARLY, LATE), SEQUENCES, BRANCHES)
        found |= {"early": spread[EARLY][0], "late": spread[LATE][0]}
    if isinstance(model.process, InverseHeat):
        starts = model.starts(samples)
        found["brightness"] = correlation(starts.mean((1, 2, 3)), drawn.mean((1, 2, 3)))
        found["still"] = contrast(model.with_delta(0).draw(SEQUENCES)[0]) / real
    return {name: float(f"{value:.6g}") for name, value in found.items()}


def of_images(drawn: torch.Tensor, images: Images, seed: int) -> Statistics:
    """KID and classes of samples."""
    x = features(drawn.nan_to_num(), "digits")
    kid = fidelity.kid(x, features(images.report, "digits"), seed, BOOTSTRAPS)
    classes, labels = digits.drawn(drawn.nan_to_num()), images.labels["report"]
    real = np.bincount(labels, minlength=10) / len(labels)
    told = {"confidence": classes.confidence, "distance": digits.distance(classes.shares, real)}
    return {"kid": kid.value, "kid_half": kid.half, **told}


def of_gradients(model: Model, images: Images) -> Statistics:
    """Shape and sign of input gradients at the centre, averaged over images and levels."""
    u_0 = to_unit(images.report[:STATES])
    found = gradients.measures(gradients.along(model, u_0, END, model.seed))
    return {name: each["mean"] for name, each in found.items()}


def of_paths(model: Model, drawn: torch.Tensor) -> Statistics:
    """Smoothness of interpolations."""
    found = interpolation.measures(interpolation.paths(model, drawn[: 2 * PAIRS], POINTS))
    return {name: found[name]["mean"] for name in ("jump", "length", "foreign")}

"""Rules that judge claims by repeated trainings; each takes their statistics (see `trained`).

A verdict needs three trainings of every model that the claim names. Thresholds are in params.yaml.
Chapter 16 names the rules that changed after a run had been judged.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ihdm.measures.verdicts import (
    BY_CONSTRUCTION,
    CONTRADICTED,
    NOT_TESTED,
    SUPPORTED,
    TRAININGS,
    UNDECIDED,
    Judged,
    Trainings,
    above,
    below,
    both,
    compared,
    mean_of,
    missing,
    percent,
    values,
)
from ihdm.settings import Notebooks

__all__ = [
    "blur_helps",
    "blurring_as_good",
    "blurring_improves",
    "brightness_kept",
    "denoising_draws_better",
    "digits_equally_often",
    "early_splits_change_more",
    "fails_without_noise",
    "half_width_is_better",
    "local_gradients",
    "more_levels_do_not_help",
    "robust_to_sigma",
    "signs_flip",
    "skip_stabilises",
    "smoother",
]

SIGMAS = {"sigma_0.005": 0.005, "third": 0.01, "sigma_0.02": 0.02}


def lower_kid(trainings: Trainings, better: str, worse: str, remark: str = "") -> Judged:
    """The verdict on "samples of one model have a lower KID than those of another"."""
    if few := missing(trainings, better, worse):
        return few
    kid = compared(trainings, better, worse, "kid")
    value = f"KID {kid.first:.3f} against {kid.second:.3f} (difference ± {kid.half:.3f})"
    return Judged(value, above(kid.difference, kid.half, 0), remark, kid.trainings)


def unless_linear(
    found: Judged, t: Trainings, satisfied: Callable[[Mapping[str, Any]], bool]
) -> Judged:
    """A supported claim that the best linear step satisfies as well is so by construction."""
    if found.verdict != SUPPORTED:
        return found
    if not t.get("linear"):
        remark = "the record lacks the best linear step, which might satisfy it as well"
        return found._replace(verdict=NOT_TESTED, remark=remark)
    if all(map(satisfied, t["linear"])):
        remark = "the best linear step, which learned nothing, satisfies it as well"
        return found._replace(verdict=BY_CONSTRUCTION, remark=remark)
    return found


def unlearned(t: Trainings) -> Judged | None:
    """The judgement on a claim about the paper's network if ours of that kind draws no digits."""
    if few := missing(t, "published"):
        return few
    kids, linear = values(t, "published", "kid"), t.get("linear")
    if linear and max(kids) < min(values(t, "linear", "kid")):
        return None
    value = f"with training noise KID is {min(kids):.1f} to {max(kids):.1f}"
    if linear:
        value += f", {min(values(t, 'linear', 'kid')):.1f} for the best linear step"
    remark = "after so short a training, the paper's network draws no digits with noise either"
    return Judged(value, NOT_TESTED, remark, TRAININGS)


def fails_without_noise(t: Trainings, s: Notebooks) -> Judged:
    if few := missing(t, "sigma_zero", "published") or unlearned(t):
        return few
    spreads = [*values(t, "sigma_zero", "still"), *values(t, "sigma_zero", "contrast")]
    working, limit = values(t, "published", "contrast"), s.sigma_zero.blown_up
    value = (
        f"contrast {min(spreads):.2g} to {max(spreads):.2g} times that of digits; with training "
        f"noise {min(working):.2g} to {max(working):.2g}"
    )
    blown = [not spread <= limit for spread in spreads]  # True if it is not a number
    verdict = SUPPORTED if all(blown) else UNDECIDED if any(blown) else CONTRADICTED
    if max(working) > limit:
        return Judged(value, NOT_TESTED, "with training noise it fails as well", TRAININGS)
    return Judged(value, verdict, "both after the same short training", TRAININGS)


def signs_flip(t: Trainings, s: Notebooks) -> Judged:
    if few := missing(t, "sigma_zero", "published") or unlearned(t):
        return few
    without, with_noise = (mean_of(t, m, "sharpens") for m in ("sigma_zero", "published"))
    value = (
        f"negative next to the pixel in {percent(*without)} of images without noise, "
        f"in {percent(*with_noise)} with it"
    )
    limit = s.sigma_zero.opposite
    verdict = both(above(*without, limit), below(*with_noise, 1 - limit))
    return Judged(value, verdict, "at the end of the process", TRAININGS)


def smoother(t: Trainings, s: Notebooks) -> Judged:
    if few := missing(t, "ihdm", "ddpm"):
        return few
    found = {key: compared(t, "ihdm", "ddpm", key) for key in ("jump", "length")}
    value = ", ".join(
        f"{key} {c.first:.2f} against {c.second:.2f} (± {c.half:.2f})" for key, c in found.items()
    )
    verdict = both(*(above(c.difference, c.half, 0) for c in found.values()))
    judged = Judged(value, verdict, "", TRAININGS)
    return unless_linear(judged, t, lambda each: all(each[k] < c.second for k, c in found.items()))


def local_gradients(t: Trainings, s: Notebooks) -> Judged:
    if few := missing(t, "published", "ddpm") or unlearned(t):
        return few
    symmetry, radius = (compared(t, "published", "ddpm", key) for key in ("symmetry", "radius"))
    value = (
        f"symmetry {percent(symmetry.first)} against {percent(symmetry.second)} "
        f"(± {100 * symmetry.half:.0f}), radius {radius.first:.1f} against {radius.second:.1f} "
        f"pixels (± {radius.half:.1f})"
    )
    verdict = both(
        below(symmetry.difference, symmetry.half, 0), above(radius.difference, radius.half, 0)
    )
    remark = "the paper's parametrisation after a short training, at the end of the process"
    return Judged(value, verdict, remark, TRAININGS)


def early_splits_change_more(t: Trainings, s: Notebooks) -> Judged:
    if few := missing(t, "ihdm"):
        return few
    (early, a), (late, b) = (mean_of(t, "ihdm", key) for key in ("early", "late"))
    value = f"endings differ by {early:.3f} ± {a:.3f} if split early, by {late:.3f} ± {b:.3f} late"
    found = Judged(value, above(early - late, a + b, 0), "", TRAININGS)
    return unless_linear(found, t, lambda linear: linear["early"] > linear["late"])


def brightness_kept(t: Trainings, s: Notebooks) -> Judged:
    if few := missing(t, "ihdm"):
        return few
    kept, half = mean_of(t, "ihdm", "brightness")
    limit = s.claims.brightness
    found = Judged(f"correlation {kept:.4f} ± {half:.4f}", above(kept, half, limit), "", TRAININGS)
    return unless_linear(found, t, lambda linear: linear["brightness"] > s.claims.brightness)


def digits_equally_often(t: Trainings, s: Notebooks) -> Judged:
    if few := missing(t, "ihdm"):
        return few
    distance, half = mean_of(t, "ihdm", "distance")
    confidence, _ = mean_of(t, "ihdm", "confidence")
    value = f"total variation distance {distance:.3f} ± {half:.3f} from test digits"
    remark = f"the classifier's confidence is {percent(confidence)} on average"
    return Judged(value, below(distance, half, s.claims.classes), remark, TRAININGS)


def blurring_improves(t: Trainings, s: Notebooks) -> Judged:
    return lower_kid(t, "bdm", "ihdm")


def blurring_as_good(t: Trainings, s: Notebooks) -> Judged:
    return lower_kid(t, "bdm", "ddpm", "with the network and schedule of this project")


def blur_helps(t: Trainings, s: Notebooks) -> Judged:
    return lower_kid(t, "bdm", "bdm_without_blur")


def denoising_draws_better(t: Trainings, s: Notebooks) -> Judged:
    return lower_kid(t, "ddpm", "ihdm")


def half_width_is_better(t: Trainings, s: Notebooks) -> Judged:
    return lower_kid(t, "blur_14", "blur_28", "at a third of the budget")


def more_levels_do_not_help(t: Trainings, s: Notebooks) -> Judged:
    if few := missing(t, "levels_200", "third"):
        return few
    kid = compared(t, "levels_200", "third", "kid")
    value = f"KID {kid.first:.3f} with 200 levels, {kid.second:.3f} with 100 (± {kid.half:.3f})"
    verdict = below(kid.difference, kid.half, s.claims.levels * kid.second)
    return Judged(value, verdict, "at a third of the budget; the paper went beyond 200", TRAININGS)


def robust_to_sigma(t: Trainings, s: Notebooks) -> Judged:
    if few := missing(t, *SIGMAS):
        return few
    means = {sigma: mean_of(t, name, "kid") for name, sigma in SIGMAS.items()}
    value = "KID " + ", ".join(f"{v:.3f} ± {h:.3f} at {sigma:g}" for sigma, (v, h) in means.items())
    best, worst = (pick(means.values()) for pick in (min, max))
    verdict = below(worst[0] - s.claims.robust * best[0], worst[1] + s.claims.robust * best[1], 0)
    return Judged(value, verdict, "at a third of the budget, delta scaled with sigma", TRAININGS)


def skip_stabilises(t: Trainings, s: Notebooks) -> Judged:
    return Judged("", NOT_TESTED, "every network here has the skip")

"""A ledger of the papers' claims: each with its test, our value, and a verdict that a rule gives.

The rules are here and their thresholds in params.yaml, committed before the numbers that they
judge. A rule reads the metrics that the other notebooks wrote and nothing else. Where an interval
reaches over its threshold, or a gate is not passed (samples that are not legible, an optimum at the
end of its sweep, too few trainings), the claim is not testable at this scale.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ihdm.results import measured
from ihdm.settings import Notebooks

__all__ = ["CLAIMS", "CONTRADICTED", "SUPPORTED", "UNTESTABLE", "Claim", "Judged", "ledger"]

SUPPORTED, CONTRADICTED = "supported", "contradicted"
UNTESTABLE = "not testable at this scale"

Metrics = Mapping[str, Any]


class Judged(NamedTuple):
    """What the numbers say of a claim.

    Attributes:
        value: our numbers in words.
        verdict: supported, contradicted, or not testable at this scale.
        remark: which gate was not passed, or what the verdict does not say.
    """

    value: str
    verdict: str
    remark: str = ""


class Claim(NamedTuple):
    """A claim of a paper and its test.

    Attributes:
        place: where it is made.
        claim: what it says.
        test: the statistic, and what it has to be, with thresholds as fields of `s`.
        notebook: whose metrics it reads.
        judge: (metrics of that notebook, settings of all notebooks) -> what they say.
    """

    place: str
    claim: str
    test: str
    notebook: str
    judge: Callable[[Metrics, Notebooks], Judged]


def above(value: float, half: float, threshold: float) -> str:
    """The verdict on `value > threshold`, for a value with half of its 95 % interval."""
    if value - half > threshold:
        return SUPPORTED
    return CONTRADICTED if value + half < threshold else UNTESTABLE


def below(value: float, half: float, threshold: float) -> str:
    return above(-value, half, -threshold)


def both(*verdicts: str) -> str:
    """The verdict on a claim that needs all of its parts."""
    for verdict in (CONTRADICTED, UNTESTABLE):
        if verdict in verdicts:
            return verdict
    return SUPPORTED


def percent(value: float, half: float | None = None) -> str:
    interval = "" if half is None else f" ± {100 * half:.0f}"
    return f"{100 * value:.0f}{interval} %"


def fails_without_noise(m: Metrics, s: Notebooks) -> Judged:
    spread, half = m["spread_of_samples"], m["spread_half_interval"]
    runs = ("still", "noisy")
    value = " and ".join(f"{spread[run]:.2g} ± {half[run]:.1g}" for run in runs) + " times"
    limit = s.sigma_zero.blown_up
    # What is not a number has blown up, too.
    verdicts = [
        above(spread[run], half[run], limit) if math.isfinite(spread[run]) else SUPPORTED
        for run in runs
    ]
    return Judged(value, both(*verdicts), "one training of each model")


def signs_flip(m: Metrics, s: Notebooks) -> Judged:
    mean, half = m["opposite"]["mean"], m["opposite"]["half_interval"]
    shares = m["opposite_sign"].values()
    value = (
        f"{percent(mean, half)}, and from {percent(min(shares))} to {percent(max(shares))} by level"
    )
    holds = sum(share > s.sigma_zero.opposite for share in shares)
    remark = f"above the limit at {holds} of {len(shares)} levels; one training of each model"
    return Judged(value, above(mean, half, s.sigma_zero.opposite), remark)


def detail_grows(m: Metrics, s: Notebooks) -> Judged:
    bend = m["bend"]
    value = f"{bend['below']:.2f} below sigma, {bend['above']:.2f} above"
    verdict = above(bend["difference"], bend["half_interval"], 0)
    return Judged(f"{value} (± {bend['half_interval']:.2f} for the difference)", verdict)


def noise_sets_in(m: Metrics, s: Notebooks) -> Judged:
    at = f"{s.noise_scale.slopes[2]:g}"
    power, half = m["fine_power"][at], m["fine_power_half_interval"][at]
    verdict = above(power, half, s.noise_scale.degenerate)
    remark = "the paper says 'start to'; that KID is best near there is a claim below"
    return Judged(f"{power:.2f} ± {half:.2f}", verdict, remark)


def only_sharpens(m: Metrics, s: Notebooks) -> Judged:
    kept = {float(f): value for f, value in m["correlation_after_blurring_back"].items()}
    half = m["correlation_half_interval"]["0"]
    most = max(kept)
    value = f"{kept[0]:.3f} ± {half:.3f}, and {kept[most]:.3f} at {most:g} sigma"
    more = SUPPORTED if kept[0] > kept[most] else CONTRADICTED
    verdict = both(above(kept[0], half, s.claims.sharpens), more)
    power = m["fine_power"]
    share = power["0"] / power[f"{s.noise_scale.slopes[1]:g}"]
    remark = f"the paper says 'mainly'; fine detail has {share:.2f} times its power at sigma"
    return Judged(value, verdict, remark)


def power_law(m: Metrics, s: Notebooks) -> Judged:
    alpha = m["alpha"]
    mean, half = alpha["mean"], alpha["half_interval"]
    verdict = below(abs(mean - 2), half, s.psd_duality.tolerance)
    return Judged(f"{mean:.2f} ± {half:.2f}", verdict, f"{len(alpha) - 2} photographs")


def spectra_add(m: Metrics, s: Notebooks) -> Judged:
    worst = max(m["additivity"].values())
    return Judged(
        f"{worst:.2f} standard deviations",
        SUPPORTED if worst < s.claims.additivity else CONTRADICTED,
        "above and below are identities once the spectra add; the sum is what is tested",
    )


def colour_and_shape(m: Metrics, s: Notebooks) -> Judged:
    shape, half, gate = m["shape"], m["shape_half_interval"], m["legibility"]
    noise, together = percent(shape["rows"], half["rows"]), shape["interaction"]
    value = f"noise {noise}, both {percent(together, half['interaction'])}"
    wanted = s.colour_and_shape
    if gate["median"] > gate["limit"] or gate["contrast"] <= wanted.contrast:
        return Judged(value, UNTESTABLE, "the samples are not legible")
    verdict = both(
        above(shape["rows"], half["rows"], wanted.noise_share),
        below(together, half["interaction"], wanted.interaction),
    )
    remark = f"of the variance of colour, the prior state has {percent(m['colour']['columns'])}"
    return Judged(value, verdict, remark)


def smoother(m: Metrics, s: Notebooks) -> Judged:
    verdicts = [above(m[k]["difference"], m[k]["half_interval"], 0) for k in ("jump", "length")]
    value = ", ".join(
        f"{k} {m[k]['first']:.2f} against {m[k]['second']:.2f}" for k in ("jump", "length")
    )
    return Judged(value, both(*verdicts), "one training of each model")


def local_gradients(m: Metrics, s: Notebooks) -> Judged:
    symmetry, radius = m["symmetry"], m["radius"]
    value = (
        f"symmetry {100 * symmetry['first']:.0f} against {100 * symmetry['second']:.0f} %, "
        f"radius {radius['first']:.1f} against {radius['second']:.1f} pixels"
    )
    verdict = both(
        below(symmetry["difference"], symmetry["half_interval"], 0),
        above(radius["difference"], radius["half_interval"], 0),
    )
    return Judged(value, verdict, "one training of each model")


def no_copies(m: Metrics, s: Notebooks) -> Judged:
    near, p = m["near"]["IHDM"], m["p"]["IHDM"]
    value = f"{100 * near:.0f} % (p = {p:.2g})"
    if m["too_far"]["IHDM"]:
        return Judged(value, UNTESTABLE, "samples are too far from all digits")
    verdict = CONTRADICTED if p < m["limit"] else SUPPORTED
    return Judged(value, verdict, "finds copying of many samples, not of a few")


def overlap_flattens(m: Metrics, s: Notebooks) -> Judged:
    fall, rest = m["fall"]["whole"], m["fall"]["above_constant"]
    value = f"falls by {100 * fall['share']:.2g} ± {100 * fall['half_interval']:.1g} %"
    verdict = below(fall["share"], fall["half_interval"], s.claims.flat)
    less = f"{100 * rest['share']:.0f} % of what lies above its constant part"
    return Judged(value, verdict, f"that it falls is nearly an identity; {less}")


def elbo_near_sigma(m: Metrics, s: Notebooks) -> Judged:
    best, half = m["elbo_delta"]["value"], m["elbo_delta"]["half_interval"]
    verdict = below(abs(best - 1), half, s.claims.near_sigma)
    remark = "L_K aside, for the density; it follows where the errors are small against sigma"
    return Judged(f"{best:.4f} ± {half:.4f} sigma", verdict, remark)


def optima_in_order(m: Metrics, s: Notebooks) -> Judged:
    kid, elbo = m["kid_delta"], m["elbo_delta"]
    ends = f"{kid['value']:.2f} [{kid['low']:.2f}, {kid['high']:.2f}]"
    value = f"KID {ends}, ELBO {elbo['value']:.3f} sigma"
    if not kid["bracketed"]:
        return Judged(value, UNTESTABLE, "the optimum of KID is at an end of the sweep")
    centre, half = (kid["low"] + kid["high"]) / 2, (kid["high"] - kid["low"]) / 2
    return Judged(value, above(centre, half, elbo["value"]), "one training")


def optima_of_gaussians(m: Metrics, s: Notebooks) -> Judged:
    samples, elbo = m["gaussian"]["frechet"], m["gaussian"]["elbo"]
    verdict = SUPPORTED if samples > elbo else CONTRADICTED
    return Judged(f"samples {samples:.3f}, ELBO {elbo:.3f} sigma", verdict, "calculated, exact")


def blurring_improves(m: Metrics, s: Notebooks) -> Judged:
    gain, kid = m["blurring_against_heat"], m["kid"]
    if gain["seeds"] < 3:
        value = f"KID {kid['BDM']:.3f} against {kid['IHDM']:.3f}"
        return Judged(value, UNTESTABLE, "fewer than three trainings of each at these settings")
    value = f"KID lower by {gain['difference']:.3f} ± {gain['half_interval']:.3f}"
    verdict = above(gain["difference"], gain["half_interval"], 0)
    return Judged(value, verdict, f"{gain['seeds']} recorded trials of each, on digits for tuning")


CLAIMS = (
    Claim(
        "App. C.3, Fig. 13a",
        "Trained without noise, the model completely fails",
        "spread of samples over that of digits, without and with noise in sampling: "
        "both above {s.sigma_zero.blown_up:g}",
        "08-sigma-zero",
        fails_without_noise,
    ),
    Claim(
        "App. C.3, Fig. 13b",
        "Its input gradients have the opposite sign",
        "share of images with opposite signs next to the pixel, averaged over levels: "
        "above {s.sigma_zero.opposite:.0%}",
        "08-sigma-zero",
        signs_flip,
    ),
    Claim(
        "Sec. 4, Fig. 6",
        "Detail starts increasing particularly after sigma",
        "growth of the power of fine detail with delta, from {s.noise_scale.slopes[0]:g} to "
        "{s.noise_scale.slopes[1]:g} and on to {s.noise_scale.slopes[2]:g} sigma: faster above",
        "07-noise-scale",
        detail_grows,
    ),
    Claim(
        "Sec. 4, Fig. 6",
        "Images degenerate into noise after about 1.3 sigma",
        "power of fine detail over that of digits at {s.noise_scale.slopes[2]:g} sigma: "
        "over {s.noise_scale.degenerate:g}",
        "07-noise-scale",
        noise_sets_in,
    ),
    Claim(
        "Sec. 4, Fig. 6",
        "Without sampling noise the model does nothing but sharpen its start",
        "correlation of the blurred sample with an early state: above {s.claims.sharpens:g}, and "
        "above that with noise",
        "07-noise-scale",
        only_sharpens,
    ),
    Claim(
        "Sec. 3.3",
        "Natural images have a power law with alpha near 2",
        "mean alpha of photographs: within {s.psd_duality.tolerance:g} of 2",
        "06-psd-duality",
        power_law,
    ),
    Claim(
        "Sec. 3.3, Fig. 4",
        "Diffusion approaches the power law from above, heat dissipation from below",
        "spectra of drawn states against the sum of their parts: within "
        "{s.claims.additivity:g} standard deviations",
        "06-psd-duality",
        spectra_add,
    ),
    Claim(
        "Sec. 4, Figs. 7a and 29",
        "The noise decides the shape and the prior state the colour",
        "of the variance of shape, noise above {s.colour_and_shape.noise_share:.0%} and both "
        "together below {s.colour_and_shape.interaction:.0%}; legible samples",
        "09-colour-and-shape",
        colour_and_shape,
    ),
    Claim(
        "Sec. 4, Figs. 7b and 26-28",
        "Interpolations are smoother than those of a diffusion model",
        "largest jump and length of {s.interpolation.pairs} paths, paired: both smaller",
        "10-interpolation",
        smoother,
    ),
    Claim(
        "Sec. 4, Fig. 8",
        "Input gradients are circular and local, those of a diffusion model less so",
        "share explained by distance and radius of 90 % of the energy, paired: larger and smaller",
        "11-input-gradients",
        local_gradients,
    ),
    Claim(
        "App. D.4, Figs. 30-32",
        "Samples are not copies of training images",
        "share nearer than the nearest 5 % of new digits: not larger; samples not too far",
        "12-nearest-neighbours",
        no_copies,
    ),
    Claim(
        "App. C.1, Fig. 11",
        "The bound is smallest for delta near sigma",
        "delta of the smallest bound: within {s.claims.near_sigma:.0%} of sigma",
        "14-likelihood",
        elbo_near_sigma,
    ),
    Claim(
        "App. C.1, Fig. 11",
        "Samples are best at a larger delta than the bound",
        "interval of the delta of the lowest KID: above the delta of the smallest bound",
        "13-fid-tables",
        optima_in_order,
    ),
    Claim(
        "ours, after App. C.1",
        "The same order holds for normal images with the spectrum of digits and the best steps",
        "delta of the smallest Frechet distance of samples: above the delta of the smallest bound",
        "13-fid-tables",
        optima_of_gaussians,
    ),
    Claim(
        "App. C.2, Fig. 12",
        "L_K does not change much from a blur of three quarters of the image to all of it",
        "its fall from {s.prior_overlap.between[0]:g} to {s.prior_overlap.between[1]:g} pixels: "
        "below {s.claims.flat:.0%}",
        "15-prior-overlap",
        overlap_flattens,
    ),
    Claim(
        "BDM, Sec. 1",
        "Blurring diffusion improves on inverse heat dissipation",
        "difference of KID at each model's best setting, over training seeds: above 0",
        "13-fid-tables",
        blurring_improves,
    ),
)


def ledger(settings: Notebooks) -> list[tuple[Claim, Judged]]:
    """Judges every claim by the metrics of the pipeline.

    Args:
        settings: the section `notebooks` of params.yaml.

    Returns:
        Each claim, its test with the thresholds of params.yaml, and what the numbers say.

    Raises:
        ProjectError: the metrics of a notebook are missing or damaged.
    """
    stated = [claim._replace(test=claim.test.format(s=settings)) for claim in CLAIMS]
    return [(claim, claim.judge(measured(claim.notebook), settings)) for claim in stated]

"""A ledger of the papers' claims: each with its test, our value, and a verdict that a rule gives.

The rules are here and their thresholds in params.yaml, committed before the numbers that they
judge. A rule reads the metrics that the other notebooks wrote and nothing else. Where an interval
reaches over its threshold, or a gate is not passed (samples that are not legible, an optimum at the
end of its sweep), the claim is not testable at this scale, and the ledger says why.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ihdm import params
from ihdm.settings import Notebooks, ProjectError

__all__ = ["CLAIMS", "CONTRADICTED", "SUPPORTED", "UNTESTABLE", "Claim", "Judged", "ledger"]

SUPPORTED, CONTRADICTED = "supported", "contradicted"
UNTESTABLE = "not testable at this scale"

Metrics = Mapping[str, Any]


class Judged(NamedTuple):
    """What the numbers say of a claim.

    Attributes:
        value: our numbers in words.
        verdict: supported, contradicted, or not testable at this scale.
        reason: why it is not testable, or what the verdict does not say.
    """

    value: str
    verdict: str
    reason: str = ""


class Claim(NamedTuple):
    """A claim of a paper and its test.

    Attributes:
        place: where it is made.
        claim: what it says.
        test: the statistic, and what it has to be.
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


def either(holds: bool) -> str:
    return SUPPORTED if holds else CONTRADICTED


def fails_without_noise(m: Metrics, s: Notebooks) -> Judged:
    spread = m["spread_of_samples"]
    # In this form, so that a spread that is not a number counts as blown up.
    blown = all(not spread[run] <= s.sigma_zero.blown_up for run in ("still", "noisy"))
    return Judged(f"{spread['still']:.2g} and {spread['noisy']:.2g} times", either(blown))


def signs_flip(m: Metrics, s: Notebooks) -> Judged:
    shares = list(m["opposite_sign"].values())
    mean = sum(shares) / len(shares)
    value = f"{100 * mean:.0f} % on average, {100 * min(shares):.0f} to {100 * max(shares):.0f} %"
    return Judged(value, either(mean > s.sigma_zero.opposite), "one training of each model")


def detail_grows(m: Metrics, s: Notebooks) -> Judged:
    power = {float(f): value for f, value in m["fine_power"].items()}
    below = max(f for f in power if f <= 0.5)
    beyond = min(f for f in power if f >= 1.1)
    value = f"{power[below]:.2f} at {below:g} sigma, {power[beyond]:.2f} at {beyond:g} sigma"
    return Judged(value, either(power[beyond] > power[below]))


def noise_sets_in(m: Metrics, s: Notebooks) -> Judged:
    power = {float(f): value for f, value in m["fine_power"].items()}
    noisy = [f for f, value in sorted(power.items()) if value > s.noise_scale.degenerate]
    at = min(f for f in power if f >= 1.3)
    first = f"first above at {noisy[0]:g} sigma" if noisy else "never in the sweep"
    return Judged(
        f"{power[at]:.2f} at {at:g} sigma; {first}", either(power[at] > s.noise_scale.degenerate)
    )


def only_sharpens(m: Metrics, s: Notebooks) -> Judged:
    kept = {float(f): value for f, value in m["correlation_after_blurring_back"].items()}
    still, most = kept[min(kept)], kept[max(kept)]
    value = f"{still:.3f} at {min(kept):g} sigma, {most:.3f} at {max(kept):g} sigma"
    return Judged(value, either(still > s.claims.sharpens and still > most))


def power_law(m: Metrics, s: Notebooks) -> Judged:
    alpha = m["alpha"]
    mean, half = alpha["mean"], alpha["half_interval"]
    away = abs(mean - 2)
    value = f"{mean:.2f} +- {half:.2f}"
    verdict = above(s.psd_duality.tolerance, half, away)
    return Judged(value, verdict, f"{len(alpha) - 2} photographs")


def spectra_add(m: Metrics, s: Notebooks) -> Judged:
    worst = max(m["additivity"].values())
    return Judged(
        f"{worst:.2f} standard deviations",
        either(worst < s.claims.additivity),
        "above and below are identities once the spectra add; the sum is what is tested",
    )


def colour_and_shape(m: Metrics, s: Notebooks) -> Judged:
    shape, gate = m["shape"], m["legibility"]
    value = f"noise {100 * shape['rows']:.0f} %, both {100 * shape['interaction']:.0f} %"
    legible = gate["median"] <= gate["limit"] and gate["contrast"] > s.colour_and_shape.contrast
    if not legible:
        return Judged(value, UNTESTABLE, "the samples are not legible")
    apart = shape["rows"] > s.colour_and_shape.noise_share
    return Judged(value, either(apart and shape["interaction"] < s.colour_and_shape.interaction))


def smoother(m: Metrics, s: Notebooks) -> Judged:
    verdicts = {above(m[k]["difference"], m[k]["half_interval"], 0) for k in ("jump", "length")}
    value = ", ".join(
        f"{k} {m[k]['first']:.2f} against {m[k]['second']:.2f}" for k in ("jump", "length")
    )
    return Judged(value, verdicts.pop() if len(verdicts) == 1 else UNTESTABLE, "one model of each")


def local_gradients(m: Metrics, s: Notebooks) -> Judged:
    signs = {"symmetry": -1, "radius": 1}
    verdicts = {
        above(sign * m[k]["difference"], m[k]["half_interval"], 0) for k, sign in signs.items()
    }
    symmetry, radius = m["symmetry"], m["radius"]
    value = (
        f"symmetry {100 * symmetry['first']:.0f} against {100 * symmetry['second']:.0f} %, "
        f"radius {radius['first']:.1f} against {radius['second']:.1f} pixels"
    )
    return Judged(value, verdicts.pop() if len(verdicts) == 1 else UNTESTABLE, "one model of each")


def no_copies(m: Metrics, s: Notebooks) -> Judged:
    near, p = m["near"]["IHDM"], m["p"]["IHDM"]
    value = f"{100 * near:.0f} % (p = {p:.2g})"
    if m["too_far"]["IHDM"]:
        return Judged(value, UNTESTABLE, "samples are too far from all digits")
    return Judged(value, either(p > 0.05), "finds copying of many samples, not of a few")


def overlap_flattens(m: Metrics, s: Notebooks) -> Judged:
    exact = {float(width): value for width, value in m["exact"].items()}
    widths = sorted(exact)
    own, last = m["own"], widths[-1]
    left = exact[own] - exact[last]
    share = left / (exact[widths[0]] - exact[last])
    return Judged(
        f"{100 * share:.2g} % of the fall is left beyond {own:g} pixels",
        either(share < s.claims.flat),
        "that it falls is nearly an identity; what is tested is that it flattens",
    )


def elbo_near_sigma(m: Metrics, s: Notebooks) -> Judged:
    best, half = m["elbo_delta"]["value"], m["elbo_delta"]["half_interval"]
    verdict = above(s.claims.near_sigma, half, abs(best - 1))
    return Judged(f"{best:.3f} +- {half:.3f} sigma", verdict)


def optima_in_order(m: Metrics, s: Notebooks) -> Judged:
    kid, elbo = m["kid_delta"], m["elbo_delta"]
    ends = f"{kid['value']:.2f} [{kid['low']:.2f}, {kid['high']:.2f}]"
    value = f"KID {ends}, ELBO {elbo['value']:.3f} sigma"
    if not kid["bracketed"]:
        return Judged(value, UNTESTABLE, "the optimum of KID is at an end of the sweep")
    if kid["low"] > elbo["value"]:
        return Judged(value, SUPPORTED)
    return Judged(value, CONTRADICTED if kid["high"] < elbo["value"] else UNTESTABLE)


def optima_in_order_of_gaussians(m: Metrics, s: Notebooks) -> Judged:
    optima = m["gaussian"]
    value = f"samples {optima['frechet']:.3f}, ELBO {optima['elbo']:.3f} sigma"
    return Judged(
        value, either(optima["frechet"] > optima["elbo"]), "calculated, without a network"
    )


def blurring_improves(m: Metrics, s: Notebooks) -> Judged:
    gain = m["blurring_against_heat"]
    value = f"KID lower by {gain['difference']:.3f} +- {gain['half_interval']:.3f}"
    if gain["seeds"] < 3:
        kid = m["kid"]
        value = f"KID {kid['BDM']:.3f} against {kid['IHDM']:.3f}"
        return Judged(value, UNTESTABLE, "fewer than three trainings of each model")
    verdict = above(gain["difference"], gain["half_interval"], 0)
    return Judged(value, verdict, f"{gain['seeds']} recorded trials of each, on digits for tuning")


CLAIMS = (
    Claim(
        "App. C.3, Fig. 13a",
        "Trained without noise, the model completely fails",
        "spread of samples over that of digits, with and without noise in sampling: both above 3",
        "08-sigma-zero",
        fails_without_noise,
    ),
    Claim(
        "App. C.3, Fig. 13b",
        "Its input gradients have the opposite sign",
        "share of images with opposite signs next to the pixel, averaged over levels: above 95 %",
        "08-sigma-zero",
        signs_flip,
    ),
    Claim(
        "Sec. 4, Fig. 6",
        "Detail appears as delta passes sigma",
        "power of fine detail over that of digits: larger just above sigma than at half of it",
        "07-noise-scale",
        detail_grows,
    ),
    Claim(
        "Sec. 4, Fig. 6",
        "Images degenerate into noise after about 1.3 sigma",
        "power of fine detail over that of digits at 1.3 sigma or next above: over 1.5",
        "07-noise-scale",
        noise_sets_in,
    ),
    Claim(
        "Sec. 4, Fig. 6",
        "Without sampling noise the model only sharpens its start",
        "correlation of the blurred sample with an early state: above 0.99 and that with noise",
        "07-noise-scale",
        only_sharpens,
    ),
    Claim(
        "Sec. 3.3",
        "Natural images have a power law with alpha near 2",
        "mean alpha of photographs: within 0.3 of 2",
        "06-psd-duality",
        power_law,
    ),
    Claim(
        "Sec. 3.3, Fig. 4",
        "Diffusion approaches the power law from above, heat dissipation from below",
        "spectra of drawn states against the sum of their parts: within 1.5 standard deviations",
        "06-psd-duality",
        spectra_add,
    ),
    Claim(
        "Sec. 4, Figs. 7a and 29",
        "The noise decides the shape and the prior state the colour",
        "of the variance of shape, noise above 60 % and both together below 25 %; legible samples",
        "09-colour-and-shape",
        colour_and_shape,
    ),
    Claim(
        "Sec. 4, Figs. 7b and 26-28",
        "Interpolations are smoother than those of a diffusion model",
        "largest jump and length of 32 paths, paired: both smaller",
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
        "delta of the smallest bound: within 10 % of sigma",
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
        "App. C.1, Fig. 11",
        "So they are for normal images with the spectrum of digits and the best possible steps",
        "delta of the smallest Frechet distance of samples: above the delta of the smallest bound",
        "13-fid-tables",
        optima_in_order_of_gaussians,
    ),
    Claim(
        "App. C.2, Fig. 12",
        "L_K falls with the blur and flattens at half the size of the image",
        "of the fall over all widths, what is left beyond the experiment's: below 1 %",
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

    Raises:
        ProjectError: the metrics of a notebook are missing.
    """
    found = []
    for claim in CLAIMS:
        path = params.root() / "results" / "metrics" / f"{claim.notebook}.json"
        try:
            metrics = json.loads(path.read_text())
        except FileNotFoundError:
            raise ProjectError(f"{path} does not exist: run `dvc repro`") from None
        found.append((claim, claim.judge(metrics, settings)))
    return found

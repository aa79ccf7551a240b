"""Rules that judge the papers' claims by the metrics of notebooks.

Thresholds are in params.yaml, committed before the numbers that they judge. If an interval reaches
over its threshold, or a gate is not passed (samples that are not legible, an optimum at the end of
its sweep, too few trainings), the claim is not testable at this scale.
"""

import math

from ihdm.measures import verdicts
from ihdm.measures.verdicts import (
    BY_CONSTRUCTION,
    CONTRADICTED,
    NOT_TESTED,
    SUPPORTED,
    UNDECIDED,
    Judged,
    Metrics,
    percent,
)
from ihdm.settings import Notebooks

__all__ = [
    "CONTRADICTED",
    "SUPPORTED",
    "UNTESTABLE",
    "Judged",
    "Metrics",
    "blurring_improves",
    "colour_and_shape",
    "detail_grows",
    "elbo_near_sigma",
    "fails_without_noise",
    "local_gradients",
    "mean_colour_kept",
    "no_copies",
    "noise_sets_in",
    "only_sharpens",
    "optima_in_order",
    "optima_of_gaussians",
    "overlap_flattens",
    "power_law",
    "signs_flip",
    "smoother",
    "spectra_add",
]

UNTESTABLE = "not testable at this scale"


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
    wanted, linear = s.colour_and_shape, m["linear"]
    noise, both_together = (percent(shape[key], half[key]) for key in ("rows", "interaction"))
    value = f"noise {noise}, both {both_together}"
    if gate["median"] > gate["limit"] or gate["contrast"] <= wanted.contrast:
        return Judged(value, NOT_TESTED, "the samples are not legible")

    def verdict(of: Metrics) -> str:
        shape, half = of["shape"], of["shape_half_interval"]
        return verdicts.both(
            verdicts.above(shape["rows"], half["rows"], wanted.noise_share),
            verdicts.below(shape["interaction"], half["interaction"], wanted.interaction),
        )

    # Samples of the linear network are not legible, but blank ones would show nothing.
    if verdict(linear) == SUPPORTED and linear["legibility"]["contrast"] > wanted.contrast:
        found = as_linear(verdict(m))
        known = percent(linear["shape"]["rows"])
        return Judged(value, found, f"with the best linear step, noise has {known} as well")
    remark = f"of the variance of colour, the prior state has {percent(m['colour']['columns'])}"
    return Judged(value, verdict(m), remark)


def mean_colour_kept(m: Metrics, s: Notebooks) -> Judged:
    def verdict(of: Metrics) -> str:
        kept = of["mean_colour"]
        return verdicts.above(kept["correlation"], kept["half_interval"], s.claims.brightness)

    kept, linear = m["mean_colour"], m["linear"]
    value = f"correlation {kept['correlation']:.4f} ± {kept['half_interval']:.4f}"
    if verdict(linear) == SUPPORTED:
        known = linear["mean_colour"]["correlation"]
        return Judged(value, as_linear(verdict(m)), f"the best linear step: {known:.4f}")
    return Judged(value, verdict(m))


def as_linear(verdict: str) -> str:
    """The verdict on a claim that the untrained linear network satisfies."""
    return BY_CONSTRUCTION if verdict == SUPPORTED else verdict


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
    def verdict(of: str) -> str:
        if m["too_far"][of]:
            return NOT_TESTED
        if m["p"][of] < m["limit"]:
            return CONTRADICTED
        seen = m["detectable"][of] < s.nearest_neighbours.copies
        return SUPPORTED if seen else UNDECIDED

    near, half, seen = (m[key]["IHDM"] for key in ("near", "near_half_interval", "detectable"))
    value = f"{percent(near, half)} of samples are near (p = {m['p']['IHDM']:.2g})"
    if (found := verdict("IHDM")) == NOT_TESTED:
        return Judged(value, found, "samples are too far from all digits")
    if verdict("linear") == SUPPORTED:
        return Judged(value, as_linear(found), "the best linear step is no nearer")
    return Judged(value, found, f"the test would find {percent(seen)} of copies or more")


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

"""Rules that judge claims by the metrics of one chapter; `comparisons` has those between trainings.

Thresholds are in params.yaml. Chapter 16 names the rules that changed after a run had been judged.
"""

from ihdm.measures.verdicts import (
    BY_CONSTRUCTION,
    CONTRADICTED,
    NOT_TESTED,
    SUPPORTED,
    UNDECIDED,
    Judged,
    Metrics,
    above,
    below,
    both,
    percent,
)
from ihdm.settings import Notebooks

__all__ = [
    "colour_and_shape",
    "detail_grows",
    "elbo_near_sigma",
    "mean_colour_kept",
    "no_copies",
    "noise_sets_in",
    "only_sharpens",
    "optima_in_order",
    "optima_of_gaussians",
    "overlap_flattens",
    "power_law",
    "robust_to_delta",
    "spectra_add",
]


def detail_grows(m: Metrics, s: Notebooks) -> Judged:
    bend, first = m["bend"], f"{s.noise_scale.slopes[0]:g}"
    value = (
        f"{bend['below']:.2f} below sigma, {bend['above']:.2f} above (± "
        f"{bend['half_interval']:.2f} for the difference)"
    )
    fine, half = m["fine"][first], m["fine_half_interval"][first]
    if fine - half > s.claims.detailed:
        remark = f"at {first} sigma, samples have {percent(fine, half)} of the detail of digits"
        return Judged(value, NOT_TESTED, remark)
    return Judged(value, above(bend["difference"], bend["half_interval"], 0))


def noise_sets_in(m: Metrics, s: Notebooks) -> Judged:
    rise, to = m["kid_rise"], max(map(float, m["kid_against_delta"]))
    value = f"KID rises by {rise['value']:.3f} ± {rise['half']:.3f} up to {to:g} sigma"
    return Judged(value, above(rise["value"], rise["half"], 0), "one training, paired draws")


def only_sharpens(m: Metrics, s: Notebooks) -> Judged:
    fine, half = m["fine"], m["fine_half_interval"]
    at = f"{s.noise_scale.slopes[1]:g}"
    value = (
        f"fine detail {fine['0']:.2f} ± {half['0']:.2f} of that of digits, "
        f"{fine[at]:.2f} ± {half[at]:.2f} at sigma"
    )
    if m["contrast"]["0"] < s.claims.blank:
        return Judged(value, NOT_TESTED, "samples without noise are blank")
    verdict = above(fine[at] - fine["0"], half[at] + half["0"], 0)
    return Judged(value, verdict, "one training")


def power_law(m: Metrics, s: Notebooks) -> Judged:
    alpha = m["alpha"]
    mean, half = alpha["mean"], alpha["half_interval"]
    verdict = below(abs(mean - 2), half, s.psd_duality.tolerance)
    return Judged(f"{mean:.2f} ± {half:.2f}", verdict, f"{len(alpha) - 2} photographs")


def spectra_add(m: Metrics, s: Notebooks) -> Judged:
    worst = max(m["additivity"].values())
    return Judged(
        f"{worst:.2f} standard deviations",
        *identity(worst < s.claims.additivity),
    )


def identity(holds: bool) -> tuple[str, str]:
    """The verdict on an identity, which tests our code alone, and its remark."""
    if holds:
        return BY_CONSTRUCTION, "calculated without a network, as a test of our code"
    return NOT_TESTED, "an identity, and our code fails the test of it"


def colour_and_shape(m: Metrics, s: Notebooks) -> Judged:
    shape, half, gate = m["shape"], m["shape_half_interval"], m["legibility"]
    wanted, linear = s.colour_and_shape, m["linear"]
    noise, both_together = (percent(shape[key], half[key]) for key in ("rows", "interaction"))
    value = f"noise {noise}, both {both_together}"
    if gate["median"] > gate["limit"] or gate["contrast"] <= wanted.contrast:
        return Judged(value, NOT_TESTED, "the samples are not legible")

    def verdict(of: Metrics) -> str:
        shape, half = of["shape"], of["shape_half_interval"]
        return both(
            above(shape["rows"], half["rows"], wanted.noise_share),
            below(shape["interaction"], half["interaction"], wanted.interaction),
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
        return above(kept["correlation"], kept["half_interval"], s.claims.brightness)

    kept, linear = m["mean_colour"], m["linear"]
    value = f"correlation {kept['correlation']:.4f} ± {kept['half_interval']:.4f}"
    if verdict(linear) == SUPPORTED:
        known = linear["mean_colour"]["correlation"]
        return Judged(value, as_linear(verdict(m)), f"the best linear step: {known:.4f}")
    return Judged(value, verdict(m))


def as_linear(verdict: str) -> str:
    """The verdict on a claim that the untrained linear network satisfies."""
    return BY_CONSTRUCTION if verdict == SUPPORTED else verdict


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
    far = m["median_distance"]
    remark = (
        f"the test would find {percent(seen)} of copies or more; the median distance is "
        f"{far['IHDM']:.1f}, of new digits {far['new digits']:.1f}"
    )
    return Judged(value, found, remark)


def overlap_flattens(m: Metrics, s: Notebooks) -> Judged:
    start, stop = s.prior_overlap.between
    before = max(width for width in s.prior_overlap.sigma_blur_max if width < start)
    (last, half), (first, wider) = fallen(m, start, stop), fallen(m, before, start)
    value = (
        f"falls by {last:.2f} ± {half:.2f} nats; from {before:g} to {start:g} pixels by "
        f"{first:.1f} ± {wider:.1f}"
    )
    whole, rest = m["fall"]["whole"], m["fall"]["above_constant"]
    remark = (
        f"{100 * whole['share']:.2g} % of L_K, {percent(rest['share'])} of it above the part that "
        "no blur changes"
    )
    flat = s.claims.flat
    return Judged(value, below(last - flat * first, half + flat * wider, 0), remark)


def fallen(m: Metrics, start: float, stop: float) -> tuple[float, float]:
    """By how many nats L_K falls between two widths, and half of an interval of at least 95 %."""
    steps = [
        step
        for name, step in m["change"].items()
        if all(start <= float(width) <= stop for width in name.split(" to "))
    ]
    return -sum(step["mean"] for step in steps), sum(step["half_interval"] for step in steps)


def elbo_near_sigma(m: Metrics, s: Notebooks) -> Judged:
    best, half = m["elbo_delta"]["value"], m["elbo_delta"]["half_interval"]
    verdict = below(abs(best - 1), half, s.claims.near_sigma)
    remark = f"one training; with the best linear steps it is {m['linear_optimum']:.2f} sigma"
    return Judged(f"{best:.4f} ± {half:.4f} sigma", verdict, remark)


def optima_in_order(m: Metrics, s: Notebooks) -> Judged:
    kid, elbo = m["kid_delta"], m["elbo_delta"]
    ends = f"{kid['value']:.2f} [{kid['low']:.2f}, {kid['high']:.2f}]"
    value = f"KID {ends}, ELBO {elbo['value']:.3f} sigma"
    if not kid["bracketed"]:
        return Judged(value, NOT_TESTED, "the optimum of KID is at an end of the sweep")
    centre, half = (kid["low"] + kid["high"]) / 2, (kid["high"] - kid["low"]) / 2
    verdict, gaussian = above(centre, half, elbo["value"]), m["gaussian"]
    if gaussian["frechet"] > gaussian["elbo"]:
        return Judged(value, as_linear(verdict), "so it is for Gaussian images and linear steps")
    return Judged(value, verdict, "one training")


def optima_of_gaussians(m: Metrics, s: Notebooks) -> Judged:
    samples, elbo = m["gaussian"]["frechet"], m["gaussian"]["elbo"]
    return Judged(f"samples {samples:.3f}, ELBO {elbo:.3f} sigma", *identity(samples > elbo))


def robust_to_delta(m: Metrics, s: Notebooks) -> Judged:
    kids, halves = m["kid_against_delta"], m["kid_half_against_delta"]
    best, at = min(kids, key=lambda factor: kids[factor]), f"{s.fid_tables.usual:g}"
    usual, lowest = kids[at], kids[best]
    value = f"{usual:.3f} at {at} sigma, {lowest:.3f} at {best} sigma"
    factor = s.claims.robust
    verdict = below(usual - factor * lowest, halves[at] + factor * halves[best], 0)
    return Judged(value, verdict, "one training")

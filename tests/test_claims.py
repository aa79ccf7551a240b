import copy

import pytest

from ihdm.measures import claims
from ihdm.measures.claims import CLAIMS
from ihdm.measures.rules import CONTRADICTED, SUPPORTED, UNTESTABLE
from ihdm.measures.verdicts import BY_CONSTRUCTION, NOT_TESTED, UNDECIDED, VERDICTS
from ihdm.settings import load
from tests.conftest import write_settings

BY_NAME = {claim.judge.__name__: claim.judge for claim in CLAIMS}


def pair(first, second, half=0.1):
    return {
        "first": first,
        "second": second,
        "difference": second - first,
        "half_interval": half,
    }


SPREAD = {"still": 5.0, "noisy": 6.0, "working": 1.0}
ERROR = {"still": 0.5, "noisy": 0.5, "working": 0.1}
LEGIBLE = {"median": 1.0, "limit": 2.0, "contrast": 0.8}
SHARES = {"rows": 0.8, "interaction": 0.1}
KNOWN = {"rows": 0.05, "interaction": 0.05}
KID = {"value": 1.3, "low": 1.2, "high": 1.4, "bracketed": True}
ELBO = {"value": 1.03, "half_interval": 0.01}
GAIN = {"difference": 0.1, "half_interval": 0.05, "seeds": 3}
BEST = {"IHDM": 0.1, "BDM": 0.02}
BAD = {"shape": {"rows": 0.1, "interaction": 0.8}, "shape_half_interval": KNOWN}
BAD |= {"legibility": LEGIBLE}
NEAR = {
    "near": {"IHDM": 0.01, "linear": 0.0},
    "near_half_interval": {"IHDM": 0.01, "linear": 0.05},
    "p": {"IHDM": 1.0, "linear": 1.0},
    "limit": 0.05,
    "too_far": {"IHDM": False, "linear": True},
    "detectable": {"IHDM": 0.08, "linear": 0.08},
}


def spread(**changes):
    return {"spread_of_samples": SPREAD | changes, "spread_half_interval": ERROR}


def opposite(mean):
    shares = {"1": 1.0, "4": mean}
    return {"opposite": {"mean": mean, "half_interval": 0.02}, "opposite_sign": shares}


def bend(difference):
    parts = {"below": 0.2, "above": 0.2 + difference}
    return {"bend": parts | {"difference": difference, "half_interval": 0.1}}


def fine(power):
    powers = {"0": 0.2, "1": 0.8, "1.4": power}
    return {"fine_power": powers, "fine_power_half_interval": {"1.4": 0.2}}


def kept(still, noisy=0.7):
    correlations = {"0": still, "2.5": noisy}
    return fine(1.0) | {
        "correlation_after_blurring_back": correlations,
        "correlation_half_interval": {"0": 0.002, "2.5": 0.1},
    }


def alpha(mean, half):
    return {"alpha": {"cat": mean, "dog": mean, "mean": mean, "half_interval": half}}


def shape(gate=LEGIBLE, linear=BAD, **changes):
    shares = {"shape": SHARES | changes, "shape_half_interval": KNOWN}
    return shares | {"colour": {"columns": 0.9}, "legibility": gate, "linear": linear}


LINEAR = shape(linear=None, rows=0.99, interaction=0.0)


def mean_colour(kept, linear=0.5):
    def of(value):
        return {"mean_colour": {"correlation": value, "half_interval": 0.01}}

    return of(kept) | {"linear": of(linear)}


def copies(**changes):
    """Changes of what was measured with IHDM."""
    return NEAR | {key: NEAR[key] | {"IHDM": value} for key, value in changes.items()}


def fall(share):
    whole = {"share": share, "half_interval": 0.01}
    return {"fall": {"whole": whole, "above_constant": whole}}


# Rule, metrics, verdict.
CASES = [
    ("fails_without_noise", spread(), SUPPORTED),
    ("fails_without_noise", spread(noisy=float("nan")), SUPPORTED),
    ("fails_without_noise", spread(still=3.2), UNTESTABLE),
    ("fails_without_noise", spread(still=1.1), CONTRADICTED),
    ("signs_flip", opposite(0.99), SUPPORTED),
    ("signs_flip", opposite(0.96), UNTESTABLE),
    ("signs_flip", opposite(0.5), CONTRADICTED),
    ("detail_grows", bend(0.3), SUPPORTED),
    ("detail_grows", bend(0.05), UNTESTABLE),
    ("detail_grows", bend(-0.3), CONTRADICTED),
    ("noise_sets_in", fine(2.0), SUPPORTED),
    ("noise_sets_in", fine(1.6), UNTESTABLE),
    ("noise_sets_in", fine(1.0), CONTRADICTED),
    ("only_sharpens", kept(0.999), SUPPORTED),
    ("only_sharpens", kept(0.991), UNTESTABLE),
    ("only_sharpens", kept(0.9), CONTRADICTED),
    ("only_sharpens", kept(0.995, noisy=0.999), CONTRADICTED),
    ("power_law", alpha(2.1, 0.1), SUPPORTED),
    ("power_law", alpha(2.2, 0.2), UNTESTABLE),
    ("power_law", alpha(3.0, 0.2), CONTRADICTED),
    ("spectra_add", {"additivity": {"0.1": 1.1, "0.5": 1.2}}, SUPPORTED),
    ("spectra_add", {"additivity": {"0.1": 1.1, "0.5": 4.0}}, CONTRADICTED),
    ("colour_and_shape", shape(), SUPPORTED),
    ("colour_and_shape", shape(rows=0.58), UNDECIDED),
    ("colour_and_shape", shape(interaction=0.4), CONTRADICTED),
    ("colour_and_shape", shape(gate=LEGIBLE | {"median": 3.0}), NOT_TESTED),
    ("colour_and_shape", shape(gate=LEGIBLE | {"contrast": 0.2}), NOT_TESTED),
    ("colour_and_shape", shape(linear=LINEAR), BY_CONSTRUCTION),
    ("colour_and_shape", shape(linear=LINEAR, interaction=0.4), CONTRADICTED),
    (
        "colour_and_shape",
        shape(linear=LINEAR | {"legibility": LEGIBLE | {"contrast": 0.2}}),
        SUPPORTED,
    ),
    ("mean_colour_kept", mean_colour(0.99), SUPPORTED),
    ("mean_colour_kept", mean_colour(0.955), UNDECIDED),
    ("mean_colour_kept", mean_colour(0.6), CONTRADICTED),
    ("mean_colour_kept", mean_colour(0.99, linear=0.99), BY_CONSTRUCTION),
    ("mean_colour_kept", mean_colour(0.6, linear=0.99), CONTRADICTED),
    ("smoother", {"jump": pair(1, 2), "length": pair(3, 5)}, SUPPORTED),
    ("smoother", {"jump": pair(1, 2), "length": pair(5, 5.05)}, UNTESTABLE),
    ("smoother", {"jump": pair(1, 2), "length": pair(5, 3)}, CONTRADICTED),
    ("local_gradients", {"symmetry": pair(0.9, 0.3), "radius": pair(5, 8)}, SUPPORTED),
    ("local_gradients", {"symmetry": pair(0.9, 0.3), "radius": pair(5, 5.05)}, UNTESTABLE),
    ("local_gradients", {"symmetry": pair(0.3, 0.9), "radius": pair(5, 8)}, CONTRADICTED),
    ("no_copies", NEAR, SUPPORTED),
    ("no_copies", copies(near=0.5, p=1e-9), CONTRADICTED),
    ("no_copies", copies(detectable=0.3), UNDECIDED),
    ("no_copies", copies(too_far=True), NOT_TESTED),
    ("no_copies", NEAR | {"too_far": {"IHDM": False, "linear": False}}, BY_CONSTRUCTION),
    ("elbo_near_sigma", {"elbo_delta": ELBO}, SUPPORTED),
    ("elbo_near_sigma", {"elbo_delta": ELBO | {"value": 1.095}}, UNTESTABLE),
    ("elbo_near_sigma", {"elbo_delta": ELBO | {"value": 0.8}}, CONTRADICTED),
    ("optima_in_order", {"kid_delta": KID, "elbo_delta": ELBO}, SUPPORTED),
    ("optima_in_order", {"kid_delta": KID | {"bracketed": False}, "elbo_delta": ELBO}, UNTESTABLE),
    ("optima_in_order", {"kid_delta": KID | {"low": 0.9}, "elbo_delta": ELBO}, UNTESTABLE),
    (
        "optima_in_order",
        {"kid_delta": KID | {"low": 0.7, "high": 0.9}, "elbo_delta": ELBO},
        CONTRADICTED,
    ),
    ("optima_of_gaussians", {"gaussian": {"frechet": 1.2, "elbo": 1.0}}, SUPPORTED),
    ("optima_of_gaussians", {"gaussian": {"frechet": 0.9, "elbo": 1.0}}, CONTRADICTED),
    ("overlap_flattens", fall(0.01), SUPPORTED),
    ("overlap_flattens", fall(0.045), UNTESTABLE),
    ("overlap_flattens", fall(0.3), CONTRADICTED),
    ("blurring_improves", {"blurring_against_heat": GAIN, "kid": BEST}, SUPPORTED),
    (
        "blurring_improves",
        {"blurring_against_heat": GAIN | {"difference": -0.1}, "kid": BEST},
        CONTRADICTED,
    ),
    (
        "blurring_improves",
        {"blurring_against_heat": GAIN | {"difference": 0.01}, "kid": BEST},
        UNTESTABLE,
    ),
    ("blurring_improves", {"blurring_against_heat": GAIN | {"seeds": 2}, "kid": BEST}, UNTESTABLE),
]


@pytest.mark.parametrize(("rule", "metrics", "verdict"), CASES)
def test_a_rule_gives_the_verdict_of_its_numbers(rule, metrics, verdict, settings):
    assert BY_NAME[rule](metrics, settings.notebooks).verdict == verdict


def test_every_rule_is_tried_either_way():
    for rule in BY_NAME:
        assert {SUPPORTED, CONTRADICTED} <= {v for name, _, v in CASES if name == rule}, rule


def test_tests_are_told_with_the_thresholds_of_params(project, smoke_settings, monkeypatch):
    monkeypatch.setattr(
        claims, "CLAIMS", [claim._replace(judge=lambda m, s: None) for claim in CLAIMS]
    )
    smoke_settings = copy.deepcopy(smoke_settings)
    smoke_settings["notebooks"]["sigma_zero"]["opposite"] = 0.77
    write_settings(project, smoke_settings)
    stated = [
        claim.test
        for claim, _ in claims.ledger({name: {} for name in claims.NOTEBOOKS}, load().notebooks)
    ]
    assert sum("above 77%" in test for test in stated) == 1
    assert not any("{" in test for test in stated)


def test_the_ledger_judges_every_claim_by_the_metrics_of_its_notebook(settings):
    metrics = {notebook: {} for notebook in claims.NOTEBOOKS}
    for claim in CLAIMS:
        for name, numbers, _ in reversed(CASES):
            if BY_NAME[name] is claim.judge:
                metrics[claim.notebook] |= numbers
    judged = claims.ledger(metrics, settings.notebooks)
    assert [claim.claim for claim, _ in judged] == [claim.claim for claim in CLAIMS]
    assert all(found.verdict in (*VERDICTS, UNTESTABLE) for _, found in judged)
    with pytest.raises(KeyError, match="08-sigma-zero"):
        claims.ledger({}, settings.notebooks)

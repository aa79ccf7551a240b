import json

import pytest

from ihdm import claims
from ihdm.claims import CLAIMS, CONTRADICTED, SUPPORTED, UNTESTABLE
from ihdm.settings import ProjectError

BY_NAME = {claim.judge.__name__: claim.judge for claim in CLAIMS}


def pair(first, second, half=0.1):
    return {
        "first": first,
        "second": second,
        "difference": second - first,
        "half_interval": half,
    }


SPREAD = {"still": 5.0, "noisy": 6.0, "working": 1.0}
LEGIBLE = {"median": 1.0, "limit": 2.0, "contrast": 0.8}
KID = {"value": 1.3, "low": 1.2, "high": 1.4, "bracketed": True}
ELBO = {"value": 1.03, "half_interval": 0.01}
GAIN = {"difference": 0.1, "half_interval": 0.05, "seeds": 3}
BEST = {"IHDM": 0.1, "BDM": 0.02}
# Rule, metrics, verdict: each rule comes out every way that it can.
CASES = [
    ("fails_without_noise", {"spread_of_samples": SPREAD}, SUPPORTED),
    ("fails_without_noise", {"spread_of_samples": SPREAD | {"noisy": float("nan")}}, SUPPORTED),
    ("fails_without_noise", {"spread_of_samples": SPREAD | {"still": 1.1}}, CONTRADICTED),
    ("signs_flip", {"opposite_sign": {"1": 1.0, "4": 0.96}}, SUPPORTED),
    ("signs_flip", {"opposite_sign": {"1": 1.0, "4": 0.2}}, CONTRADICTED),
    ("detail_grows", {"fine_power": {"0": 0.1, "0.5": 0.2, "1.1": 0.4, "1.4": 2}}, SUPPORTED),
    ("detail_grows", {"fine_power": {"0": 0.1, "0.5": 0.2, "1.1": 0.1}}, CONTRADICTED),
    ("noise_sets_in", {"fine_power": {"1": 1.0, "1.4": 2.0, "2.5": 9.0}}, SUPPORTED),
    ("noise_sets_in", {"fine_power": {"1": 1.0, "1.4": 1.2, "2.5": 9.0}}, CONTRADICTED),
    ("only_sharpens", {"correlation_after_blurring_back": {"0": 0.999, "2": 0.7}}, SUPPORTED),
    ("only_sharpens", {"correlation_after_blurring_back": {"0": 0.9, "2": 0.7}}, CONTRADICTED),
    ("power_law", {"alpha": {"mean": 2.1, "half_interval": 0.1, "cat": 2.1}}, SUPPORTED),
    ("power_law", {"alpha": {"mean": 2.2, "half_interval": 0.2, "cat": 2.2}}, UNTESTABLE),
    ("power_law", {"alpha": {"mean": 3.0, "half_interval": 0.2, "cat": 3.0}}, CONTRADICTED),
    ("spectra_add", {"additivity": {"0.1": 1.1, "0.5": 1.2}}, SUPPORTED),
    ("spectra_add", {"additivity": {"0.1": 1.1, "0.5": 4.0}}, CONTRADICTED),
    (
        "colour_and_shape",
        {"shape": {"rows": 0.8, "interaction": 0.1}, "legibility": LEGIBLE},
        SUPPORTED,
    ),
    (
        "colour_and_shape",
        {"shape": {"rows": 0.4, "interaction": 0.1}, "legibility": LEGIBLE},
        CONTRADICTED,
    ),
    (
        "colour_and_shape",
        {"shape": {"rows": 0.8, "interaction": 0.1}, "legibility": LEGIBLE | {"median": 3.0}},
        UNTESTABLE,
    ),
    ("smoother", {"jump": pair(1, 2), "length": pair(3, 5)}, SUPPORTED),
    ("smoother", {"jump": pair(2, 1), "length": pair(5, 3)}, CONTRADICTED),
    ("smoother", {"jump": pair(1, 2), "length": pair(5, 3)}, UNTESTABLE),
    ("local_gradients", {"symmetry": pair(0.9, 0.3), "radius": pair(5, 8)}, SUPPORTED),
    ("local_gradients", {"symmetry": pair(0.3, 0.9), "radius": pair(8, 5)}, CONTRADICTED),
    ("local_gradients", {"symmetry": pair(0.9, 0.3), "radius": pair(5, 5.05)}, UNTESTABLE),
    (
        "no_copies",
        {"near": {"IHDM": 0.0}, "p": {"IHDM": 1.0}, "too_far": {"IHDM": False}},
        SUPPORTED,
    ),
    (
        "no_copies",
        {"near": {"IHDM": 0.5}, "p": {"IHDM": 1e-9}, "too_far": {"IHDM": False}},
        CONTRADICTED,
    ),
    (
        "no_copies",
        {"near": {"IHDM": 0.0}, "p": {"IHDM": 1.0}, "too_far": {"IHDM": True}},
        UNTESTABLE,
    ),
    ("elbo_near_sigma", {"elbo_delta": ELBO}, SUPPORTED),
    ("elbo_near_sigma", {"elbo_delta": ELBO | {"value": 1.09, "half_interval": 0.02}}, UNTESTABLE),
    ("elbo_near_sigma", {"elbo_delta": ELBO | {"value": 0.8}}, CONTRADICTED),
    ("optima_in_order", {"kid_delta": KID, "elbo_delta": ELBO}, SUPPORTED),
    ("optima_in_order", {"kid_delta": KID | {"bracketed": False}, "elbo_delta": ELBO}, UNTESTABLE),
    ("optima_in_order", {"kid_delta": KID | {"low": 0.9}, "elbo_delta": ELBO}, UNTESTABLE),
    (
        "optima_in_order",
        {"kid_delta": KID | {"low": 0.7, "high": 0.9}, "elbo_delta": ELBO},
        CONTRADICTED,
    ),
    ("optima_in_order_of_gaussians", {"gaussian": {"frechet": 1.2, "elbo": 1.0}}, SUPPORTED),
    ("optima_in_order_of_gaussians", {"gaussian": {"frechet": 0.9, "elbo": 1.0}}, CONTRADICTED),
    ("overlap_flattens", {"exact": {"1": 1e4, "20": 40.0, "28": 39.0}, "own": 20}, SUPPORTED),
    ("overlap_flattens", {"exact": {"1": 100.0, "20": 60.0, "28": 20.0}, "own": 20}, CONTRADICTED),
    ("blurring_improves", {"blurring_against_heat": GAIN}, SUPPORTED),
    ("blurring_improves", {"blurring_against_heat": GAIN | {"difference": -0.1}}, CONTRADICTED),
    ("blurring_improves", {"blurring_against_heat": GAIN | {"difference": 0.01}}, UNTESTABLE),
    ("blurring_improves", {"blurring_against_heat": GAIN | {"seeds": 2}, "kid": BEST}, UNTESTABLE),
]


@pytest.mark.parametrize(("rule", "metrics", "verdict"), CASES)
def test_a_rule_gives_the_verdict_of_its_numbers(rule, metrics, verdict, settings):
    assert BY_NAME[rule](metrics, settings.notebooks).verdict == verdict


def test_every_rule_can_come_out_either_way():
    for rule in BY_NAME:
        assert {SUPPORTED, CONTRADICTED} <= {v for name, _, v in CASES if name == rule}, rule


def test_the_ledger_names_metrics_that_are_missing(project, settings):
    with pytest.raises(ProjectError, match=r"08-sigma-zero\.json does not exist: run `dvc repro`"):
        claims.ledger(settings.notebooks)
    folder = project / "results" / "metrics"
    folder.mkdir(parents=True)
    for claim in CLAIMS:
        found = {}
        for name, metrics, _ in reversed(CASES):
            if BY_NAME[name] in {c.judge for c in CLAIMS if c.notebook == claim.notebook}:
                found |= metrics
        (folder / f"{claim.notebook}.json").write_text(json.dumps(found))
    judged = claims.ledger(settings.notebooks)
    assert [claim for claim, _ in judged] == list(CLAIMS)
    assert all(found.verdict in (SUPPORTED, CONTRADICTED, UNTESTABLE) for _, found in judged)

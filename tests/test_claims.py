import copy
import re

import pytest

from ihdm.measures import claims
from ihdm.measures.claims import CLAIMS
from ihdm.measures.verdicts import (
    BY_CONSTRUCTION,
    CONTRADICTED,
    NOT_TESTED,
    SUPPORTED,
    UNDECIDED,
    VERDICTS,
)
from ihdm.settings import load
from ihdm.show.chapters import parts
from tests.conftest import write_settings
from tests.pipeline import REPOSITORY

NOTEBOOKS = load(REPOSITORY / "params.yaml").notebooks

BY_NAME = {claim.judge.__name__: claim.judge for claim in CLAIMS if not claim.repeated}


LEGIBLE = {"median": 1.0, "limit": 2.0, "contrast": 0.8}
SHARES = {"rows": 0.8, "interaction": 0.1}
KNOWN = {"rows": 0.05, "interaction": 0.05}
KID = {"value": 1.3, "low": 1.2, "high": 1.4, "bracketed": True}
ELBO = {"value": 1.03, "half_interval": 0.01}
BAD = {"shape": {"rows": 0.1, "interaction": 0.8}, "shape_half_interval": KNOWN}
BAD |= {"legibility": LEGIBLE}
NEAR = {
    "near": {"IHDM": 0.01, "linear": 0.0},
    "near_half_interval": {"IHDM": 0.01, "linear": 0.05},
    "p": {"IHDM": 1.0, "linear": 1.0},
    "limit": 0.05,
    "too_far": {"IHDM": False, "linear": True},
    "detectable": {"IHDM": 0.08, "linear": 0.08},
    "median_distance": {"IHDM": 5.0, "new digits": 4.0},
}


def bend(difference, fine=0.2):
    parts = {"below": 0.2, "above": 0.2 + difference}
    deltas = ("0", "0.5", "1")
    detail = {
        "fine": dict.fromkeys(deltas, fine),
        "fine_half_interval": dict.fromkeys(deltas, 0.05),
    }
    return detail | {"bend": parts | {"difference": difference, "half_interval": 0.1}}


def sharpened(fine, contrast=0.6):
    return {
        "fine": {"0": fine, "0.5": fine, "1": 0.8},
        "fine_half_interval": {"0": 0.05, "0.5": 0.05, "1": 0.1},
        "contrast": {"0": contrast},
    }


def risen(value):
    rise = {"value": value, "half": 0.02}
    return {"kid_rise": rise, "kid_against_delta": {"1.25": 0.2, "2": 0.2 + value}}


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


def fall(last):
    """Metrics of notebook 15 after a fall of 4 nats from 14 to 21 pixels."""
    share = {"share": 0.01, "half_interval": 0.01}
    falls = {"8 to 14": 30.0, "14 to 20": 3.5, "20 to 21": 0.5, "21 to 28": last}
    steps = {name: {"mean": -nats, "half_interval": 0.1} for name, nats in falls.items()}
    return {"fall": {"whole": share, "above_constant": share}, "change": steps}


def swept(usual):
    kids = {"0": 2.0, "1.25": usual, "1.45": 0.15}
    return {"kid_against_delta": kids, "kid_half_against_delta": dict.fromkeys(kids, 0.01)}


def optima(frechet=0.9, **changes):
    gaussian = {"frechet": frechet, "elbo": 1.1}
    return {"kid_delta": KID | changes, "elbo_delta": ELBO, "gaussian": gaussian}


# Rule, metrics, verdict.
CASES = [
    ("detail_grows", bend(0.3), SUPPORTED),
    ("detail_grows", bend(0.3, fine=1.0), NOT_TESTED),
    ("detail_grows", bend(0.05), UNDECIDED),
    ("detail_grows", bend(-0.3), CONTRADICTED),
    ("noise_sets_in", risen(0.1), SUPPORTED),
    ("noise_sets_in", risen(0.01), UNDECIDED),
    ("noise_sets_in", risen(-0.1), CONTRADICTED),
    ("only_sharpens", sharpened(0.2), SUPPORTED),
    ("only_sharpens", sharpened(0.75), UNDECIDED),
    ("only_sharpens", sharpened(1.2), CONTRADICTED),
    ("only_sharpens", sharpened(0.2, contrast=0.1), NOT_TESTED),
    ("power_law", alpha(2.1, 0.1), SUPPORTED),
    ("power_law", alpha(2.2, 0.2), UNDECIDED),
    ("power_law", alpha(3.0, 0.2), CONTRADICTED),
    ("spectra_add", {"additivity": {"0.1": 1.1, "0.5": 1.2}}, BY_CONSTRUCTION),
    ("spectra_add", {"additivity": {"0.1": 1.1, "0.5": 4.0}}, NOT_TESTED),
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
    ("no_copies", NEAR, SUPPORTED),
    ("no_copies", copies(near=0.5, p=1e-9), CONTRADICTED),
    ("no_copies", copies(detectable=0.3), UNDECIDED),
    ("no_copies", copies(too_far=True), NOT_TESTED),
    ("no_copies", NEAR | {"too_far": {"IHDM": False, "linear": False}}, BY_CONSTRUCTION),
    ("elbo_near_sigma", {"elbo_delta": ELBO, "linear_optimum": 1.13}, SUPPORTED),
    ("elbo_near_sigma", {"elbo_delta": ELBO | {"value": 1.095}, "linear_optimum": 1.13}, UNDECIDED),
    (
        "elbo_near_sigma",
        {"elbo_delta": ELBO | {"value": 0.8}, "linear_optimum": 1.13},
        CONTRADICTED,
    ),
    ("optima_in_order", optima(), SUPPORTED),
    ("optima_in_order", optima(1.4), BY_CONSTRUCTION),
    ("optima_in_order", optima(1.4, low=0.7, high=0.9), CONTRADICTED),
    ("optima_in_order", optima(bracketed=False), NOT_TESTED),
    ("optima_in_order", optima(low=0.9), UNDECIDED),
    ("optima_in_order", optima(low=0.7, high=0.9), CONTRADICTED),
    ("optima_of_gaussians", {"gaussian": {"frechet": 1.2, "elbo": 1.0}}, BY_CONSTRUCTION),
    ("optima_of_gaussians", {"gaussian": {"frechet": 0.9, "elbo": 1.0}}, NOT_TESTED),
    ("robust_to_delta", swept(0.2), SUPPORTED),
    ("robust_to_delta", swept(0.31), UNDECIDED),
    ("robust_to_delta", swept(0.9), CONTRADICTED),
    ("overlap_flattens", fall(1.7), SUPPORTED),
    ("overlap_flattens", fall(1.9), UNDECIDED),
    ("overlap_flattens", fall(2.3), CONTRADICTED),
]


@pytest.mark.parametrize(("rule", "metrics", "verdict"), CASES)
def test_a_rule_gives_the_verdict_of_its_numbers(rule, metrics, verdict):
    assert BY_NAME[rule](metrics, NOTEBOOKS).verdict == verdict


def test_every_rule_is_tried_either_way():
    for rule in BY_NAME:
        verdicts = {v for name, _, v in CASES if name == rule}
        # An identity tests our code alone.
        identity = rule in ("spectra_add", "optima_of_gaussians")
        assert (NOT_TESTED if identity else CONTRADICTED) in verdicts, rule
        assert verdicts & {SUPPORTED, BY_CONSTRUCTION}, rule


def test_tests_are_told_with_the_thresholds_of_params(project, smoke_settings, monkeypatch):
    monkeypatch.setattr(
        claims, "CLAIMS", [claim._replace(judge=lambda m, s: None) for claim in CLAIMS]
    )
    smoke_settings = copy.deepcopy(smoke_settings)
    smoke_settings["notebooks"]["sigma_zero"]["opposite"] = 0.77
    write_settings(project, smoke_settings)
    stated = [
        claim.test
        for claim, _ in claims.ledger({n: {} for n in claims.NOTEBOOKS}, {}, load().notebooks)
    ]
    assert sum("above 77%" in test for test in stated) == 1
    assert not any("{" in test for test in stated)


def test_the_ledger_judges_every_claim_by_the_metrics_of_its_notebook():
    metrics = {notebook: {} for notebook in claims.NOTEBOOKS}
    for claim in CLAIMS:
        for name, numbers, _ in reversed(CASES):
            if BY_NAME[name] is claim.judge:
                linear = metrics[claim.notebook].get("linear", {}) | numbers.get("linear", {})
                metrics[claim.notebook] |= numbers | ({"linear": linear} if linear else {})
    judged = claims.ledger(metrics, {}, NOTEBOOKS)
    assert [claim.claim for claim, _ in judged] == [claim.claim for claim in CLAIMS]
    assert all(found.verdict in VERDICTS for _, found in judged)
    assert {found.verdict for claim, found in judged if claim.repeated} == {NOT_TESTED}
    with pytest.raises(KeyError, match="07-noise-scale"):
        claims.ledger({}, {}, NOTEBOOKS)


def test_there_are_claims_enough_and_each_has_a_rule_of_its_own():
    assert len(CLAIMS) >= 22
    assert len({claim.judge for claim in CLAIMS}) == len(CLAIMS)


def test_each_claim_names_a_figure_that_its_notebook_records():
    for claim in claims.stated(NOTEBOOKS):
        chapter, figure = claim.figure.split("/")
        source = (REPOSITORY / "notebooks" / f"{parts(chapter)[0]}.ipynb").read_text()
        recorded = re.findall(r'record\.figure\(.*\\"([\w-]+)\\"\)', source)
        assert figure in recorded, claim.claim

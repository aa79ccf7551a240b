import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ihdm.measures import verdicts
from ihdm.measures.statistics import mean_interval
from ihdm.measures.verdicts import CONTRADICTED, NOT_TESTED, SUPPORTED, UNDECIDED

NUMBERS = st.floats(-1e3, 1e3)


@given(NUMBERS, st.floats(0, 1e3), NUMBERS)
def test_an_interval_decides_if_all_of_it_lies_on_one_side(value, half, threshold):
    verdict = verdicts.above(value, half, threshold)
    sides = {np.sign(value - half - threshold), np.sign(value + half - threshold)}
    expected = {frozenset({1.0}): SUPPORTED, frozenset({-1.0}): CONTRADICTED}
    assert verdict == expected.get(frozenset(sides), UNDECIDED)
    assert verdicts.below(-value, half, -threshold) == verdict


def test_a_claim_of_several_parts_fails_with_one_of_them():
    assert verdicts.both(SUPPORTED, SUPPORTED) == SUPPORTED
    assert verdicts.both(SUPPORTED, UNDECIDED) == UNDECIDED
    assert verdicts.both(UNDECIDED, NOT_TESTED) == NOT_TESTED
    assert verdicts.both(CONTRADICTED, NOT_TESTED, UNDECIDED) == CONTRADICTED


def test_welchs_interval_covers_the_true_difference_as_often_as_it_says():
    numbers = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        first = [{"kid": x} for x in numbers.normal(1, 0.1, 3)]
        second = [{"kid": x} for x in numbers.normal(1.5, 0.4, 3)]
        found = verdicts.compared({"a": first, "b": second}, "a", "b", "kid")
        covered += abs(found.difference - 0.5) < found.half
    assert 0.92 < covered / 400 < 0.99


def test_a_mean_over_trainings_has_students_interval():
    values = [0.1, 0.25, 0.4]
    found = verdicts.mean_of({"a": [{"x": v} for v in values]}, "a", "x")
    assert found == pytest.approx(mean_interval(torch.tensor(values)))


def test_fewer_than_three_trainings_are_named_and_give_no_verdict():
    two = [{"kid": 0.1}, {"kid": 0.2}]
    found = verdicts.missing({"ihdm": [*two, *two], "ddpm": two}, "ihdm", "ddpm", "bdm")
    assert found.verdict == NOT_TESTED
    assert "2 of ddpm, 0 of bdm" in found.remark
    assert "ihdm" not in found.remark
    assert verdicts.missing({"ihdm": [*two, *two]}, "ihdm") is None

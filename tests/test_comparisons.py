import pytest

from ihdm.measures import comparisons
from ihdm.measures.verdicts import (
    BY_CONSTRUCTION,
    CONTRADICTED,
    NOT_TESTED,
    SUPPORTED,
    UNDECIDED,
)
from ihdm.settings import load
from tests.pipeline import REPOSITORY

NOTEBOOKS = load(REPOSITORY / "params.yaml").notebooks


def of(*values, **others):
    """Three trainings for each statistic: the value and two near it."""
    statistics = dict(zip(("kid",), values, strict=False)) | others
    return [{key: v * f for key, v in statistics.items()} for f in (0.97, 1, 1.04)]


LINEAR = [
    {"early": 0.2, "late": 0.1, "brightness": 0.99, "kid": 3.0, "jump": 0.01, "length": 1.0},
]
UNLIKE = [
    {"early": 0.1, "late": 0.2, "brightness": 0.1, "kid": 3.0, "jump": 0.9, "length": 9.0},
]
WORKS = of(1.0, contrast=1, still=0.4, sharpens=0.01, symmetry=0.9, radius=3)
FAILS = of(9.0, contrast=8, still=6, sharpens=0.99)
JUMPY = of(1.0, jump=0.4, length=4, symmetry=0.3, radius=8)
SMOOTH = of(jump=0.2, length=1.5)

# Rule, trainings, verdict.
CASES = [
    ("fails_without_noise", {"sigma_zero": FAILS, "published": WORKS}, SUPPORTED),
    ("fails_without_noise", {"sigma_zero": WORKS, "published": WORKS}, CONTRADICTED),
    (
        "fails_without_noise",
        {"sigma_zero": of(contrast=8, still=2), "published": WORKS},
        UNDECIDED,
    ),
    (
        "fails_without_noise",
        {"sigma_zero": of(contrast=float("nan"), still=6), "published": WORKS},
        SUPPORTED,
    ),
    ("fails_without_noise", {"sigma_zero": FAILS, "published": FAILS}, NOT_TESTED),
    ("signs_flip", {"sigma_zero": of(sharpens=1), "published": WORKS}, UNDECIDED),
    ("signs_flip", {"sigma_zero": FAILS, "published": of(4.0, sharpens=0.01)}, NOT_TESTED),
    (
        "signs_flip",
        {"sigma_zero": [{"sharpens": x} for x in (0.99, 1, 1)], "published": WORKS},
        SUPPORTED,
    ),
    ("signs_flip", {"sigma_zero": of(sharpens=0.4), "published": WORKS}, CONTRADICTED),
    ("smoother", {"ihdm": SMOOTH, "ddpm": JUMPY}, SUPPORTED),
    ("smoother", {"ihdm": SMOOTH, "ddpm": JUMPY, "linear": LINEAR}, BY_CONSTRUCTION),
    ("smoother", {"ihdm": of(jump=0.2, length=3.9), "ddpm": JUMPY}, UNDECIDED),
    ("smoother", {"ihdm": JUMPY, "ddpm": of(jump=0.2, length=1.5)}, CONTRADICTED),
    ("local_gradients", {"published": WORKS, "ddpm": JUMPY}, SUPPORTED),
    ("local_gradients", {"published": of(1.0, symmetry=0.9, radius=8), "ddpm": JUMPY}, UNDECIDED),
    ("local_gradients", {"published": JUMPY, "ddpm": WORKS}, CONTRADICTED),
    ("early_splits_change_more", {"ihdm": of(early=0.2, late=0.1), "linear": UNLIKE}, SUPPORTED),
    (
        "early_splits_change_more",
        {"ihdm": of(early=0.2, late=0.1), "linear": LINEAR},
        BY_CONSTRUCTION,
    ),
    ("early_splits_change_more", {"ihdm": of(early=0.1, late=0.2), "linear": LINEAR}, CONTRADICTED),
    ("brightness_kept", {"ihdm": [{"brightness": 0.99}] * 3, "linear": UNLIKE}, SUPPORTED),
    ("brightness_kept", {"ihdm": [{"brightness": 0.99}] * 3, "linear": []}, NOT_TESTED),
    ("brightness_kept", {"ihdm": [{"brightness": 0.99}] * 3, "linear": LINEAR}, BY_CONSTRUCTION),
    ("brightness_kept", {"ihdm": of(brightness=0.95), "linear": LINEAR}, UNDECIDED),
    ("brightness_kept", {"ihdm": of(brightness=0.5), "linear": LINEAR}, CONTRADICTED),
    ("digits_equally_often", {"ihdm": of(distance=0.05, confidence=0.9)}, SUPPORTED),
    ("digits_equally_often", {"ihdm": of(distance=0.15, confidence=0.9)}, UNDECIDED),
    ("digits_equally_often", {"ihdm": of(distance=0.5, confidence=0.9)}, CONTRADICTED),
    ("more_levels_do_not_help", {"levels_200": of(0.2), "third": of(0.2)}, SUPPORTED),
    ("more_levels_do_not_help", {"levels_200": of(0.18), "third": of(0.2)}, UNDECIDED),
    ("more_levels_do_not_help", {"levels_200": of(0.1), "third": of(0.2)}, CONTRADICTED),
    (
        "robust_to_sigma",
        {"sigma_0.005": of(0.2), "third": of(0.21), "sigma_0.02": of(0.19)},
        SUPPORTED,
    ),
    (
        "robust_to_sigma",
        {"sigma_0.005": of(0.2), "third": of(0.1), "sigma_0.02": of(0.1)},
        UNDECIDED,
    ),
    (
        "robust_to_sigma",
        {"sigma_0.005": of(0.9), "third": of(0.1), "sigma_0.02": of(0.1)},
        CONTRADICTED,
    ),
]
LOWER = {
    "blurring_improves": ("bdm", "ihdm"),
    "blurring_as_good": ("bdm", "ddpm"),
    "blur_helps": ("bdm", "bdm_without_blur"),
    "denoising_draws_better": ("ddpm", "ihdm"),
    "half_width_is_better": ("blur_14", "blur_28"),
}
for rule, (better, worse) in LOWER.items():
    CASES += [
        (rule, {better: of(0.1), worse: of(0.2)}, SUPPORTED),
        (rule, {better: of(0.1), worse: of(0.101)}, UNDECIDED),
        (rule, {better: of(0.2), worse: of(0.1)}, CONTRADICTED),
    ]


@pytest.mark.parametrize(("rule", "trainings", "verdict"), CASES)
def test_a_rule_gives_the_verdict_of_its_trainings(rule, trainings, verdict):
    found = getattr(comparisons, rule)({"linear": UNLIKE} | trainings, NOTEBOOKS)
    assert found.verdict == verdict, found
    assert found.trainings == 3


RULES = [name for name in comparisons.__all__ if name != "skip_stabilises"]


@pytest.mark.parametrize("rule", RULES)
def test_no_rule_judges_by_two_trainings(rule):
    trainings = next(found for name, found, _ in CASES if name == rule)
    for model in trainings.keys() - {"linear"}:
        few = trainings | {model: trainings[model][:2]}
        found = getattr(comparisons, rule)(few, NOTEBOOKS)
        assert found.verdict == NOT_TESTED
        assert f"2 of {model}" in found.remark


def test_every_rule_is_tried_either_way():
    for rule in RULES:
        assert {SUPPORTED, CONTRADICTED} <= {v for name, _, v in CASES if name == rule}, rule

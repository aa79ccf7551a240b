import numpy as np
import pytest
import torch

from ihdm.heat import HeatEquation, blur_schedule
from ihdm.measures import bounds, likelihood
from ihdm.measures.overlap import divergence_of_scales
from ihdm.processes import Blurring, InverseHeat
from tests.conftest import model_of
from tests.test_likelihood import Guess
from tests.test_sampling import Pull

SIGMA, DELTA = 0.05, 0.08


@pytest.fixture
def model():
    train = np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8), np.uint8)
    process = InverseHeat(HeatEquation(8, 8, blur_schedule(4, 0.5, 8)), SIGMA, DELTA)
    return model_of(process, Pull(), train)


@pytest.fixture
def images():
    numbers = torch.randint(0, 256, (4, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    return numbers.float() / 255


def test_a_heat_bound_is_smallest_at_its_best_delta_and_has_that_of_sampling_beside_it(
    model, images
):
    found = bounds.measure(model, images, 0.5, draws=40, seed=0)
    best = found.numbers["best_delta"]["mean"]

    def density(delta):
        terms = found.heat.terms(delta, draws=2)
        return (terms.steps.sum(0) + terms.density).mean().item()

    lowest = density(best * SIGMA)
    assert lowest < min(density(0.99 * best * SIGMA), density(1.01 * best * SIGMA))
    for prefix, delta in (("", best * SIGMA), ("sampling: ", DELTA)):
        parts = [found.numbers[prefix + name]["mean"] for name in ("L_K", "constant", "errors")]
        terms = found.heat.terms(delta, draws=40)
        assert sum(parts) == pytest.approx((terms.prior + terms.steps.sum(0)).mean().item())
        expected = 3 * 64 * divergence_of_scales(SIGMA, delta)
        assert parts[1] == pytest.approx(expected)
    assert torch.equal(found.terms.steps, found.heat.terms(best * SIGMA, 40).steps)


def test_kernels_as_wide_as_the_noise_leave_what_tells_images_apart(model, images):
    numbers = bounds.measure(model, images, 0.5, draws=400, seed=0).numbers
    own = numbers["L_K, kernels of width sigma"]["mean"]
    assert own > 0
    # With the kernels of width delta, each dimension costs its constant as well.
    wide = numbers["sampling: L_K"]["mean"]
    assert wide > 64 * divergence_of_scales(SIGMA, DELTA)


def test_the_curve_lies_at_the_bound_of_each_delta(model, images):
    found = bounds.measure(model, images, 0.5, draws=40, seed=0)
    (without, with_prior), (_, later) = found.heat.curve([DELTA, 2 * DELTA])
    numbers = {name: value["mean"] for name, value in found.numbers.items()}
    exact = numbers["sampling: total (nats)"] - numbers["sampling: L_K"]
    assert without == pytest.approx(exact)
    assert with_prior >= numbers["sampling: total (nats)"]
    assert later > with_prior


def test_a_model_that_predicts_noise_has_its_one_bound(images):
    model = model_of(Blurring(8, 8, 5, 4), Guess())
    found = bounds.measure(model, images, 0.5, draws=2, seed=0)
    assert found.heat is None
    summary = likelihood.noise_terms(model, images, 0).summary(64)
    assert {name: tuple(value.values()) for name, value in found.numbers.items()} == summary

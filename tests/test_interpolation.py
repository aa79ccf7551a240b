import math

import numpy as np
import pytest
import torch

from ihdm import sampling
from ihdm.heat import HeatEquation, blur_schedule
from ihdm.measures import classifier, interpolation
from ihdm.processes import Denoising, InverseHeat
from ihdm.sampling import Between
from tests.conftest import model_of
from tests.test_sampling import Pull

PROCESSES = {
    "inverse heat": InverseHeat(HeatEquation(8, 8, blur_schedule(4, 0.5, 4)), 0.01, 0.0125),
    "denoising": Denoising(8, 8, 4),
}


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (10, 1, 8, 8), np.uint8)


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())
def test_paths_begin_and_end_in_the_samples(process, images):
    model = model_of(process, Pull(), images, seed=3)
    samples = model.draw(4)[0]
    drawn = interpolation.paths(model, samples, points=4)
    assert drawn.shape == (2, 4, 1, 8, 8)
    assert torch.equal(drawn[:, 0], samples[::2])
    assert torch.equal(drawn[:, -1], samples[1::2])
    fine = interpolation.paths(model, samples, points=401)
    apart = (samples[1::2] - samples[::2]).norm()
    assert (fine[:, 1] - fine[:, 0]).norm() < 0.02 * apart
    assert (fine[:, -2] - fine[:, -1]).norm() < 0.02 * apart


def test_noise_between_two_samples_keeps_its_variance_and_turns_evenly():
    angles = [0, 0.4, math.pi / 4, math.pi / 2]
    noise = next(sampling.noises((1, 100, 100), 0, [Between(3, 4, angle) for angle in angles]))
    assert noise.flatten(1).std(1).tolist() == pytest.approx([1] * 4, abs=0.03)
    own = next(sampling.noises((1, 100, 100), 0, [3, 4]))
    assert torch.equal(noise[0], own[0])
    for between, angle in zip(noise, angles, strict=True):
        along = torch.corrcoef(torch.stack([between.flatten(), own[0].flatten()]))[0, 1].item()
        assert along == pytest.approx(math.cos(angle), abs=0.03)


def test_the_start_of_heat_dissipation_is_mixed_linearly(images):
    still = InverseHeat(HeatEquation(8, 8, blur_schedule(4, 0.5, 4)), 0.01, 0.0)
    a, middle, b = sampling.starts(still, images, 0, [0, Between(0, 1, math.pi / 4), 1])
    assert (middle - (a + b) / 2).abs().max() < 1e-6


def test_smoothness_of_a_line_of_a_jump_and_of_a_detour():
    a, b = torch.zeros(1, 2, 2), torch.ones(1, 2, 2)
    line = torch.stack([a + t * (b - a) for t in (0, 0.25, 0.5, 0.75, 1)])
    jump = torch.stack([a, a, a, b, b])
    detour = torch.stack([a, -a - b, b, b, b])
    found = interpolation.smoothness(torch.stack([line, jump, detour]))
    assert found.jump.tolist() == pytest.approx([0.25, 1, 2])
    assert found.length.tolist() == pytest.approx([1, 1, 3])


class Brightness(torch.nn.Module):
    """Takes an image of brightness d / 10 for the digit d, with a probability of a half or more."""

    def forward(self, images):
        tenths = 10 * images.mean((1, 2, 3))
        return math.log(9) * torch.nn.functional.one_hot(tenths.long().clamp(max=9), 10)


@pytest.fixture
def known_classifier(monkeypatch):
    monkeypatch.setattr(classifier, "load", Brightness)


def flat(*brightness):
    return torch.tensor(brightness)[:, None, None, None].expand(-1, 1, 28, 28)


def test_digits_between_that_neither_end_is_are_counted_without_the_ends(known_classifier):
    straight = flat(0.15, 0.15, 0.25, 0.25)
    through = flat(0.15, 0.35, 0.25, 0.25)
    same = flat(0.15, 0.35, 0.95, 0.15)
    found = interpolation.validity(torch.stack([straight, through, same]))
    assert found.foreign.tolist() == [0, 0.5, 1]
    assert found.confidence.tolist() == pytest.approx([0.5] * 3)


def test_the_confidence_is_that_of_images_as_they_would_be_stored(known_classifier):
    stored = flat(0.15, 0.25, 7.0)[None]
    highest, digit = interpolation.confidence(stored)
    assert digit.tolist() == [[1, 2, 9]]
    assert highest.shape == (1, 3)


def test_measures_are_means_over_paths_with_intervals(known_classifier):
    first, second = flat(0.15, 0.2, 0.25), flat(0.15, 0.35, 0.25)
    found = interpolation.measures(torch.stack([first, second]))
    assert found["length"]["mean"] == pytest.approx((1 + 3) / 2)
    # Two values, one apart from their mean: Student's t with one degree of freedom.
    assert found["length"]["half_interval"] == pytest.approx(12.706, rel=1e-4)
    assert found["jump"]["mean"] == pytest.approx((0.5 + 2) / 2)
    assert found["foreign"]["mean"] == 0.5

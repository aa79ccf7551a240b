import pytest
import torch

from ihdm.heat import HeatEquation, blur_schedule
from ihdm.measures import noise_scale
from ihdm.processes import InverseHeat

PROCESS = InverseHeat(HeatEquation(16, 16, blur_schedule(10, 0.5, 8)), 0.01, 0.0125)
DIGITS = torch.rand(8, 1, 16, 16, generator=torch.Generator().manual_seed(0))


def test_images_beside_themselves_have_all_of_their_detail_and_contrast():
    states = PROCESS.heat.blur(DIGITS, 4)
    found = noise_scale.measures(PROCESS, {0: DIGITS, 4: states}, 4, DIGITS)
    assert {name: value for name, (value, _) in found.items()} == pytest.approx(
        {"fine": 1, "contrast": 1, "retraced": 1}
    )
    halved = noise_scale.measures(PROCESS, {0: DIGITS / 2, 4: states}, 4, DIGITS)
    assert halved["fine"][0] == pytest.approx(1 / 4)
    assert halved["contrast"][0] == pytest.approx(1 / 2)
    assert all(halved[name][1] > 0 for name in ("fine", "contrast"))


def test_samples_that_leave_their_way_are_not_retraced():
    other = DIGITS.flip(0)
    states = PROCESS.heat.blur(DIGITS, 2)
    found = noise_scale.measures(PROCESS, {0: other, 2: states}, 2, DIGITS)
    assert found["retraced"][0] < 0.5


def test_detail_that_grows_with_the_square_of_delta_bends_as_its_slopes():
    # Power goes with the square of the amplitude, here delta itself.
    samples = {delta: delta * DIGITS for delta in (0.5, 1.0, 2.0)}
    found = noise_scale.bend(samples, (0.5, 1.0, 2.0), DIGITS)
    assert found["below"] == pytest.approx((1 - 0.25) / 0.5)
    assert found["above"] == pytest.approx(4 - 1)
    assert found["difference"] == pytest.approx(1.5)
    assert found["half_interval"] > 0

"""The images of the page's controls are those that the model draws."""

import numpy as np
import pytest
import torch
from PIL import Image

from ihdm.settings import Controls
from ihdm.show import controls, hands_on
from tests.conftest import model_of
from tests.test_sampling import Pull, heat_process

OPTIONS = Controls(
    photograph="coffee",
    photograph_size=16,
    starts=3,
    delta_max=2.0,
    deltas=5,
    sequences=2,
    levels=4,
    branches=3,
)


@pytest.fixture
def model():
    images = np.random.default_rng(0).integers(0, 256, (10, 3, 8, 8), np.uint8)
    return model_of(heat_process(), Pull(), images)


def test_delta_turns_with_the_same_starts_and_noise(model):
    deltas, images = controls.turned(model, OPTIONS)
    assert deltas == [0, 0.5, 1, 1.25, 1.5, 2]
    assert images.shape == (3, 6, 3, 8, 8)
    assert torch.equal(images[:, 3], model.draw(3)[0])
    # This network is linear, so what the noise adds grows in proportion to delta.
    added = images - images[:, :1]
    assert torch.allclose(added[:, 5], 2 * added[:, 2], atol=1e-6)
    assert added[:, 2].abs().max() > 1e-3


def test_branches_leave_their_sequence_at_each_level(model):
    levels, images = controls.branching(model, OPTIONS)
    assert levels == [4, 3, 2, 1, 0]
    assert images.shape == (2, 5, 4, 3, 8, 8)
    states = model.draw(2, levels=levels)
    for i, k in enumerate(levels):
        assert torch.equal(images[:, i, 0], states[k])
    apart = images[:, :, 1:].var(2).mean((0, 2, 3, 4))
    assert (apart[:-3] > apart[1:-2]).all()
    # The last step adds no noise.
    assert torch.allclose(apart[-2:], torch.zeros(2), atol=1e-10)
    assert torch.allclose(images[:, -2, 1], states[0], atol=1e-6)


def test_every_start_meets_every_noise(model):
    images = controls.shared_noise(model, starts=3, noises=2)
    assert images.shape == (3, 3, 3, 8, 8)
    assert torch.equal(images[0], model.starts(3))
    own = model.draw(2)[0]
    for i in range(2):
        assert torch.allclose(images[1 + i, i], own[i], atol=1e-6)
    # This network is linear: start and noise add up.
    between = images[1:] - images[1:, :1]
    assert torch.allclose(between[0], between[1], atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_sheet_holds_its_images_in_rows_and_columns(tmp_path, channels):
    images = torch.rand(2, 3, channels, 5, 7, generator=torch.Generator().manual_seed(0))
    images[0, 0] = 2.0
    controls.sheet(images, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape == (10, 21, 3)
    tile = pixels[5:, 14:].transpose(2, 0, 1)[:channels]
    np.testing.assert_array_equal(tile, (255 * images[1, 2]).round())
    assert (pixels[:5, :7] == 255).all()


def test_marks_lie_on_their_curve_and_nowhere_else():
    measured = {0.5: 8.0, 2.0: 2.0, 1.0: 4.0, 4.0: 3.0}
    drawn = hands_on.curve("KID", measured, [0, 0.75, 1, 1.5, 2], "{:.1f}")
    assert (drawn["low"], drawn["high"]) == ("2.0", "8.0")
    assert drawn["path"] == "M50.0 0.0L100.0 80.0L200.0 120.0"
    assert drawn["marks"][0] is None
    assert drawn["marks"][1:] == [
        [75.0, 40.0, "6.0"],
        [100.0, 80.0, "4.0"],
        [150.0, 100.0, "3.0"],
        [200.0, 120.0, "2.0"],
    ]

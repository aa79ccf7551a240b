import numpy as np
import pytest
import torch
from torch import nn

from ihdm.measures import disentangling
from ihdm.processes import make
from tests.conftest import model_of


def test_causes_of_images_that_are_made_of_a_shape_and_a_colour():
    generator = torch.Generator().manual_seed(0)
    shapes = torch.randn(4, 1, 1, 8, 8, generator=generator)
    shapes = shapes - shapes.mean((-2, -1), keepdim=True)
    colours = torch.rand(1, 5, 3, 1, 1, generator=generator)
    found = disentangling.shares(colours[0].expand(5, 3, 8, 8), colours + shapes)
    assert found["shape"]["rows"] == pytest.approx(1, abs=1e-5)
    assert found["colour"]["columns"] == pytest.approx(1, abs=1e-5)
    assert found["mean_colour"]["correlation"] == pytest.approx(1)
    assert found["mean_colour"]["half_interval"] < 1e-4
    # The other way round: the start decides the shape, and the noise the colour.
    swapped = (colours + shapes).transpose(0, 1)
    found = disentangling.shares(torch.rand(4, 3, 8, 8, generator=generator), swapped)
    assert found["shape"]["columns"] == pytest.approx(1, abs=1e-5)
    assert found["colour"]["rows"] == pytest.approx(1, abs=1e-5)
    assert abs(found["mean_colour"]["correlation"]) < 0.9


class Still(nn.Module):
    """Changes nothing."""

    def __init__(self):
        super().__init__()
        self.register_buffer("device", torch.zeros(()))

    def forward(self, u, k):
        return torch.zeros_like(u)


def test_rows_of_the_grid_have_one_noise_and_columns_one_start():
    process = make(
        8, 8, kind="inverse_heat", K=3, sigma_blur_min=0.5, sigma_blur_max=4, sigma=0.05, delta=0.1
    )
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 8, 8), np.uint8)
    model = model_of(process, Still(), images)
    starts, grid = disentangling.grid(model, 3, 2)
    assert torch.equal(starts, model.starts(2))
    added = grid - starts
    assert torch.allclose(added[:, 0], added[:, 1], atol=1e-5)
    assert (added[0] - added[1]).abs().max() > 0.05
    assert torch.allclose(grid[1, 1], model.draw(2)[0][1], atol=1e-5)


def test_images_are_legible_and_blank_or_random_ones_are_not():
    numbers = np.random.default_rng(0)
    ramp = np.linspace(0, 200, 8)[None, None, :, None] + np.zeros((60, 3, 8, 8))
    images = (ramp + numbers.uniform(0, 55, ramp.shape)).astype(np.uint8)
    train, new = images[:40], images[40:]
    as_good = disentangling.legibility(torch.from_numpy(images[:5]) / 255, train, new)
    assert as_good["median"] < as_good["limit"]
    assert as_good["contrast"] == pytest.approx(1, abs=0.1)
    random = disentangling.legibility(torch.rand(5, 3, 8, 8), train, new)
    assert random["median"] > random["limit"]
    assert disentangling.legibility(torch.full((5, 3, 8, 8), 0.5), train, new)["contrast"] == 0

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.stats import binom

from ihdm.measures import neighbours


@pytest.mark.parametrize("batch", [7, 1024])
def test_neighbours_are_those_of_all_distances(batch):
    images = np.random.default_rng(0).integers(0, 256, (50, 3, 4, 5), np.uint8)
    queries = torch.rand(6, 3, 4, 5)
    found = neighbours.nearest(queries, images, count=3, batch=batch)
    every = cdist(queries.flatten(1).numpy(), images.reshape(50, -1) / 255)
    assert (found.index.numpy() == every.argsort(1)[:, :3]).all()
    assert abs(found.distance.numpy() - np.sort(every, 1)[:, :3]).max() < 1e-5


def test_a_training_image_is_its_own_neighbour():
    images = np.random.default_rng(0).integers(0, 256, (20, 1, 4, 4), np.uint8)
    found = neighbours.nearest(torch.from_numpy(images[7:8]) / 255, images)
    assert found.index.item() == 7
    assert found.distance.item() < 1e-6


def test_normalised_shape_knows_no_colour_brightness_or_contrast():
    grey = torch.rand(2, 1, 8, 8)
    coloured = 0.2 + grey * torch.tensor([0.7, 0.3, 0.5])[:, None, None]
    assert torch.allclose(
        neighbours.normalised_shape(grey), neighbours.normalised_shape(coloured), atol=1e-5
    )
    images = (255 * coloured).round().byte().numpy()
    found = neighbours.nearest(grey.expand(-1, 3, -1, -1), images, view=neighbours.normalised_shape)
    assert found.index[:, 0].tolist() == [0, 1]
    assert found.distance.max() < 0.2


def test_copies_are_noticed_and_bad_samples_are_no_evidence():
    generator = torch.Generator().manual_seed(0)
    new = 5 + torch.rand(400, generator=generator)
    others = 5 + torch.rand(100, generator=generator)
    found = neighbours.copying(others, new)
    assert not found.too_far
    assert found.share < 0.12
    assert found.p > 0.01
    copied = torch.cat([others[:70], torch.full((30,), 0.1)])
    assert neighbours.copying(copied, new).p < 1e-6
    assert neighbours.copying(others + 3, new).too_far
    assert neighbours.copying(torch.full((10,), torch.inf), new).too_far


def test_what_diverged_is_infinitely_far():
    images = np.random.default_rng(0).integers(0, 256, (5, 1, 4, 4), np.uint8)
    queries = torch.stack([torch.full((1, 4, 4), value) for value in (torch.nan, torch.inf, 0.5)])
    distance = neighbours.nearest(queries, images).distance[:, 0]
    assert distance[:2].tolist() == [torch.inf] * 2
    assert distance[2].isfinite()


@pytest.mark.parametrize("background", [0.0, 0.02, 0.05])
def test_the_detectable_fraction_of_copies_is_found_nineteen_times_out_of_twenty(background):
    count = 300
    c = neighbours.detectable(count, background)
    (needed, *_) = (n for n in range(count) if binom.sf(n - 1, count, 0.05) <= 0.05)
    assert binom.sf(needed - 1, count, c + (1 - c) * background) == pytest.approx(0.95)
    assert neighbours.detectable(10 * count, background) < c


def test_copying_finds_the_detectable_fraction_in_simulated_samples():
    numbers = np.random.default_rng(0)
    new = torch.linspace(1, 2, 1000)
    count, background, found = 200, 0.03, 0
    copied = numbers.random((300, count)) < neighbours.detectable(count, background)
    near = copied | (numbers.random((300, count)) < background)
    for row in near:
        distances = torch.from_numpy(np.where(row, 0.5, 1.5))
        found += neighbours.copying(distances, new).p <= neighbours.LEVEL
    assert 0.91 < found / 300 < 0.99

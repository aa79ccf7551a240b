import math
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence

from ihdm.heat import HeatEquation, blur_schedule
from ihdm.measures import overlap


def images(count, seed=0, shape=(1, 8, 8)):
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed))


def kernels(centres, scale):
    return Independent(Normal(centres.double().flatten(1), scale), 1)


def bound_of(*arguments):
    return overlap.subspace(*arguments).bound()


def exact_of(train, test, heat, sigma, delta, draws):
    generator = torch.Generator().manual_seed(0)
    return overlap.subspace(train, test, heat, sigma, delta).exact(draws, generator)


def bound_in_pixels(train, test, heat, sigma, delta):
    """Eqs. 41-42 term by term."""
    top = heat.K
    train, test = heat.blur(train.double(), top), heat.blur(test.double(), top)
    every = kernels(train, delta)
    rows = [
        -torch.logsumexp(-kl_divergence(kernels(u[None], sigma).expand((len(train),)), every), 0)
        for u in test
    ]
    return torch.stack(rows) + math.log(len(train))


def test_the_bound_is_that_of_the_published_code(reference):
    arrays = reference("prior_overlap_gray14.npz")
    K, widest = int(arrays["steps"]), arrays["sigma_blur_max"].item()
    heat = HeatEquation(*arrays["train"].shape[2:], blur_schedule(K, 0.5, widest))
    sigma, delta = arrays["sigma"].item(), arrays["delta"].item()
    found = bound_of(arrays["train"], arrays["test"], heat, sigma, delta)
    assert (found - arrays["bound_nats"]).abs().max() < 2e-3


@given(
    widest=st.floats(0.6, 30),
    sigma=st.floats(0.003, 0.1),
    ratio=st.floats(0.3, 3),
    channels=st.sampled_from([1, 3]),
)
@settings(max_examples=25, deadline=None)
def test_the_bound_equals_its_definition_in_pixels(widest, sigma, ratio, channels):
    heat = HeatEquation(8, 6, blur_schedule(3, 0.5, widest))
    train, test = (images(n, seed, (channels, 8, 6)) for n, seed in ((20, 0), (5, 1)))
    found = bound_of(train, test, heat, sigma, ratio * sigma)
    assert (found - bound_in_pixels(train, test, heat, sigma, ratio * sigma)).abs().max() < 1e-5


def test_one_training_image_has_the_closed_form():
    heat = HeatEquation(8, 8, blur_schedule(3, 0.5, 6))
    train, test = images(1), images(4, 1)
    exact, error = exact_of(train, test, heat, 0.01, 0.0125, 8)
    blurred = [kernels(heat.blur(u.double(), 3), s) for u, s in ((test, 0.01), (train, 0.0125))]
    assert torch.allclose(exact, kl_divergence(blurred[0], blurred[1].expand((4,))), atol=1e-5)
    assert error.max() < 1e-9


@pytest.mark.parametrize("widest", [1.5, 8, 40])
def test_the_exact_value_is_that_of_the_mixture_and_below_the_bound(widest):
    heat = HeatEquation(8, 8, blur_schedule(3, 0.5, widest))
    train, test = images(200), images(3, 1)
    sigma, delta = 0.05, 0.07
    exact, error = exact_of(train, test, heat, sigma, delta, 4000)
    bound = bound_of(train, test, heat, sigma, delta)
    assert (exact <= bound + 1e-9).all()

    torch.manual_seed(1)
    same = torch.zeros(len(train), dtype=torch.float64)
    mixture = MixtureSameFamily(
        Categorical(logits=same), kernels(heat.blur(train.double(), 3), delta)
    )
    for u, value, own in zip(heat.blur(test.double(), 3), exact, error, strict=True):
        q = kernels(u[None], sigma)
        points = q.sample((2000,))
        log_ratio = q.log_prob(points) - mixture.log_prob(points)
        spread = math.hypot(log_ratio.std().item() / 2000**0.5, own.item())
        assert value.item() == pytest.approx(log_ratio.mean().item(), abs=4 * spread)


def test_many_images_tell_the_exact_value_from_the_bound():
    heat = HeatEquation(8, 8, blur_schedule(3, 0.5, 8))
    train, test = images(300), images(4, 1)
    exact, error = exact_of(train, test, heat, 0.02, 0.05, 400)
    bound = bound_of(train, test, heat, 0.02, 0.05)
    assert ((bound - exact) > 10 * error).all()


def test_the_subspace_is_small_where_the_blur_is_wide_and_chunks_change_nothing(monkeypatch):
    train, test = images(60, shape=(1, 28, 28)), images(10, 1, (1, 28, 28))
    sizes = {}
    for widest in (0.6, 4, 20):
        heat = HeatEquation(28, 28, blur_schedule(3, 0.5, widest))
        space = overlap.subspace(train, test, heat, 0.01, 0.0125)
        assert space.total == 784
        assert space.error <= 1.001e-6
        sizes[widest] = space.train.shape[1]
    assert sizes[20] <= 8 < sizes[4] < sizes[0.6] <= 784
    whole = bound_of(train, test, heat, 0.01, 0.0125)
    monkeypatch.setattr(overlap, "CHUNK", 100)
    assert (bound_of(train, test, heat, 0.01, 0.0125) - whole).abs().max() < 1e-9
    # 8-bit images are read as they are, without a copy of all of them in floating point.
    raw = (255 * train).byte().numpy(), (255 * test).byte().numpy()
    unit = [torch.from_numpy(u).float() / 255 for u in raw]
    found = bound_of(*raw, heat, 0.01, 0.0125)
    assert torch.allclose(found, bound_of(*unit, heat, 0.01, 0.0125), atol=1e-6)


def test_the_bound_of_many_images_is_quick():
    numbers = np.random.default_rng(0)
    train, test = (numbers.integers(0, 256, (n, 1, 28, 28), np.uint8) for n in (20000, 1000))
    heat = HeatEquation(28, 28, blur_schedule(100, 0.5, 20))
    began = time.process_time()
    bound_of(train, test, heat, 0.01, 0.0125)
    # 60,000 x 10,000 images are 30 times as many pairs, and have 2 minutes of 2 cores.
    assert time.process_time() - began < 8


def test_a_subspace_serves_wider_kernels_and_no_narrower_ones():
    heat = HeatEquation(8, 8, torch.tensor([0.0, 3.0]))
    train, test = images(50), images(6, 1)
    narrow = overlap.subspace(train, test, heat, 0.02, 0.015)
    for delta in (0.02, 0.07):
        found = narrow.with_delta(delta).bound()
        assert (found - bound_in_pixels(train, test, heat, 0.02, delta)).abs().max() < 1e-5
    with pytest.raises(ValueError, match=r"0\.015.*0\.01$"):
        narrow.with_delta(0.01)


def test_at_a_width_there_is_no_constant_part_if_kernels_are_as_wide_as_the_noise():
    train, test = images(60), images(5, 1)
    heat = HeatEquation(8, 8, torch.tensor([0.0, 4.0]))
    wide, equal = overlap.at_width(train, test, 4.0, 0.02, [0.03, 0.02], 6, seed=0)
    assert equal.constant == 0
    own = kl_divergence(Normal(0.0, 0.02), Normal(0.0, 0.03)).item()
    assert wide.constant == pytest.approx(64 * own, rel=1e-5)
    for found, delta in ((wide, 0.03), (equal, 0.02)):
        expected = bound_in_pixels(train, test, heat, 0.02, delta)
        assert (found.bound - expected).abs().max() < 1e-5
        assert (found.exact <= found.bound + 1e-9).all()
        numbers = found.summary()
        assert numbers["exact"] == pytest.approx(found.exact.mean().item())
        assert numbers["monte_carlo_error"] == pytest.approx(found.error.norm().item() / 5)


def test_the_fall_is_a_fraction_of_what_lies_above_the_base():
    first, second = torch.tensor([12.0, 14.0]), torch.tensor([11.0, 12.0])
    share, half = overlap.fall(first, second)
    assert share == pytest.approx(1.5 / 13)
    # Differences 1 and 2: Student's t with one degree of freedom, 12.706, times 0.5.
    assert half == pytest.approx(12.706 * 0.5 / 13, rel=1e-4)
    assert overlap.fall(first, second, base=10)[0] == pytest.approx(1.5 / 3)


@pytest.mark.parametrize(("sigma", "delta"), [(0, 0.1), (0.1, 0), (0.1, -1)])
def test_scales_have_to_be_positive(sigma, delta):
    heat = HeatEquation(8, 8, blur_schedule(3, 0.5, 8))
    with pytest.raises(ValueError, match="positive"):
        bound_of(images(2), images(2), heat, sigma, delta)

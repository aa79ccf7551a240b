import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy.fft import dctn, idctn

from ihdm import heat
from ihdm.heat import HeatEquation


def algorithm_3(u, sigma_blur):
    """Alg. 3 with SciPy, on the last two axes of a float64 array of any height and width."""
    rows, columns = (np.pi * np.arange(n) / n for n in u.shape[-2:])
    decay = np.exp(-(rows[:, None] ** 2 + columns**2) * sigma_blur**2 / 2)
    return idctn(decay * dctn(u, axes=(-2, -1), norm="ortho"), axes=(-2, -1), norm="ortho")


sides = st.integers(2, 24)
widths = st.floats(0, 40)
seeds = st.integers(0, 2**31)


def random_images(height, width, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, 3, height, width, generator=generator, dtype=dtype)


def blurred(u, *sigma_blur):
    equation = HeatEquation(*u.shape[-2:], torch.tensor(sigma_blur, dtype=torch.float64))
    return [equation.blur(u, k) for k in range(len(sigma_blur))]


@pytest.mark.parametrize("name", ["forward_gray28.npz", "forward_rgb32.npz"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-7)])
def test_blur_equals_the_published_implementation(reference, name, dtype, tolerance):
    arrays = reference(name)
    images = arrays["images"].to(dtype)
    schedule = arrays["sigma_blur"]
    result = HeatEquation(*images.shape[-2:], schedule).blur(images, arrays["level"])
    assert result.dtype == dtype
    assert (result.double() - arrays["blurred"]).abs().max() < tolerance
    ours = heat.blur_schedule(len(schedule) - 1, schedule[1].item(), schedule[-1].item())
    assert torch.allclose(ours, schedule, rtol=1e-12)


@given(sides, sides, widths, seeds)
@hypothesis_settings(deadline=None, max_examples=50)
def test_blur_equals_algorithm_3_on_rectangles(height, width, sigma_blur, seed):
    u = random_images(height, width, seed)
    expected = algorithm_3(u.numpy(), sigma_blur)
    assert np.abs(blurred(u, sigma_blur)[0].numpy() - expected).max() < 1e-12
    assert np.abs(blurred(u.float(), sigma_blur)[0].numpy() - expected).max() < 1e-5


@given(sides, sides, widths, widths, seeds)
@hypothesis_settings(deadline=None, max_examples=50)
def test_blur_is_a_semigroup_that_is_self_adjoint_and_keeps_the_mean(height, width, s, t, seed):
    u, v = random_images(height, width, seed), random_images(height, width, seed + 1)
    by_s, by_t, by_both = blurred(u, s, t, (s**2 + t**2) ** 0.5)
    assert torch.allclose(blurred(by_s, t)[0], by_both, atol=1e-12)
    assert torch.allclose((by_t * v).sum(), (u * blurred(v, t)[0]).sum(), rtol=1e-10)
    assert torch.allclose(by_t.mean((2, 3)), u.mean((2, 3)), atol=1e-13)


@given(sides, sides, widths, st.floats(-2, 2))
@hypothesis_settings(deadline=None, max_examples=25)
def test_blur_leaves_constant_images_as_they_are(height, width, sigma_blur, value):
    u = torch.full((1, 1, height, width), value, dtype=torch.float64)
    assert torch.allclose(blurred(u, sigma_blur)[0], u, atol=1e-12)


def test_blur_without_end_gives_the_mean_and_without_beginning_the_image():
    u = random_images(9, 14, 0)
    sharp, flat = blurred(u, 0.0, 1e4)
    assert torch.allclose(sharp, u, atol=1e-13)
    assert torch.allclose(flat, u.mean((2, 3), keepdim=True).expand_as(u), atol=1e-13)


def test_blur_takes_one_level_or_one_for_each_image_in_any_precision():
    u = random_images(8, 8, 0, torch.float32)
    equation = HeatEquation(8, 8, heat.blur_schedule(5, 0.5, 4))
    mixed = equation.blur(u, torch.tensor([1, 5]))
    assert torch.equal(mixed[0], equation.blur(u, 1)[0])
    assert torch.equal(mixed[1], equation.blur(u, 5)[1])
    half = equation.blur(u.bfloat16(), 3)
    assert half.dtype == torch.bfloat16
    assert (half.float() - equation.blur(u, 3)).abs().max() < 0.02


def test_blur_names_a_wrong_size_and_a_wrong_level():
    equation = HeatEquation(8, 8, heat.blur_schedule(5, 0.5, 4))
    with pytest.raises(ValueError, match="9x8.*8x8"):
        equation.blur(torch.zeros(1, 1, 9, 8), 1)
    with pytest.raises(ValueError, match=r"0\.\.5"):
        equation.blur(torch.zeros(1, 1, 8, 8), 6)
    with pytest.raises(ValueError, match=r"0\.\.5"):
        equation.blur(torch.zeros(1, 1, 8, 8), torch.tensor([-1]))


def test_schedule_is_even_in_the_logarithm():
    schedule = heat.blur_schedule(7, 0.5, 20)
    assert schedule[0] == 0
    assert schedule[1].item() == pytest.approx(0.5)
    assert schedule[-1].item() == pytest.approx(20)
    assert torch.allclose(schedule[2:] / schedule[1:-1], schedule[2] / schedule[1])
    assert heat.blur_schedule(1, 0.5, 20).tolist() == pytest.approx([0, 20])


@pytest.mark.parametrize(("K", "low", "high"), [(0, 0.5, 2), (3, 2, 2), (3, 0, 2), (3, 3, 2)])
def test_schedule_rejects_the_impossible(K, low, high):
    with pytest.raises(ValueError, match="K must be|needs 0"):
        heat.blur_schedule(K, low, high)


def test_operator_takes_a_width_for_each_matrix():
    table = heat.operator(6, torch.tensor([0.0, 1.3, 1e3], dtype=torch.float64))
    assert table.shape == (3, 6, 6)
    assert torch.allclose(table[0], torch.eye(6, dtype=torch.float64), atol=1e-14)
    assert torch.allclose(table[2], torch.full((6, 6), 1 / 6, dtype=torch.float64))
    x = np.random.default_rng(0).random((6, 1))
    expected = algorithm_3(np.broadcast_to(x, (6, 6)).copy(), 1.3)[:, :1]
    assert np.abs((table[1].numpy() @ x) - expected).max() < 1e-13


def test_finite_differences_solve_the_equation_of_the_stencil():
    """A cosine is an eigenvector of the stencil, with eigenvalue 2 cos(f) - 2."""
    basis = heat.cosine_basis(16)
    u = (basis[3][:, None] * basis[5][None, :])[None, None]
    rate = sum(2 * np.cos(np.pi * n / 16) - 2 for n in (3, 5))
    assert torch.allclose(heat.laplacian(u), rate * u, atol=1e-13)
    euler = (1 + 0.8 / 10 * rate) ** 10
    assert torch.allclose(heat.finite_differences(u, 0.8, 10), euler * u, atol=1e-13)

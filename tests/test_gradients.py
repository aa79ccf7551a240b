import pytest
import torch
import torch.nn.functional as F

from ihdm.heat import HeatEquation, blur_schedule
from ihdm.measures import gradients
from ihdm.processes import Denoising, InverseHeat
from tests.conftest import model_of


class Filter(torch.nn.Module):
    """A network whose answer is a convolution, the same at every level."""

    def __init__(self, kernel):
        super().__init__()
        self.kernel = torch.nn.Parameter(torch.as_tensor(kernel)[None, None])

    def forward(self, u, k):
        return F.conv2d(u, self.kernel, padding="same")


def inverse_heat(size):
    return InverseHeat(HeatEquation(size, size, blur_schedule(4, 0.5, 4)), 0.01, 0)


def test_the_gradient_of_a_filter_is_its_kernel():
    kernel = torch.arange(9.0).view(3, 3)
    u = torch.rand(2, 1, 9, 9)
    gradient = gradients.input_gradient(model_of(inverse_heat(9), Filter(kernel)), u, 2, (4, 3))
    assert gradient.shape == u.shape
    assert not u.requires_grad
    for own in gradient:
        assert torch.allclose(own[0, 3:6, 2:5], kernel, atol=1e-5)
        assert own.abs().sum() == pytest.approx(kernel.sum().item(), rel=1e-5)


def test_around_its_pixel_the_gradient_of_a_denoising_step_is_that_of_the_noise_reversed():
    kernel, pixel = torch.arange(9.0).view(3, 3), (4, 3)
    process, u = Denoising(9, 9, 4), torch.rand(2, 1, 9, 9)
    found = gradients.input_gradient(model_of(process, Filter(kernel)), u, 2, pixel)
    around = gradients.surroundings(found, pixel)[:, 0, 3:6, 2:5]
    expected = kernel.clone()
    expected[1, 1] = 0
    # x_s = (x_t - sigma^2_{t|s} / sigma_t eps) / alpha_{t|s} (Ho et al. 2020, Eq. 11).
    ratio, added = process.transition(torch.tensor([1]), torch.tensor([2]))
    factor = added / process.noise_scale(torch.tensor([2])) / ratio
    assert torch.allclose(around, -factor[0, 0, 0].float() * expected, atol=1e-5)
    assert found[0, 0, 4, 3] != 0
    for name, value in gradients.shape(found, pixel)._asdict().items():
        noise = torch.zeros_like(u)
        noise[:, 0, 3:6, 2:5] = kernel
        other = getattr(gradients.shape(noise, pixel), name)
        assert torch.allclose(value.abs(), other if name != "adjacent" else factor[0, 0, 0] * other)


def test_a_gradient_that_is_wrong_would_be_seen_by_finite_differences():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.Tanh())
    network.append(torch.nn.Conv2d(4, 1, 3, padding=1))

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = network.double()

        def forward(self, u, k):
            return self.layers(u)

    u = torch.rand(1, 1, 5, 5, dtype=torch.float64)
    gradient = gradients.input_gradient(model_of(inverse_heat(5), Network()), u, 1, (2, 2))
    step = torch.zeros_like(u)
    step[0, 0, 1, 3] = 1e-6
    with torch.no_grad():
        difference = (network(u + step) - network(u - step))[0, 0, 2, 2] / 2e-6
    assert gradient[0, 0, 1, 3].item() == pytest.approx(difference.item(), rel=1e-6)


def rotationally_symmetric(size, width):
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    distance = torch.hypot(y - size // 2.0, x - size // 2.0)
    return torch.exp(-((distance / width) ** 2))[None, None]


def test_symmetry_is_one_for_a_function_of_the_distance_and_none_for_an_odd_one():
    even = rotationally_symmetric(21, 3)
    odd = even * (torch.arange(21) - 10)
    centre = (10, 10)
    assert gradients.shape(even, centre).symmetry.item() == pytest.approx(1)
    assert gradients.shape(odd, centre).symmetry.item() == pytest.approx(0, abs=1e-12)
    both = gradients.shape(torch.cat([even, even + odd]), centre).symmetry
    assert 0 < both[1] < both[0]


def test_the_centre_does_not_count():
    even = rotationally_symmetric(21, 3)
    other = even.clone()
    other[0, 0, 10, 10] = -100
    for first, second in zip(
        gradients.shape(even, (10, 10)), gradients.shape(other, (10, 10)), strict=True
    ):
        assert torch.equal(first, second)


def test_the_radius_holds_nine_tenths_of_the_energy():
    spots = torch.zeros(1, 1, 21, 21)
    spots[0, 0, 10, 12], spots[0, 0, 10, 15], spots[0, 0, 3, 10] = 0.8**0.5, 0.15**0.5, 0.05**0.5
    assert gradients.shape(spots, (10, 10)).radius.item() == pytest.approx(5)
    spots[0, 0, 10, 12] = 4
    assert gradients.shape(spots, (10, 10)).radius.item() == pytest.approx(2)
    spots[0, 0, 10, 12] = torch.nan
    assert gradients.shape(spots, (10, 10)).radius.isnan()


def test_adjacent_pixels_keep_their_sign():
    laplacian = torch.zeros(1, 1, 9, 9)
    laplacian[0, 0, 3:6, 3:6] = torch.tensor([[0.0, -1, 0], [-1, 4, -1], [0, -1, 0]])
    assert gradients.shape(laplacian, (4, 4)).adjacent.item() == -1
    assert gradients.shape(laplacian, (4, 4)).symmetry.item() == pytest.approx(1)


def test_signs_are_shares_of_images():
    towards, away = torch.zeros(2, 4, 1, 5, 5)
    towards[:3, 0, 1, 2], away[:, 0, 1, 2] = -1, torch.tensor([1.0, 1, -1, 1])
    found = gradients.signs(*(gradients.shape(g, (2, 2)) for g in (towards, away)))
    assert found == (0.5, 0.75, 0.75)


def test_gradients_of_the_forward_process_are_at_its_states():
    process, u_0, noise = inverse_heat(5), *torch.rand(2, 3, 1, 5, 5)

    class Square(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, u, k):
            return self.weight * u**2

    model = model_of(process, Square())
    u_k, gradient = gradients.forward_gradient(model, u_0, 1, noise, (1, 3))
    assert torch.equal(u_k, process.example(u_0, torch.ones(3, dtype=int), noise)[0])
    assert torch.allclose(gradient[:, 0, 1, 3], 2 * u_k[:, 0, 1, 3])
    assert gradient.count_nonzero() == 3


def test_measures_are_means_over_levels_and_images_of_gradients_at_the_forward_process():
    class Wider(torch.nn.Module):
        """The Laplacian, to the power of the level."""

        def __init__(self):
            super().__init__()
            laplacian = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])
            self.kernel = torch.nn.Parameter(laplacian[None, None])

        def forward(self, u, k):
            for _ in range(int(k[0])):
                u = F.conv2d(u, self.kernel, padding="same")
            return u

    u_0 = torch.rand(3, 1, 13, 13, generator=torch.Generator().manual_seed(0))
    found = gradients.along(model_of(inverse_heat(13), Wider()), u_0, [0.25, 0.5], seed=0)
    assert found.symmetry.shape == (2, 3)
    assert torch.allclose(found.symmetry[0], torch.ones(3).double())
    # A linear network has one gradient at all states: the Laplacian, then its square.
    square = torch.zeros(5, 5)
    square[2, 1:4:2], square[1:4:2, 2], square[2, ::4], square[::4, 2] = -8, -8, 1, 1
    square[1:4:2, 1:4:2] = 2
    padded = F.pad(square, [4, 4, 4, 4])[None, None]
    shape = gradients.shape(padded, (6, 6))
    assert torch.allclose(found.radius[1], shape.radius.expand(3))
    means = gradients.measures(found)
    assert means["sharpens"] == {"mean": 0.5, "half_interval": 0.0}
    assert means["radius"]["mean"] == pytest.approx((1 + shape.radius.item()) / 2)
    assert means["symmetry"]["half_interval"] == pytest.approx(0, abs=1e-9)


def test_noise_is_that_of_the_level_whichever_levels_are_asked_for():
    class Square(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, u, k):
            return F.avg_pool2d(self.weight * u**2, 3, 1, 1)

    u_0, model = torch.rand(2, 1, 7, 7), model_of(inverse_heat(7), Square())
    both = gradients.along(model, u_0, [0.25, 0.75], seed=3)
    alone = gradients.along(model, u_0, [0.75], seed=3)
    assert torch.equal(both.adjacent[1], alone.adjacent[0])
    other = gradients.along(model, u_0, [0.75], seed=4)
    assert not torch.equal(other.adjacent, alone.adjacent)

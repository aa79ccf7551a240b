import numpy as np
import pytest
import torch
from scipy.fft import dctn, idctn
from torch import nn

from ihdm.measures import asymptotics
from ihdm.measures.linear import bias_at_zero, deblurring, linear_step
from ihdm.pixels import opponent
from ihdm.processes import make

SIDE = 8


@pytest.fixture
def process():
    return make(
        SIDE, SIDE, kind="inverse_heat", K=4, sigma_blur_min=0.5, sigma_blur_max=4, sigma=0.05
    )


@pytest.fixture
def modes():
    numbers = np.random.default_rng(0)
    mean, variance = (
        numbers.normal(0, 0.1, (3, SIDE, SIDE)),
        numbers.uniform(0.1, 1, (3, SIDE, SIDE)),
    )
    return torch.from_numpy(np.stack([mean, variance]))


def test_the_linear_step_is_the_optimal_one(process, modes):
    grey = modes[:, :1]
    u = torch.rand(5, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    widths = process.heat.sigma_blur[[3, 2]].tolist()
    expected = asymptotics.optimal_step(asymptotics.GaussianData(*grey), u, 0.05, *widths)
    answer = linear_step(process, grey)(u, torch.full((5,), 3))
    assert (answer - expected).abs().max() < 1e-5


def test_a_perfect_denoiser_leaves_the_difference_of_two_blurs(process):
    u = torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    squared = (np.pi * np.arange(SIDE) / SIDE) ** 2
    before, after = (
        np.exp(-(squared[:, None] + squared) * process.heat.sigma_blur[k].item() ** 2 / 2)
        for k in (2, 3)
    )
    modes = (before - after) * dctn(u[0, 0].double().numpy(), norm="ortho")
    expected = torch.from_numpy(idctn(modes, norm="ortho"))
    k = torch.tensor([3])
    assert (deblurring(process, u, k)[0, 0] - expected).abs().max() < 1e-6
    assert not deblurring(make(SIDE, SIDE, kind="denoising", K=4), u, k).any()


class Shifted(nn.Module):
    """The linear step, with a constant added to one axis of colour."""

    def __init__(self, inner, axis, amount):
        super().__init__()
        self.inner, self.amount = inner, amount
        self.colour = torch.from_numpy(opponent(3)[axis]).float()[:, None, None]

    def forward(self, u, k):
        return self.inner(u, k) + self.amount * self.colour


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_constant_that_a_network_adds_is_a_bias_of_its_axis_alone(process, modes, axis):
    images = np.random.default_rng(1).integers(0, 256, (40, 3, SIDE, SIDE), np.uint8)
    inner = linear_step(process, modes)
    before = bias_at_zero(process, inner, images, modes, 2, seed=0)
    after = bias_at_zero(process, Shifted(inner, axis, 0.01), images, modes, 2, seed=0)
    # Frequency zero is never blurred: its deviation is sigma sqrt(v / (v + sigma^2)).
    v = modes[1, axis, 0, 0].item()
    expected = torch.zeros(3)
    expected[axis] = 0.01 * SIDE / (0.05 * (v / (v + 0.05**2)) ** 0.5)
    assert torch.allclose(after - before, expected, atol=1e-3)

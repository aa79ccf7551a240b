import numpy as np
import pytest
import torch
from scipy.fft import dctn, idctn

from ihdm.spectrum import radial_psd


def test_white_noise_is_flat_and_parseval_holds_within_the_rings():
    u = torch.randn(200, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    frequency, power = radial_psd(u)
    assert frequency.shape == power.shape == (16,)
    assert frequency[1].item() == pytest.approx(np.pi / 16)
    assert (power[1:] - 1).abs().max() < 0.1


def test_each_ring_is_the_mean_of_its_scipy_coefficients():
    u = np.random.default_rng(0).random((1, 2, 12, 8))
    squared = (dctn(u, axes=(2, 3), norm="ortho") ** 2).mean((0, 1))
    n, m = np.meshgrid(np.arange(12) / 12, np.arange(8) / 8, indexing="ij")
    ring = np.rint(12 * np.hypot(n, m))
    _, power = radial_psd(torch.from_numpy(u))
    expected = [squared[ring == r].mean() for r in range(12)]
    assert np.allclose(power.numpy(), expected)


def test_a_power_law_keeps_its_exponent():
    size = 64
    n = np.arange(size)
    radius = np.hypot(n[:, None], n[None, :])
    radius[0, 0] = 1
    u = torch.from_numpy(idctn(1 / radius, norm="ortho")[None, None])
    frequency, power = radial_psd(u)
    slope = np.polyfit(frequency[4:].log().numpy(), power[4:].log().numpy(), 1)[0]
    assert slope == pytest.approx(-2, abs=0.02)

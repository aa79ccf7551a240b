import numpy as np
import pytest
import torch
from scipy.fft import dctn, idctn

from ihdm.heat import HeatEquation, blur_schedule
from ihdm.measures.spectrum import (
    additivity,
    crossing,
    decades,
    fine_power,
    power_law,
    radial_psd,
    retraced,
    rings,
    signal_and_noise,
    state_psd,
)
from ihdm.processes import Blurring, Denoising, InverseHeat


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
    law = power_law(frequency, power, (0.2, 3))
    assert law.alpha == pytest.approx(2, abs=0.02)
    assert law.constant == pytest.approx((np.pi / size) ** 2, rel=0.05)


def test_the_error_of_an_exponent_covers_what_noise_does_to_it():
    frequency = torch.linspace(0.02, 3, 200, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    scores = []
    for _ in range(200):
        noise = torch.randn(200, generator=generator).double()
        law = power_law(frequency, torch.exp(-1.5 * frequency.log() + 0.1 * noise), (0.02, 3))
        scores.append(abs(law.alpha - 1.5) < law.half_interval)
    # Bins hold more rings the higher they lie, so that their errors are not equal.
    assert 0.85 < np.mean(scores) <= 1


def test_a_band_without_frequencies_is_refused():
    frequency, power = radial_psd(torch.rand(1, 1, 8, 8))
    with pytest.raises(ValueError, match="band"):
        power_law(frequency, power, (0.5, 0.6))


def test_rings_partition_the_plane():
    ring = rings(8, 16)
    assert ring.shape == (8, 16)
    assert ring[0, 5] == 5
    assert ring[3, 0] == 6
    assert ring[4, 6] == 10


@pytest.mark.parametrize(
    "process",
    [
        InverseHeat(HeatEquation(32, 32, blur_schedule(10, 0.5, 16)), 0.1),
        Denoising(32, 32, 10),
        Blurring(32, 32, 10, 10),
    ],
)
def test_the_spectra_of_image_and_noise_add(process):
    generator = torch.Generator().manual_seed(0)
    u_0 = torch.rand(4, 3, 32, 32, generator=generator)
    noise, *many = torch.randn(51, 4, 3, 32, 32, generator=generator)
    for k in (1, 5, 10):
        assert additivity(process, u_0, k, noise) == pytest.approx(1, abs=0.4)
        assert additivity(process, u_0, k, 2 * noise) > 2
    signal, variance = signal_and_noise(process, u_0, 5)
    drawn = torch.cat([process.example(u_0, torch.tensor([5]), n)[0] for n in many])
    ring = rings(32, 32) == 20
    assert radial_psd(drawn)[1][20].item() == pytest.approx(
        signal[..., ring].mean().item() + variance, rel=0.05
    )


def test_spectra_are_compared_in_decades_and_in_their_upper_half():
    u = torch.rand(2, 1, 16, 16)
    power = radial_psd(u)[1]
    assert decades(10 * power, power) == pytest.approx(1)
    assert fine_power(2 * u, u) == pytest.approx(4)


def test_the_psd_of_a_state_without_noise_is_that_of_its_signal():
    u = torch.rand(1, 3, 16, 16, dtype=torch.float64)
    silent = torch.zeros_like(u)
    found = state_psd(Denoising(16, 16, 10), u, 7, silent)
    assert torch.allclose(found[1:], radial_psd(u)[1][1:])
    heat = HeatEquation(16, 16, blur_schedule(10, 0.5, 8))
    found = state_psd(InverseHeat(heat, 0.1), u, 7, silent)
    assert torch.allclose(found, radial_psd(heat.blur(u, 7))[1])


def test_a_sample_that_was_only_sharpened_leads_back_to_its_state():
    heat = HeatEquation(16, 16, blur_schedule(10, 0.5, 8))
    u, other = torch.rand(2, 4, 1, 16, 16)
    process = InverseHeat(heat, 0.01)
    assert retraced(process, u, heat.blur(u, 6), 6) == pytest.approx(1, abs=1e-5)
    assert abs(retraced(process, u, heat.blur(other, 6), 6)) < 0.9


def test_a_power_law_meets_a_floor_where_its_formula_says():
    frequency = torch.linspace(0, 3, 301, dtype=torch.float64)
    power = frequency.clamp(min=1e-3) ** -2
    assert crossing(frequency, power, 1 / 1.5**2 + 1e-9) == pytest.approx(1.5)
    assert crossing(frequency, power, 0.01) == 3

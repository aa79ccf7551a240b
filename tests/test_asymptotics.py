import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from ihdm import sampling
from ihdm.heat import HeatEquation, blur_schedule, cosine_basis, to_frequencies, to_pixels
from ihdm.measures import asymptotics, likelihood
from ihdm.measures.asymptotics import GaussianData
from ihdm.processes import InverseHeat
from tests.conftest import model_of

SIGMA, WIDTH, PREVIOUS = 0.1, 1.5, 1.2


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(0)
    mean, variance = torch.rand(2, 1, 4, 4, generator=generator, dtype=torch.float64)
    return GaussianData(mean, variance)


@pytest.fixture
def in_pixels(data):
    """Mean and covariance of u_0, and the matrices of two blurs, in pixel space."""
    basis = torch.kron(cosine_basis(4), cosine_basis(4))
    equation = HeatEquation(4, 4, torch.tensor([PREVIOUS, WIDTH], dtype=torch.float64))
    unit = torch.eye(16, dtype=torch.float64).view(16, 1, 4, 4)
    blurs = [equation.blur(unit, k).flatten(1).T for k in (0, 1)]
    return (
        basis.T @ data.mean.flatten(),
        basis.T @ data.variance.flatten().diag() @ basis,
        *blurs,
    )


def test_the_optimal_step_is_the_conditional_mean_of_the_joint_gaussian(data, in_pixels):
    mean, covariance, before, after = in_pixels
    u_k = torch.rand(3, 16, dtype=torch.float64)
    noisy = after @ covariance @ after.T + SIGMA**2 * torch.eye(16, dtype=torch.float64)
    gain = before @ covariance @ after.T @ torch.linalg.inv(noisy)
    expected = before @ mean + (u_k - after @ mean) @ gain.T - u_k
    step = asymptotics.optimal_step(data, u_k.view(3, 1, 4, 4), SIGMA, WIDTH, PREVIOUS)
    assert (step.flatten(1) - expected).abs().max() < 1e-10


def test_without_a_step_in_time_it_is_the_score_times_sigma_squared(data, in_pixels):
    mean, covariance, _, after = in_pixels
    noisy = after @ covariance @ after.T + SIGMA**2 * torch.eye(16, dtype=torch.float64)
    u_k = torch.rand(3, 16, dtype=torch.float64, requires_grad=True)
    MultivariateNormal(after @ mean, noisy).log_prob(u_k).sum().backward()
    step = asymptotics.optimal_step(data, u_k.detach().view(3, 1, 4, 4), SIGMA, WIDTH, WIDTH)
    assert (step.flatten(1) - SIGMA**2 * u_k.grad).abs().max() < 1e-10


def test_the_gap_is_what_drawn_states_show(data, in_pixels):
    torch.manual_seed(0)
    mean, covariance, _, after = in_pixels
    noisy = after @ covariance @ after.T + SIGMA**2 * torch.eye(16, dtype=torch.float64)
    u_k = MultivariateNormal(after @ mean, noisy).sample((20_000,)).view(-1, 1, 4, 4)
    denoising = asymptotics.optimal_step(data, u_k, SIGMA, WIDTH, WIDTH)
    step = asymptotics.optimal_step(data, u_k, SIGMA, WIDTH, PREVIOUS)
    measured = ((step - denoising).square().mean() / denoising.square().mean()).sqrt().item()
    gap = asymptotics.relative_gap(data, SIGMA, WIDTH, PREVIOUS)
    assert gap == pytest.approx(measured, rel=0.02)
    assert asymptotics.relative_gap(data, SIGMA, WIDTH, WIDTH) == 0


def test_the_gap_falls_with_the_number_of_levels_but_for_the_last_step(data):
    def gap(K, width):
        return asymptotics.relative_gap(data, SIGMA, width, width * (0.5 / 20) ** (1 / (K - 1)))

    for width in (1.0, 4.0):
        assert gap(201, width) / gap(401, width) == pytest.approx(2, rel=0.05)
    last = [
        asymptotics.relative_gap(data, SIGMA, *blur_schedule(K, 0.5, 20)[[1, 0]].tolist())
        for K in (10, 1000)
    ]
    assert last[0] == pytest.approx(last[1])


def test_the_preserving_delta_keeps_the_variance_of_a_denoising_step(data):
    torch.manual_seed(0)
    V = data.blurred_variance(SIGMA, WIDTH)
    y = data.decay(WIDTH) * data.mean + V.sqrt() * torch.randn(100_000, 1, 4, 4).double()
    delta = asymptotics.preserving_delta(data, SIGMA, WIDTH)
    u = torch.einsum("ai,ncij,jb->ncab", cosine_basis(4).T, y, cosine_basis(4))
    moved = to_frequencies(u + asymptotics.optimal_step(data, u, SIGMA, WIDTH, WIDTH))
    after = moved + delta * torch.randn(y.shape).double()
    assert (after.var(0) / V - 1).abs().max() < 0.02
    assert (delta >= SIGMA).all()
    assert (delta <= math.sqrt(2) * SIGMA).all()


def test_fitted_data_has_the_moments_of_the_images():
    images = torch.rand(50, 2, 4, 4)
    data = asymptotics.fitted(images)
    assert torch.allclose(data.mean, to_frequencies(images.double()).mean(0))
    total = images.double().var(0).sum((1, 2))
    assert torch.allclose(data.variance.sum((1, 2)), total)


def test_the_optima_of_the_chain_are_those_of_bound_and_samples(monkeypatch):
    shape = (2, 4, 4)
    variance = 0.5 * torch.rand(shape, generator=torch.Generator().manual_seed(0)).double() ** 3
    data = asymptotics.GaussianData(torch.full(shape, 0.4).double(), variance)
    heat = HeatEquation(4, 4, blur_schedule(6, 0.3, 3))
    process, widths = InverseHeat(heat, SIGMA), heat.sigma_blur.tolist()

    class Best(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, u, k):
            k = int(k[0])
            return asymptotics.optimal_step(data, u, SIGMA, widths[k], widths[k - 1]).to(u)

    generator = torch.Generator().manual_seed(1)
    y = data.mean + variance.sqrt() * torch.randn(20000, *shape, generator=generator).double()
    images = to_pixels(y)
    found = asymptotics.chain_optima(data, heat, SIGMA)
    monkeypatch.setattr(likelihood, "BATCH", 20000)
    errors = likelihood.squared_errors(model_of(process, Best()), images, seed=0)
    assert found.elbo == pytest.approx(likelihood.optimal_delta(errors, SIGMA, 32)[0], rel=2e-3)

    def distance(factor):
        model = InverseHeat(heat, SIGMA, factor * SIGMA)
        noise = torch.Generator().manual_seed(2)
        start = model.prior(images, torch.randn(images.shape, generator=noise).double())
        for step in sampling.reverse(model, Best(), start, generator=noise):
            last = to_frequencies(step.state)
        return ((last.std(0) - variance.sqrt()) ** 2).sum().item()

    assert distance(found.frechet) < min(distance(f * found.frechet) for f in (0.85, 1.15))

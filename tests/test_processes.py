import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from scipy.fft import dctn, idctn
from torch.distributions import MultivariateNormal

from ihdm.heat import HeatEquation, blur_schedule, cosine_basis
from ihdm.processes import Blurring, Denoising, InverseHeat

SIZE = 4


def inverse_heat(K=5, sigma=0.01, delta=0.0125, size=8, sigma_blur_max=4):
    schedule = blur_schedule(K, 0.5, sigma_blur_max)
    return InverseHeat(HeatEquation(size, size, schedule), sigma, delta)


def zero(u, k):
    return torch.zeros_like(u)


ALL = {
    "inverse heat": inverse_heat(K=10, sigma=0.1, size=SIZE),
    "inverse heat, sigma 0": inverse_heat(K=10, sigma=0.0, size=SIZE),
    "denoising": Denoising(SIZE, SIZE, 10),
    "blurring": Blurring(SIZE, SIZE, 10, 4),
    "blurring without blur": Blurring(SIZE, SIZE, 10, 0),
}
NOISY = {name: process for name, process in ALL.items() if name != "inverse heat, sigma 0"}
NOISE_PREDICTION = {name: ALL[name] for name in ("denoising", "blurring", "blurring without blur")}


def over(processes):
    return pytest.mark.parametrize("process", processes.values(), ids=processes.keys())


def in_pixels(table):
    """The (16, 16) matrix in pixel space of a (4, 4) table over frequencies."""
    basis = torch.kron(cosine_basis(SIZE), cosine_basis(SIZE))
    return basis.T @ torch.diag(table.flatten()) @ basis


def marginal(process, u_0, k):
    """Mean and covariance in pixel space by the definition B1."""
    k = torch.tensor([k])
    mean = in_pixels(process.log_signal(k)[0].exp()) @ u_0.flatten()
    identity = torch.eye(SIZE**2, dtype=torch.float64)
    return mean, process.noise_scale(k)[0] ** 2 * identity


@over(NOISY)
@pytest.mark.parametrize("levels", [(3, 7), (1, 2), (9, 10)])
def test_posterior_is_the_conditional_of_the_joint_gaussian(process, levels):
    s, t = levels
    generator = torch.Generator().manual_seed(0)
    u_0, u_t = torch.rand(2, SIZE, SIZE, generator=generator, dtype=torch.float64)
    mean_s, covariance_s = marginal(process, u_0, s)
    mean_t, covariance_t = marginal(process, u_0, t)
    # Only B1 and the ratio of signals enter here; the noise of the transition is what is left.
    ratio = (process.log_signal(torch.tensor([t])) - process.log_signal(torch.tensor([s]))).exp()[0]
    across = in_pixels(ratio) @ covariance_s
    gain = across.T @ torch.linalg.inv(covariance_t)
    expected = mean_s + gain @ (u_t.flatten() - mean_t)
    covariance = covariance_s - gain @ across

    of_u_t, of_u_0, variance = process.posterior(torch.tensor([s]), torch.tensor([t]))
    mean = in_pixels(of_u_t[0]) @ u_t.flatten() + in_pixels(of_u_0[0]) @ u_0.flatten()
    assert (mean - expected).abs().max() < 1e-9
    assert (in_pixels(variance[0]) - covariance).abs().max() < 1e-9


@over(ALL)
def test_chained_transitions_reproduce_the_marginal(process):
    generator = torch.Generator().manual_seed(0)
    u_0 = torch.rand(SIZE, SIZE, generator=generator, dtype=torch.float64)
    mean, covariance = marginal(process, u_0, 1)
    for s in range(1, process.K):
        ratio, variance = process.transition(torch.tensor([s]), torch.tensor([s + 1]))
        step = in_pixels(ratio[0])
        mean, covariance = step @ mean, step @ covariance @ step.T + in_pixels(variance[0])
        expected_mean, expected_covariance = marginal(process, u_0, s + 1)
        assert (mean - expected_mean).abs().max() < 1e-4
        assert (covariance - expected_covariance).abs().max() < 1e-4


@over(NOISY)
def test_drawing_through_a_transition_has_the_moments_of_the_marginal(process):
    """By sampling in pixel space with torch.distributions, not by algebra."""
    torch.manual_seed(0)
    u_0 = torch.rand(SIZE, SIZE, dtype=torch.float64)
    ratio, variance = process.transition(torch.tensor([4]), torch.tensor([8]))
    u_4 = MultivariateNormal(*marginal(process, u_0, 4)).sample((200_000,))
    coefficients = dctn(u_4.view(-1, SIZE, SIZE).numpy(), axes=(1, 2), norm="ortho")
    noise = torch.randn(u_4.shape, dtype=torch.float64).view(-1, SIZE, SIZE)
    u_8 = torch.from_numpy(coefficients) * ratio[0] + variance[0].sqrt() * noise
    u_8 = torch.from_numpy(idctn(u_8.numpy(), axes=(1, 2), norm="ortho")).flatten(1)
    mean, covariance = marginal(process, u_0, 8)
    scale = covariance[0, 0].sqrt()
    assert (u_8.mean(0) - mean).abs().max() < 0.02 * scale
    assert (torch.cov(u_8.T) - covariance).abs().max() < 0.03 * scale**2


@hypothesis.given(
    sigma_blur_max=st.floats(0, 128),
    size=st.sampled_from([4, 28, 64]),
    K=st.integers(1, 1000),
    position=st.floats(0, 1),
    width=st.floats(1e-3, 1),
)
@hypothesis.settings(max_examples=100, deadline=None)
def test_transition_variances_are_never_negative_nor_nan(sigma_blur_max, size, K, position, width):
    s = position * K
    t = s + width * (K - s)
    hypothesis.assume(t > s)
    for process in (Denoising(size, size, K), Blurring(size, size, K, sigma_blur_max)):
        levels = torch.tensor([s], dtype=torch.float64), torch.tensor([t], dtype=torch.float64)
        for table in (*process.transition(*levels), *process.posterior(*levels)):
            single = table.float()
            assert single.isfinite().all()
            assert (single >= 0).all()
        assert (process.transition(*levels)[1] > 0).all()


@pytest.mark.parametrize("sigma", [0.01, 0.0])
def test_heat_dissipation_is_finite_where_alpha_underflows_and_keeps_frequency_zero(sigma):
    process = inverse_heat(K=100, sigma=sigma, size=28, sigma_blur_max=20)
    s, t = torch.arange(100), torch.arange(1, 101)
    alpha = process.log_signal(t).exp().float()
    assert (alpha == 0).float().mean() > 0.2
    ratio, variance = process.transition(s, t)
    tables = (ratio, variance, *process.posterior(s, t))
    assert all(table.float().isfinite().all() and (table >= 0).all() for table in tables)
    assert (variance[:, 0, 0] == 0).all()
    assert (ratio[:, 0, 0] == 1).all()
    of_u_t, of_u_0, _ = process.posterior(s, t)
    assert (of_u_t[:, 0, 0] == 1).all()
    assert (of_u_0[:, 0, 0] == 0).all()


def test_the_noise_of_heat_dissipation_between_levels_is_not_isotropic():
    process = inverse_heat(K=10, sigma=0.1, size=SIZE)
    _, variance = process.transition(torch.tensor([3]), torch.tensor([4]))
    expected = 0.01 * (1 - math.exp(-(math.pi**2) / 16 * (process.heat.sigma_blur**2).diff()[3]))
    assert variance[0, 0, 1].item() == pytest.approx(expected, rel=1e-12)
    assert variance[0].flatten().diff().abs().max() > 1e-3


def test_a_schedule_without_transitions_is_named():
    backwards = HeatEquation(SIZE, SIZE, torch.tensor([0.0, 2.0, 1.0]))
    process = InverseHeat(backwards, 0.1)
    process.transition(torch.tensor([0]), torch.tensor([1]))
    with pytest.raises(ValueError, match=r"InverseHeat\(K=2, sigma_blur=2..1.*level 1 to 2"):
        process.transition(torch.tensor([1]), torch.tensor([2]))
    beyond = Blurring(SIZE, SIZE, 10)
    with pytest.raises(ValueError, match=r"Blurring\(K=10, sigma_blur_max=20.*level 10 to 12"):
        beyond.transition(torch.tensor([10]), torch.tensor([12]))


def test_blurring_is_that_of_its_equations():
    """B5-B8 written out in NumPy."""
    process = Blurring(6, 4, 50, sigma_blur_max=7)
    m, n = np.arange(6)[:, None], np.arange(4)
    squared = np.pi**2 * (n**2 / 4**2 + m**2 / 6**2)
    low, high = np.arctan(np.exp(-5)), np.arctan(np.exp(5))
    for k in (0.0, 3.0, 24.7, 50.0):
        t = k / 50
        tau = (7 * np.sin(np.pi * t / 2) ** 2) ** 2 / 2
        d = (1 - 0.001) * np.exp(-squared * tau) + 0.001
        log_snr = -2 * np.log(np.tan(t * (high - low) + low))
        a, sigma = np.sqrt(1 / (1 + np.exp(-log_snr))), np.sqrt(1 / (1 + np.exp(log_snr)))
        level = torch.tensor([k], dtype=torch.float64)
        assert np.allclose(process.log_signal(level).exp()[0], a * d, rtol=1e-12, atol=0)
        assert process.noise_scale(level).item() == pytest.approx(sigma, rel=1e-12)


def test_numbers_that_are_known_of_blurring():
    """Largest amplification of one step, smallest variance, and the ends of the schedule."""
    process, k = Blurring(28, 28, 100, 20), torch.arange(101)
    log_ratio = process.log_signal(k).diff(dim=0)
    assert 3.5 < (-log_ratio).exp().max() < 4
    few = Blurring(28, 28, 50, 128).log_signal(torch.arange(51)).diff(dim=0)
    assert (-few).exp().max() == pytest.approx(156, rel=0.02)
    variance = process.transition(k[:-1], k[1:])[1]
    assert variance.min() > 2e-5
    assert process.log_signal(k[:1]).exp()[0, 0, 0].item() == pytest.approx(0.99998, abs=1e-5)
    assert process.noise_scale(k[:1]).item() == pytest.approx(0.0067, abs=1e-4)


@pytest.mark.parametrize(
    ("K", "size", "sigma_blur_max"), [(3, 28, 20), (50, 64, 128), (100, 28, 20)]
)
def test_steps_in_float32_are_finite(K, size, sigma_blur_max):
    heat = HeatEquation(size, size, blur_schedule(K, 0.5, sigma_blur_max))
    noise = torch.randn(2, 1, size, size, generator=torch.Generator().manual_seed(0))
    for process in (
        InverseHeat(heat, 0.01, 0.0125),
        Denoising(size, size, K),
        Blurring(size, size, K, sigma_blur_max),
    ):
        u = process.prior(torch.rand(2, 1, size, size), noise)
        for k in (K, K // 2 + 1, 1):
            step = process.step(lambda u, k: noise, u, k, noise)
            assert step.state.dtype == torch.float32
            assert step.state.isfinite().all()


@over(ALL)
def test_the_state_of_an_example_is_the_marginal_with_noise(process):
    """Against SciPy's transform, on the scale of [0, 1] outside."""
    generator = torch.Generator().manual_seed(0)
    u_0, noise = torch.rand(2, 3, 1, SIZE, SIZE, generator=generator)
    k = torch.tensor([1, 4, 10])
    u_k, _ = process.example(u_0, k, noise)
    half = 1 if isinstance(process, InverseHeat) else 2
    for i in range(3):
        alpha = process.log_signal(k[i : i + 1])[0].exp().numpy()
        x = half * u_0[i, 0].double().numpy() - (half - 1)
        mean = idctn(alpha * dctn(x, norm="ortho"), norm="ortho")
        x_k = torch.from_numpy(mean) + process.noise_scale(k)[i] * noise[i, 0]
        assert (u_k[i, 0] - (x_k + half - 1) / half).abs().max() < 1e-5


def test_the_marginal_of_heat_dissipation_is_the_blur():
    process = inverse_heat(size=SIZE)
    u_0, k = torch.rand(3, 2, SIZE, SIZE), torch.tensor([0, 2, 5])
    in_general = super(InverseHeat, process).mean(u_0, k)
    assert (in_general - process.heat.blur(u_0, k)).abs().max() < 1e-6


def test_blurring_without_blur_is_a_ddpm_with_cosine_schedule():
    """Nichol and Dhariwal's schedule, bounded in log-SNR by +-10, and Ho et al.'s Eqs. 4 and 7."""
    K = 20
    process = Blurring(SIZE, SIZE, K, sigma_blur_max=0)
    low, high = math.atan(math.exp(-5)), math.atan(math.exp(5))
    angle = [low + (high - low) * k / K for k in range(K + 1)]
    # log-SNR = -2 log tan(angle) makes the signal the cosine and the noise the sine.
    generator = torch.Generator().manual_seed(0)
    u_0, noise, eps = torch.rand(3, 2, 1, SIZE, SIZE, generator=generator, dtype=torch.float64)
    for k in (1, 7, 20):
        alpha_bar, previous = math.cos(angle[k]) ** 2, math.cos(angle[k - 1]) ** 2
        beta = 1 - alpha_bar / previous
        x_0 = 2 * u_0 - 1
        x_k = math.sqrt(alpha_bar) * x_0 + math.sqrt(1 - alpha_bar) * noise
        u_k, target = process.example(u_0, torch.tensor([k, k]), noise)
        assert (2 * u_k - 1 - x_k).abs().max() < 1e-9
        assert torch.equal(target, noise)
        step = process.step(lambda u, k: eps, u_k, k, noise)
        estimate = (x_k - math.sqrt(1 - alpha_bar) * eps) / math.sqrt(alpha_bar)
        mean = (
            math.sqrt(previous) * beta * estimate + math.sqrt(1 - beta) * (1 - previous) * x_k
        ) / (1 - alpha_bar)
        spread = math.sqrt((1 - previous) / (1 - alpha_bar) * beta) if k > 1 else 0
        assert (2 * step.mean - 1 - mean).abs().max() < 1e-9
        assert (2 * step.state - 1 - mean - spread * noise).abs().max() < 1e-9
        assert step.k == k - 1


def test_the_ddpm_schedule_approaches_that_of_a_thousand_linear_betas():
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    expected = torch.cumprod(1 - betas, 0).sqrt()
    k = torch.arange(1, 1001)
    alpha = Denoising(SIZE, SIZE, 1000).log_signal(k)[:, 0, 0].exp()
    assert (alpha - expected).abs().max() < 2e-3
    for K in (2, 5, 100):
        beta = 1 - (Denoising(SIZE, SIZE, K).log_signal(torch.arange(K + 1)) * 2).exp()
        assert ((beta >= 0) & (beta < 1)).all()


@over(NOISE_PREDICTION)
def test_knowing_the_noise_leads_back_to_the_image(process):
    """With the true noise as the network's answer, the mean of every step is B4's at u_0."""
    generator = torch.Generator().manual_seed(0)
    u_0, noise = torch.rand(2, 2, 3, SIZE, SIZE, generator=generator, dtype=torch.float64)
    for k in (1, 5, 10):
        u_k, _ = process.example(u_0, torch.full((2,), k), noise)
        step = process.step(lambda u, k: noise, u_k, k, noise)
        of_u_t, of_u_0, variance = process.posterior(torch.tensor([k - 1]), torch.tensor([k]))
        x_k, x_0 = (dctn(2 * u.numpy() - 1, axes=(2, 3), norm="ortho") for u in (u_k, u_0))
        mean = torch.from_numpy(
            idctn(of_u_t.numpy() * x_k + of_u_0.numpy() * x_0, axes=(2, 3), norm="ortho")
        )
        assert (2 * step.mean - 1 - mean).abs().max() < 1e-8
        added = dctn(2 * (step.state - step.mean).numpy(), axes=(2, 3), norm="ortho")
        expected = variance.sqrt().numpy() * dctn(noise.numpy(), axes=(2, 3), norm="ortho")
        assert abs(added - (expected if k > 1 else 0)).max() < 1e-8
    last = Denoising(SIZE, SIZE, 10).step(
        lambda u, k: noise,
        Denoising(SIZE, SIZE, 10).example(u_0, torch.tensor([1, 1]), noise)[0],
        1,
        noise,
    )
    assert (last.state - u_0).abs().max() < 1e-9


@over(NOISE_PREDICTION)
def test_the_network_sees_the_symmetric_range_and_the_level_on_the_scale_of_K(process):
    seen = {}

    def network(u, k):
        seen["u"], seen["k"] = u, k
        return torch.zeros_like(u)

    process.step(network, torch.full((2, 1, SIZE, SIZE), 0.75), 10, torch.zeros(2, 1, SIZE, SIZE))
    assert (seen["u"] == 0.5).all()
    assert seen["k"].tolist() == [10, 10]
    prior = process.prior(torch.rand(1, 1, SIZE, SIZE), torch.full((1, 1, SIZE, SIZE), 0.5))
    assert (prior == 0.75).all()


def test_loss_is_the_sum_of_squares_of_algorithm_1():
    ihdm = inverse_heat()
    u_0, noise = torch.rand(3, 1, 8, 8), torch.randn(3, 1, 8, 8)
    k = torch.tensor([1, 3, 5])
    seen = {}

    def network(u, k):
        seen["u"], seen["k"] = u, k
        return 0.1 * u

    loss = ihdm.loss(network, u_0, k, noise)
    for i in range(3):
        u_k = ihdm.heat.blur(u_0[i : i + 1], int(k[i])) + 0.01 * noise[i : i + 1]
        target = ihdm.heat.blur(u_0[i : i + 1], int(k[i]) - 1)
        assert torch.allclose(seen["u"][i], u_k[0], atol=1e-6)
        assert loss[i].item() == pytest.approx((1.1 * u_k - target).square().sum().item(), rel=1e-5)
    assert torch.equal(seen["k"], k)


@over(NOISE_PREDICTION)
def test_loss_is_the_squared_error_of_the_noise(process):
    u_0, noise = torch.rand(2, 3, 1, SIZE, SIZE)
    loss = process.loss(lambda u, k: 0.5 * noise, u_0, torch.tensor([1, 5, 10]), noise)
    assert torch.allclose(loss, 0.25 * noise.square().flatten(1).sum(1), rtol=1e-5)


@pytest.mark.parametrize("process", [inverse_heat(K=4, sigma=0.5), Denoising(8, 8, 4)])
def test_loss_draws_levels_1_to_K_uniformly_and_unit_noise(process):
    drawn, spread = [], []

    def network(u, k):
        drawn.append(k)
        spread.append((u - u.mean((2, 3), keepdim=True)).flatten(1).std(1))
        return torch.zeros_like(u)

    generator = torch.Generator().manual_seed(0)
    process.loss(network, torch.full((4000, 1, 8, 8), 0.5), generator=generator)
    counts = torch.bincount(drawn[0], minlength=5)
    assert counts[0] == 0
    assert (counts[1:] - 1000).abs().max() < 120
    expected = process.noise_scale(drawn[0])
    assert (spread[0] / expected).mean().item() == pytest.approx(1, rel=0.01)


def test_blurring_draws_real_levels_uniformly():
    levels = Blurring(SIZE, SIZE, 5).levels(5000, torch.Generator().manual_seed(0))
    assert ((levels >= 0) & (levels <= 5)).all()
    assert torch.histc(levels, 5, 0, 5).sub(1000).abs().max() < 120
    assert (levels != levels.round()).float().mean() > 0.99


@over(ALL)
def test_loss_is_reproduced_by_the_generator(process):
    u_0 = torch.rand(4, 1, SIZE, SIZE)
    first, again, other = (
        process.loss(zero, u_0, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_training_never_reads_delta():
    ihdm = inverse_heat(delta=None)
    ihdm.loss(zero, torch.rand(1, 1, 8, 8))
    with pytest.raises(ValueError, match="without delta"):
        ihdm.prior(torch.rand(1, 1, 8, 8), torch.zeros(1, 1, 8, 8))


def test_prior_is_the_blurred_image_with_noise_delta():
    ihdm = inverse_heat(delta=0.3)
    u_0, noise = torch.rand(2, 1, 8, 8), torch.randn(2, 1, 8, 8)
    assert torch.allclose(ihdm.prior(u_0, noise), ihdm.heat.blur(u_0, 5) + 0.3 * noise)


def test_the_last_step_adds_no_noise():
    ihdm, u = inverse_heat(), torch.rand(1, 1, 8, 8)
    noise = torch.ones_like(u)
    middle, last = ihdm.step(zero, u, 3, noise), ihdm.step(zero, u, 1, noise)
    assert middle.k == 2
    assert torch.allclose(middle.state - middle.mean, 0.0125 * noise)
    assert last.k == 0
    assert torch.equal(last.state, last.mean)


@pytest.mark.parametrize(("sigma", "delta"), [(-0.1, 0.1), (0.1, -0.1)])
def test_negative_noise_is_rejected(sigma, delta):
    with pytest.raises(ValueError, match="negative"):
        inverse_heat(sigma=sigma, delta=delta)


def test_a_share_of_the_steps_is_a_level():
    process = Denoising(4, 4, 30)
    assert [process.level(share) for share in (0, 0.01, 0.5, 1)] == [1, 1, 15, 30]

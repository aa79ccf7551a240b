import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from ihdm.heat import HeatEquation, blur_schedule, to_frequencies, to_pixels
from ihdm.measures import likelihood
from ihdm.measures.likelihood import SquaredErrors
from ihdm.processes import Blurring, Denoising, InverseHeat
from tests.conftest import model_of
from tests.test_sampling import Pull

SIGMA = 0.02


@pytest.fixture
def process():
    return InverseHeat(HeatEquation(8, 8, blur_schedule(4, 0.5, 4)), SIGMA)


@pytest.fixture
def images():
    numbers = torch.randint(0, 256, (3, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    return numbers.float() / 255


def gaussian(mean, scale):
    return Independent(Normal(mean.double(), scale), mean.ndim - 1)


def test_the_terms_are_divergences_by_their_definition(process, images, monkeypatch):
    drawn = {}
    example = process.example

    def recording(u_0, k, noise):
        u_k, target = example(u_0, k, noise)
        drawn[int(k[0])] = u_k
        return u_k, target

    monkeypatch.setattr(process, "example", recording)
    errors = likelihood.squared_errors(model_of(process, Pull()), images, seed=0)
    delta = 0.03
    terms = likelihood.heat_terms(errors, images, SIGMA, delta, torch.zeros(3))
    assert terms.steps.shape == (3, 3)
    for k in range(2, 5):
        mean = (drawn[k] + Pull()(drawn[k], torch.full((3,), k))).detach()
        q = gaussian(process.heat.blur(images, k - 1), SIGMA)
        expected = kl_divergence(q, gaussian(mean, delta))
        assert torch.allclose(terms.steps[k - 2], expected, rtol=1e-5)
    assert terms.constant == pytest.approx(
        3 * kl_divergence(gaussian(images, SIGMA), gaussian(images, delta))[0].item()
    )
    mean = (drawn[1] + Pull()(drawn[1], torch.ones(3))).detach()
    assert torch.allclose(terms.density, -gaussian(mean, delta).log_prob(images.double()), 1e-4)


class Known(torch.nn.Module):
    """The best answer where all images are one."""

    def __init__(self, process, image):
        super().__init__()
        self.process, self.image = process, image
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, u, k):
        return self.process.heat.blur(self.image.expand(len(u), -1, -1, -1), k - 1) - u


def test_the_bound_of_a_model_that_knows_the_only_image(process, images):
    image = images[:1]
    errors = likelihood.squared_errors(model_of(process, Known(process, image)), image, seed=0)
    assert errors.by_level.max() < 1e-9
    terms = likelihood.heat_terms(errors, image, SIGMA, SIGMA, torch.zeros(1))
    assert terms.steps.abs().max() < 1e-6
    exact = -gaussian(image, SIGMA).log_prob(image.double())
    assert torch.allclose(terms.density, exact, atol=1e-6)
    twice = SquaredErrors(errors.by_level.repeat(1, 2), errors.mean)
    best, half = likelihood.optimal_delta(twice, SIGMA, 64)
    assert best == pytest.approx(math.sqrt(3 / 4), rel=1e-6)
    assert half == 0


def test_the_best_delta_is_where_the_bound_is_smallest(images):
    generator = torch.Generator().manual_seed(0)
    by_level = 0.05 + torch.rand(6, 3, generator=generator, dtype=torch.float64)
    errors = SquaredErrors(by_level, images + 0.01)
    # The data term holds the squared error of the first level by its mean.
    by_level[0] = (images.double() - errors.mean.double()).square().flatten(1).sum(1)
    best = likelihood.optimal_delta(errors, SIGMA, 64)[0] * SIGMA

    def total(delta):
        terms = likelihood.heat_terms(errors, images, SIGMA, delta, torch.zeros(3))
        return (terms.steps.sum(0) + terms.density).mean().item()

    assert total(best) < min(total(0.999 * best), total(1.001 * best))


NOISY = {
    "denoising": Denoising(8, 8, 5),
    "blurring": Blurring(8, 8, 5, 4),
}


class Guess(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.3))

    def forward(self, x, k):
        return self.weight * x


@pytest.mark.parametrize("process", NOISY.values(), ids=NOISY.keys())
@pytest.mark.parametrize("k", [2, 3, 5])
def test_a_step_costs_the_divergence_of_its_posteriors(process, k, images):
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(images.shape, generator=generator, dtype=torch.float64)
    u_0, level = images.double(), torch.full((3,), k)
    u_k, _ = process.example(u_0, level, noise)
    with torch.no_grad():
        wrong = to_frequencies(process.predict(Guess().double(), u_k, level) - noise)
        mean = process.step(Guess().double(), u_k, k, torch.zeros_like(u_k)).mean
    of_u_k, of_u_0, variance = process.posterior(level - 1, level)
    x_k, x_0, x_mean = (to_frequencies(2 * u - 1) for u in (u_k, u_0, mean))
    scale = variance.sqrt()[:, None]
    q = Independent(Normal(of_u_k[:, None] * x_k + of_u_0[:, None] * x_0, scale), 3)
    expected = kl_divergence(q, Independent(Normal(x_mean, scale), 3))
    found = (likelihood.step_weight(process, k)[:, None] * wrong.square()).flatten(1).sum(1)
    assert torch.allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("process", NOISY.values(), ids=NOISY.keys())
def test_the_prior_of_noise(process, images):
    top = torch.full((3,), 5)
    mean = process.mean(2 * images.double() - 1, top)
    scale = process.noise_scale(top)[0].item()
    expected = kl_divergence(gaussian(mean, scale), gaussian(torch.zeros_like(mean), 1.0))
    found = likelihood.noise_terms(model_of(process, Guess()), images, seed=0).prior
    assert torch.allclose(found, expected, rtol=1e-6)


class Posterior(torch.nn.Module):
    """The best guess of the noise where all values of images are independent N(mean, scale^2)."""

    def __init__(self, process, mean, scale):
        super().__init__()
        self.process, self.mean, self.scale = process, mean, scale
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, k):
        alpha = self.process.log_signal(k).exp()[:, None]
        sigma = self.process.noise_scale(k)[:, None, None, None]
        mean = to_frequencies(torch.full_like(x, 2 * self.mean - 1).double())
        y = to_frequencies(x.double())
        eps = sigma * (y - alpha * mean) / (alpha**2 * (2 * self.scale) ** 2 + sigma**2)
        return to_pixels(eps).float()


def excess(process, mean=0.5, scale=0.1):
    """Of the bound of the best model over the entropy, in nats, and its standard error."""
    generator = torch.Generator().manual_seed(0)
    u_0 = mean + scale * torch.randn(1000, 1, 2, 2, generator=generator)
    terms = likelihood.noise_terms(model_of(process, Posterior(process, mean, scale)), u_0, 0)
    truth = -gaussian(torch.full_like(u_0, mean), scale).log_prob(u_0.double())
    over = terms.prior + terms.steps.sum(0) + terms.density - truth
    return over.mean().item(), over.std().item() / 1000**0.5


def test_the_bound_of_the_best_model_is_above_the_entropy_and_nears_it_with_many_steps(monkeypatch):
    monkeypatch.setattr(likelihood, "BATCH", 1000)
    found = [excess(Blurring(2, 2, K, 1)) for K in (100, 400, 1600)]
    assert found[0][0] > found[1][0] > found[2][0] > -4 * found[2][1]
    # The excess falls like 1/K; extrapolated to infinitely many steps, it is zero.
    (coarse, of_coarse), (fine, of_fine) = found[1:]
    limit, error = abs(4 * fine - coarse) / 3, math.hypot(4 * of_fine, of_coarse) / 3
    assert limit < min(0.25, 4 * error)
    # The first steps of a linear schedule change the noise by factors, however many there are, and
    # a fixed variance is not that of the best reverse step there.
    found = [excess(Denoising(2, 2, K)) for K in (100, 1600)]
    assert found[0][0] > found[1][0] > 0


def test_probabilities_of_all_values_add_up_to_one_and_are_those_of_the_normal():
    values = torch.arange(256, dtype=torch.float64).view(256, 1, 1, 1) / 255
    for mean, scale in ((0.3, 0.02), (-0.01, 0.001), (1.0, 0.3), (0.5, 1e-4)):
        nats, density = likelihood.data_terms(values, torch.full_like(values, mean), scale)
        assert torch.exp(-nats).sum().item() == pytest.approx(1, abs=1e-6)
        assert torch.isfinite(nats).all()
        normal = Normal(torch.tensor(mean, dtype=torch.float64), scale)
        assert torch.allclose(density, -normal.log_prob(values.double().flatten()))
    middle = (normal.cdf(values + 0.5 / 255) - normal.cdf(values - 0.5 / 255)).flatten()[127:129]
    assert torch.allclose(torch.exp(-nats[127:129]), middle.double(), atol=1e-6)


def test_bits_of_a_density_are_those_of_narrow_bins():
    values = torch.full((1, 1, 4, 4), 100 / 255)
    nats, density = likelihood.data_terms(values, values + 0.02, 0.2)
    assert likelihood.bits_per_dimension(nats, 16).item() == pytest.approx(
        likelihood.bits_per_dimension(density, 16, density=True).item(), rel=1e-4
    )


def test_the_image_is_read_off_the_last_step_of_denoising(images, monkeypatch):
    process = NOISY["denoising"]
    drawn = {}
    example = process.example

    def recording(u_0, k, noise):
        drawn[int(k[0])] = example(u_0, k, noise)[0]
        return example(u_0, k, noise)

    monkeypatch.setattr(process, "example", recording)
    found = likelihood.noise_terms(model_of(process, Guess()), images, seed=0)
    with torch.no_grad():
        mean = process.step(Guess(), drawn[1], 1, torch.zeros_like(images)).mean
    # beta_1 of the process on [-1, 1], whose unit is half as long.
    signal = process.log_signal(torch.tensor([1.0])).exp().flatten()[0].item()
    scale = math.sqrt(1 - signal**2) / 2
    assert torch.allclose(found.density, -gaussian(mean, scale).log_prob(images.double()), 1e-4)


def test_the_summary_adds_up(images):
    found = likelihood.noise_terms(model_of(NOISY["blurring"], Guess()), images, seed=0)
    rows = found.summary(64)
    parts = sum(rows[name][0] for name in ("L_K", "constant", "errors", "L_0"))
    assert rows["total (nats)"][0] == pytest.approx(parts)
    bits = rows["bits per value, 8-bit bins"]
    assert bits[0] == pytest.approx(parts / 64 / math.log(2))
    assert bits[1] == pytest.approx(rows["total (nats)"][1] / 64 / math.log(2))
    density = (found.prior + found.steps.sum(0) + found.density).mean().item()
    expected = density / 64 / math.log(2) + math.log2(255)
    assert rows["bits per value, density"][0] == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["denoising", "blurring"])
def test_terms_do_not_depend_on_the_size_of_a_batch(kind, images, monkeypatch):
    model = model_of(NOISY[kind], Guess())
    whole = likelihood.noise_terms(model, images, seed=0)
    monkeypatch.setattr(likelihood, "BATCH", 1)
    one = likelihood.noise_terms(model, images, seed=0)
    assert torch.allclose(whole.steps, one.steps, rtol=1e-5)
    assert torch.allclose(whole.density, one.density, rtol=1e-5)

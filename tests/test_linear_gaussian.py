import numpy as np
import pytest
import torch
from scipy.fft import dctn, idctn

from ihdm import networks, processes
from ihdm.linear_gaussian import LinearGaussian, level_weights, to_modes
from ihdm.measures import asymptotics
from ihdm.precision import Autocast
from ihdm.unet import UNet
from tests.conftest import train_settings

H, W = 6, 8
PROCESSES = {
    "inverse_heat": {"K": 5, "sigma_blur_min": 0.5, "sigma_blur_max": 1.5, "sigma": 0.02},
    "denoising": {"K": 5},
    "blurring": {"K": 5, "sigma_blur_max": 3},
}
# Colour axes as the text that specifies them has them, one in a row.
AXES = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]])
AXES = AXES / np.linalg.norm(AXES, axis=1, keepdims=True)


def process_of(kind):
    return processes.make(H, W, kind=kind, **PROCESSES[kind])


def statistics_of(channels):
    """A mean and a variance for each mode of images in [0, 1]."""
    numbers = np.random.default_rng(1)
    mean = numbers.normal(0, 0.1, (channels, H, W))
    mean[:, 0, 0] = 0.4 * np.sqrt(H * W)
    return mean, 10 ** numbers.uniform(-3, 0, (channels, H, W))


def network_of(process, channels, dropout=0.0):
    m, v = map(torch.from_numpy, statistics_of(channels))
    unet = UNet(channels, 8, (1, 2), 1, (1,), groups=4, copies=3, dropout=dropout)
    return LinearGaussian(unet, process, m, v).eval()


def gaussian_images(channels, count):
    """Images whose modes are independent Gaussians, by SciPy's transform."""
    m, v = statistics_of(channels)
    modes = m + np.sqrt(v) * np.random.default_rng(2).normal(size=(count, channels, H, W))
    images = idctn(modes, axes=(2, 3), norm="ortho")
    return np.einsum("dc,ndhw->nchw", AXES, images) if channels == 3 else images


def modes_of(image):
    """Coefficients of a (C, H, W) image by SciPy's transform, on the axes of colour."""
    image = np.einsum("dc,chw->dhw", AXES, image) if len(image) == 3 else image
    return dctn(image, axes=(1, 2), norm="ortho")


def pixels_of(modes):
    image = idctn(modes, axes=(1, 2), norm="ortho")
    return np.einsum("dc,dhw->chw", AXES, image) if len(modes) == 3 else image


def linear_answer(process, u, k, m, v):
    """The best linear answer to one state of the process's own range, mode by mode in a loop."""
    level = torch.tensor([k])
    alpha = process.log_signal(level).exp()[0].numpy()
    sigma = process.noise_scale(level).item()
    y, estimate = modes_of(u), np.zeros_like(m)
    for c, i, j in np.ndindex(m.shape):
        a = alpha[i, j]
        gain = a * v[c, i, j] / (a**2 * v[c, i, j] + sigma**2)
        estimate[c, i, j] = m[c, i, j] + gain * (y[c, i, j] - a * m[c, i, j])
    if isinstance(process, processes.InverseHeat):
        before = process.log_signal(level - 1).exp()[0].numpy()
        return pixels_of(before * estimate) - u
    return pixels_of(y - alpha * estimate) / sigma


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", PROCESSES)
def test_before_training_it_answers_by_the_optimal_linear_step(kind, channels):
    process = process_of(kind)
    network = network_of(process, channels)
    m, v = statistics_of(channels)
    if kind != "inverse_heat":  # these see [-1, 1]
        m, v = 2 * m - modes_of(np.ones((channels, H, W))), 4 * v
    u_0 = torch.from_numpy(gaussian_images(channels, 4)).float()
    noise = torch.randn(u_0.shape, generator=torch.Generator().manual_seed(0))
    k = torch.tensor([1, 2, 3, 5])
    u, _ = process.example(u_0, k, noise)
    answer = process.predict(network, u, k)
    own = u if kind == "inverse_heat" else 2 * u - 1
    for found, state, level in zip(answer, own.double().numpy(), k.tolist(), strict=True):
        expected = linear_answer(process, state, level, m, v)
        assert np.abs(found.detach().numpy() - expected).max() < 1e-5 * max(1, abs(expected).max())


def test_the_linear_step_is_the_optimal_one_of_the_asymptotics():
    process = process_of("inverse_heat")
    network = network_of(process, 1)
    data = asymptotics.GaussianData(*map(torch.from_numpy, statistics_of(1)))
    u = torch.from_numpy(gaussian_images(1, 3)).float()
    for k in (1, 3, 5):
        widths = process.heat.sigma_blur[[k, k - 1]].tolist()
        expected = asymptotics.optimal_step(data, u, process.sigma, *widths)
        assert (network(u, torch.full((3,), k)) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("kind", PROCESSES)
def test_the_target_of_the_unet_has_unit_variance_in_every_mode_at_every_level(kind):
    process, count = process_of(kind), 4000
    network = network_of(process, 1).double()  # residuals are far smaller than states
    u_0 = torch.from_numpy(gaussian_images(1, count))
    for level in (1, 3, 5):
        k = torch.full((count,), level)
        noise = torch.randn(u_0.shape, generator=torch.Generator().manual_seed(level)).double()
        u, target = process.example(u_0, k, noise)
        with torch.no_grad():
            linear = process.predict(network, u, k)
        residual = process.conditional(k[:1], network.v).residual
        modes = to_modes(target - linear) / residual
        # 4,000 values give a variance to 2.2 %; the largest of 48 lies within five deviations.
        assert (modes.var(0) - 1).abs().max() < 0.12
        assert modes.mean(0).abs().max() < 0.08


@pytest.mark.parametrize("kind", PROCESSES)
def test_inputs_are_of_unit_size(kind):
    process, count = process_of(kind), 2000
    network = network_of(process, 3)
    seen = []
    network.unet.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    u_0 = torch.from_numpy(gaussian_images(3, count)).float()
    for level in (1, 5):
        k = torch.full((count,), level)
        u, _ = process.example(u_0, k, torch.randn(u_0.shape))
        with torch.no_grad():
            process.predict(network, u, k)
        size = seen[-1].square().mean((0, 2, 3)).sqrt()
        assert size.shape == (9,)
        assert torch.allclose(size[:6], torch.ones(6), atol=0.05)


def test_bfloat16_reaches_the_unet_and_never_the_transforms():
    process = process_of("inverse_heat")
    network = network_of(process, 1)
    u, k = torch.from_numpy(gaussian_images(1, 2)).float(), torch.tensor([1, 4])
    exact = network(u, k)
    products = []
    network.unet.first.register_forward_hook(lambda *call: products.append(call[2].dtype))
    cast = Autocast(network, train_settings(precision="bfloat16"), torch.device("cpu"))
    # The U-Net answers zero, so that all else is the linear step.
    assert torch.equal(cast(u, k), exact)
    assert products == [torch.bfloat16]


def test_statistics_travel_with_the_weights_and_stay_as_they_are_in_training():
    process = process_of("denoising")
    network, other = network_of(process, 1), network_of(process, 1)
    other.m.zero_()
    other.load_state_dict(network.state_dict())
    assert torch.equal(other.m, network.m)
    assert not any(name in ("m", "v") for name, _ in network.named_parameters())


def test_the_weights_of_levels_follow_the_loss_of_the_linear_step():
    process = process_of("inverse_heat")
    network = network_of(process, 1)
    v = torch.from_numpy(statistics_of(1)[1])
    u_0 = torch.from_numpy(gaussian_images(1, 3000)).float()
    losses = []
    for level in range(1, process.K + 1):
        k = torch.full((len(u_0),), level)
        draws = torch.Generator().manual_seed(level)
        with torch.no_grad():
            losses.append(process.loss(network, u_0, k, generator=draws).mean())
    losses = torch.stack(losses)
    for gamma in (0, 0.5, 1):
        weights = level_weights(process, v, gamma)[1:]
        expected = (losses / losses.mean()) ** -gamma / losses.mean()
        assert torch.allclose(weights, expected, rtol=0.05)
    assert level_weights(process, v, 0)[1:].unique().numel() == 1


def test_mirrored_images_have_the_statistics_that_training_sees(settings):
    described = settings.experiments["photos"]
    assert described.train.flips
    images = gaussian_images(3, 500)
    modes = np.stack([modes_of(u) for u in images])
    both = np.stack([modes_of(u) for u in np.concatenate([images, images[..., ::-1]])])
    measured = torch.from_numpy(np.stack([modes.mean(0), modes.var(0)]))
    m, v = networks.seen(described, measured)
    # The even modes of both are those of one.
    assert np.allclose(m, both.mean(0), atol=1e-12)
    assert np.allclose(v, both.var(0), atol=1e-12)

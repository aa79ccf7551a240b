"""No tensor of float64 reaches a device that has none, by a pretended one (`tests.pretended`)."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from ihdm import loop, processes
from ihdm.data.datasets import Images
from ihdm.linear_gaussian import to_modes
from ihdm.losses import held_out_loss, level_losses
from ihdm.measures import bounds, branching, disentangling, features, gradients
from ihdm.measures.interpolation import paths, smoothness
from ihdm.measures.linear import bias_at_zero
from ihdm.model import Model
from ihdm.pipeline import digit_features
from ihdm.pixels import to_unit
from ihdm.precision import Autocast
from ihdm.sampling import Between
from ihdm.settings import Experiment
from tests.conftest import make_small, read_settings
from tests.pretended import OnMetal, pretending


@pytest.fixture
def metal():
    with pretending() as device:
        yield device


def test_the_pretended_device_computes_and_refuses_float64(metal):
    u = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    there = u.to(metal)
    assert there.device == metal
    assert torch.equal((2 * there + 1).exp().cpu(), (2 * u + 1).exp())
    refused = (
        lambda: u.double().to(metal),
        lambda: there.double(),
        lambda: there.to(torch.float64),
        lambda: torch.zeros(2, dtype=torch.float64, device=metal),
        lambda: torch.zeros_like(u, device=metal, dtype=torch.float64),
        lambda: torch.tensor([1.0], dtype=torch.float64, device=metal),
        lambda: there.new_zeros(3, dtype=torch.float64),
    )
    for attempt in refused:
        with pytest.raises(TypeError, match="float64"):
            attempt()
    with pytest.raises(RuntimeError, match="same device"):
        there + u
    with pytest.raises(TypeError, match="numpy"):
        there.numpy()
    weights = there.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(weights.square().sum(), weights)
    assert isinstance(gradient, OnMetal)
    assert torch.equal(gradient.cpu(), 2 * u)


def test_a_process_that_keeps_its_tables_on_the_device_is_found(metal, monkeypatch):
    levels = torch.tensor([1, 2], device=metal)
    process = processes.make(8, 8, kind="denoising", K=4)
    assert process.log_signal(levels).dtype == torch.float64
    monkeypatch.setattr(processes, "on_double", lambda k: k)
    with pytest.raises(TypeError, match="float64"):
        process.log_signal(levels)


@pytest.fixture
def images():
    """Small pictures in colour, which no mirror leaves as they are."""
    arrays = np.random.default_rng(0).integers(0, 256, (12, 3, 8, 8), np.uint8)
    coefficients = to_modes(to_unit(arrays))
    modes = torch.stack([coefficients.mean(0), coefficients.var(0)]).numpy()
    return Images("noise", arrays, arrays[:4], arrays[4:8], "", {}, modes)


def described(name, **train):
    """An experiment of params.yaml, with a network of seconds."""
    experiment = read_settings()["experiments"][name]
    make_small(experiment)
    experiment["process"] |= {"sigma_blur_max": 4} if name == "mnist" else {}
    experiment["network"] |= {"attention_levels": [1], "dropout": 0.1, "res_blocks": 1}
    experiment["train"] |= {"steps": 2, "warmup": 0, "cooldown": 0, "flips": True} | train
    return Experiment.model_validate_json(json.dumps(experiment))


class Joined(Accelerator):
    """One process, with a device that accelerate would not find."""

    place = torch.device("cpu")

    @property
    def device(self):
        return self.place


def trained(experiment, images, place):
    """Trains on a device: the process, the model, and the losses of steps and of other images."""
    accelerator = Joined(cpu=True)
    accelerator.place = place
    process, state = loop.begin(experiment, images, place)
    assert all(p.device == place for p in state.network.parameters())
    steps = loop.steps(process, state, images.train, experiment.train, accelerator)
    told = [report.loss for report in steps]
    average = Autocast(state.average, experiment.train, place)
    told.append(held_out_loss(process, average, images.tune, seed=0))
    return Model.of(experiment, state.average, images.train, place), told


def measured(model, images):
    """The numbers of the measures that run the network."""
    u_0, modes = to_unit(images.report), torch.from_numpy(images.modes)
    _, grid = disentangling.grid(model, 2, 2)
    levels = torch.full((4,), 2)
    found = {
        "shares": disentangling.shares(model.starts(2), grid),
        "branches": branching.spread(model, (0.75, 0.25), 2, 2),
        "gradients": gradients.measures(gradients.along(model, u_0, (0.5,), seed=0)),
        "bias": bias_at_zero(
            model.process, model.network, images.tune, modes, level=2, seed=0
        ).tolist(),
        "by level": level_losses(model.process, model.network, images.tune, levels, 0).tolist(),
        "smoothness": [x.tolist() for x in smoothness(paths(model, model.draw(2)[0], 3))],
        # L_K under kernels of some width is a part of the bound of inverse heat dissipation.
        "bound": bounds.measure(model, u_0, lowest=0.5, draws=3, seed=0).numbers,
    }
    return {name: numbers(value) for name, value in found.items()}


def numbers(value):
    """All numbers in nested dictionaries and lists."""
    if isinstance(value, dict):
        value = list(value.values())
    return [x for v in value for x in numbers(v)] if isinstance(value, list | tuple) else [value]


# The last has the paper's own parametrisation, the others are corrected linear steps.
@pytest.mark.parametrize("name", ["mnist", "mnist_ddpm", "mnist_blurring", "cifar10"])
def test_a_model_is_trained_drawn_from_and_measured_as_on_a_cpu(metal, images, name):
    experiment = described(name, images_per_pass=2, **({"gamma": 0.5} if name == "mnist" else {}))
    here, told_here = trained(experiment, images, torch.device("cpu"))
    there, told_there = trained(experiment, images, metal)
    assert there.device == metal
    assert told_there == pytest.approx(told_here, rel=1e-4)

    samples = [0, 1, Between(0, 1, 0.5)]
    drawn = there.draw(samples, levels=(0, 2))
    for k, expected in here.draw(samples, levels=(0, 2)).items():
        assert not isinstance(drawn[k], OnMetal)
        assert torch.allclose(drawn[k], expected, atol=1e-3)
    assert np.abs(there.draw_bytes([0, 1]).astype(int) - here.draw_bytes([0, 1])).max() <= 1

    expected = measured(here, images)
    for measure, found in measured(there, images).items():
        assert found == pytest.approx(expected[measure], rel=0.01, abs=1e-3), measure


def test_the_classifier_is_trained_and_gives_features_as_on_a_cpu(metal, monkeypatch):
    digits = np.random.default_rng(0).integers(0, 256, (24, 1, 28, 28), np.uint8)
    labels = {"train": np.arange(24, dtype=np.uint8) % 10}
    images = Images("digits", digits, digits, digits, "", labels, np.zeros(0, np.float32))
    found = []
    for place in (torch.device("cpu"), metal):
        state = SimpleNamespace(device=place)
        for module in (digit_features, features):
            monkeypatch.setattr(module, "PartialState", lambda state=state: state)
        # Its result is on the CPU wherever it was trained.
        network = digit_features.train(images, epochs=2, seed=0)
        monkeypatch.setattr(features.classifier, "load", lambda network=network: network)
        found.append(features.features(digits, "digits"))
    assert np.abs(found[0]).max() > 0.01
    assert found[1] == pytest.approx(found[0], abs=1e-3)

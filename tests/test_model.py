from dataclasses import replace

import numpy as np
import pytest
import torch

from ihdm import sampling, weights
from ihdm.data import datasets
from ihdm.model import Model
from ihdm.processes import Denoising
from ihdm.project import ProjectError
from ihdm.settings import load
from tests.conftest import model_of, portable, untrained
from tests.test_sampling import Pull, heat_process


@pytest.fixture
def model():
    images = np.random.default_rng(0).integers(0, 256, (10, 1, 8, 8), np.uint8)
    return model_of(heat_process(), Pull(), images)


def test_samples_do_not_depend_on_their_batch(model):
    together = model.draw(5)[0]
    assert torch.allclose(together, model.draw(5, batch=2)[0], atol=1e-6)
    assert torch.allclose(model.draw([2])[0][0], together[2], atol=1e-6)


def test_draw_keeps_levels_and_goes_on_from_one_of_them(model):
    u_K = torch.rand(3, 1, 8, 8)
    states = model.draw(3, levels=(4, 2, 0), start=u_K)
    assert torch.equal(states[4], u_K)
    noise = sampling.noises((1, 8, 8), 0, range(3))
    by_hand = sampling.reverse(model.process, Pull(), u_K, noise)
    assert torch.allclose(next(s.state for s in by_hand if s.k == 2), states[2])
    branch = model.draw(range(7, 10), start=states[2], k=2)[0]
    assert not torch.allclose(branch, states[0], atol=1e-4)


def test_draw_is_the_reverse_process_from_the_starts_of_the_samples(model):
    u_K = model.starts([3, 1])
    assert torch.equal(u_K, sampling.starts(model.process, model.images, 0, [3, 1]))
    *_, last = model.steps([3, 1], u_K)
    assert torch.allclose(model.draw([3, 1])[0], last.state)


def test_another_delta_or_seed_is_another_model(model):
    still = model.with_delta(0)
    assert (still.process.delta, still.process.sigma) == (0, model.process.sigma)
    assert model.process.delta == 0.0125
    start = torch.rand(1, 1, 8, 8).expand(2, -1, -1, -1)
    first, second = still.draw([0, 1], start=start)[0]
    assert torch.allclose(first, second, atol=1e-6)
    assert not torch.allclose(*model.draw([0, 1], start=start)[0], atol=1e-4)
    assert not torch.equal(model.starts(1), model.with_seed(1).starts(1))
    with pytest.raises(ValueError, match="must not be negative"):
        model.with_delta(-0.01)
    with pytest.raises(TypeError, match="not inverse heat dissipation"):
        model_of(Denoising(8, 8, 4), Pull()).with_delta(0.1)


def test_a_model_that_cannot_be_had_names_what_is_missing(project):
    with pytest.raises(ProjectError, match="'mnist5k' is not prepared"):
        Model.trained("mnist")
    with pytest.raises(ProjectError, match="'other' is not switched on"):
        Model.trained("other")


def test_a_trained_model_has_the_settings_of_its_experiment(trained):
    model, experiment = Model.trained("mnist"), load().experiments["mnist"]
    assert model.process.K == experiment.process.K
    assert model.process.delta == experiment.sampling.delta
    assert model.seed == experiment.sampling.seed
    assert model.images.shape == (64, 1, 28, 28)
    assert not model.network.training
    states = model.draw(2, levels=(model.process.K, 0))
    assert torch.equal(states[model.process.K], model.starts(2))
    assert len(list(model.steps([0], model.starts(1)))) == model.process.K


@pytest.mark.parametrize("name", ["mnist", "mnist_colour", "mnist_blurring", "mnist_sigma0"])
def test_a_model_of_a_file_is_that_of_the_experiment_with_the_prior_of_its_images(ready, name):
    held, experiment = portable(name), load().experiments[name]
    held.write(ready / "model.safetensors")
    network = weights.fill(untrained(name), held.tensors, ready)
    images = datasets.load(load().run[name]).train[:16]
    expected = Model.of(experiment, network, images, torch.device("cpu")).draw(2)[0]
    assert torch.equal(Model.from_file(ready / "model.safetensors").draw(2)[0], expected)


def test_a_file_that_is_no_model_is_refused_by_name(ready):
    path = ready / "model.safetensors"
    with pytest.raises(ProjectError, match="model.safetensors does not exist"):
        Model.from_file(path)
    weights.save(path, untrained("mnist"))
    with pytest.raises(ProjectError, match=r"model.safetensors is no model of this version"):
        Model.from_file(path)
    held = portable("mnist")
    replace(held, tensors=portable("mnist_sigma0").tensors).write(path)
    with pytest.raises(ProjectError, match=r"model.safetensors does not fit the network"):
        Model.from_file(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ProjectError, match="model.safetensors is damaged"):
        Model.from_file(path)

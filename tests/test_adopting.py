import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ihdm.data import datasets
from ihdm.pipeline import adopting, training
from ihdm.precision import Autocast
from ihdm.project import ProjectError
from ihdm.settings import load
from ihdm.weights import Portable, rounded
from tests.conftest import plain, random_network, train_settings, untrained, write_settings
from tests.pipeline import EXPERIMENTS

HISTORY = [{"step": 6, "training": 2.5, "held_out": 1.25, "learning_rate": 0.001}]


def all_finished():
    """The state of a finished training of each experiment, of weights that learned nothing."""
    for name in EXPERIMENTS:
        training.finish(training.state_folder(name), random_network(name), HISTORY)


@pytest.fixture
def exported(ready):
    """A project with the weights of all experiments in `weights/`, and no training."""
    all_finished()
    adopting.export([])
    shutil.rmtree(ready / "state")
    return ready


def test_an_adopted_training_is_a_finished_one_that_says_where_it_is_from(exported, capsys):
    adopting.adopt()
    told = capsys.readouterr().out
    for name in EXPERIMENTS:
        assert f"{name}: adopted from weights/{name}.safetensors, not trained here" in told
    finished = training.run("mnist")
    assert "already adopted from weights/mnist.safetensors, not trained here" in (
        capsys.readouterr().out
    )
    assert finished.history == HISTORY
    origin = json.loads((finished.weights.parent / "adopted.json").read_text())
    assert origin["sha256"] == datasets.sha256(exported / "weights/mnist.safetensors")
    assert (origin["precision"], origin["torch"]) == ("float32", torch.__version__)
    assert training.follow("mnist").origin == finished.origin
    assert f"mnist: {finished.origin}" in capsys.readouterr().out


def test_what_is_adopted_is_what_was_exported_up_to_the_rounding_of_matrices(exported):
    adopting.adopt()
    for name in ("mnist_colour", "mnist_sigma0"):
        network = random_network(name)
        held = load_file(training.run(name).weights)
        assert held.keys() == network.state_dict().keys()
        for key, buffer in network.named_buffers():
            assert torch.equal(held[key], buffer)
        for key, p in network.named_parameters():
            # bfloat16 keeps 8 bits of the significand.
            exact = 0 if p.ndim < 2 else 2**-8
            assert ((held[key] - p).abs() <= exact * p.abs()).all()


@pytest.mark.parametrize("name", ["mnist", "mnist_colour", "mnist_ddpm", "mnist_sigma0"])
def test_products_in_bfloat16_are_those_of_the_stored_weights_in_every_bit(ready, name):
    network, stored = random_network(name), untrained(name)
    stored.load_state_dict(rounded(network))
    _, data = load().experiment(name)
    u = torch.rand(3, *datasets.load(data).shape, generator=torch.Generator().manual_seed(0))
    k = torch.tensor([1, 2, 4])
    answers, gradients = [], []
    for each in (network, stored):
        autocast = Autocast(each, train_settings(precision="bfloat16"), torch.device("cpu")).eval()
        state = u.clone().requires_grad_()
        answers.append(autocast(state, k))
        gradients.append(*torch.autograd.grad(answers[-1].sum(), state))
    assert torch.equal(*answers)
    assert torch.equal(*gradients)
    assert any(not torch.equal(a, b) for a, b in zip(*map(values, (network, stored)), strict=True))


def values(network):
    return list(network.state_dict().values())


def test_settings_that_do_not_make_the_model_may_differ(exported, smoke_settings):
    settings = plain(smoke_settings)
    settings["experiments"]["mnist"]["train"] |= {"precision": "bfloat16", "checkpoint_every": 3}
    settings["experiments"]["mnist"]["sampling"]["delta"] = 0.02
    before = training.state_folder("mnist")
    write_settings(exported, settings)
    adopting.adopt()
    assert training.state_folder("mnist") != before
    assert "not trained here" in training.run("mnist").origin


def test_a_file_of_another_model_is_refused_by_what_differs(exported, smoke_settings):
    settings = plain(smoke_settings)
    settings["experiments"]["mnist"]["train"]["steps"] = 7
    settings["experiments"]["mnist"]["process"]["sigma"] = 0.02
    settings["data"]["colour5k"]["seed"] = 1
    write_settings(exported, settings)
    manifest = exported / "data/prepared/colour5k/manifest.json"
    images = exported / "data/prepared/colour5k/train.npy"
    np.save(images, 255 - np.load(images))
    described = json.loads(manifest.read_text())
    described["blocks"]["train"] = [datasets.block_hash(images, 0)]
    manifest.write_text(json.dumps(described))
    (exported / "weights/mnist_ddpm.safetensors").unlink()
    with pytest.raises(ProjectError) as refused:
        adopting.adopt()
    told = str(refused.value)
    assert "weights/mnist.safetensors is another model" in told
    assert "process.sigma is 0.01 there and 0.02 in params.yaml" in told
    assert "train.steps is 6 there and 7 in params.yaml" in told
    assert "training images were not those of 'colour5k'" in told
    assert "mnist_ddpm.safetensors does not exist" in told
    assert "`make repro` trains" in told
    for name in ("mnist", "mnist_colour", "mnist_ddpm"):
        assert not (training.state_folder(name) / "final.safetensors").exists()
    # The others match, and were adopted.
    assert "not trained here" in training.run("mnist_blurring").origin


def test_without_the_folder_it_says_how_to_get_on(ready):
    with pytest.raises(ProjectError, match=r"git restore weights.*make repro"):
        adopting.adopt()


def test_a_training_of_ones_own_is_kept(exported):
    own = random_network("mnist")
    training.finish(training.state_folder("mnist"), own, HISTORY)
    adopting.adopt()
    finished = training.run("mnist")
    assert finished.origin == "trained here"
    assert torch.equal(
        *(t["unet.first.weight"] for t in (load_file(finished.weights), own.state_dict()))
    )


def test_dropped_weights_are_trained_anew_and_own_ones_stay(exported, capsys):
    training.finish(training.state_folder("mnist_ddpm"), random_network("mnist_ddpm"), HISTORY)
    adopting.adopt()
    results = exported / "results/weights"
    results.mkdir(parents=True)
    for name in EXPERIMENTS:
        (results / f"{name}.safetensors").touch()
    adopting.drop()
    assert [path.name for path in results.iterdir()] == ["mnist_ddpm.safetensors"]
    assert training.run("mnist_ddpm").history == HISTORY
    finished = training.run("mnist")
    assert finished.origin == "trained here"
    assert finished.history != HISTORY
    assert "mnist: training from the beginning" in capsys.readouterr().out


def test_only_trainings_that_finished_here_are_exported(exported):
    files = {path: path.read_bytes() for path in (exported / "weights").iterdir()}
    with pytest.raises(ProjectError, match="mnist is not trained: `dvc repro train@mnist`"):
        adopting.export([])
    adopting.adopt()
    with pytest.raises(ProjectError, match="mnist was adopted from weights/"):
        adopting.export(["mnist"])
    assert {path: path.read_bytes() for path in (exported / "weights").iterdir()} == files


def test_a_file_says_what_it_holds_and_names_no_machine(exported):
    held = Portable.read(exported / "weights/mnist_colour.safetensors")
    images = datasets.load("colour5k")
    assert held.experiment == load().experiments["mnist_colour"]
    assert held.data == images.fingerprint
    assert np.array_equal(held.images, images.train[:256])
    assert set(held.made) == {"date", "processor", "precision", "torch", "stored"}
    assert (
        str(exported).encode() not in (exported / "weights/mnist_colour.safetensors").read_bytes()
    )


def test_equal_trainings_give_equal_files(exported):
    before = (exported / "weights/mnist.safetensors").read_bytes()
    training.finish(training.state_folder("mnist"), random_network("mnist"), HISTORY)
    adopting.export(["mnist"])
    assert (exported / "weights/mnist.safetensors").read_bytes() == before

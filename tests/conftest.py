import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

# Programs run side by side here, and disturb each other with more threads than cores.
os.environ["OMP_NUM_THREADS"] = "1"
# The tests are of CPUs, of which several processes can share one.
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy as np
import pytest
import torch
from filelock import FileLock
from ruamel.yaml import YAML

from ihdm import networks, processes, weights
from ihdm.data import datasets
from ihdm.model import Model
from ihdm.precision import Autocast
from ihdm.settings import Train, load
from ihdm.weights import Portable
from tests.browsing import chromium
from tests.pipeline import REPOSITORY, run_pipeline

REFERENCE = Path(__file__).parent / "reference"


def pytest_collection_modifyitems(items):
    """The tests of the pipeline first, which take longest, and the others that need its run last.

    So one process runs the pipeline while the other has tests that do not wait for it.
    """

    def place(item):
        if item.path.stem == "test_notebooks":
            return 0
        return 2 if "finished_source" in item.fixturenames else 1

    items.sort(key=place)


@pytest.fixture
def reference():
    """Reads an array file of the published implementation as tensors."""

    def read(name):
        with np.load(REFERENCE / name) as arrays:
            return {key: torch.from_numpy(arrays[key]) for key in arrays}

    return read


@pytest.fixture(scope="session")
def smoke_settings():
    return small_settings()


def small_settings():
    """params.yaml of the repository with a network and budgets that take seconds."""
    settings = with_few_digits(read_settings())
    for data in set(settings["run"].values()):
        settings["data"][data]["splits"] = {"train": 64, "tune": 16, "report": 16}
    for experiment in settings["experiments"].values():
        make_small(experiment)
    settings["notebooks"]["ihdm_in_one_page"] |= {"K": 4, "width": 8, "steps": 10, "batch": 4}
    settings["notebooks"]["heat_equation"]["photograph_size"] = 32
    settings["notebooks"]["training"] |= {"levels_measured": 2, "images_per_level": 4}
    settings["notebooks"]["samples"] |= {"samples": 8, "sequences": 2, "frames": 3, "branches": 2}
    settings["notebooks"]["samples"] |= {"splits": [0.75, 0.25], "starts": 2, "per_start": 2}
    settings["notebooks"]["samples"] |= {"film_frames": 7, "film_samples": 2}
    settings["notebooks"]["blurring_diffusion"] |= {"photograph_size": 16, "frames": 3}
    settings["notebooks"]["psd_duality"]["photograph_size"] = 64
    settings["notebooks"]["noise_scale"] |= {"samples": 2, "rows": 1, "held_out": 4}
    settings["notebooks"]["sigma_zero"] |= {"samples": 8, "trajectories": 2, "images": 4}
    settings["notebooks"]["colour_and_shape"] |= {"noises": 2, "starts": 2}
    settings["notebooks"]["interpolation"] |= {"pairs": 4, "points": 5, "rows": 1}
    settings["notebooks"]["interpolation"]["shown"] = 3
    settings["notebooks"]["input_gradients"] |= {"images": 4, "pixels": [[0.5, 0.5]]}
    settings["notebooks"]["nearest_neighbours"] |= {"samples": 4, "neighbours": 2, "rows": 1}
    settings["digit_features"]["epochs"] = 1
    settings["notebooks"]["fid_tables"] |= {
        "samples": 16,
        "delta": [0.5, 1.25, 2],
        "samples_per_delta": 8,
    }
    settings["notebooks"]["fid_tables"]["bootstraps"] = 3
    settings["notebooks"]["likelihood"] |= {"images": 4, "points": 3, "draws": 2}
    settings["notebooks"]["prior_overlap"] |= {"images": 4, "draws": 2}
    settings["controls"] |= {"photograph_size": 32, "starts": 2, "deltas": 6, "sequences": 2}
    return settings


def with_few_digits(settings):
    """The same settings with the data sets for which nothing has to be fetched."""
    few = {"mnist": "mnist5k", "colour": "colour5k"}
    settings["run"] = {name: few[data] for name, data in settings["run"].items()}
    for section in (settings["digit_features"], *settings["notebooks"].values()):
        if "data" in section:
            section["data"] = few[section["data"]]
    return settings


def read_settings():
    """params.yaml of the repository, as it is."""
    return plain(YAML(typ="safe", pure=True).load(REPOSITORY / "params.yaml"))


def plain(settings):
    """The same settings without blocks that are one object in several places."""
    return json.loads(json.dumps(settings))


def make_small(experiment):
    """Gives an experiment a network and a budget of seconds."""
    experiment["process"]["K"] = 4
    experiment["network"] |= {"channels": 8, "groups": 2, "multipliers": [1, 1, 1]}
    experiment["network"]["attention_levels"] = [2]
    experiment["train"] |= {"steps": 6, "batch": 4, "warmup": 2, "cooldown": 2}
    experiment["train"] |= {"log_every": 2, "checkpoint_every": 2, "precision": "float32"}


def write_settings(project, settings):
    """Replaces params.yaml of a project."""
    with (project / "params.yaml").open("w") as file:
        YAML(typ="safe", pure=True).dump(settings, file)


def copy_sources(project, settings):
    """Copies the repository's sources, without anything made from them, and gives them settings."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        made = ("results/", "tests/", "weights/", "dvc.lock")
        if not name.startswith(made) and (REPOSITORY / name).exists():
            target = project / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REPOSITORY / name, target)
    write_settings(project, settings)


@pytest.fixture(scope="session")
def smoke_source(tmp_path_factory, smoke_settings):
    """A copy of the repository's sources with the smoke settings."""
    project = tmp_path_factory.mktemp("smoke") / "project"
    copy_sources(project, smoke_settings)
    return project


@pytest.fixture(scope="session")
def finished_source(smoke_source, tmp_path_factory):
    """A whole run of the smoke project, in a git repository with the filters of `make`."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    project = shared / "finished-source" / "project"
    # One of the workers runs the pipeline and the others wait for it.
    with FileLock(shared / "finished.lock"):
        if not (shared / "finished").exists():
            run_pipeline(project, smoke_source)
            (shared / "finished").touch()
    return project


@pytest.fixture(scope="session")
def site(finished_source):
    """The site that the pipeline made of the smoke run."""
    return finished_source / "site"


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium."""
    yield from chromium()


@pytest.fixture
def finished(finished_source, tmp_path, monkeypatch):
    """A finished smoke project as the working directory."""
    copy = tmp_path / "finished"
    shutil.copytree(finished_source, copy, symlinks=True)
    monkeypatch.chdir(copy)
    return copy


@pytest.fixture
def project(smoke_source, tmp_path, monkeypatch):
    """A fresh smoke project as the working directory."""
    copy = tmp_path / "project"
    shutil.copytree(smoke_source, copy)
    monkeypatch.chdir(copy)
    return copy


@pytest.fixture(scope="session")
def prepared_source(smoke_source, tmp_path_factory):
    """The smoke project with its data prepared."""
    prepared = tmp_path_factory.mktemp("prepared") / "project"
    shutil.copytree(smoke_source, prepared)
    subprocess.run([sys.executable, "-m", "ihdm.data.prepare"], cwd=prepared, check=True)
    return prepared


@pytest.fixture
def ready(prepared_source, tmp_path, monkeypatch):
    """A fresh smoke project with its data prepared, as the working directory."""
    copy = tmp_path / "project"
    shutil.copytree(prepared_source, copy)
    monkeypatch.chdir(copy)
    return copy


@pytest.fixture
def trained(ready):
    """A smoke project with weights that have learned nothing."""
    weights.save(ready / "results/weights/mnist.safetensors", random_network("mnist"))
    return ready


def portable(name):
    """The network of an experiment with random weights, as a file of `weights/` holds it."""
    experiment, data = load().experiment(name)
    images = datasets.load(data)
    tensors = weights.rounded(random_network(name))
    return Portable(experiment, images.fingerprint, [], {}, np.array(images.train[:16]), tensors)


def random_network(name):
    """The network of an experiment with weights that have learned nothing, and none at zero."""
    torch.manual_seed(0)
    network = untrained(name)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return network


def untrained(name):
    """The network of an experiment before training, for the data of the working directory."""
    experiment, data = load().experiment(name)
    images = datasets.load(data)
    process = processes.make(*images.shape[1:], **experiment.numbers)
    return networks.make(experiment, process, torch.from_numpy(images.modes))


def train_settings(**changes):
    """A description of a training of seconds, in float32."""
    values = {"steps": 8, "batch": 3, "learning_rate": 0.01, "warmup": 2, "cooldown": 4}
    values |= {"ema": 0.5, "gradient_clip": 1.0, "precision": "float32", "flips": True}
    return Train(**(values | {"log_every": 1, "checkpoint_every": 1, "seed": 0} | changes))


def model_of(process, network, images=None, **options):
    """A model with a stand-in for its network, in float32 on the CPU."""
    plain_network = Autocast(network, train_settings(), torch.device("cpu"))
    return Model(process, plain_network, images, **options)


def use_published(project, settings):
    """Adds an experiment to a smoke project which is a checkpoint in the published layout."""
    settings = plain(settings)
    settings["run"]["photos"] = "photos"
    splits = {"train": 24, "tune": 8, "report": 8}
    settings["data"]["photos"] |= {"size": 16, "splits": splits}
    experiment = settings["experiments"]["photos"]
    experiment["process"] |= {"sigma_blur_max": 8}
    experiment["network"] |= {"resample": "conv", "parametrization": "published"}
    experiment["train"] |= {"published": "data/raw/tiny.pth", "gamma": None}
    write_settings(project, settings)
    torch.manual_seed(0)
    network = networks.unet(load().experiments["photos"], 3)
    raw = {f"module.{name}": p for name, p in network.state_dict().items()}
    ema = {"shadow_params": [p + 0.01 for p in raw.values()], "decay": 0.999, "num_updates": 7}
    (project / "data/raw").mkdir()
    torch.save({"model": raw, "ema": ema, "step": 1234}, project / "data/raw/tiny.pth")


@pytest.fixture
def settings(project):
    """The smoke project's validated params.yaml."""
    return load()

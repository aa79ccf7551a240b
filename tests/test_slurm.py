"""The body of slurm/train.sbatch, with stand-ins for srun and scontrol."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import write_settings
from tests.pipeline import REPOSITORY

SCRIPT = REPOSITORY / "slurm/train.sbatch"

# It starts its command once for each node. As Slurm does, the test signals these and not srun.
SRUN = """#!/bin/bash
printf '%s\\n' "$*" >>"$CALLS/srun"
if [[ -n ${CODE:-} ]]; then exit "$CODE"; fi
for ((node = 0; node < ${SLURM_NNODES:-1}; node++)); do "$@" & echo $! >>"$CALLS/pids"; done
highest=0
for task in $(jobs -p); do wait "$task"; code=$?; ((code > highest)) && highest=$code; done
exit $highest
"""
SCONTROL = """#!/bin/bash
echo "$@" >>"$CALLS/scontrol"
if [[ $1 == show ]]; then echo localhost; fi
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A folder that lists the calls of Slurm's programs, which come first in PATH."""
    calls = tmp_path / "slurm"
    calls.mkdir()
    for name, body in (("srun", SRUN), ("scontrol", SCONTROL)):
        (calls / name).write_text(body)
        (calls / name).chmod(0o755)
    # Names of the calls' lists differ from those of the programs.
    (tmp_path / "calls").mkdir()
    monkeypatch.setenv("PATH", f"{calls}:{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    return tmp_path / "calls"


def submit(*experiments, wait=True, **environment):
    given = os.environ | {"SLURM_JOB_ID": "70", "SLURM_SUBMIT_DIR": os.getcwd()} | environment
    process = subprocess.Popen(
        ["bash", str(SCRIPT), *experiments],
        env=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return (*process.communicate(), process.returncode)[::2] if wait else process


def calls(cluster, program):
    path = cluster / program
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize(
    ("code", "requeued"), [(0, []), (130, ["requeue 70"]), (143, ["requeue 70"]), (1, []), (9, [])]
)
def test_only_a_training_that_was_stopped_is_requeued_and_exit_codes_are_kept(
    cluster, code, requeued
):
    told, ended = submit("cifar10", CODE=str(code))
    assert ended == code
    assert calls(cluster, "scontrol") == requeued
    (call,) = calls(cluster, "srun")
    assert call == ".venv/bin/python -u -m ihdm.pipeline.training cifar10"
    assert ("finished" if code == 0 else "stopped" if requeued else f"exit code {code}") in told


@pytest.mark.parametrize("by_environment", [False, True])
def test_the_index_of_the_array_chooses_the_experiment(cluster, by_environment):
    names = ["cifar10", "afhq64", "ffhq128"]
    environment = {"SLURM_ARRAY_JOB_ID": "70", "SLURM_JOB_ID": "72", "CODE": "130"}
    if by_environment:
        environment["EXPERIMENTS"] = " ".join(names)
    for index in (0, 2):
        environment["SLURM_ARRAY_TASK_ID"] = str(index)
        submit(*([] if by_environment else names), **environment)
    assert [call.split()[-1] for call in calls(cluster, "srun")] == ["cifar10", "ffhq128"]
    # By the name of the one job, since the number of the array would requeue all of it.
    assert calls(cluster, "scontrol") == ["requeue 70_0", "requeue 70_2"]
    told, code = submit(*names, **environment | {"SLURM_ARRAY_TASK_ID": "3"})
    assert code == 2
    assert "array index 3 names no experiment" in told
    assert "cifar10 afhq64 ffhq128" in told
    assert len(calls(cluster, "srun")) == 2
    told, code = submit(CODE="0")
    assert (code, len(calls(cluster, "srun"))) == (2, 2)
    assert "array index 0 names no experiment; there are 0" in told


def test_two_nodes_train_stop_by_slurms_signal_and_go_on(ready, smoke_settings, cluster):
    settings = smoke_settings["experiments"]["mnist"]["train"]
    before, settings["steps"] = settings["steps"], 150
    write_settings(ready, smoke_settings)
    settings["steps"] = before
    (ready / ".venv").symlink_to(sys.prefix)
    slurm = {"SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_JOB_ID": str(os.getpid())}
    job = submit("mnist", wait=False, **slurm)
    for _ in range(1200):
        if list(ready.glob("state/*/step-*.pt")):
            break
        time.sleep(0.1)
    pids = [int(pid) for pid in calls(cluster, "pids")]
    assert len(pids) == 2
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    told = job.communicate()[0]
    assert job.returncode == 130, told
    assert "training from the beginning, 150 steps, processes: 2" in told
    assert told.count("the same command goes on") == 1
    requeue = f"requeue {os.getpid()}"
    assert calls(cluster, "scontrol") == ["show hostnames n[1-2]", requeue]
    # A training can go on with another number of nodes.
    told, code = submit("mnist", SLURM_JOB_ID=slurm["SLURM_JOB_ID"])
    assert code == 0, told
    assert "going on from step" in told
    assert "mnist: finished" in told
    assert calls(cluster, "scontrol").count(requeue) == 1
    assert list(ready.glob("state/mnist-*/final.safetensors"))


def test_the_directives_save_before_the_limit_and_allow_a_requeue():
    lines = [line for line in SCRIPT.read_text().splitlines() if line.startswith("#SBATCH ")]
    options = dict(line.removeprefix("#SBATCH --").partition(" ")[::2] for line in lines)
    assert "requeue" in options
    # To the steps alone, and earlier than processes have to save.
    signal_name, seconds = options["signal"].split("@")
    assert signal_name == "TERM"
    timeout = SCRIPT.read_text().partition("--shutdown-timeout=")[2].split()[0]
    assert int(seconds) > int(timeout)
    # Slurm reads directives up to the first command.
    body = SCRIPT.read_text().partition("\nset -u\n")
    assert "#SBATCH" in body[0]
    assert "#SBATCH" not in body[2]

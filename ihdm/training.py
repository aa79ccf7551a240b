"""Training as a program: `python -m ihdm.training EXPERIMENT`.

It trains an experiment of params.yaml to the end of its budget, or goes on from where an earlier
run of the same training stopped. What makes two trainings the same is their fingerprint: the
parameters, the hash of the data, and the syntax trees of the modules that decide the numbers, so
that comments and docstrings do not count. State lives in `state/EXPERIMENT-FINGERPRINT/`, under a
lock, and is no output of the pipeline; finished weights stay there and are used again.

The notebook `02-training` runs this program by `follow`.
"""

import argparse
import ast
import hashlib
import inspect
import json
import math
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from filelock import FileLock, Timeout

from ihdm import (
    checkpoints,
    datasets,
    heat,
    loop,
    params,
    precision,
    processes,
    progress,
    seeds,
    unet,
)
from ihdm.datasets import Images
from ihdm.processes import Process
from ihdm.settings import Experiment, ProjectError

__all__ = ["Finished", "fingerprint", "follow", "fresh", "run"]

FINAL = "final.safetensors"
SECONDS_FOR_LOCK = 15


@dataclass(frozen=True)
class Finished:
    """What a training leaves.

    Attributes:
        weights: safetensors file with the moving average of the weights.
        history: rows of `step`, `training` and `held_out` loss, and `learning_rate`.
    """

    weights: Path
    history: list[dict[str, float]]


def fingerprint(experiment: Experiment, images: Images) -> str:
    """Names a training by everything that its result depends on.

    Args:
        experiment: the validated description; how to sample does not count, nor how often to save.
        images: the prepared data.

    Returns:
        12 hexadecimal digits.
    """
    settings = experiment.model_dump(mode="json", include={"process", "network", "train"})
    del settings["train"]["checkpoint_every"]
    parts = [json.dumps(settings, sort_keys=True), images.fingerprint]
    # Modules as a whole, and single functions of modules that do more than decide numbers.
    deciding = (seeds, heat, processes, unet, precision, loop, datasets.to_unit, fresh, train)
    parts += [syntax(inspect.getsource(code)) for code in deciding]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def syntax(source: str) -> str:
    """The syntax tree of a piece of code as text, without comments and docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:]
    return ast.dump(tree)


def run(name: str, parent: int | None = None) -> Finished:
    """Trains an experiment, or goes on with it, or finds it finished.

    Args:
        name: the experiment in params.yaml.
        parent: a process whose end is a request to stop, as Ctrl-C and SIGTERM are.

    Raises:
        ProjectError: settings or data are wrong, another process trains the same, or the loss is
            not finite.
        KeyboardInterrupt: it was asked to stop; the state is saved.
    """
    project, settings = params.root(), params.load()
    experiment, data = settings.experiment(name)
    images = datasets.load(data)
    folder = state_folder(name)
    others = [p.name for p in folder.parent.glob(f"{name}-{'?' * 12}") if p != folder]
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        if (folder / FINAL).is_file():
            print(f"{name}: already trained, using the weights in {folder.relative_to(project)}")
        else:
            if new and others:
                print(f"{name}: settings, data or code differ from {', '.join(others)}")
            train(name, experiment, images, folder, parent)
    return result(folder)


def state_folder(name: str) -> Path:
    """Where the state of an experiment as params.yaml describes it now is kept."""
    experiment, data = params.load().experiment(name)
    identity = fingerprint(experiment, datasets.load(data))
    return params.root() / "state" / f"{name}-{identity}"


def result(folder: Path) -> Finished:
    return Finished(folder / FINAL, json.loads((folder / "history.json").read_text()))


def fresh(
    experiment: Experiment, images: Images, accelerator: Accelerator
) -> tuple[Process, loop.State]:
    """A process, and the state of its training before the first step.

    Args:
        experiment: the validated description.
        images: the prepared data.
        accelerator: names the device.
    """
    torch.manual_seed(experiment.train.seed)
    network = unet.from_params(experiment, images.shape[0])
    network.to(accelerator.device, memory_format=torch.channels_last)
    process = processes.from_params(experiment, *images.shape[1:])
    return process, loop.State.fresh(network, experiment.train)


def train(
    name: str, experiment: Experiment, images: Images, folder: Path, parent: int | None
) -> None:
    settings = experiment.train
    accelerator = Accelerator()
    process, state = fresh(experiment, images, accelerator)
    saved = checkpoints.newest_state(folder)
    if saved is None:
        print(f"{name}: training from the beginning, {settings.steps} steps", flush=True)
    else:
        state.load_state_dict(saved)
        print(f"{name}: going on from step {state.step} of {settings.steps}", flush=True)
    average = precision.Autocast(state.ema.module, settings.precision, accelerator.device)
    reports = loop.steps(process, state, images.train, settings, accelerator)
    with (
        requests_to_stop(parent) as stop,
        progress.bar(settings.steps, f"training {name}", initial=state.step) as bar,
    ):
        for report in reports:
            if not math.isfinite(report.loss):
                good = next(checkpoints.states(folder), None)
                raise ProjectError(
                    f"the loss is {report.loss} at step {report.step} of {name}; the last good "
                    f"checkpoint is {good or 'none'}. A lower learning rate or float32 may help"
                )
            if report.step % settings.log_every == 0 or report.step == settings.steps:
                row = {
                    "step": report.step,
                    "training": sum(state.pending) / len(state.pending),
                    "held_out": loop.held_out_loss(process, average, images, settings.seed),
                    "learning_rate": report.learning_rate,
                }
                state.history.append(row)
                state.pending.clear()
            # Saved before anything is written: who reads the log may be gone.
            stopping = stop()
            if stopping or report.step % settings.checkpoint_every == 0:
                checkpoints.save_state(folder, report.step, state.state_dict())
            rate = (bar.format_dict["rate"] or 0) * settings.batch
            bar.set_postfix_str(f"loss {report.loss:.3f}, {rate:.0f} images/s", refresh=False)
            bar.update()
            if stopping:
                print(f"\n{name}: stopped at step {report.step}; the same command goes on from it")
                raise KeyboardInterrupt
    (folder / "history.partial").write_text(json.dumps(state.history))
    os.replace(folder / "history.partial", folder / "history.json")
    checkpoints.save_weights(folder / FINAL, state.ema.module)
    for checkpoint in list(checkpoints.states(folder)):
        checkpoint.unlink()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lets one process at a time work in a directory.

    Raises:
        ProjectError: another one does and goes on doing so; the message names its pid.
    """
    lock, owner = FileLock(folder / "lock"), folder / "pid"
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print(f"waiting for another process, which works in {folder}", flush=True)
            lock.acquire(timeout=SECONDS_FOR_LOCK)
    except Timeout:
        pid = owner.read_text()
        raise ProjectError(
            f"process {pid} is training in {folder}: wait for it, or stop it with `kill {pid}`"
        ) from None
    try:
        owner.write_text(str(os.getpid()))
        yield
    finally:
        lock.release()


@contextmanager
def requests_to_stop(parent: int | None):
    """Turns SIGINT, SIGTERM and the end of the parent process into a question asked after a step.

    Yields:
        A function that says whether to stop.
    """
    received = []
    before = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield lambda: bool(received) or (parent is not None and os.getppid() != parent)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def follow(name: str) -> Finished:
    """Trains in a process of its own and shows its log, for notebooks.

    The process saves its state and ends when this one does.

    Args:
        name: the experiment in params.yaml.

    Raises:
        ProjectError: the training failed; with its message.
    """
    folder = state_folder(name)
    command = [sys.executable, "-u", "-m", "ihdm.training", name, "--parent", str(os.getpid())]
    tail: deque[str] = deque(maxlen=200)
    with subprocess.Popen(
        command,
        cwd=params.root(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            for line in process.stdout:
                tail.append(line)
                print(line, end="", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            process.terminate()
            raise
    if process.returncode < 0:
        raise ProjectError(
            f"training {name} was ended by signal {-process.returncode} (9 is often a lack of "
            "memory); the same command goes on from the last checkpoint"
        )
    if process.returncode:
        raise ProjectError("".join(tail).strip().rpartition("error: ")[2])
    return result(folder)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ihdm.training", description=__doc__)
    parser.add_argument("experiment", help="an experiment that `run` in params.yaml switches on")
    parser.add_argument("--parent", type=int, help="stop when this process ends")
    arguments = parser.parse_args()
    with params.exit_on_error():
        run(arguments.experiment, arguments.parent)


if __name__ == "__main__":
    main()

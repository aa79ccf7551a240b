"""Training as a program: `python -m ihdm.training EXPERIMENT`.

It trains an experiment of params.yaml to the end of its budget, or goes on from where an earlier
run of the same training stopped. What makes two trainings the same is their fingerprint: the
parameters, the hash of the data, and the syntax trees of the modules that decide the numbers, so
that comments and docstrings do not count. State lives in `state/EXPERIMENT-FINGERPRINT/`, under a
lock, and is no output of the pipeline; finished weights stay there and are used again.

Where `machine.processes` in params.yaml is above 1, the program starts as many of itself, one for
each device, which share every batch. `torchrun -m ihdm.training EXPERIMENT` does so on several
machines with a common file system. The notebook `02-training` runs this program by `follow`.
"""

import argparse
import ast
import hashlib
import inspect
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from filelock import FileLock, Timeout

from ihdm import (
    checkpoints,
    datasets,
    heat,
    launching,
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
# What has no part in the result of a training, but by rounding and the draws of dropout.
ASIDE = ("checkpoint_every", "images_per_pass", "activation_checkpointing", "channels_last")
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
        experiment: the validated description; how to sample does not count, nor how often to save
            and how the work is laid out on devices.
        images: the prepared data.

    Returns:
        12 hexadecimal digits.
    """
    settings = experiment.model_dump(mode="json", include={"process", "network", "train"})
    for key in ASIDE:
        del settings["train"][key]
    parts = [json.dumps(settings, sort_keys=True), images.fingerprint]
    if experiment.train.published:
        parts.append(datasets.sha256(published(experiment)))
        parts.append(syntax(inspect.getsource(checkpoints.load_published)))
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


def published(experiment: Experiment) -> Path:
    """The authors' checkpoint that an experiment names.

    Raises:
        ProjectError: the file is missing.
    """
    path = params.root() / experiment.train.published
    if not path.is_file():
        raise ProjectError(f"{path} does not exist: put the published checkpoint there")
    return path


def run(name: str, parent: int | None = None) -> Finished:
    """Trains an experiment, or goes on with it, or finds it finished.

    Where `machine.processes` is above 1, it starts as many and waits for them.

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
    known = (folder / FINAL).is_file() or experiment.train.published
    if not known and launching.wanted() > 1:
        launching.launch("ihdm.training", [name], parent)
        return result(folder)
    accelerator = launching.accelerator()
    if accelerator.num_processes > experiment.train.batch:
        raise ProjectError(
            f"experiments.{name}.train.batch: {accelerator.num_processes} processes cannot share "
            f"{experiment.train.batch} images"
        )
    others = [p.name for p in folder.parent.glob(f"{name}-{'?' * 12}") if p != folder]
    main = accelerator.is_main_process
    if main and others and not folder.exists():
        print(f"{name}: settings, data or code differ from {', '.join(others)}")
    with locked(folder) if main else nullcontext():
        accelerator.wait_for_everyone()
        if (folder / FINAL).is_file():
            print(f"{name}: already trained, using the weights in {folder.relative_to(project)}")
        elif experiment.train.published:
            if main:
                take(experiment, images, folder, accelerator)
        else:
            train(name, experiment, images, folder, accelerator, parent)
        accelerator.wait_for_everyone()
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
    network.to(accelerator.device, memory_format=precision.memory_format(experiment.train))
    process = processes.from_params(experiment, *images.shape[1:])
    return process, loop.State.fresh(network, experiment.train)


def take(experiment: Experiment, images: Images, folder: Path, accelerator: Accelerator) -> None:
    """Puts a published checkpoint in the place of a training."""
    settings, path = experiment.train, published(experiment)
    process, state = fresh(experiment, images, accelerator)
    checkpoints.load_published(path, state.network)
    network = precision.Autocast(state.network, settings, accelerator.device)
    row = {
        "step": checkpoints.published_step(path),
        "training": None,
        "held_out": loop.held_out_loss(process, network, images, settings),
        "learning_rate": settings.learning_rate,
    }
    finish(folder, state.network, [row])


def finish(folder: Path, network: torch.nn.Module, history: list[dict[str, float]]) -> None:
    (folder / "history.partial").write_text(json.dumps(history))
    os.replace(folder / "history.partial", folder / "history.json")
    checkpoints.save_weights(folder / FINAL, network)
    for checkpoint in list(checkpoints.states(folder)):
        checkpoint.unlink()


def train(
    name: str,
    experiment: Experiment,
    images: Images,
    folder: Path,
    accelerator: Accelerator,
    parent: int | None,
) -> None:
    settings, main = experiment.train, accelerator.is_main_process
    process, state = fresh(experiment, images, accelerator)
    saved = checkpoints.newest_state(folder)
    told = f"training from the beginning, {settings.steps} steps"
    if saved is not None:
        state.load_state_dict(saved)
        told = f"going on from step {state.step} of {settings.steps}"
    found = accelerator.gather(torch.tensor([state.step], device=accelerator.device)).unique()
    if len(found) > 1:
        raise ProjectError(
            f"the processes find different states in {folder}, of the steps {found.tolist()}: a "
            "common file system may need a moment; start again"
        )
    if main:
        print(f"{name}: {told}, processes: {accelerator.num_processes}", flush=True)
    average = precision.Autocast(state.ema.module, settings, accelerator.device)
    reports = loop.steps(process, state, images.train, settings, accelerator)
    largest = max(part.stop - part.start for part in loop.passes(settings, accelerator))
    with (
        launching.memory_explained(name, largest),
        launching.requests_to_stop(parent) as stop,
        progress.bar(settings.steps, f"training {name}", initial=state.step, shown=main) as bar,
    ):
        for report in reports:
            if not math.isfinite(report.loss):
                good = next(checkpoints.states(folder), None)
                raise ProjectError(
                    f"the loss is {report.loss} at step {report.step} of {name}; the last good "
                    f"checkpoint is {good or 'none'}. A lower learning rate or float32 may help"
                )
            if report.step % settings.log_every == 0 or report.step == settings.steps:
                if main:
                    row = {
                        "step": report.step,
                        "training": sum(state.pending) / len(state.pending),
                        "held_out": loop.held_out_loss(process, average, images, settings),
                        "learning_rate": report.learning_rate,
                    }
                    state.history.append(row)
                state.pending.clear()
            # Saved before anything is written: who reads the log may be gone.
            stopping = anywhere(stop(), accelerator)
            if main and (stopping or report.step % settings.checkpoint_every == 0):
                checkpoints.save_state(folder, report.step, state.state_dict())
            rate = (bar.format_dict["rate"] or 0) * settings.batch
            bar.set_postfix_str(f"loss {report.loss:.3f}, {rate:.0f} images/s", refresh=False)
            bar.update()
            if stopping:
                accelerator.wait_for_everyone()
                if main:
                    print(f"\n{name}: stopped at step {report.step}; the same command goes on")
                raise KeyboardInterrupt
    if main:
        finish(folder, state.ema.module, state.history)


def anywhere(asked: bool, accelerator: Accelerator) -> bool:
    """Whether any of the processes is asked to stop, since all have to do so at the same step."""
    if accelerator.num_processes == 1:
        return asked
    flag = torch.tensor(float(asked), device=accelerator.device)
    return accelerator.reduce(flag, "sum").item() > 0


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lets one process at a time work in a directory.

    Raises:
        ProjectError: another one does and goes on doing so; the message names its pid.
    """
    folder.mkdir(parents=True, exist_ok=True)
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


def follow(name: str) -> Finished:
    """Trains in a process of its own and shows its log, for notebooks; see `launching.follow`.

    Args:
        name: the experiment in params.yaml.

    Raises:
        ProjectError: the training failed; with its message.
    """
    folder = state_folder(name)
    launching.follow("ihdm.training", [name])
    return result(folder)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ihdm.training", description=__doc__)
    parser.add_argument("experiment", help="an experiment that `run` in params.yaml switches on")
    parser.add_argument("--parent", type=int, help="stop when this process above it ends")
    arguments = parser.parse_args()
    with params.exit_on_error():
        run(arguments.experiment, arguments.parent)


if __name__ == "__main__":
    main()

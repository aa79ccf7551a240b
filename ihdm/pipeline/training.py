"""Training as a program: `python -m ihdm.pipeline.training EXPERIMENT`.

It trains an experiment of params.yaml to the end of its budget, or continues an earlier run of the
same training; `fingerprint` names a training. State lives in `state/EXPERIMENT-FINGERPRINT/`, under
a lock, and is no output of the pipeline; finished weights stay there and are used again.

If `machine.processes` in params.yaml is above 1, the program starts as many of itself, one for each
device, and they share every batch. `torchrun -m ihdm.pipeline.training EXPERIMENT` does so on
several machines with a common file system. The notebook `02-training` runs it by `follow`.
"""

import argparse
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

from ihdm import loop, progress, settings, weights
from ihdm.data import datasets
from ihdm.data.datasets import Images
from ihdm.loop import Row
from ihdm.losses import held_out_loss
from ihdm.pipeline import checkpoints, fingerprint, launching, published
from ihdm.precision import Autocast
from ihdm.project import ProjectError, exit_on_error, replacing, root
from ihdm.settings import Experiment

__all__ = ["Finished", "follow", "run"]

FINAL = "final.safetensors"
ADOPTED = "adopted.json"
SECONDS_FOR_LOCK = 15


@dataclass(frozen=True)
class Finished:
    """The results of a training.

    Attributes:
        weights: safetensors file with the moving average of the weights.
        history: rows of `step`, `training` and `held_out` loss, and `learning_rate`.
        origin: "trained here", or the file that the weights were adopted from.
    """

    weights: Path
    history: list[Row]
    origin: str


def run(name: str, parent: int | None = None) -> Finished:
    """Trains an experiment, continues its training, or finds it finished.

    If `machine.processes` is above 1, it starts as many processes and waits for them.

    Args:
        name: the experiment in params.yaml.
        parent: a process; its end is a request to stop, as Ctrl-C and SIGTERM are.

    Raises:
        ProjectError: settings or data are wrong, another process trains the same, or the loss is
            not finite.
        KeyboardInterrupt: it was asked to stop; the state is saved.
    """
    experiment, data = settings.load().experiment(name)
    images = datasets.load(data)
    folder = state_folder(name)
    known = (folder / FINAL).is_file() or experiment.train.published
    if not known and launching.wanted() > 1:
        launching.launch("ihdm.pipeline.training", [name], parent)
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
            origin, own = result(folder).origin, folder.relative_to(root())
            print(f"{name}: already {origin}, using the weights in {own}")
        elif experiment.train.published:
            if main:
                take(experiment, images, folder, accelerator)
        else:
            train(name, experiment, images, folder, accelerator, parent)
        accelerator.wait_for_everyone()
    return result(folder)


def state_folder(name: str) -> Path:
    """The folder of the state of an experiment, as params.yaml describes it now."""
    experiment, data = settings.load().experiment(name)
    identity = fingerprint.of_training(experiment, datasets.load(data))
    return root() / "state" / f"{name}-{identity}"


def result(folder: Path) -> Finished:
    history, adopted, origin = folder / "history.json", folder / ADOPTED, "trained here"
    if adopted.exists():
        origin = f"adopted from {json.loads(adopted.read_text())['file']}, not trained here"
    return Finished(folder / FINAL, json.loads(history.read_text()), origin)


def take(experiment: Experiment, images: Images, folder: Path, accelerator: Accelerator) -> None:
    """Puts a published checkpoint in the place of a training."""
    train, path = experiment.train, published.file(experiment)
    process, state = loop.begin(experiment, images, accelerator.device)
    published.load(path, state.network)
    network = Autocast(state.network, train, accelerator.device)
    row: Row = {
        "step": published.steps(path),
        "training": None,
        "held_out": held_out_loss(process, network, images.tune, train.seed),
        "learning_rate": train.learning_rate,
    }
    finish(folder, state.network, [row])


def finish(folder: Path, network: torch.nn.Module, history: list[Row]) -> None:
    with replacing(folder / "history.json") as temporary:
        temporary.write_text(json.dumps(history))
    (folder / ADOPTED).unlink(missing_ok=True)  # of an adoption that was cut off
    weights.save(folder / FINAL, network)
    checkpoints.clear(folder)


def train(
    name: str,
    experiment: Experiment,
    images: Images,
    folder: Path,
    accelerator: Accelerator,
    parent: int | None,
) -> None:
    budget, main, device = experiment.train, accelerator.is_main_process, accelerator.device
    process, state = loop.begin(experiment, images, device)
    saved = checkpoints.newest_state(folder)
    first = f"training from the beginning, {budget.steps} steps"
    if saved is not None:
        state.load_state_dict(saved)
        first = f"going on from step {state.step} of {budget.steps}"
        if saved["precision"] != state.precision:
            first += (
                f" in {state.precision}, after {saved['precision']}: rounding differs from now on"
            )
    at_steps = accelerator.gather(torch.tensor([state.step], device=device)).unique()
    if len(at_steps) > 1:
        raise ProjectError(
            f"the processes loaded different states in {folder}, of the steps {at_steps.tolist()}: "
            "a common file system may need a moment; start again"
        )
    if main:
        print(f"{name}: {first}, processes: {accelerator.num_processes}", flush=True)
    average = Autocast(state.average, budget, device)
    largest = max(part.stop - part.start for part in loop.passes(budget, accelerator))
    with (
        launching.memory_explained(name, largest),
        launching.requests_to_stop(parent) as stop,
        progress.bar(budget.steps, f"training {name}", initial=state.step, shown=main) as bar,
    ):
        for report in loop.steps(process, state, images.train, budget, accelerator, stop):
            if not math.isfinite(report.loss):
                good = next(checkpoints.states(folder), None)
                raise ProjectError(
                    f"the loss is {report.loss} at step {report.step} of {name}; the last good "
                    f"checkpoint is {good or 'none'}. A lower learning rate or float32 may help"
                )
            if report.step % budget.log_every == 0 or report.step == budget.steps:
                if main:
                    held_out = held_out_loss(process, average, images.tune, budget.seed)
                    state.log(report, held_out)
                state.pending.clear()
            # Saved before anything is written: the reader of the log may be gone.
            if main and (report.stop or report.step % budget.checkpoint_every == 0):
                checkpoints.save_state(folder, report.step, state.state_dict())
            rate = (bar.format_dict["rate"] or 0) * budget.batch
            bar.set_postfix_str(f"loss {report.loss:.3f}, {rate:.0f} images/s", refresh=False)
            bar.update()
            if report.stop:
                accelerator.wait_for_everyone()
                if main:
                    print(f"\n{name}: stopped at step {report.step}; the same command goes on")
                raise KeyboardInterrupt
    if main:
        finish(folder, state.average, state.history)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lets one process at a time work in a directory.

    Raises:
        ProjectError: another process keeps the directory; the message names its pid.
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
    launching.follow("ihdm.pipeline.training", [name])
    finished = result(folder)
    if (folder / ADOPTED).exists():
        print(f"{name}: {finished.origin}")
    return finished


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ihdm.pipeline.training", description=__doc__)
    parser.add_argument("experiment", help="an experiment that `run` in params.yaml switches on")
    parser.add_argument("--parent", type=int, help="stop when this process above it ends")
    arguments = parser.parse_args()
    with exit_on_error():
        run(arguments.experiment, arguments.parent)


if __name__ == "__main__":
    main()

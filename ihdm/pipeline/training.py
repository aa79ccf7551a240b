"""Training as a program: `python -m ihdm.pipeline.training EXPERIMENT`.

It trains an experiment of params.yaml to the end of its budget, or continues an earlier run of the
same training; `fingerprint` names a training. State lives in `state/EXPERIMENT-FINGERPRINT/`, under
a lock, and is no output of the pipeline; finished weights stay there and are used again.

If `machine.processes` in params.yaml is above 1, the program starts as many of itself, one for each
device, and they share every batch. `torchrun -m ihdm.pipeline.training EXPERIMENT` does so on
several machines with a common file system. The notebook `02-training` runs it by `follow`.

`--continue-from STATE` begins at a state of another training, for a longer budget, another learning
rate or changed code. Once begun, it goes on from its own states.
"""

import argparse
import json
import math
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from ihdm import loop, progress, settings, weights
from ihdm.data import datasets
from ihdm.data.datasets import Images
from ihdm.loop import Row
from ihdm.losses import held_out_loss
from ihdm.pipeline import checkpoints, fingerprint, launching, locks, published
from ihdm.precision import Autocast
from ihdm.project import ProjectError, exit_on_error, replacing, root
from ihdm.settings import Experiment, Train

__all__ = ["Finished", "follow", "run"]

FINAL = "final.safetensors"
ADOPTED = "adopted.json"
CONTINUED = "continued.json"


@dataclass(frozen=True)
class Finished:
    """The results of a training.

    Attributes:
        weights: safetensors file with the moving average of the weights.
        history: rows of `step`, `training` and `held_out` loss, `learning_rate`, and the number of
            steps `skipped` so far.
        origin: "trained here", after which state of another training if it began there, or the file
            that the weights were adopted from.
    """

    weights: Path
    history: list[Row]
    origin: str


def run(name: str, parent: int | None = None, before: Path | None = None) -> Finished:
    """Trains an experiment, continues its training, or finds it finished.

    If `machine.processes` is above 1, it starts as many processes and waits for them.

    Args:
        name: the experiment in params.yaml.
        parent: a process; its end is a request to stop, as Ctrl-C and SIGTERM are.
        before: a state of another training, or its folder, to begin at; not used once this
            training has a state of its own.

    Raises:
        ProjectError: settings or data are wrong, another process trains the same, the state does
            not fit, or `train.skips_in_a_row` steps were not finite.
        KeyboardInterrupt: it was asked to stop; the state is saved.
    """
    experiment, data = settings.load().experiment(name)
    images = datasets.load(data)
    folder = state_folder(name)
    known = (folder / FINAL).is_file() or experiment.train.published
    if not known and launching.wanted() > 1:
        above = ["--continue-from", str(before)] if before else []
        launching.launch("ihdm.pipeline.training", [name, *above], parent)
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
    with locks.locked(folder) if main else nullcontext():
        accelerator.wait_for_everyone()
        if (folder / FINAL).is_file():
            origin, own = result(folder).origin, folder.relative_to(root())
            print(f"{name}: already {origin}, using the weights in {own}")
        elif experiment.train.published:
            if main:
                take(experiment, images, folder, accelerator)
        else:
            train(name, experiment, images, folder, accelerator, parent, before)
        accelerator.wait_for_everyone()
    return result(folder)


def state_folder(name: str) -> Path:
    """The folder of the state of an experiment, as params.yaml describes it now."""
    experiment, data = settings.load().experiment(name)
    identity = fingerprint.of_training(experiment, datasets.load(data))
    return root() / "state" / f"{name}-{identity}"


def result(folder: Path) -> Finished:
    history, adopted, origin = folder / "history.json", folder / ADOPTED, "trained here"
    if (folder / CONTINUED).exists():
        origin += f" after {json.loads((folder / CONTINUED).read_text())['state']}"
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
    # The last state stays, for a longer budget.
    checkpoints.keep_newest(folder)


def resume(
    name: str, state: loop.State, budget: Train, folder: Path, before: Path | None
) -> tuple[str, dict[str, Any] | None]:
    """Brings a training to its newest state, or without one to that of another training.

    The state that was read is freed on return; that of the paper's largest network has 2.4 GB.

    Args:
        name: the experiment.
        state: changed in place.
        budget: of this training.
        folder: of this training.
        before: a state of another training, or its folder.

    Returns:
        Where this training starts, for its log; and the other training's state, if it begins there.

    Raises:
        ProjectError: the other state is missing, damaged, of another network, or has no step left.
    """
    saved, origin = checkpoints.newest_state(folder), None
    if saved is None and before is not None:
        path, saved = checkpoints.named_state(before)
        if saved["step"] >= budget.steps:
            raise ProjectError(
                f"{path} is of step {saved['step']}: to continue from it, "
                f"experiments.{name}.train.steps has to be more than that; it is {budget.steps}"
            )
        origin = {"state": f"{path.parent.name}/{path.name}"}
        if (earlier := path.parent / CONTINUED).exists():
            origin["before"] = json.loads(earlier.read_text())
        saved["skipped"] = []  # the next ones are counted afresh
    if saved is None:
        return f"training from the beginning, {budget.steps} steps", None
    try:
        state.load_state_dict(saved)
    except (RuntimeError, ValueError) as error:
        raise ProjectError(f"the state does not fit the network of {name}: {error}") from None
    said = f"going on from step {state.step} of {budget.steps}"
    if origin:
        said += f", after {origin['state']}"
    if saved["precision"] != state.precision:
        said += f" in {state.precision}, after {saved['precision']}: rounding differs from now on"
    return said, origin


def train(
    name: str,
    experiment: Experiment,
    images: Images,
    folder: Path,
    accelerator: Accelerator,
    parent: int | None = None,
    before: Path | None = None,
) -> None:
    budget, main, device = experiment.train, accelerator.is_main_process, accelerator.device
    process, state = loop.begin(experiment, images, device)
    said, origin = resume(name, state, budget, folder, before)
    if main and origin:
        with replacing(folder / CONTINUED) as temporary:
            temporary.write_text(json.dumps(origin))
    at_steps = accelerator.gather(torch.tensor([state.step], device=device)).unique()
    if len(at_steps) > 1:
        raise ProjectError(
            f"the processes loaded different states in {folder}, of the steps {at_steps.tolist()}: "
            "a common file system may need a moment; start again"
        )
    if main:
        print(f"{name}: {said}, processes: {accelerator.num_processes}", flush=True)
    average = Autocast(state.average, budget, device)
    largest = max(part.stop - part.start for part in loop.passes(budget, accelerator))
    with (
        launching.explained(name, largest),
        launching.requests_to_stop(parent) as stop,
        progress.bar(budget.steps, f"training {name}", initial=state.step, shown=main) as bar,
    ):
        for report in loop.steps(process, state, images.train, budget, accelerator, stop):
            if main and not math.isfinite(report.loss):
                bar.write(
                    f"{name}: the loss is {report.loss} at step {report.step}, so its update is "
                    f"skipped; {state.skipped_now} in a row, {len(state.skipped)} in all"
                )
            if state.skipped_now >= budget.skips_in_a_row:
                good = next(checkpoints.states(folder), None)
                raise ProjectError(
                    f"the loss is {report.loss} at step {report.step} of {name}, the last of "
                    f"{state.skipped_now} such steps in a row. A lower learning rate or float32 "
                    f"may help; `--continue-from {good}` then keeps the work done"
                )
            if report.step % budget.log_every == 0 or report.step == budget.steps:
                if main:
                    held_out = held_out_loss(process, average, images.tune, budget.seed)
                    state.log(report, held_out)
                state.pending.clear()
            # Saved before anything is written: the reader of the log may be gone.
            due = report.step % budget.checkpoint_every == 0 or report.step == budget.steps
            if main and (report.stop or due):
                checkpoints.save_state(folder, report.step, state.state_dict())
            every = budget.snapshot_every
            if main and every and report.step % every == 0 and report.step < budget.steps:
                weights.save(folder / f"ema-{report.step:08d}.safetensors", state.average)
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
    parser.add_argument(
        "--continue-from",
        type=Path,
        metavar="STATE",
        help="a state of another training, or its folder, to begin at",
    )
    arguments = parser.parse_args()
    with exit_on_error():
        run(arguments.experiment, arguments.parent, arguments.continue_from)


if __name__ == "__main__":
    main()

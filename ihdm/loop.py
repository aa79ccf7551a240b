"""The training loop of Alg. 1 as a generator, with everything that it changes in one `State`.

    theta <- Adam(theta, grad of mean_b w_k loss(theta; u_0^b, k^b, eps^b)),   k uniform
    ema   <- decay * ema + (1 - decay) * theta

with w_k = 1, or `linear_gaussian.level_weights` if `train.gamma` is given.

The step number stands for the states of all generators and the position in the data (see
`batches`), so that a resumed run continues as if it had never stopped.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ihdm import networks, processes, seeds
from ihdm.batches import Batch, passes
from ihdm.data.datasets import Images
from ihdm.linear_gaussian import level_weights
from ihdm.pixels import UInt8
from ihdm.precision import Autocast, memory_format, resolved
from ihdm.processes import Process
from ihdm.settings import Experiment, Train

__all__ = ["Report", "State", "begin", "steps"]

# A row of logged figures; a published checkpoint has no training loss.
Row = dict[str, float | None]


class Report(NamedTuple):
    """The outcome of one step.

    Attributes:
        step: its number, from 1.
        loss: mean over the batch of the sum of squares, before any weights of levels; NaN or
            infinite if loss or gradient were, and the weights then stayed as they were.
        learning_rate: the rate that the step used.
        stop: whether any process was asked to stop.
    """

    step: int
    loss: float
    learning_rate: float
    stop: bool


@dataclass
class State:
    """Everything that training changes, to be saved and restored as one.

    Attributes:
        network: f_theta, being trained.
        ema: the moving average of its weights (torch's own), which is used after training.
        optimizer: Adam with its moments.
        precision: of the products, float32 or bfloat16; saved, and never changed by a saved state.
        step: number of steps done, those without an update among them.
        skipped: the steps without an update, since loss or gradient were not finite.
        history: rows of logged figures.
        pending: losses since the last row.
        weights: (K + 1,) weight of the loss at each level, or None; never saved.
    """

    network: nn.Module
    ema: AveragedModel
    optimizer: torch.optim.Optimizer
    precision: str = "float32"
    step: int = 0
    skipped: list[int] = field(default_factory=list)
    history: list[Row] = field(default_factory=list)
    pending: list[float] = field(default_factory=list)
    weights: Tensor | None = None

    @classmethod
    def fresh(cls, network: nn.Module, train: Train, device: torch.device) -> "State":
        """The state before the first step, with Adam as in App. B.1."""
        ema = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(train.ema))
        optimizer = torch.optim.Adam(network.parameters(), train.learning_rate, fused=True)
        return cls(network, ema, optimizer, resolved(train, device))

    @property
    def average(self) -> nn.Module:
        """The network with the moving average of the weights, which is the result of training."""
        return self.ema.module

    @property
    def skipped_now(self) -> int:
        """How many of the last steps, one after the other, changed nothing."""
        steps = range(self.step, self.step - len(self.skipped), -1)
        pairs = zip(steps, reversed(self.skipped), strict=True)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    def log(self, report: Report, held_out: float) -> None:
        """Adds a row to the history, with the mean training loss since the last row."""
        loss = sum(self.pending) / len(self.pending) if self.pending else None
        row: Row = {"step": report.step, "training": loss, "held_out": held_out}
        row |= {"learning_rate": report.learning_rate, "skipped": len(self.skipped)}
        self.history.append(row)

    def state_dict(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self.precision,
            "step": self.step,
            "skipped": self.skipped,
            "history": self.history,
            "pending": self.pending,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.network.load_state_dict(saved["network"])
        self.ema.load_state_dict(saved["ema"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.step, self.history, self.pending = saved["step"], saved["history"], saved["pending"]
        self.skipped = saved.get("skipped", [])  # older states have none


def begin(experiment: Experiment, images: Images, device: torch.device) -> tuple[Process, State]:
    """The process of an experiment, and the state of its training before the first step.

    Args:
        experiment: the validated description.
        images: the prepared data.
        device: where to train.
    """
    train, modes = experiment.train, torch.from_numpy(images.modes)
    process = processes.make(*images.shape[1:], **experiment.numbers)
    torch.manual_seed(train.seed)
    network = networks.make(experiment, process, modes)
    network.to(device).to(memory_format=memory_format(train))
    state = State.fresh(network, train, device)
    if train.gamma is not None:
        _, v = networks.seen(experiment, modes)
        state.weights = level_weights(process, v, train.gamma)
    return process, state


def steps(
    process: Process,
    state: State,
    images: UInt8,
    train: Train,
    accelerator: Accelerator,
    asked: Callable[[], bool] = lambda: False,
) -> Iterator[Report]:
    """Trains from the state's step to the end of the budget, one step at a time (Alg. 1).

    The device is asked for numbers once in a step, after the next batch was made on the CPU.

    Args:
        process: the process to learn.
        state: changed in place; it is whole whenever a report is yielded.
        images: (N, C, H, W) uint8 training images.
        train: budget, batch, rates and seed.
        accelerator: names the device, and the rank of this process among several.
        asked: whether this process is asked to stop, for `Report.stop`.

    Yields:
        A report after each step. If loss or gradient is not finite, that step changes no weights;
        `train.skips_in_a_row` such steps, one after the other, end the loop.
    """
    # With several processes, it averages their gradients.
    shared = accelerator.prepare_model(state.network)
    network = Autocast(shared, train, accelerator.device)
    parts = passes(train, accelerator)
    batch = Batch.of(state.step, process, images, train, accelerator)
    while state.step < train.steps:
        state.network.train()
        rate = learning_rate(state.step, train)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        dropout = seeds.derived(train.seed, seeds.DROPOUT, state.step)
        state.optimizer.zero_grad()
        total = torch.zeros((), device=accelerator.device)
        for part in parts:
            u_0, k, noise = batch.part(part, accelerator.device)
            torch.manual_seed(dropout + part.start)
            with nullcontext() if part is parts[-1] else accelerator.no_sync(shared):
                losses = process.loss(network, u_0, k, noise)
                total += losses.detach().sum() / train.batch
                if state.weights is not None:
                    losses = losses * state.weights[k].to(losses.device)
                # Gradients are averaged over ranks; multiply by their number to recover the sum.
                accelerator.backward(losses.sum() / train.batch * accelerator.num_processes)
        norm = accelerator.clip_grad_norm_(state.network.parameters(), train.gradient_clip)
        batch = Batch.of(state.step + 1, process, images, train, accelerator)
        told = torch.stack([total, norm / accelerator.num_processes, norm.new_tensor(asked())])
        value, size, stop = accelerator.reduce(told, "sum").tolist()
        state.step += 1
        if np.isfinite(value) and np.isfinite(size):
            state.optimizer.step()
            state.ema.update_parameters(state.network)
            state.pending.append(value)
        else:
            value += size
            state.skipped.append(state.step)
        yield Report(state.step, value, rate, stop > 0)
        if state.skipped_now >= train.skips_in_a_row:
            return


def learning_rate(step: int, train: Train) -> float:
    """Linear warm-up from 0 (App. B.1), constant, then linear cool-down to 0.

    The paper has no cool-down (`cooldown = 0`); a budget of minutes gains from one.
    """
    rising = min(1.0, (step + 1) / train.warmup) if train.warmup else 1.0
    left = train.steps - step
    falling = min(1.0, left / train.cooldown) if train.cooldown else 1.0
    return train.learning_rate * min(rising, falling)

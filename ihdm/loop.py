"""The training loop of Alg. 1 as a generator, with everything that it changes in one `State`.

    theta <- Adam(theta, grad of mean_b w_k loss(theta; u_0^b, k^b, eps^b)),   k uniform
    ema   <- decay * ema + (1 - decay) * theta

with w_k = 1, or `linear_gaussian.level_weights` if `train.gamma` is given.

Step n draws from generators seeded by (seed, n), and takes its images from a permutation seeded by
(seed, epoch). The step number therefore stands for the states of all generators and the position in
the data, and a resumed run continues as if it had never stopped.

A batch may be divided among processes, and in each process among passes through the network. Every
process draws the levels and the noise of the whole batch and takes its share, so that the gradient
is that of one pass, up to rounding and the draws of dropout.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ihdm import networks, processes, seeds
from ihdm.data.datasets import Images
from ihdm.linear_gaussian import level_weights
from ihdm.pixels import UInt8, to_unit
from ihdm.precision import Autocast, memory_format, resolved
from ihdm.processes import Process
from ihdm.settings import Experiment, Train

__all__ = ["Report", "State", "begin", "held_out_loss", "level_losses", "steps"]

HELD_OUT_IMAGES = 256
# Images whose noise comes from one generator.
BLOCK = 64


# A row of logged figures; a published checkpoint has no training loss.
Row = dict[str, float | None]


class Report(NamedTuple):
    """The outcome of one step.

    Attributes:
        step: its number, from 1.
        loss: mean over the batch of the sum of squares, before any weights of levels.
        learning_rate: the rate that the step used.
    """

    step: int
    loss: float
    learning_rate: float


@dataclass
class State:
    """Everything that training changes, to be saved and restored as one.

    Attributes:
        network: f_theta, being trained.
        ema: the moving average of its weights (torch's own), which is used after training.
        optimizer: Adam with its moments.
        precision: of the products, float32 or bfloat16; saved, and never changed by a saved state.
        step: number of steps done.
        history: rows of logged figures.
        pending: losses since the last row.
        weights: (K + 1,) weight of the loss at each level, or None; never saved.
    """

    network: nn.Module
    ema: AveragedModel
    optimizer: torch.optim.Optimizer
    precision: str = "float32"
    step: int = 0
    history: list[Row] = field(default_factory=list)
    pending: list[float] = field(default_factory=list)
    weights: Tensor | None = None

    @classmethod
    def fresh(cls, network: nn.Module, train: Train, device: torch.device) -> "State":
        """The state before the first step, with Adam as in App. B.1."""
        ema = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(train.ema))
        optimizer = torch.optim.Adam(network.parameters(), train.learning_rate)
        return cls(network, ema, optimizer, resolved(train, device))

    @property
    def average(self) -> nn.Module:
        """The network with the moving average of the weights, which is the result of training."""
        return self.ema.module

    def log(self, report: Report, held_out: float) -> None:
        """Adds a row to the history, with the mean training loss since the last row."""
        loss = sum(self.pending) / len(self.pending)
        row: Row = {"step": report.step, "training": loss, "held_out": held_out}
        self.history.append(row | {"learning_rate": report.learning_rate})

    def state_dict(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self.precision,
            "step": self.step,
            "history": self.history,
            "pending": self.pending,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.network.load_state_dict(saved["network"])
        self.ema.load_state_dict(saved["ema"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.step, self.history, self.pending = saved["step"], saved["history"], saved["pending"]


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
) -> Iterator[Report]:
    """Trains from the state's step to the end of the budget, one step at a time (Alg. 1).

    Args:
        process: the process to learn.
        state: changed in place; it is whole whenever a report is yielded.
        images: (N, C, H, W) uint8 training images.
        train: budget, batch, rates and seed.
        accelerator: names the device, and the rank of this process among several.

    Yields:
        A report after each step. If loss or gradient is not finite, that step changes nothing, and
        a report with a loss that is not finite ends the loop.
    """
    device = accelerator.device
    # With several processes, it averages their gradients.
    shared = accelerator.prepare_model(state.network)
    network = Autocast(shared, train, device)
    while state.step < train.steps:
        state.network.train()
        rate = learning_rate(state.step, train)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        draws = seeds.generator(train.seed, seeds.DRAWS, state.step)
        levels = process.levels(train.batch, draws)
        noise = torch.randn((train.batch, *images.shape[1:]), generator=draws)
        chosen = batch_indices(state.step, len(images), train)
        mirrored = flips(state.step, train)
        dropout = seeds.derived(train.seed, seeds.DROPOUT, state.step)
        state.optimizer.zero_grad()
        total = torch.zeros((), device=device)
        *others, last = passes(train, accelerator)
        for part in (*others, last):
            u_0 = flipped(to_unit(images[chosen[part]]), mirrored[part]).to(device)
            torch.manual_seed(dropout + part.start)
            with nullcontext() if part is last else accelerator.no_sync(shared):
                losses = process.loss(network, u_0, levels[part], noise[part])
                total += losses.detach().sum() / train.batch
                if state.weights is not None:
                    losses = losses * state.weights[levels[part]].to(device)
                # Gradients are averaged over ranks; multiply by their number to recover the sum.
                accelerator.backward(losses.sum() / train.batch * accelerator.num_processes)
        parameters = state.network.parameters()
        norm = accelerator.clip_grad_norm_(parameters, train.gradient_clip).item()
        value = accelerator.reduce(total, "sum").item()
        if not (np.isfinite(value) and np.isfinite(norm)):
            yield Report(state.step + 1, value + norm, rate)
            return
        state.optimizer.step()
        state.ema.update_parameters(state.network)
        state.step += 1
        state.pending.append(value)
        yield Report(state.step, value, rate)


def learning_rate(step: int, train: Train) -> float:
    """Linear warm-up from 0 (App. B.1), constant, then linear cool-down to 0.

    The paper has no cool-down (`cooldown = 0`); a budget of minutes gains from one.
    """
    rising = min(1.0, (step + 1) / train.warmup) if train.warmup else 1.0
    left = train.steps - step
    falling = min(1.0, left / train.cooldown) if train.cooldown else 1.0
    return train.learning_rate * min(rising, falling)


@lru_cache(maxsize=2)
def epoch_order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, seeds.ORDER, epoch]).permutation(count)


def batch_indices(step: int, count: int, train: Train) -> NDArray[np.int64]:
    """The images of a step: the next `batch` ones in a sequence of seeded permutations."""
    positions = np.arange(step * train.batch, (step + 1) * train.batch)
    return np.array([epoch_order(train.seed, p // count, count)[p % count] for p in positions])


def passes(train: Train, accelerator: Accelerator) -> list[slice]:
    """The share of this process in a batch, in parts of at most `images_per_pass`."""
    rank, workers = accelerator.process_index, accelerator.num_processes
    first, end = (train.batch * r // workers for r in (rank, rank + 1))
    size = train.images_per_pass or train.batch
    return [slice(start, min(start + size, end)) for start in range(first, end, size)]


def flips(step: int, train: Train) -> Tensor:
    """(batch,) which images of a step are mirrored."""
    draws = seeds.generator(train.seed, seeds.FLIPS, step)
    chance = 0.5 if train.flips else 0.0
    return torch.rand(train.batch, generator=draws) < chance


def flipped(u: Tensor, chosen: Tensor) -> Tensor:
    return torch.where(chosen[:, None, None, None], u.flip(-1), u)


@torch.no_grad()
def level_losses(
    process: Process,
    network: nn.Module,
    images: UInt8,
    levels: Tensor,
    seed: int,
    at_once: int | None = None,
) -> Tensor:
    """The loss of chosen images, each at a chosen level, without dropout.

    Args:
        process: the process that the network was trained for.
        network: f_theta; set to evaluation mode.
        images: (N, C, H, W) uint8.
        levels: (N,) levels on the scale 0..K.
        seed: seed of the noise, so that two networks can be compared on the same draws.
        at_once: images in one pass through the network; 64 if not given.

    Returns:
        (N,) float32 sums of squares, on the CPU.
    """
    network.eval()
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    losses = []
    size = min(BLOCK, at_once or BLOCK)
    for first in range(0, len(images), BLOCK):
        block = images[first : first + BLOCK]
        draws = seeds.generator(seed, seeds.HELD_OUT, first)
        noise = torch.randn(block.shape, generator=draws)
        for start in range(0, len(block), size):
            part = slice(start, start + size)
            k = levels[first : first + BLOCK][part]
            u_0 = to_unit(block[part]).to(device)
            losses.append(process.loss(network, u_0, k, noise[part]).cpu())
    return torch.cat(losses)


def held_out_loss(process: Process, network: nn.Module, images: UInt8, train: Train) -> float:
    """The mean loss of a network on held-out images, always with the same levels and noise.

    Args:
        process: the process that the network was trained for.
        network: f_theta; set to evaluation mode.
        images: (N, C, H, W) uint8 images to tune on, of which the first 256 are used.
        train: the seed of levels and noise, and how many images fit into one pass.
    """
    chosen = images[:HELD_OUT_IMAGES]
    draws = seeds.generator(train.seed, seeds.HELD_OUT, len(chosen))
    levels = process.levels(len(chosen), draws)
    at_once = train.images_per_pass
    return level_losses(process, network, chosen, levels, train.seed, at_once).mean().item()

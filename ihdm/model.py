"""A trained model as one object: a process, its network, and the images its prior draws from.

model = Model.trained("mnist")                            # inside the project
model = Model.from_file("weights/mnist.safetensors")      # anywhere
images = model.draw(64)[0]
noisier = model.with_delta(1.5 * model.process.sigma).draw(64)[0]
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn

from ihdm import networks, processes, progress, sampling, settings, weights
from ihdm.data import datasets
from ihdm.pixels import UInt8, to_bytes
from ihdm.precision import Autocast, memory_format
from ihdm.processes import InverseHeat, Process
from ihdm.project import root
from ihdm.sampling import Sample, Step
from ihdm.settings import Experiment
from ihdm.weights import Portable

__all__ = ["Model"]


@dataclass(frozen=True)
class Model:
    """A process with a network that reverses it.

    Attributes:
        process: the process.
        network: its trained network, in evaluation mode.
        images: (N, C, H, W) uint8 training images, from which the prior draws.
        seed: seed of the set of samples; every sample of the set has random generators of its own.
    """

    process: Process
    network: Autocast
    images: UInt8
    seed: int = 0

    @classmethod
    def trained(cls, experiment: str, path: Path | None = None) -> "Model":
        """The model of an experiment, on the best device there is.

        Args:
            experiment: its name in params.yaml.
            path: file of its weights; `results/weights/EXPERIMENT.safetensors` if not given.

        Raises:
            ProjectError: the experiment is not switched on, or data or weights are missing or
                damaged.
        """
        described, data = settings.load().experiment(experiment)
        if path is None:
            path = root() / "results" / "weights" / f"{experiment}.safetensors"
        images = datasets.load(data)
        process = processes.make(*images.shape[1:], **described.numbers)
        network = networks.make(described, process, torch.from_numpy(images.modes))
        return cls.of(described, weights.load(path, network), images.train, best_device())

    @classmethod
    def from_file(cls, path: Path | str) -> "Model":
        """The model of a portable file (`weights.Portable`), on the best device there is.

        It needs no project, and only the packages that ihdm itself depends on, without the extra
        `pipeline`. The file holds a few hundred training images; the prior draws from these alone,
        so that a sample differs from that of the same index of `trained`.

        Args:
            path: the file.

        Raises:
            ProjectError: it is missing, damaged, or not such a file.
        """
        held = Portable.read(Path(path))
        process = processes.make(*held.images.shape[2:], **held.experiment.numbers)
        # The weights bring the modes of their own training images.
        modes = torch.ones(2, *held.images.shape[1:])
        network = networks.make(held.experiment, process, modes)
        filled = weights.fill(network, held.tensors, Path(path))
        return cls.of(held.experiment, filled, held.images, best_device())

    @classmethod
    def of(
        cls, experiment: Experiment, network: nn.Module, images: UInt8, device: torch.device
    ) -> "Model":
        """The model that an experiment describes, with a network that was trained for it.

        Args:
            experiment: the validated description.
            network: the network; it is moved to the device.
            images: (N, C, H, W) uint8 training images.
            device: where to compute.
        """
        process = processes.make(*images.shape[2:], **experiment.numbers)
        network.to(device).to(memory_format=memory_format(experiment.train))
        autocast = Autocast(network, experiment.train, device).eval()
        return cls(process, autocast, images, experiment.sampling.seed)

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return next(chain(self.network.parameters(), self.network.buffers())).device

    @property
    def inverse_heat(self) -> InverseHeat:
        """The process, if it is inverse heat dissipation.

        Raises:
            TypeError: it is another process.
        """
        if not isinstance(self.process, InverseHeat):
            raise TypeError(f"{self.process!r} is not inverse heat dissipation")
        return self.process

    def with_delta(self, delta: float) -> "Model":
        """The same model of inverse heat dissipation with other sampling noise.

        Args:
            delta: in units of the pixel range [0, 1].

        Raises:
            TypeError: the model has another process, which has no delta.
            ValueError: delta is negative.
        """
        process = self.inverse_heat
        return replace(self, process=InverseHeat(process.heat, process.sigma, delta))

    def with_seed(self, seed: int) -> "Model":
        """The same model with another set of samples."""
        return replace(self, seed=seed)

    def starts(self, samples: int | Sequence[Sample]) -> Tensor:
        """Prior states u_K ~ p(u_K) of chosen samples (Sec. 3.2).

        Args:
            samples: index of each sample in the set, or the two that it lies between; or how many,
                from index 0.

        Returns:
            (samples, C, H, W) float32 on the CPU.
        """
        return sampling.starts(self.process, self.images, self.seed, chosen(samples))

    def steps(self, samples: Sequence[Sample], u: Tensor, k: int | None = None) -> Iterator[Step]:
        """The steps of the reverse process from given states, all samples at once (Alg. 2).

        Args:
            samples: index of each sample in the set, which names its noise.
            u: (len(samples), C, H, W) states.
            k: their level; K if not given.

        Yields:
            The steps k-1 ... 0, on the model's device.
        """
        noise = sampling.noises(u.shape[1:], self.seed, samples)
        return sampling.reverse(self.process, self.network, u.to(self.device), noise, k=k)

    def draw_bytes(self, samples: Sequence[Sample]) -> UInt8:
        """Finished samples as 8-bit images, drawn all at once: (len(samples), C, H, W)."""
        *_, last = self.steps(samples, self.starts(samples))
        return to_bytes(last.state).cpu().numpy()

    def draw(
        self,
        samples: int | Sequence[Sample],
        levels: Iterable[int] = (0,),
        start: Tensor | None = None,
        k: int | None = None,
        batch: int = 64,
    ) -> dict[int, Tensor]:
        """Draws samples in batches, with a progress bar.

        Args:
            samples: index of each sample in the set, which names its noise, or the two that it lies
                between; or how many, from index 0.
            levels: the levels to keep.
            start: (samples, C, H, W) states to start from; `starts(samples)` if not given.
            k: the level of `start`; K if not given.
            batch: samples at a time.

        Returns:
            For each of `levels` its (samples, C, H, W) states, float32 on the CPU. The level that
            the samples start from can be among them.
        """
        samples, k = chosen(samples), self.process.K if k is None else k
        start = self.starts(samples) if start is None else start
        kept: dict[int, list[Tensor]] = {level: [] for level in levels}
        firsts = range(0, len(samples), batch)
        with progress.bar(k * len(firsts), f"drawing {len(samples)} samples") as bar:
            for first in firsts:
                u = start[first : first + batch]
                if k in kept:
                    kept[k].append(u)
                for step in self.steps(samples[first : first + batch], u, k):
                    if step.k in kept:
                        kept[step.k].append(step.state.cpu())
                    bar.update()
        return {level: torch.cat(states) for level, states in kept.items()}


def best_device() -> torch.device:
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def chosen(samples: int | Sequence[Sample]) -> Sequence[Sample]:
    return range(samples) if isinstance(samples, int) else samples

"""Times a step of training and of drawing of each process, the blur and L_K.

    python -m tests.benchmarks.steps             one table
    python -m tests.benchmarks.steps training    the rows whose names contain the word

Networks and batches are those of the default experiments in params.yaml; the images are random.
Each time is the median over repetitions, after one that is not counted.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator

import torch
from accelerate import Accelerator

from ihdm import loop, settings
from ihdm.data.datasets import Images
from ihdm.linear_gaussian import to_modes
from ihdm.measures import overlap
from ihdm.model import Model
from ihdm.processes import InverseHeat, make
from tests.pipeline import REPOSITORY

EXPERIMENTS = "mnist", "mnist_ddpm", "mnist_blurring"
REPETITIONS = 15
SAMPLES, STEPS = 100, 4


def blobs(process: InverseHeat, count: int = 2000) -> Images:
    """Random images of the size of a digit, smoother than noise."""
    noise = torch.randn(count, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    u = (0.15 + 4 * process.heat.blur(noise, process.K // 3)).clamp(0, 1)
    modes = torch.stack([to_modes(u).mean(0), to_modes(u).var(0)]).numpy()
    pixels = (255 * u).round().byte().numpy()
    return Images("blobs", pixels, pixels[:500], pixels[:500], "", {}, modes)


def cases() -> Iterator[tuple[str, int, Callable[[], object]]]:
    """Name, number of repetitions inside, and work of each row."""
    described = settings.load(REPOSITORY / "params.yaml").experiments
    process = make(28, 28, **described["mnist"].numbers)
    images, accelerator = blobs(process), Accelerator()
    for name in EXPERIMENTS:
        experiment = described[name]
        own, state = loop.begin(experiment, images, accelerator.device)
        reports = loop.steps(own, state, images.train, experiment.train, accelerator)
        batch = experiment.train.batch
        yield f"training step, {name}, {batch} images", 1, lambda reports=reports: next(reports)
        model = Model.of(experiment, state.average, images.train, accelerator.device)
        start = model.starts(SAMPLES)

        def draw(model: Model = model, start: torch.Tensor = start) -> object:
            return list(model.steps(range(SAMPLES), start, k=STEPS))

        yield f"drawing step, {name}, {SAMPLES} samples", STEPS, draw
    u = torch.from_numpy(images.train[:256]) / 255
    k = torch.arange(256) % process.K + 1
    yield "blur, 256 images, a level for each", 1, lambda: process.heat.blur(u, k)
    sets = images.train, images.report[:250]
    scales = process.sigma, process.delta
    space = overlap.subspace(*sets, process.heat, *scales)
    yield "bound of L_K, 2,000 x 250 images", 1, space.bound


def main() -> None:
    chosen = sys.argv[1] if len(sys.argv) > 1 else ""
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for name, inside, work in cases():
        if chosen in name:
            seconds = []
            for _ in range(REPETITIONS + 1):
                began = time.perf_counter()
                work()
                seconds.append((time.perf_counter() - began) / inside)
            middle = statistics.median(seconds[1:])
            print(f"{name:45} {1e3 * middle:9.2f} ms", flush=True)


if __name__ == "__main__":
    main()

"""Two steps of each row of Tables 1 and 2 at full width: `python -m tests.full_width`.

For each of the seven experiments it writes a few random images in the format in which its data set
comes, prepares them, and trains two steps of two images by `python -m ihdm.pipeline.training`. It
prints the largest memory of that program beside the count of `ihdm.pipeline.plan`, and apart from
it the memory of the program before it makes a network, which the plan leaves out.

It takes minutes and is no part of the default test run.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torchvision
from PIL import Image

from ihdm.data import prepare
from ihdm.pipeline import plan
from ihdm.settings import load
from tests import fakes
from tests.conftest import REPOSITORY, copy_sources, read_settings

DATA = {
    "paper_mnist": "mnist",
    **{name: name for name in ("cifar10", "afhq64", "ffhq128", "lsun128", "afhq256", "ffhq256")},
}
BATCH, STEPS = 2, 2
GB = 1e9


def write_data(project, described):
    """Random images in the format of a data set of the paper."""
    raw = project / "data/raw"
    generator = np.random.default_rng(0)
    if described["source"] == "mnist":
        torchvision.datasets.MNIST.resources = fakes.write_mnist(raw / "MNIST/raw", 4, 4)
    elif described["source"] == "cifar10":
        known = fakes.write_cifar10(raw / "cifar-10-python.tar.gz", train=1, test=4)[1]
        for key, value in known.items():
            setattr(torchvision.datasets.CIFAR10, key, value)
    else:
        sides = described["height"] + 16, described["width"] + 32, 3
        pictures = [generator.integers(0, 256, sides, np.uint8) for _ in range(8)]
        place = project / described["path"]
        place.mkdir(parents=True)
        if described["source"] == "lmdb":
            encoded = {b"%d" % i: fakes.encoded(u, "WEBP") for i, u in enumerate(pictures)}
            fakes.write_database(place, encoded)
        else:
            for i, pixels in enumerate(pictures):
                Image.fromarray(pixels).save(place / f"{i}.png")


def peak(command, project):
    """Runs a program.

    Returns:
        Its largest memory in bytes, and the seconds that it took.
    """
    began, largest = time.monotonic(), 0
    process = psutil.Popen(command, cwd=project, stderr=subprocess.PIPE, text=True)
    while process.poll() is None:
        try:
            largest = max(largest, process.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        time.sleep(0.02)
    if process.wait():
        sys.exit(f"{' '.join(command)} failed:\n{process.stderr.read()}")
    return largest, time.monotonic() - began


def measure(name, precision, project):
    """Trains two steps of a row of the tables in an empty folder.

    Returns:
        A line of numbers.
    """
    settings = read_settings()
    data = DATA[name]
    settings["run"] = settings["run"] | {name: data}
    settings["data"][data]["splits"] = {"train": 4, "tune": 2, "report": 2}
    train = settings["experiments"][name]["train"]
    train |= {"steps": STEPS, "batch": BATCH, "warmup": 1, "precision": precision}
    copy_sources(project, settings)
    write_data(project, settings["data"][data])
    os.chdir(project)
    described = load()
    prepare.prepare(data, described.data[data], project)
    before, _ = peak([sys.executable, "-c", "import ihdm.pipeline.training"], project)
    largest, seconds = peak([sys.executable, "-m", "ihdm.pipeline.training", name], project)
    found = plan.plan(described.experiments[name], described.data[data].shape)
    planned = found.weights + found.copies + BATCH * found.activations
    return (
        f"{name:12} {found.parameters / 1e6:6.1f} million parameters, memory planned "
        f"{planned / GB:5.2f} GB, measured {(largest - before) / GB:5.2f} GB beside "
        f"{before / GB:.2f} GB, {seconds:.0f} s"
    )


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.full_width", description=__doc__)
    parser.add_argument("experiments", nargs="*", default=list(DATA))
    parser.add_argument("--precision", default="auto", choices=["auto", "float32", "bfloat16"])
    arguments = parser.parse_args()
    for name in arguments.experiments:
        with tempfile.TemporaryDirectory(prefix=f"ihdm-{name}-") as project:
            print(measure(name, arguments.precision, Path(project)), flush=True)
            os.chdir(REPOSITORY)


if __name__ == "__main__":
    main()

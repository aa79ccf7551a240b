"""Named image sets: prepared once as uint8 arrays, read as memory-mapped arrays.

    data/prepared/NAME/{train,tune,report}.npy           (N, C, H, W) uint8
    data/prepared/NAME/{train,tune,report}-labels.npy    (N,) uint8, where the source has labels
    data/prepared/NAME/manifest.json                     settings, source, SHA-256 of each block

Arrays are hashed once, in blocks of 64 MiB, by `ihdm.preparing`, which writes them. Reading checks
one of a single block whole, and spot-checks a larger one. Everything downstream sees images in
[0, 1].
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from ihdm.params import root as project_root
from ihdm.settings import Photograph, ProjectError

__all__ = [
    "BLOCK",
    "LABELS",
    "PREPARED",
    "SPLITS",
    "Images",
    "UInt8",
    "block_count",
    "block_hash",
    "load",
    "photograph",
    "picture_of",
    "sha256",
    "to_unit",
]

SPLITS = ("train", "tune", "report")
LABELS = "-labels"
PREPARED = Path("data/prepared")
# Bytes under one hash; to change it is to change the fingerprints of arrays that are larger.
BLOCK = 2**26
# Blocks that are checked beside the first and the last.
SPOTS = 2
UInt8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Images:
    """A prepared data set.

    Attributes:
        name: its name in params.yaml.
        train: (N, C, H, W) uint8, memory-mapped; to learn from and to draw the prior from.
        tune: images to choose settings on.
        report: images that reported numbers are measured on.
        fingerprint: SHA-256 over the hashes of the three arrays' blocks.
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


def load(name: str, project: Path | None = None) -> Images:
    """A prepared data set, memory-mapped, with its hashes checked.

    Args:
        name: the data set's name in params.yaml.
        project: the project's folder; that around the working directory where not given.

    Raises:
        ProjectError: it was not prepared, or a file is not what was prepared; the message names
            the file and how to build it again.
    """
    folder = (project_root() if project is None else project) / PREPARED / name
    remedy = f"delete {folder} and run `dvc repro data` to build it again"
    try:
        blocks = json.loads((folder / "manifest.json").read_text())["blocks"]
    except FileNotFoundError:
        raise ProjectError(f"data set '{name}' is not prepared: run `dvc repro data`") from None
    except (KeyError, TypeError, ValueError):
        raise ProjectError(f"{folder / 'manifest.json'} is damaged: {remedy}") from None
    arrays = {}
    for array in {*SPLITS, *blocks}:
        path = folder / f"{array}.npy"
        if not path.is_file():
            raise ProjectError(f"{path} is missing: {remedy}")
        if not _intact(path, blocks.get(array, [])):
            raise ProjectError(f"{path} is not what was prepared (SHA-256 differs): {remedy}")
        arrays[array] = np.load(path, mmap_mode="r", allow_pickle=False)
    hashes = "".join(block for split in SPLITS for block in blocks[split])
    splits = {split: arrays.pop(split) for split in SPLITS}
    labels = {array.removesuffix(LABELS): values for array, values in arrays.items()}
    return Images(
        name, **splits, fingerprint=hashlib.sha256(hashes.encode()).hexdigest(), labels=labels
    )


def _intact(path: Path, blocks: list[str]) -> bool:
    """Whether a file is what was prepared, as far as a few of its blocks tell.

    Those between the first and the last are others each time, so that damage anywhere is found
    sooner or later.
    """
    count = block_count(path)
    if count != len(blocks):
        return False
    between = SystemRandom().sample(range(count), min(SPOTS, count))
    return all(block_hash(path, i) == blocks[i] for i in {0, count - 1, *between})


def block_count(path: Path) -> int:
    """How many blocks a file has, of which the last may be shorter; an empty file has one."""
    return max(1, -(-path.stat().st_size // BLOCK))


def block_hash(path: Path, index: int) -> str:
    """SHA-256 of one block of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        file.seek(index * BLOCK)
        return hashlib.sha256(file.read(BLOCK)).hexdigest()


def sha256(path: Path) -> str:
    """SHA-256 of a whole file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def picture_of(name: Photograph) -> Image.Image:
    """A photograph that scikit-image or scikit-learn ships, as RGB in its own size."""
    if name in ("china", "flower"):
        from sklearn.datasets import load_sample_image

        return Image.fromarray(load_sample_image(f"{name}.jpg"))
    import skimage.data

    return Image.fromarray(getattr(skimage.data, name)()).convert("RGB")

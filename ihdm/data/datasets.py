"""Named image sets: prepared once as uint8 arrays, read as memory-mapped arrays.

    data/prepared/NAME/{train,tune,report}.npy           (N, C, H, W) uint8
    data/prepared/NAME/{train,tune,report}-labels.npy    (N,) uint8, where the source has labels
    data/prepared/NAME/modes.npy                         (2, C, H, W) float32, `Images.modes`
    data/prepared/NAME/manifest.json                     settings, source, SHA-256 of each block

Arrays are hashed once, in blocks of 64 MiB, by `data.prepare`, which writes them. Loading verifies
single-block files completely; larger ones at both ends and in two random blocks.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom

import numpy as np
from numpy.typing import NDArray

from ihdm.pixels import UInt8
from ihdm.project import ProjectError, root

__all__ = [
    "BLOCK",
    "LABELS",
    "MODES",
    "PREPARED",
    "SPLITS",
    "Images",
    "block_count",
    "block_hash",
    "load",
    "sha256",
]

SPLITS = ("train", "tune", "report")
LABELS = "-labels"
MODES = "modes"
PREPARED = Path("data/prepared")
# Bytes under one hash; to change it is to change the fingerprints of arrays that are larger.
BLOCK = 2**26
# Blocks that are checked beside the first and the last.
SPOTS = 2


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
        modes: (2, C, H, W) float32 mean and variance over the training images, in [0, 1], of each
            coefficient in the cosine basis (orthonormal DCT-II), on the axes `pixels.opponent` of
            colour.
    """

    name: str
    train: UInt8
    tune: UInt8
    report: UInt8
    fingerprint: str
    labels: dict[str, UInt8]
    modes: NDArray[np.float32]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return self.train.shape[1:]


def load(name: str, project: Path | None = None) -> Images:
    """A prepared data set, memory-mapped, with its hashes checked.

    Args:
        name: the data set's name in params.yaml.
        project: the project's folder; the one around the working directory if not given.

    Raises:
        ProjectError: it was not prepared, or a file changed since; the message names the file and
            says how to build it again.
    """
    folder = (root() if project is None else project) / PREPARED / name
    remedy = f"delete {folder} and run `dvc repro data` to build it again"
    try:
        blocks = json.loads((folder / "manifest.json").read_text())["blocks"]
    except FileNotFoundError:
        raise ProjectError(f"data set '{name}' is not prepared: run `dvc repro data`") from None
    except (KeyError, TypeError, ValueError):
        raise ProjectError(f"{folder / 'manifest.json'} is damaged: {remedy}") from None
    arrays = {}
    for array in {*SPLITS, MODES, *blocks}:
        path = folder / f"{array}.npy"
        if not path.is_file():
            raise ProjectError(f"{path} is missing: {remedy}")
        if not _intact(path, blocks.get(array, [])):
            raise ProjectError(f"{path} is not what was prepared (SHA-256 differs): {remedy}")
        arrays[array] = np.load(path, mmap_mode="r", allow_pickle=False)
    hashes = "".join(block for split in SPLITS for block in blocks[split])
    splits = {split: arrays.pop(split) for split in SPLITS}
    modes = np.array(arrays.pop(MODES))
    labels = {array.removesuffix(LABELS): values for array, values in arrays.items()}
    fingerprint = hashlib.sha256(hashes.encode()).hexdigest()
    return Images(name, **splits, fingerprint=fingerprint, labels=labels, modes=modes)


def _intact(path: Path, blocks: list[str]) -> bool:
    """Whether a few blocks of a file are as they were prepared.

    The blocks between the first and the last are drawn anew each time, so that damage anywhere is
    found sooner or later.
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

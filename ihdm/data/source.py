"""An image source, read one image at a time, and its division into splits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ihdm.pixels import UInt8
from ihdm.settings import DataSet

__all__ = ["SPARE", "Source", "divided"]

# Images that no split takes.
SPARE = "spare"


@dataclass(frozen=True)
class Source:
    """Images of one origin.

    Attributes:
        count: how many there are.
        shape: (C, H, W) of each.
        read: index -> (C, H, W) uint8, from any thread; if an image is damaged, it raises the
            error of its decoder.
        name: index -> the name of an image in messages.
        identity: text that differs if the content may differ.
        labels: (count,) uint8, or None.
    """

    count: int
    shape: tuple[int, int, int]
    read: Callable[[int], UInt8]
    name: Callable[[int], str]
    identity: str
    labels: UInt8 | None = None

    def part(self, indices: Sequence[int] | NDArray[np.int64]) -> "Source":
        """Some of the images, in the order given."""
        return Source(
            len(indices),
            self.shape,
            lambda i: self.read(int(indices[i])),
            lambda i: self.name(int(indices[i])),
            self.identity,
            None if self.labels is None else self.labels[indices],
        )


def divided(source: Source, described: DataSet, splits: tuple[str, ...]) -> dict[str, Source]:
    """Divides a source into splits by a seeded permutation; unused images go to `SPARE`."""
    order = np.random.default_rng(described.seed).permutation(source.count)
    ends = np.cumsum([getattr(described.splits, split) for split in splits])
    parts = zip((*splits, SPARE), np.split(order, ends), strict=True)
    return {split: source.part(indices) for split, indices in parts}

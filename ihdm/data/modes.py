"""Mean and variance of the modes of images: their coefficients in the cosine basis."""

from pathlib import Path

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from ihdm import progress
from ihdm.pixels import opponent

__all__ = ["modes_of"]

# Values in memory at a time. Sums over blocks of another size differ in rounding.
BLOCK = 2**20


def modes_of(path: Path, name: str) -> NDArray[np.float32]:
    """Mean and variance of each mode over an array of images, in float64, rounded to float32.

    Args:
        path: an .npy file of (N, C, H, W) uint8.
        name: the data set's, for the progress bar.

    Returns:
        (2, C, H, W), for images in [0, 1] on the axes `pixels.opponent` of colour.
    """
    images = np.load(path, mmap_mode="r", allow_pickle=False)
    basis = opponent(images.shape[1])
    step = max(1, BLOCK // int(np.prod(images.shape[1:])))
    # Sums of deviations from the first image's modes, so that variances do not cancel.
    origin, sums = None, np.zeros((2, *images.shape[1:]))
    for first in progress.over(range(0, len(images), step), f"{name}, spectrum", "block"):
        block = images[first : first + step] / 255
        y = scipy.fft.dctn(np.einsum("dc,nchw->ndhw", basis, block), axes=(2, 3), norm="ortho")
        origin = y[0] if origin is None else origin
        deviations = y - origin
        sums += deviations.sum(0), np.square(deviations).sum(0)
    mean, square = sums / len(images)
    return np.stack([origin + mean, square - mean**2]).astype(np.float32)

"""Images as 8-bit integers, as they are stored, and as numbers in [0, 1], as models see them."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["OPPONENT", "UInt8", "opponent", "to_bytes", "to_unit"]

UInt8 = NDArray[np.uint8]
# Rows: brightness, red against blue, green against both. They are orthonormal, and close to the
# principal components of colours, whose second and third have almost the same variance and so no
# stable directions.
OPPONENT = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])


def opponent(channels: int) -> NDArray[np.float64]:
    """The orthonormal basis of colours, one row for each axis: `OPPONENT`, or 1 for grey images."""
    return OPPONENT if channels == 3 else np.eye(channels)


def to_unit(images: UInt8 | Tensor) -> Tensor:
    """uint8 images 0..255 as float32 in [0, 1], any shape; tensors stay on their device."""
    if not isinstance(images, Tensor):
        images = torch.from_numpy(np.array(images))
    return images.float() / 255


def to_bytes(images: Tensor) -> Tensor:
    """Images in [0, 1] as uint8 on the same device, rounded; values outside are clipped."""
    return (255 * images.clamp(0, 1)).round().byte()

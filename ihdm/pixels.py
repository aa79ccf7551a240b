"""Images as 8-bit integers, as they are stored, and as numbers in [0, 1], as models see them."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["UInt8", "to_bytes", "to_unit"]

UInt8 = NDArray[np.uint8]


def to_unit(images: UInt8) -> Tensor:
    """uint8 images 0..255 as float32 in [0, 1], any shape."""
    return torch.from_numpy(np.array(images)).float() / 255


def to_bytes(images: Tensor) -> Tensor:
    """Images in [0, 1] as uint8 on the same device, rounded; values outside are clipped."""
    return (255 * images.clamp(0, 1)).round().byte()

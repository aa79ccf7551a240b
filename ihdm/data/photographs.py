"""Photographs that scikit-image and scikit-learn ship."""

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from ihdm.pixels import to_unit
from ihdm.settings import Photograph

__all__ = ["GREY", "photograph", "picture_of"]

# Apart from the others, since a set in colour has no place for grey crops.
GREY: frozenset[Photograph] = frozenset({"camera"})


def photograph(name: Photograph, size: int) -> Tensor:
    """A photograph that scikit-image or scikit-learn ships, cropped to a centred square.

    Args:
        name: one of the names in `settings.Photograph`.
        size: side in pixels, resized with antialiasing.

    Returns:
        (1, 3, size, size) float32 in [0, 1]; the channels of a grey one are equal.
    """
    fitted = ImageOps.fit(picture_of(name), (size, size), Image.Resampling.LANCZOS)
    return to_unit(np.asarray(fitted).transpose(2, 0, 1)[None])


def picture_of(name: Photograph) -> Image.Image:
    """A photograph that scikit-image or scikit-learn ships, as RGB in its own size."""
    if name in ("china", "flower"):
        from sklearn.datasets import load_sample_image

        return Image.fromarray(load_sample_image(f"{name}.jpg"))
    import skimage.data

    if name == "motorcycle":
        left, _, _ = skimage.data.stereo_motorcycle()
        return Image.fromarray(left)
    return Image.fromarray(getattr(skimage.data, name)()).convert("RGB")

"""Features of images; FID and KID compare images by them.

Two feature spaces: `digits` (see `classifier`) and `inception`, which the paper uses.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from cleanfid.downloads_helper import inception_url
from cleanfid.inception_torchscript import InceptionV3W
from cleanfid.resize import build_resizer
from numpy.typing import NDArray
from torch import Tensor

from ihdm import progress, settings
from ihdm.data import datasets
from ihdm.measures import classifier
from ihdm.model import Model
from ihdm.pixels import UInt8, to_bytes
from ihdm.project import ProjectError, replacing, root

__all__ = ["BATCH", "Features", "extractor", "features", "features_of_draws", "features_of_parts"]

Features = NDArray[np.float64]
# Images at a time.
BATCH = 100
INCEPTION = inception_url.rpartition("/")[2]
# Where clean-fid puts the file.
CLEAN_FID = Path("/tmp") / INCEPTION


def extractor(space: str, device: torch.device) -> Callable[[Tensor], Tensor]:
    """(N, C, H, W) images on 0..255, on the device -> (N, F) features.

    Raises:
        ProjectError: the network is missing or damaged, or Inception's file has changed.
    """
    if space == "digits":
        network = classifier.load().to(device)
        return lambda images: network.features(images / 255)
    file = inception_file()
    try:
        network = InceptionV3W(str(file.parent), download=False).to(device)
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, RuntimeError) as error:
        raise ProjectError(f"{file} holds no Inception ({type(error).__name__}: {error})") from None
    checked(file)
    return network


def inception_file() -> Path:
    """The file of Inception's weights, which is never downloaded here.

    Raises:
        ProjectError: it is in neither place; the message names both and its address.
    """
    own = root() / settings.load().machine.inception / INCEPTION
    for file in (own, CLEAN_FID):
        if file.is_file():
            return file
    raise ProjectError(
        f"Inception's weights are in neither {own} nor {CLEAN_FID}: download them from "
        f"{inception_url} to one of these places, name another folder in machine.inception, or use "
        "the features 'digits'"
    )


def checked(file: Path) -> None:
    """Compares a file of Inception's weights with the one used first, so that FIDs are comparable.

    Raises:
        ProjectError: it is another one; the message names both hashes and the remedy.
    """
    used, found = root() / "state" / f"{INCEPTION}.sha256", datasets.sha256(file)
    if not used.exists():
        with replacing(used) as temporary:
            temporary.write_text(found)
    if (first := used.read_text()) != found:
        raise ProjectError(
            f"{file} has the SHA-256 {found}, and the features in state/ are of {first}: put that "
            f"file back, or delete {used} and state/inception-* and measure all FIDs anew"
        )


def resizer(space: str) -> Callable[[UInt8], NDArray]:
    return (lambda pixels: pixels) if space == "digits" else build_resizer("clean")


@torch.no_grad()
def features(images: Tensor | UInt8, space: str) -> Features:
    """Features of images in memory, as if they had been written to 8-bit files.

    Args:
        images: (N, C, H, W) in [0, 1], clipped and rounded to 8 bits; or uint8.
        space: `digits` or `inception`.

    Returns:
        (N, F) features.

    Raises:
        ProjectError: the network of the features is missing, or `digits` is asked of other images
            than grey ones of 28x28 pixels.
    """
    if space == "digits" and images.shape[1:] != (1, 28, 28):
        raise ProjectError(
            f"the features 'digits' are those of grey images of 28x28 pixels, not of images of the "
            f"shape {tuple(images.shape[1:])}: use 'inception'"
        )
    parts = range(0, len(images), BATCH)
    batches = (images[first : first + BATCH] for first in parts)
    return features_of_parts(batches, len(parts), space).astype(np.float64)


@torch.no_grad()
def features_of_parts(
    parts: Iterable[Tensor | UInt8], count: int, space: str
) -> NDArray[np.float32]:
    """As `features`, of images that come in parts."""
    device = PartialState().device
    extract, resize = extractor(space, device), resizer(space)
    extracted = []
    for part in progress.over(parts, "features", "part", count):
        if isinstance(part, Tensor):
            part = to_bytes(part).numpy()
        if space == "inception":
            part = np.broadcast_to(part, (len(part), 3, *part.shape[2:]))
        pixels = np.stack([resize(u) for u in part.transpose(0, 2, 3, 1)]).transpose(0, 3, 1, 2)
        extracted.append(
            extract(torch.from_numpy(pixels.astype(np.float32)).to(device)).cpu().numpy()
        )
    return np.concatenate(extracted)


def features_of_draws(model: Model, count: int) -> Features:
    """Features `digits` of the first samples of a model.

    Args:
        model: the model.
        count: how many samples.

    Returns:
        (count, F) features; those of a smaller count are the first of them.
    """
    return features(model.draw(count, batch=BATCH)[0], "digits")

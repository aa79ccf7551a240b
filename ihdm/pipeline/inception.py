"""FID of an experiment as the paper measures it (App. B.3): Inception, through clean-fid."""

import hashlib
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from accelerate import PartialState
from cleanfid.fid import fid_from_feats
from numpy.typing import NDArray

from ihdm import settings
from ihdm.data import datasets
from ihdm.data.datasets import SPLITS
from ihdm.measures.features import BATCH, extractor, features_of_parts
from ihdm.pipeline import sample_sets
from ihdm.pixels import UInt8
from ihdm.project import ProjectError, root

__all__ = ["fid"]


def fid(name: str) -> float:
    """FID of an experiment by the paper's settings.

    Samples and features are kept in `state/`, so that an interrupted measurement goes on.

    Args:
        name: the experiment in params.yaml, which has a section `fid`.

    Returns:
        FID, in squared units of the features.

    Raises:
        ProjectError: the experiment has no section `fid`; or Inception's weights, data or the
            experiment's weights are missing.
    """
    experiment, data = settings.load().experiment(name)
    if experiment.fid is None:
        raise ProjectError(f"experiments.{name}.fid: is missing, and FID needs its two numbers")
    # Before hours of drawing.
    extractor("inception", PartialState().device)
    images = datasets.load(data)
    splits = SPLITS if experiment.fid.reference == "all" else ("train",)
    arrays = [getattr(images, split) for split in splits]
    files = sample_sets.follow(name, experiment.fid.samples)
    identity = hashlib.sha256(" ".join([images.fingerprint, *splits]).encode()).hexdigest()[:12]
    # Under the names that the message of `features.checked` says to delete.
    state = root() / "state"
    own = state / f"inception-{files[0].parent.name}-{len(files)}.npy"
    generated = kept(own, map(np.load, files), len(files))
    reference = kept(
        state / f"inception-{data}-{identity}.npy",
        (array[i : i + BATCH] for array in arrays for i in range(0, len(array), BATCH)),
        sum(math.ceil(len(array) / BATCH) for array in arrays),
    )
    return float(fid_from_feats(generated[: experiment.fid.samples], reference))


def kept(path: Path, parts: Iterable[UInt8], count: int) -> NDArray[np.float32]:
    """Inception features of images that come in parts; from a file if they were computed before."""
    if not path.is_file():
        sample_sets.save(path, features_of_parts(parts, count, "inception"))
    return np.load(path)

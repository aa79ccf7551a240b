r"""How near generated images are to real ones: FID and KID by clean-fid (App. B.3).

    FID = |m - m_r|^2 + tr(S + S_r - 2 (S S_r)^{1/2})
    KID = unbiased squared maximum mean discrepancy with the kernel (x . y / d + 1)^3

of features of two sets of images, with means m and covariances S. FID of a finite set is biased:
true images have one too, its floor, which depends on the size of both sets and on the features. So
an FID is read beside its floor and never beside one of other features. KID has no such bias; its
features are standardised by the reference, so that each counts alike.

Two feature spaces: `digits` (see `classifier`) and `inception`, which the paper uses.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from accelerate import PartialState
from cleanfid.features import build_feature_extractor
from cleanfid.fid import fid_from_feats, frechet_distance, get_folder_features, kernel_distance
from cleanfid.resize import build_resizer
from cleanfid.utils import EXTENSIONS
from numpy.typing import NDArray
from torch import Tensor, nn

from ihdm import classifier, datasets, draws, params, progress, sampling
from ihdm.datasets import SPLITS, Images
from ihdm.processes import Process
from ihdm.settings import ProjectError

__all__ = [
    "Measured",
    "Optimum",
    "features",
    "features_of_draws",
    "features_of_folder",
    "fid",
    "floor",
    "inception_fid",
    "kid",
    "optimum",
]

Features = NDArray[np.float64]
BATCH = 100
SUBSETS = 100


class Measured(NamedTuple):
    """A distance between two sets of images.

    Attributes:
        value: FID, in squared units of the features, or KID, without unit.
        half: half of its 95 % interval, 1.96 bootstrap standard deviations.
    """

    value: float
    half: float


class Optimum(NamedTuple):
    """Where a sweep has its lowest KID.

    Attributes:
        value: the place.
        low: lower end of its 95 % interval.
        high: upper end.
        bracketed: whether the lowest value lies inside the sweep; without that, the place is an end
            of the sweep and the interval says nothing.
    """

    value: float
    low: float
    high: float
    bracketed: bool


def extractor(space: str, device: torch.device) -> Callable[[Tensor], Tensor]:
    """(N, C, H, W) images on 0..255, on the device -> (N, F) features."""
    if space == "digits":
        network = classifier.load().to(device)
        return lambda images: network.features(images / 255)
    try:
        return build_feature_extractor("clean", device, use_dataparallel=False)
    except torch.OutOfMemoryError:
        raise
    except (OSError, RuntimeError) as error:  # of the download and of a damaged file
        raise ProjectError(
            f"Inception's weights could not be had ({type(error).__name__}: {error}). clean-fid "
            "downloads inception-2015-12-05.pt into /tmp; put the file there by hand where there "
            "is no network, or use the features 'digits'"
        ) from None


def resizer(space: str) -> Callable[[NDArray[np.uint8]], NDArray]:
    return (lambda pixels: pixels) if space == "digits" else build_resizer("clean")


@torch.no_grad()
def features(images: Tensor | NDArray[np.uint8], space: str) -> Features:
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
    found = features_of_parts((images[first : first + BATCH] for first in parts), len(parts), space)
    return found.astype(np.float64)


@torch.no_grad()
def features_of_parts(
    parts: Iterable[Tensor | NDArray[np.uint8]], count: int, space: str
) -> NDArray[np.float32]:
    """As `features`, of images that come in parts."""
    device = PartialState().device
    extract, resize = extractor(space, device), resizer(space)
    found = []
    for part in progress.over(parts, "features", "part", count):
        if isinstance(part, Tensor):
            part = (255 * part.clamp(0, 1)).round().byte().numpy()
        if space == "inception":
            part = np.broadcast_to(part, (len(part), 3, *part.shape[2:]))
        pixels = np.stack([resize(u) for u in part.transpose(0, 2, 3, 1)]).transpose(0, 3, 1, 2)
        found.append(extract(torch.from_numpy(pixels.astype(np.float32)).to(device)).cpu().numpy())
    return np.concatenate(found)


def inception_fid(name: str) -> float:
    """FID of an experiment as the paper measures it (App. B.3): Inception, through clean-fid.

    Samples and features are kept in `state/`, so that an interrupted measurement goes on.

    Args:
        name: the experiment in params.yaml, which has a section `fid`.

    Returns:
        FID, in squared units of the features.

    Raises:
        ProjectError: Inception's weights, data or the experiment's weights are missing.
    """
    settings, data = params.load().experiment(name)
    # Before hours of drawing.
    extractor("inception", PartialState().device)
    images = datasets.load(data)
    splits = SPLITS if settings.fid.reference == "all" else ("train",)
    arrays = [getattr(images, split) for split in splits]
    files = draws.follow(name, settings.fid.samples)
    identity = hashlib.sha256(" ".join([images.fingerprint, *splits]).encode()).hexdigest()[:12]
    own = files[0].with_name(f"inception-{len(files)}.features.npy")
    generated = kept(own, map(np.load, files), len(files))
    reference = kept(
        params.root() / "state" / f"inception-{data}-{identity}.npy",
        (array[i : i + BATCH] for array in arrays for i in range(0, len(array), BATCH)),
        sum(math.ceil(len(array) / BATCH) for array in arrays),
    )
    return float(fid_from_feats(generated[: settings.fid.samples], reference))


def kept(path: Path, parts: Iterable[NDArray[np.uint8]], count: int) -> NDArray[np.float32]:
    """Features by Inception of images that come in parts, from a file once they were computed."""
    if not path.is_file():
        draws.save(path, features_of_parts(parts, count, "inception"))
    return np.load(path)


def features_of_draws(
    process: Process, network: nn.Module, images: Images, seed: int, count: int
) -> Features:
    """Features `digits` of the first samples of a model.

    Args:
        process: the process to reverse.
        network: its trained network, in evaluation mode.
        images: the data set that it was trained on, for the prior.
        seed: of the set of samples.
        count: how many.

    Returns:
        (count, F) features; those of a smaller count are the first of them.
    """
    chosen = range(count)
    u_K = sampling.starts(process, images.train, seed, chosen)
    return features(sampling.draw(process, network, u_K, seed, chosen, batch=BATCH)[0], "digits")


def features_of_folder(folder: Path, space: str) -> Features:
    """Features of all image files in a folder, by clean-fid.

    Args:
        folder: searched with its sub-folders.
        space: `digits` or `inception`.

    Raises:
        ProjectError: there are no images, or the network of the features is missing.
    """
    if not any(p.suffix[1:].lower() in EXTENSIONS for p in folder.rglob("*")):
        raise ProjectError(f"{folder} holds no images")
    device = PartialState().device
    network = extractor(space, device)

    def grey(images: Tensor) -> Tensor:
        return network(images.mean(1, keepdim=True) if space == "digits" else images)

    return get_folder_features(
        str(folder),
        grey,
        num_workers=0,
        device=device,
        custom_fn_resize=resizer(space),
        verbose=False,
    ).astype(np.float64)


def fid(generated: Features, reference: Features, seed: int, bootstraps: int) -> Measured:
    """FID with its interval.

    Args:
        generated: (N, F) features.
        reference: (M, F) features, of all training images as in the paper.
        seed: of the bootstrap.
        bootstraps: how many bootstrap samples of the generated set, at least 2.
    """

    def distance(x: Features) -> float:
        return float(
            frechet_distance(x.mean(0), np.cov(x, rowvar=False), reference.mean(0), covariance)
        )

    covariance = np.cov(reference, rowvar=False)
    counts = multiplicities(len(generated), seed, bootstraps)
    drawn = [distance(np.repeat(generated, count, axis=0)) for count in counts]
    return Measured(distance(generated), 1.96 * float(np.std(drawn, ddof=1)))


def kid(generated: Features, reference: Features, seed: int, bootstraps: int) -> Measured:
    """KID with its interval.

    Args:
        generated: (N, F) features.
        reference: (M, F) features, by which both sets are standardised.
        seed: of subsets and bootstrap.
        bootstraps: how many bootstrap samples of the generated set, at least 2.
    """
    x, y = standardised(generated, reference), standardised(reference, reference)
    with numpy_seeded(seed):
        value = kernel_distance(x, y, num_subsets=SUBSETS)
    drawn = kernel_bootstrap(x, y, multiplicities(len(generated), seed, bootstraps))
    return Measured(float(value), 1.96 * float(np.std(drawn, ddof=1)))


def multiplicities(size: int, seed: int, bootstraps: int) -> NDArray[np.int64]:
    """(bootstraps, size): how often each image is in each bootstrap sample."""
    return np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), bootstraps)


@contextmanager
def numpy_seeded(seed: int) -> Iterator[None]:
    """Seeds NumPy's global generator, from which clean-fid draws, and puts it back."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def standardised(values: Features, reference: Features) -> Features:
    """Features of mean 0 and standard deviation 1 in the reference."""
    return (values - reference.mean(0)) / reference.std(0).clip(1e-9)


def kernel_bootstrap(x: Features, y: Features, counts: NDArray[np.int64]) -> Features:
    """KID, up to a constant, with each row of `counts` as the multiplicities of `x`."""
    d = x.shape[1]
    own, across = (x @ x.T / d + 1) ** 3, ((x @ y.T / d + 1) ** 3).mean(1)
    np.fill_diagonal(own, 0)
    weights = counts.astype(np.float64)
    pairs = weights.sum(1) ** 2 - (weights**2).sum(1)
    among = np.einsum("bi,ij,bj->b", weights, own, weights, optimize=True) / pairs
    return among - 2 * weights @ across / len(x)


def floor(reference: Features, count: int, seed: int, draws: int = 20) -> tuple[float, float]:
    """The FID of true images, by simulation.

    Normal features with the mean and covariance of the reference, `count` of them, against as many
    as the reference has: what is left of FID where there is no difference.

    Args:
        reference: (M, F) features.
        count: size of the generated set.
        seed: of the simulation.
        draws: how many sets are simulated.

    Returns:
        Mean and standard deviation over the simulated sets.
    """
    numbers = np.random.default_rng(seed)
    mean, covariance = reference.mean(0), np.cov(reference, rowvar=False)
    found = [
        fid_from_feats(
            *(numbers.multivariate_normal(mean, covariance, n) for n in (count, len(reference)))
        )
        for _ in range(draws)
    ]
    return float(np.mean(found)), float(np.std(found, ddof=1))


def optimum(
    sweep: Mapping[float, Features], reference: Features, seed: int, bootstraps: int
) -> Optimum:
    """The setting of lowest KID, between the settings that were tried.

    It is the lowest point of the parabola through the best setting and its two neighbours. The
    interval is 1.96 standard deviations of this point over bootstrap samples, which take the same
    draws of every setting, since one draw has the same training image and noise at all of them.

    Args:
        sweep: setting -> (N, F) features of the same draws at that setting.
        reference: (M, F) features.
        seed: of the bootstrap.
        bootstraps: how many bootstrap samples of the draws, at least 2.

    Raises:
        ValueError: fewer than three settings.
    """
    if len(sweep) < 3:
        raise ValueError(f"an optimum needs at least three settings, not {len(sweep)}")
    places = np.array(sorted(sweep))
    y = standardised(reference, reference)
    size = len(sweep[places[0]])
    counts = np.vstack([np.ones((1, size), np.int64), multiplicities(size, seed, bootstraps)])
    found = np.stack(
        [kernel_bootstrap(standardised(sweep[p], reference), y, counts) for p in places]
    )
    lowest, *others = (vertex(places, values) for values in found.T)
    half = 1.96 * float(np.std(others, ddof=1))
    bracketed = places[0] < places[found[:, 0].argmin()] < places[-1]
    return Optimum(lowest, lowest - half, lowest + half, bool(bracketed))


def vertex(places: Features, values: Features) -> float:
    """Lowest point of the parabola through the lowest of (n,) values and its neighbours."""
    i = int(values.argmin())
    if i in (0, len(places) - 1):
        return float(places[i])
    (a, b, c), (u, v, w) = places[i - 1 : i + 2], values[i - 1 : i + 2]
    left, right = (b - a) * (v - w), (b - c) * (v - u)
    return float(b - ((b - a) * left - (b - c) * right) / (2 * (left - right)))

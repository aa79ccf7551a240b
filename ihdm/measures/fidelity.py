r"""How near generated images are to real ones: FID and KID by clean-fid (App. B.3).

    FID = |m - m_r|^2 + tr(S + S_r - 2 (S S_r)^{1/2})
    KID = unbiased squared maximum mean discrepancy with the kernel (x . y / d + 1)^3

of features of two sets of images (see `features`), with means m and covariances S. FID of a finite
set is biased: true images have an FID too, the floor, which depends on the size of both sets and on
the features. So an FID is read beside its floor and never beside one of other features. KID has no
such bias; its features are standardised by the reference, so that each counts alike.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from cleanfid.fid import fid_from_feats, frechet_distance, kernel_distance
from numpy.typing import NDArray

from ihdm.measures.features import Features

__all__ = [
    "Measured",
    "Optimum",
    "fid",
    "floor",
    "kid",
    "optimum",
    "rise",
]

SUBSETS = 100  # over which clean-fid averages KID
SIMULATIONS = 20  # of the floor


class Measured(NamedTuple):
    """A distance between two sets of images.

    Attributes:
        value: FID, in squared units of the features, or KID, without unit.
        half: half of its 95 % interval, 1.96 bootstrap standard deviations.
    """

    value: float
    half: float


class Optimum(NamedTuple):
    """The setting of a sweep with the lowest KID.

    Attributes:
        value: the setting.
        low: lower end of its 95 % interval.
        high: upper end.
        bracketed: whether the lowest value lies inside the sweep; without that, the place is an end
            of the sweep and the interval says nothing.
    """

    value: float
    low: float
    high: float
    bracketed: bool


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


def floor(reference: Features, count: int, seed: int) -> tuple[float, float]:
    """The FID of true images, by simulation.

    Normal features with the mean and covariance of the reference, `count` of them, against as many
    as the reference has: the FID that remains if there is no difference.

    Args:
        reference: (M, F) features.
        count: size of the generated set.
        seed: of the simulation.

    Returns:
        Mean and standard deviation over the simulated sets.
    """
    numbers = np.random.default_rng(seed)
    mean, covariance = reference.mean(0), np.cov(reference, rowvar=False)
    simulated = [
        fid_from_feats(
            *(numbers.multivariate_normal(mean, covariance, n) for n in (count, len(reference)))
        )
        for _ in range(SIMULATIONS)
    ]
    return float(np.mean(simulated)), float(np.std(simulated, ddof=1))


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
    curves = np.stack(
        [kernel_bootstrap(standardised(sweep[p], reference), y, counts) for p in places]
    )
    lowest, *others = (vertex(places, values) for values in curves.T)
    half = 1.96 * float(np.std(others, ddof=1))
    bracketed = places[0] < places[curves[:, 0].argmin()] < places[-1]
    return Optimum(lowest, lowest - half, lowest + half, bool(bracketed))


def rise(
    first: Features, second: Features, reference: Features, seed: int, bootstraps: int
) -> Measured:
    """By how much KID is higher in a second set of samples than in a first, of the same draws.

    Args:
        first: (N, F) features.
        second: (N, F) features of the same draws, with another setting.
        reference: (M, F) features.
        seed: of the bootstrap.
        bootstraps: how many bootstrap samples of the draws, at least 2.
    """
    y, size = standardised(reference, reference), len(first)
    counts = np.vstack([np.ones((1, size), np.int64), multiplicities(size, seed, bootstraps)])
    low, high = (kernel_bootstrap(standardised(x, reference), y, counts) for x in (first, second))
    value, *others = high - low
    return Measured(float(value), 1.96 * float(np.std(others, ddof=1)))


def vertex(places: Features, values: Features) -> float:
    """Lowest point of the parabola through the lowest of (n,) values and its neighbours."""
    i = int(values.argmin())
    if i in (0, len(places) - 1):
        return float(places[i])
    (a, b, c), (u, v, w) = places[i - 1 : i + 2], values[i - 1 : i + 2]
    left, right = (b - a) * (v - w), (b - c) * (v - u)
    return float(b - ((b - a) * left - (b - c) * right) / (2 * (left - right)))

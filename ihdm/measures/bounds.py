"""The bounds of trained models as numbers: at the best delta, at that of sampling, at any other.

`likelihood` holds the terms. The bound of inverse heat dissipation depends on delta: it is measured
at the delta that makes it smallest and at the delta of the samples. Models that predict noise have
no delta.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from ihdm import seeds
from ihdm.measures import likelihood, overlap
from ihdm.measures.likelihood import SquaredErrors, Terms
from ihdm.measures.statistics import mean_interval
from ihdm.model import Model
from ihdm.processes import InverseHeat

__all__ = ["HeatBound", "Measured", "heat_bound", "measure"]


@dataclass(frozen=True)
class HeatBound:
    """The bound of inverse heat dissipation on some images, for any delta above `lowest`.

    Attributes:
        model: the model.
        u_0: (M, C, H, W) the images.
        errors: squared errors of its network, from one pass over the levels.
        space: training images and u_0 at level K, for kernels as narrow as `lowest`.
        seed: seed of the draws for L_K.
    """

    model: Model
    u_0: Tensor
    errors: SquaredErrors
    space: overlap.Subspace
    seed: int

    def best_delta(self) -> tuple[float, float]:
        """`likelihood.optimal_delta`, in the unit of sigma, and half of its 95 % interval."""
        process = self.model.inverse_heat
        return likelihood.optimal_delta(self.errors, process.sigma, self.u_0[0].numel())

    def prior(self, delta: float, draws: int) -> Tensor:
        """L_K under kernels of width delta: (M,) nats.

        Args:
            delta: in units of the pixel range [0, 1].
            draws: points u_K for each image, at least 2.
        """
        generator = seeds.generator(self.seed, seeds.PRIOR, 0)
        return self.space.with_delta(delta).exact(draws, generator)[0]

    def terms(self, delta: float, draws: int) -> Terms:
        """The terms of the bound at a delta, with L_K itself; arguments as in `prior`."""
        sigma, prior = self.model.inverse_heat.sigma, self.prior(delta, draws)
        return likelihood.heat_terms(self.errors, self.u_0, sigma, delta, prior)

    def curve(self, deltas: Sequence[float]) -> list[tuple[float, float]]:
        """Mean nats, for 8-bit values, at each delta: without L_K, and with its upper bound."""
        sigma, found = self.model.inverse_heat.sigma, []
        for delta in deltas:
            prior = self.space.with_delta(delta).bound()
            at = likelihood.heat_terms(self.errors, self.u_0, sigma, delta, prior)
            without = (at.steps.sum(0) + at.discrete).mean().item()
            found.append((without, without + prior.mean().item()))
        return found


def heat_bound(model: Model, u_0: Tensor, lowest: float, seed: int) -> HeatBound:
    """Measures the network of inverse heat dissipation in one pass over the levels.

    Args:
        model: of inverse heat dissipation, with its training images.
        u_0: (M, C, H, W) images in [0, 1], of 8-bit values.
        lowest: the smallest delta that will be asked for, in units of the pixel range [0, 1].
        seed: seed of all draws.

    Raises:
        TypeError: the model has another process.
    """
    process = model.inverse_heat
    space = overlap.subspace(model.images, u_0, process.heat, process.sigma, lowest)
    return HeatBound(model, u_0, likelihood.squared_errors(model, u_0, seed), space, seed)


class Measured(NamedTuple):
    """The bound of a model.

    Attributes:
        numbers: name -> `mean` and `half_interval` (95 %) over images. The names are those of
            `Terms.summary`. Inverse heat dissipation has them at its best delta, and beside them
            this `best_delta` in the unit of sigma, all of them at the delta of its samples
            (`sampling: NAME`), and `L_K, kernels of width sigma`.
        terms: what the numbers summarise, at the best delta.
        heat: the bound of inverse heat dissipation for other deltas; None for another process.
    """

    numbers: dict[str, dict[str, float]]
    terms: Terms
    heat: HeatBound | None


def measure(model: Model, u_0: Tensor, lowest: float, draws: int, seed: int) -> Measured:
    """Measures the bound of a model of any process.

    Args:
        model: the model, with its training images.
        u_0: (M, C, H, W) images in [0, 1], of 8-bit values, M at least 2.
        lowest: the smallest delta that will be asked for, in the unit of sigma; below 0.9.
        draws: points u_K for each image for L_K of inverse heat dissipation, at least 2.
        seed: seed of all draws.
    """
    N = u_0[0].numel()
    if not isinstance(model.process, InverseHeat):
        terms = likelihood.noise_terms(model, u_0, seed)
        return Measured(named(terms.summary(N)), terms, None)
    sigma = model.process.sigma
    heat = heat_bound(model, u_0, lowest * sigma, seed)
    best, half = heat.best_delta()
    terms, sampling = (heat.terms(at, draws) for at in (best * sigma, model.process.delta))
    pairs = terms.summary(N) | {"best_delta": (best, half)}
    pairs |= {f"sampling: {name}": pair for name, pair in sampling.summary(N).items()}
    pairs["L_K, kernels of width sigma"] = mean_interval(heat.prior(sigma, draws))
    return Measured(named(pairs), terms, heat)


def named(pairs: Mapping[str, tuple[float, float]]) -> dict[str, dict[str, float]]:
    return {name: {"mean": mean, "half_interval": half} for name, (mean, half) in pairs.items()}

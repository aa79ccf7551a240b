"""The settings of each notebook, and the demands that it alone makes on other sections.

A new notebook has a class here and a line in `Notebooks`.
"""

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from ihdm.settings.base import (
    AtLeastThree,
    AtLeastTwo,
    Distinct,
    Fraction,
    Ordered,
    Rising,
    Settings,
    Share,
)
from ihdm.settings.data import Photograph
from ihdm.settings.evidence import Claims
from ihdm.settings.experiments import InverseHeatProcess
from ihdm.settings.needs import (
    DensityNotebook,
    Kind,
    Levels,
    Notebook,
    OneExperiment,
    PhotographSize,
    ThreeProcesses,
    TwoProcesses,
)

if TYPE_CHECKING:
    from ihdm.settings.params import Params


def _reused(params: "Params", **counts: int) -> Iterator[str]:
    """Compares the number of samples that each key reuses with the number that is drawn."""
    notebook = params.notebooks.samples
    drawn = notebook.samples if notebook is not None else math.inf
    for key, count in counts.items():
        if count > drawn:
            yield f"{key}: needs {count} samples, and notebooks.samples.samples draws {drawn}"


class OnePage(Notebook):
    data: str
    K: AtLeastTwo
    sigma_blur: Annotated[tuple[PositiveFloat, PositiveFloat], Rising]
    sigma: PositiveFloat
    delta: PositiveFloat
    width: Annotated[int, Field(multiple_of=8, gt=0)]
    steps: Annotated[int, Field(ge=10)]
    batch: PositiveInt
    learning_rate: PositiveFloat
    ema: Fraction
    seed: NonNegativeInt

    def problems(self, params: "Params") -> Iterator[str]:
        images = params.data.get(self.data)
        if params.run and self.data not in params.run.values():
            yield f"data: no experiment that `run` switches on uses '{self.data}'"
        if images and (images.shape[0] != 1 or images.shape[1] != images.shape[2]):
            yield f"data: has to be square grey images, which '{self.data}' is not"


class HeatEquation(OneExperiment):
    photograph: Photograph
    photograph_size: PhotographSize
    digit: NonNegativeInt
    seed: NonNegativeInt

    def problems(self, params: "Params") -> Iterator[str]:
        images = params.data.get(self.data)
        if images and self.digit >= images.splits.train:
            yield f"digit: there are {images.splits.train} training images"


class Training(Notebook):
    levels: Levels
    levels_measured: PositiveInt
    images_per_level: AtLeastTwo
    seed: NonNegativeInt


class Samples(Notebook):
    samples: AtLeastTwo
    sequences: PositiveInt
    frames: AtLeastThree
    branches: PositiveInt
    splits: Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], Field(min_length=1)]
    starts: AtLeastTwo
    per_start: AtLeastTwo
    film_frames: AtLeastThree
    film_samples: AtLeastTwo

    def problems(self, params: "Params") -> Iterator[str]:
        levels = [(process.K + 1, name) for name in params.run if (process := params.process(name))]
        fewest, name = min(levels, default=(self.frames, ""))
        if self.frames > fewest:
            yield f"frames: '{name}' has only {fewest} levels to show"
        if self.film_samples > self.samples:
            yield f"film_samples: more than the {self.samples} samples that are drawn"


class BlurringDiffusion(ThreeProcesses):
    photograph: Photograph
    photograph_size: PhotographSize
    frames: AtLeastTwo
    sequences: PositiveInt
    seed: NonNegativeInt


class Asymptotics(OneExperiment):
    K: Annotated[tuple[AtLeastTwo, ...], Field(min_length=2), Distinct]
    sigma_blur: Annotated[tuple[PositiveFloat, ...], Field(min_length=1), Distinct]

    def problems(self, params: "Params") -> Iterator[str]:
        process = params.process(self.experiment)
        if not isinstance(process, InverseHeatProcess):
            return
        fewest, lowest, highest = min(self.K), process.sigma_blur_min, process.sigma_blur_max
        second = lowest * (highest / lowest) ** (1 / (fewest - 1))
        for width in self.sigma_blur:
            if not second <= width <= highest:
                yield (
                    f"sigma_blur: {width:g} is not a blur between the second of {fewest} levels "
                    f"and the last, {second:.3g} and {highest:g}"
                )


class PsdDuality(ThreeProcesses):
    photographs: Annotated[tuple[Photograph, ...], Field(min_length=2), Distinct]
    photograph_size: PhotographSize
    band: Annotated[tuple[PositiveFloat, PositiveFloat], Ordered]
    tolerance: PositiveFloat
    levels: Levels
    seed: NonNegativeInt

    def problems(self, params: "Params") -> Iterator[str]:
        sides = {"photographs": self.photograph_size}
        if images := params.data.get(self.data):
            sides[f"'{self.data}'"] = max(images.shape[1:])
        for name, side in sides.items():
            frequencies = [math.pi * n / side for n in range(1, side)]
            inside = [f for f in frequencies if self.band[0] <= f <= self.band[1]]
            if len({math.floor(4 * math.log2(f)) for f in inside}) < 3:
                yield (
                    f"band: holds fewer than three quarter-octaves of the frequencies of {name}, "
                    "too few to fit a power law"
                )


class NoiseScale(OneExperiment):
    delta: Annotated[tuple[NonNegativeFloat, ...], Field(min_length=2)]
    samples: AtLeastTwo
    rows: PositiveInt
    held_out: AtLeastTwo
    slopes: Annotated[tuple[float, float, float], Rising]

    def problems(self, params: "Params") -> Iterator[str]:
        yield from _reused(params, samples=self.samples)
        if not {0, *self.slopes} <= set(self.delta):
            yield "delta: has to hold 0 and all of slopes"


class SigmaZero(OneExperiment):
    needs: ClassVar[Mapping[str, Kind]] = {**OneExperiment.needs, "sigma_zero": "sigma_zero"}
    sigma_zero: str
    samples: PositiveInt
    trajectories: AtLeastTwo
    images: AtLeastTwo
    blown_up: PositiveFloat
    opposite: Share
    seed: NonNegativeInt

    def problems(self, params: "Params") -> Iterator[str]:
        yield from _reused(params, samples=self.samples, trajectories=self.trajectories)
        pair = [params.process(name) for name in (self.experiment, self.sigma_zero)]
        heat = [process for process in pair if isinstance(process, InverseHeatProcess)]
        levels = {(process.K, process.sigma_blur_min, process.sigma_blur_max) for process in heat}
        if len(levels) > 1:
            yield "sigma_zero: has to have the levels of the other experiment"


class ColourAndShape(OneExperiment):
    noises: AtLeastTwo
    starts: AtLeastTwo
    noise_share: Share
    interaction: Share
    contrast: Share


class Interpolation(TwoProcesses):
    pairs: AtLeastTwo
    points: AtLeastThree
    shown: AtLeastThree
    rows: PositiveInt

    def problems(self, params: "Params") -> Iterator[str]:
        if self.shown > self.points:
            yield f"shown: more than the {self.points} points of a path"


class InputGradients(TwoProcesses):
    needs: ClassVar[Mapping[str, Kind]] = {**TwoProcesses.needs, "published": "inverse_heat"}
    published: str
    images: AtLeastTwo
    pixels: Annotated[tuple[tuple[Share, Share], ...], Field(min_length=1)]
    late: Annotated[float, Field(gt=0, le=1)]
    levels: Levels
    end: Levels
    seed: NonNegativeInt

    def problems(self, params: "Params") -> Iterator[str]:
        if not set(self.end) <= set(self.levels):
            yield "end: all have to be among levels"


class NearestNeighbours(ThreeProcesses):
    samples: PositiveInt
    copies: Share
    neighbours: PositiveInt
    rows: PositiveInt


class FidTables(ThreeProcesses):
    samples: Annotated[int, Field(ge=8)]
    delta: Annotated[tuple[NonNegativeFloat, ...], Field(min_length=3), Distinct]
    usual: NonNegativeFloat
    samples_per_delta: AtLeastThree
    bootstraps: AtLeastTwo
    seed: NonNegativeInt

    def problems(self, params: "Params") -> Iterator[str]:
        if self.samples_per_delta > self.samples:
            yield f"samples_per_delta: more than the {self.samples} samples of the table"
        if self.usual not in self.delta:
            yield "usual: has to be among delta"
        features, digits = params.digit_features, params.data.get(self.data)
        if features is not None and self.data != features.data:
            yield f"data: the features are those of '{features.data}' (digit_features.data)"
        if digits and self.samples > digits.splits.report:
            yield (
                f"samples: has to be at most the {digits.splits.report} digits for reporting, "
                "of which as many stand beside them"
            )


class Likelihood(ThreeProcesses, DensityNotebook):
    delta_range: Annotated[tuple[PositiveFloat, PositiveFloat], Rising]
    points: AtLeastTwo
    draws: AtLeastTwo
    seed: NonNegativeInt


class PriorOverlap(OneExperiment, DensityNotebook):
    sigma_blur_max: Annotated[tuple[PositiveFloat, ...], Field(min_length=2), Distinct]
    between: Annotated[tuple[PositiveFloat, PositiveFloat], Rising]
    draws: AtLeastTwo
    seed: NonNegativeInt

    def problems(self, params: "Params") -> Iterator[str]:
        yield from super().problems(params)
        if not set(self.between) <= set(self.sigma_blur_max):
            yield "between: both have to be among sigma_blur_max"


class Notebooks(Settings):
    """A section for each notebook, in the order of their numbers."""

    ihdm_in_one_page: OnePage
    heat_equation: HeatEquation
    training: Training
    samples: Samples
    blurring_diffusion: BlurringDiffusion
    asymptotics: Asymptotics
    psd_duality: PsdDuality
    noise_scale: NoiseScale
    sigma_zero: SigmaZero
    colour_and_shape: ColourAndShape
    interpolation: Interpolation
    input_gradients: InputGradients
    nearest_neighbours: NearestNeighbours
    fid_tables: FidTables
    likelihood: Likelihood
    prior_overlap: PriorOverlap
    claims: Claims

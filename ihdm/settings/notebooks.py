"""The settings of each notebook, and the demands that it alone makes on other sections.

A new notebook has a class here and a line in `Notebooks`.
"""

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from ihdm.settings.base import AtLeastThree, AtLeastTwo, Distinct, Ordered, Rising, Settings, Share
from ihdm.settings.data import Photograph
from ihdm.settings.experiments import InverseHeatProcess

if TYPE_CHECKING:
    from ihdm.settings.params import Params

Kind = Literal["inverse_heat", "sigma_zero", "denoising", "blurring"]
Levels = Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)]
PhotographSize = Annotated[int, Field(ge=16)]


class Notebook(Settings):
    """The settings of one notebook."""

    def problems(self, params: "Params") -> Iterator[str]:
        """Yields `key: reason` of values that do not fit; an invalid section of params is None."""
        yield from ()


class ExperimentsNotebook(Notebook):
    """A notebook that names experiments on one data set."""

    # For each key that holds the name of an experiment: the kind that it has to be of.
    needs: ClassVar[Mapping[str, Kind]]
    data: str


class OneExperiment(ExperimentsNotebook):
    """A notebook that shows one experiment."""

    needs: ClassVar[Mapping[str, Kind]] = {"experiment": "inverse_heat"}
    experiment: str


class TwoProcesses(ExperimentsNotebook):
    """A notebook that compares experiments of two processes."""

    needs: ClassVar[Mapping[str, Kind]] = {"inverse_heat": "inverse_heat", "denoising": "denoising"}
    inverse_heat: str
    denoising: str


class ThreeProcesses(TwoProcesses):
    """A notebook that compares experiments of all processes."""

    needs: ClassVar[Mapping[str, Kind]] = {**TwoProcesses.needs, "blurring": "blurring"}
    blurring: str


class DensityNotebook(ExperimentsNotebook):
    """A notebook that measures densities of images for reporting; delta has to be above 0."""

    images: AtLeastTwo

    def problems(self, params: "Params") -> Iterator[str]:
        images = params.data.get(self.data)
        if images and self.images > images.splits.report:
            yield f"images: '{self.data}' has {images.splits.report} images for reporting"


def _reused(params: "Params", **counts: int) -> Iterator[str]:
    """Compares the number of samples that each key reuses with the number that is drawn."""
    notebook = params.notebooks.samples
    drawn = notebook.samples if notebook is not None else math.inf
    for key, count in counts.items():
        if count > drawn:
            yield f"{key}: needs {count} samples, and notebooks.samples.samples draws {drawn}"


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
    degenerate: PositiveFloat

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
    rows: PositiveInt
    film_points: AtLeastThree

    def problems(self, params: "Params") -> Iterator[str]:
        return _reused(params, pairs=2 * self.pairs)


class InputGradients(TwoProcesses):
    images: AtLeastTwo
    pixels: Annotated[tuple[tuple[Share, Share], ...], Field(min_length=1)]
    late: Annotated[float, Field(gt=0, le=1)]
    levels: Levels
    seed: NonNegativeInt


class NearestNeighbours(ThreeProcesses):
    samples: PositiveInt
    copies: Share
    neighbours: PositiveInt
    rows: PositiveInt


class FidTables(ThreeProcesses):
    samples: Annotated[int, Field(ge=8)]
    delta: Annotated[tuple[NonNegativeFloat, ...], Field(min_length=3), Distinct]
    samples_per_delta: AtLeastThree
    bootstraps: AtLeastTwo
    seed: NonNegativeInt

    def problems(self, params: "Params") -> Iterator[str]:
        if self.samples_per_delta > self.samples:
            yield f"samples_per_delta: more than the {self.samples} samples of the table"
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


class Claims(Notebook):
    """Limits that no other notebook has."""

    sharpens: Share
    additivity: PositiveFloat
    flat: Share
    near_sigma: PositiveFloat
    brightness: Share
    classes: Share
    levels: Share
    robust: PositiveFloat


class Notebooks(Settings):
    """A section for each notebook, in the order of their numbers."""

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

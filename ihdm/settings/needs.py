"""Base classes of the sections of notebooks: the experiments that they name, and their data."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from ihdm.settings.base import AtLeastTwo, Settings

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

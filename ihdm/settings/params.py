"""The whole of params.yaml."""

from types import MappingProxyType
from typing import Annotated

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt

from ihdm.project import ProjectError
from ihdm.settings.base import Settings
from ihdm.settings.controls import Controls
from ihdm.settings.data import DataSet
from ihdm.settings.evidence import Repeated
from ihdm.settings.experiments import AnyProcess, Experiment
from ihdm.settings.notebooks import Notebooks


class Machine(Settings):
    """The hardware to compute with; results depend on it by rounding and dropout alone.

    `inception` is the folder of Inception's weights, in the project or with a whole path.
    """

    processes: PositiveInt
    inception: str = "data/raw"


class DigitFeatures(Settings):
    """The classifier whose features are those of FID and KID."""

    data: str
    epochs: PositiveInt
    seed: NonNegativeInt


class Params(Settings):
    """The whole file. `run` switches experiments on: experiment -> data set."""

    run: Annotated[dict[str, str], Field(min_length=1), AfterValidator(MappingProxyType)]
    machine: Machine
    data: Annotated[dict[str, DataSet], AfterValidator(MappingProxyType)]
    experiments: Annotated[dict[str, Experiment], AfterValidator(MappingProxyType)]
    digit_features: DigitFeatures
    repeated: Repeated
    notebooks: Notebooks
    controls: Controls

    def experiment(self, name: str) -> tuple[Experiment, str]:
        """An experiment that is switched on, and the name of its data set.

        Raises:
            ProjectError: `run` does not switch it on.
        """
        if name not in self.run:
            on = ", ".join(self.run)
            raise ProjectError(
                f"experiment '{name}' is not switched on: add it to `run` in params.yaml "
                f"(switched on: {on})"
            )
        return self.experiments[name], self.run[name]

    def process(self, name: str) -> AnyProcess | None:
        """The process of an experiment, or None if there is no such experiment."""
        experiment = self.experiments.get(name)
        return experiment.process if experiment else None

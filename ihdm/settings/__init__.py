"""The settings of params.yaml as immutable descriptions: data sets, experiments, notebooks."""

from ihdm.settings.base import Settings, digest
from ihdm.settings.controls import Controls
from ihdm.settings.data import (
    Cifar10,
    Colours,
    Database,
    DataSet,
    Folder,
    FullMnist,
    Photograph,
    Photographs,
    Pictures,
    SmallMnist,
)
from ihdm.settings.experiments import (
    AnyProcess,
    BlurringProcess,
    DenoisingProcess,
    Experiment,
    InverseHeatProcess,
    Network,
    Train,
)
from ihdm.settings.load import load
from ihdm.settings.notebooks import Notebooks
from ihdm.settings.params import Params

__all__ = [
    "AnyProcess",
    "BlurringProcess",
    "Cifar10",
    "Colours",
    "Controls",
    "DataSet",
    "Database",
    "DenoisingProcess",
    "Experiment",
    "Folder",
    "FullMnist",
    "InverseHeatProcess",
    "Network",
    "Notebooks",
    "Params",
    "Photograph",
    "Photographs",
    "Pictures",
    "Settings",
    "SmallMnist",
    "Train",
    "digest",
    "load",
]

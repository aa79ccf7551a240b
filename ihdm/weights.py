"""Weights of networks as safetensors files, bare or with all that a model needs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ihdm.pixels import UInt8
from ihdm.project import ProjectError, replacing
from ihdm.settings import Experiment

__all__ = ["Portable", "fill", "load", "rounded", "save"]

Network = TypeVar("Network", bound=nn.Module)
# Names in a portable file; no parameter has the first one.
IMAGES, ABOUT = "starts", "ihdm"


@dataclass(frozen=True)
class Portable:
    """A trained model as one file, which needs neither data nor params.yaml.

    Matrices and kernels are stored in bfloat16. Products in bfloat16 round them likewise, so that
    their results stay the same in every bit; products in float32 differ from those of the network
    that was trained. Everything else is stored in float32.

    Attributes:
        experiment: the description of the model and its training.
        data: the fingerprint of the prepared data (`Images.fingerprint`).
        history: rows of the training's figures.
        made: date, kind of processor, precision and version of torch.
        images: (N, C, H, W) uint8 training images, to draw the prior from.
        tensors: the state of the network.
    """

    experiment: Experiment
    data: str
    history: list[dict[str, float | None]]
    made: dict[str, str]
    images: UInt8
    tensors: dict[str, Tensor]

    @classmethod
    def read(cls, path: Path) -> "Portable":
        """Reads a file that `write` wrote.

        Raises:
            ProjectError: it is missing, damaged, or not such a file.
        """
        remedy = "`git restore weights` brings back the files of the project"
        tensors, metadata = opened(path, remedy, remedy)
        try:
            about: dict[str, Any] = json.loads(metadata[ABOUT])
            experiment = Experiment.model_validate_json(json.dumps(about.pop("experiment")))
            return cls(experiment, images=tensors.pop(IMAGES).numpy(), tensors=tensors, **about)
        except (KeyError, TypeError, ValueError) as error:
            raise ProjectError(
                f"{path} is no model of this version of ihdm, as `weights/` holds them "
                f"({type(error).__name__}: {error})"
            ) from None

    def write(self, path: Path) -> None:
        """Writes the file, in one step.

        Raises:
            ProjectError: it could not be written, as on a full disk.
        """
        about = {
            "experiment": self.experiment.model_dump(mode="json"),
            "data": self.data,
            "history": self.history,
            "made": self.made,
        }
        written(path, self.tensors | {IMAGES: torch.from_numpy(self.images)}, about)


def rounded(network: nn.Module) -> dict[str, Tensor]:
    """The state of a network with its matrices and kernels in bfloat16, as `Portable` holds it."""
    matrices = {name for name, p in network.named_parameters() if p.ndim >= 2}
    return {
        name: value.bfloat16() if name in matrices else value
        for name, value in network.state_dict().items()
    }


def save(path: Path, network: nn.Module) -> None:
    """Writes a network's weights.

    Args:
        path: the file; replaced in one step.
        network: any module.

    Raises:
        ProjectError: the file could not be written, as on a full disk.
    """
    written(path, network.state_dict())


def load(path: Path, network: Network) -> Network:
    """Reads weights into a network of the same architecture.

    Args:
        path: a file that `save` wrote.
        network: the network to fill, on any device.

    Returns:
        The same network.

    Raises:
        ProjectError: the file is missing, damaged, or of another architecture.
    """
    tensors, _ = opened(path, "`dvc repro` trains it", "delete it and run `dvc repro`")
    return fill(network, tensors, path)


def fill(network: Network, tensors: Mapping[str, Tensor], path: Path) -> Network:
    """Puts tensors that were read from a file into a network.

    Raises:
        ProjectError: they are of another architecture.
    """
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise ProjectError(f"{path} does not fit the network of its settings: {error}") from None
    return network


def written(path: Path, tensors: Mapping[str, Tensor], about: object = None) -> None:
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    # One entry, since the library writes several in any order.
    metadata = None if about is None else {ABOUT: json.dumps(about)}
    try:
        with replacing(path) as temporary:
            save_file(whole, temporary, metadata)
    except (SafetensorError, OSError) as error:
        raise ProjectError(f"{path} could not be written ({error}): make room") from None


def opened(
    path: Path, if_missing: str, if_damaged: str
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file and its metadata; errors end in one of two remedies."""
    try:
        with safe_open(path, framework="pt") as file:
            return {
                name: file.get_tensor(name) for name in file.offset_keys()
            }, file.metadata() or {}
    except FileNotFoundError:
        raise ProjectError(f"{path} does not exist: {if_missing}") from None
    except (SafetensorError, OSError) as error:
        raise ProjectError(f"{path} is damaged ({error}): {if_damaged}") from None

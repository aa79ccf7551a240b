"""Weights of networks as safetensors files."""

from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from ihdm.project import ProjectError, replacing

__all__ = ["load", "save"]

Network = TypeVar("Network", bound=nn.Module)


def save(path: Path, network: nn.Module) -> None:
    """Writes a network's weights.

    Args:
        path: the file; replaced in one step.
        network: any module.

    Raises:
        ProjectError: the file could not be written, as on a full disk.
    """
    tensors = {name: p.contiguous() for name, p in network.state_dict().items()}
    try:
        with replacing(path) as temporary:
            save_file(tensors, temporary)
    except (SafetensorError, OSError) as error:
        raise ProjectError(f"{path} could not be written ({error}): make room") from None


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
    try:
        tensors = load_file(path)
    except FileNotFoundError:
        raise ProjectError(f"{path} does not exist: `dvc repro` trains it") from None
    except (SafetensorError, OSError) as error:
        raise ProjectError(f"{path} is damaged ({error}): delete it and run `dvc repro`") from None
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise ProjectError(f"{path} does not fit the network of params.yaml: {error}") from None
    return network

"""Files that hold weights and training state.

Weights are safetensors; resumable state is a torch archive that is read without unpickling
(`weights_only=True`). Every file is written under a temporary name and renamed. The name of a state
carries its step and its SHA-256, so that a damaged one is recognised and the one before it is used.
"""

import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from ihdm import datasets, params, processes, unet
from ihdm.datasets import Images
from ihdm.precision import Autocast, memory_format
from ihdm.processes import Process
from ihdm.settings import ProjectError

__all__ = [
    "load_published",
    "load_weights",
    "newest_state",
    "save_state",
    "save_weights",
    "states",
    "trained",
]

KEPT_STATES = 2


def save_weights(path: Path, network: nn.Module) -> None:
    """Writes a network's weights as safetensors.

    Args:
        path: the file; replaced in one step.
        network: any module.

    Raises:
        ProjectError: it could not be written, as on a full disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        save_file({name: p.contiguous() for name, p in network.state_dict().items()}, partial)
    except (SafetensorError, OSError) as error:
        raise ProjectError(f"{path} could not be written ({error}): make room") from None
    os.replace(partial, path)


def load_weights(path: Path, network: nn.Module) -> nn.Module:
    """Reads weights that `save_weights` wrote into a network of the same architecture.

    Args:
        path: the safetensors file.
        network: the network to fill, on any device.

    Returns:
        The same network.

    Raises:
        ProjectError: the file is missing, damaged, or of another architecture.
    """
    try:
        weights = load_file(path)
    except FileNotFoundError:
        raise ProjectError(f"{path} does not exist: `dvc repro` trains it") from None
    except (SafetensorError, OSError) as error:
        raise ProjectError(f"{path} is damaged ({error}): delete it and run `dvc repro`") from None
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ProjectError(f"{path} does not fit the network of params.yaml: {error}") from None
    return network


def load_published(path: Path, network: nn.Module, ema: bool = True) -> nn.Module:
    """Reads a checkpoint of the paper's published code into a network.

    Such a file holds `model`, a dict of weights whose names start with `module.`, and `ema`, whose
    `shadow_params` are a bare list in the order of the parameters. `UNet` registers its parameters
    in that order, and every shape has to agree.

    Args:
        path: the authors' `.pth` file; read without unpickling.
        network: a `UNet` with `resample="conv"` and the checkpoint's sizes.
        ema: whether to take the moving average, which the paper samples from, or the raw weights.

    Returns:
        The same network.

    Raises:
        ProjectError: the file is missing, damaged, of another layout, or a parameter does not fit;
            the message names it.
    """
    saved = read_published(path)
    try:
        published = saved["model"]
        values = saved["ema"]["shadow_params"] if ema else list(published.values())
    except (KeyError, TypeError):
        raise ProjectError(f"{path} is not laid out as a published checkpoint") from None
    names = [name.removeprefix("module.") for name in published]
    ours = list(network.named_parameters())
    if len(ours) != len(names) or len(values) != len(names):
        raise ProjectError(
            f"{path} holds {len(names)} names and {len(values)} values, the network has "
            f"{len(ours)} parameters"
        )
    for name, value, (own, parameter) in zip(names, values, ours, strict=True):
        if value.shape != parameter.shape:
            raise ProjectError(
                f"{path}: {name} has shape {tuple(value.shape)}, "
                f"{own} of the network has {tuple(parameter.shape)}"
            )
    with torch.no_grad():
        for value, (_, parameter) in zip(values, ours, strict=True):
            parameter.copy_(value)
    return network


def published_step(path: Path) -> int:
    """The number of steps that a checkpoint of the published code was trained for.

    Raises:
        ProjectError: the file is missing, damaged, or of another layout.
    """
    try:
        return int(read_published(path)["step"])
    except (KeyError, TypeError):
        raise ProjectError(f"{path} is not laid out as a published checkpoint") from None


def read_published(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ProjectError(f"{path} does not exist") from None
    except Exception as error:
        raise ProjectError(f"{path} cannot be read ({type(error).__name__}: {error})") from None


def save_state(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Writes a resumable state, reads it back, and removes all but the newest two.

    Args:
        folder: the directory of one training.
        step: number of steps done.
        state: tensors, numbers and containers of them.

    Returns:
        The file.

    Raises:
        ProjectError: it could not be written, or what is on disk is not what was written; the
            states before it are kept.
    """
    partial = folder / "state.partial"
    try:
        with partial.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        torch.load(partial, map_location="cpu", weights_only=True)
    # torch reports a full disk as either of the two, and a torn archive as others.
    except Exception as error:
        partial.unlink(missing_ok=True)
        free = shutil.disk_usage(folder).free
        raise ProjectError(
            f"the state after step {step} could not be saved in {folder} ({error}), where "
            f"{free / 1e9:.2f} GB are free. Make room; the same command then goes on from the one "
            "before it"
        ) from None
    path = folder / f"step-{step:08d}-{datasets.sha256(partial)[:16]}.pt"
    os.replace(partial, path)
    for old in list(states(folder))[KEPT_STATES:]:
        old.unlink()
    return path


def states(folder: Path) -> Iterator[Path]:
    """The states in a directory, the newest first, intact or not."""
    yield from sorted(folder.glob("step-*.pt"), reverse=True)


def newest_state(folder: Path) -> dict[str, Any] | None:
    """The newest intact state of a directory, on the CPU; None where there is none.

    A damaged one is passed over with a warning that names it.
    """
    for path in states(folder):
        if datasets.sha256(path)[:16] == path.stem.rpartition("-")[2]:
            return torch.load(path, map_location="cpu", weights_only=True)
        warnings.warn(f"{path} is damaged; going back to the one before it", stacklevel=2)
    return None


def trained(experiment: str, weights: Path | None = None) -> tuple[Process, nn.Module, Images]:
    """A trained model of the pipeline, ready to draw from.

    Args:
        experiment: its name in params.yaml.
        weights: their file; that of the pipeline where not given.

    Returns:
        The process; its network with the moving average of the weights, in evaluation mode, on the
        best device there is; and the data set that it was trained on.

    Raises:
        ProjectError: the experiment is not switched on, or data or weights are missing or damaged.
    """
    settings, data = params.load().experiment(experiment)
    images = datasets.load(data)
    process = processes.from_params(settings, *images.shape[1:])
    network = unet.from_params(settings, images.shape[0])
    published = params.root() / "results" / "weights" / f"{experiment}.safetensors"
    load_weights(published if weights is None else weights, network)
    device = PartialState().device
    network.to(device, memory_format=memory_format(settings.train))
    return process, Autocast(network, settings.train, device).eval(), images

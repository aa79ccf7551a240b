"""Checkpoints of the paper's published code."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from ihdm.project import ProjectError, root
from ihdm.settings import Experiment

__all__ = ["file", "load", "steps"]


def file(experiment: Experiment) -> Path:
    """The authors' checkpoint that an experiment names.

    Raises:
        ProjectError: the file is missing.
    """
    path = root() / (experiment.train.published or "")
    if not path.is_file():
        raise ProjectError(f"{path} does not exist: put the published checkpoint there")
    return path


def load(path: Path, network: nn.Module, ema: bool = True) -> nn.Module:
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
    saved = read(path)
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


def steps(path: Path) -> int:
    """The number of steps that a checkpoint of the published code was trained for.

    Raises:
        ProjectError: the file is missing, damaged, or of another layout.
    """
    try:
        return int(read(path)["step"])
    except (KeyError, TypeError):
        raise ProjectError(f"{path} is not laid out as a published checkpoint") from None


def read(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ProjectError(f"{path} does not exist") from None
    except Exception as error:
        raise ProjectError(f"{path} cannot be read ({type(error).__name__}: {error})") from None

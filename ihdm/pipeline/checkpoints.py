"""Resumable states of a training.

A state is a torch archive that is read without unpickling (`weights_only=True`). Its name carries
its step and its SHA-256, so that a damaged one is recognised and the one before it is used.
"""

import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ihdm.data import datasets
from ihdm.project import ProjectError, replacing

__all__ = ["keep_newest", "named_state", "newest_state", "save_state", "states"]

KEPT_STATES = 2


def save_state(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Writes a resumable state, reads it back, and removes all but the newest two.

    Args:
        folder: the directory of one training.
        step: number of steps done.
        state: tensors, numbers and containers of them.

    Returns:
        The file.

    Raises:
        ProjectError: it could not be written or read back; the states before it are kept.
    """
    written = folder / "state"
    try:
        with replacing(written) as temporary:
            with temporary.open("wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            torch.load(temporary, map_location="cpu", weights_only=True)
    # torch reports a full disk and a torn archive by several kinds of errors.
    except Exception as error:
        free = shutil.disk_usage(folder).free
        raise ProjectError(
            f"the state after step {step} could not be saved in {folder} ({error}), where "
            f"{free / 1e9:.2f} GB are free. Make room; the same command then goes on from the one "
            "before it"
        ) from None
    path = folder / f"step-{step:08d}-{datasets.sha256(written)[:16]}.pt"
    os.replace(written, path)
    for old in list(states(folder))[KEPT_STATES:]:
        old.unlink()
    return path


def states(folder: Path) -> Iterator[Path]:
    """The states in a directory, the newest first, intact or not."""
    yield from sorted(folder.glob("step-*.pt"), reverse=True)


def keep_newest(folder: Path) -> None:
    """Removes all states of a directory but the newest, and unfinished ones."""
    for path in (*list(states(folder))[1:], folder / "state", folder / "state.partial"):
        path.unlink(missing_ok=True)


def newest_state(folder: Path) -> dict[str, Any] | None:
    """The newest intact state of a directory, on the CPU; None if there is none.

    Damaged states are skipped, with a warning that names them.
    """
    for path in states(folder):
        if intact(path):
            return torch.load(path, map_location="cpu", weights_only=True)
        warnings.warn(f"{path} is damaged; going back to the one before it", stacklevel=2)
    return None


def named_state(path: Path) -> tuple[Path, dict[str, Any]]:
    """A state that a person names by its file, or by its directory for the newest one there.

    Args:
        path: of the file or the directory.

    Returns:
        The file and the state in it, on the CPU.

    Raises:
        ProjectError: there is none, or it is damaged.
    """
    file = next(states(path), path) if path.is_dir() else path
    if not file.is_file():
        raise ProjectError(f"{path} is no state of a training and has none: see `ls state/*/*.pt`")
    if not intact(file):
        raise ProjectError(f"{file} is damaged, or is no state of a training")
    return file, torch.load(file, map_location="cpu", weights_only=True)


def intact(path: Path) -> bool:
    """Whether the content of a state is that of which its name has the hash."""
    return datasets.sha256(path)[:16] == path.stem.rpartition("-")[2]

"""The project's folder, errors that users can fix, and atomic file writes."""

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["ProjectError", "exit_on_error", "replacing", "root"]


class ProjectError(Exception):
    """An error that the user can fix; its message says how."""


def root() -> Path:
    """The project's folder: the nearest one upwards that holds params.yaml and dvc.yaml.

    Raises:
        ProjectError: no folder above the working directory holds both.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "params.yaml").is_file() and (folder / "dvc.yaml").is_file():
            return folder
    raise ProjectError(f"no params.yaml and dvc.yaml in {here} or above it: run inside the project")


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Exits without a traceback on `ProjectError`, Ctrl-C or a full disk."""
    try:
        yield
    except ProjectError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        disk = f"the disk of {error.filename}" if error.filename else "the disk"
        sys.exit(f"error: {disk} is full: make room; the same command goes on")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


@contextmanager
def replacing(path: Path, shared: bool = False) -> Iterator[Path]:
    """Replaces a file as a whole: a reader sees the old content or the new, never a part.

    Args:
        path: the file; its folder is created.
        shared: whether several processes may write this file at once; each then has a temporary
            name of its own.

    Yields:
        The temporary path to write to. It is renamed at the end, or removed after an error.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = f".partial-{os.getpid()}" if shared else ".partial"
    temporary = path.with_name(path.name + suffix)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)

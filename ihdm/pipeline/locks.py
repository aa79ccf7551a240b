"""One process at a time in a folder under `state/`."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ihdm.project import ProjectError

__all__ = ["locked"]

SECONDS_FOR_LOCK = 15


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lets one process at a time work in a directory.

    On a network file system it is as good as the locks of that system, which some do not have.

    Raises:
        ProjectError: another process keeps the directory; the message names its pid and host.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock, owner = FileLock(folder / "lock"), folder / "pid"
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print(f"waiting for another process, which works in {folder}", flush=True)
            lock.acquire(timeout=SECONDS_FOR_LOCK)
    except Timeout:
        pid, _, host = owner.read_text().partition(" ")
        raise ProjectError(
            f"process {pid} on {host} is training in {folder}: wait for it, or stop it there with "
            f"`kill {pid}`"
        ) from None
    try:
        owner.write_text(f"{os.getpid()} {socket.gethostname()}")
        yield
    finally:
        lock.release()

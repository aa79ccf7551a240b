"""Long work as programs of their own: in one process or several, followed by notebooks, stopped.

    notebook --follow--> program --launch--> one process for each device

If a process exits or is killed, the processes it started save their state and stop. The processes
of one program find each other by torch.distributed, beneath accelerate; `torchrun` can start them
as well, also on several machines.
"""

import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import psutil
import torch
from accelerate import Accelerator
from accelerate.utils import GradientAccumulationPlugin, InitProcessGroupKwargs
from torch.distributed import DistError
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from ihdm import settings
from ihdm.project import ProjectError, root

__all__ = [
    "accelerator",
    "explained",
    "follow",
    "launch",
    "orphaned",
    "requests_to_stop",
    "wanted",
]

# To end a step and save a state in, of 2.4 GB for the paper's largest network.
SECONDS_TO_STOP = 300
SECONDS_BETWEEN_LOOKS = 1
# Longer than the first process measures and saves alone. Then NCCL's watchdog ends processes that
# wait for one that died; Python's signal handlers cannot.
SECONDS_WITHOUT_ANSWER = 600


def wanted() -> int:
    """How many processes this one should start: 1 if it is one of several already."""
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return 1 if several else settings.load().machine.processes


def accelerator() -> Accelerator:
    """The device of this process, and its rank among several.

    Raises:
        ProjectError: the processes that were started together do not work together, or have to
            share a GPU. Otherwise each process might do all of the work.
    """
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if torch.cuda.is_available() and here > torch.cuda.device_count():
        raise ProjectError(
            f"machine.processes: {here} processes need as many GPUs, of which there are "
            f"{torch.cuda.device_count()}"
        )
    # Given here, because ACCELERATE_* in the environment would decide otherwise.
    joined = Accelerator(
        cpu=not torch.accelerator.is_available(),
        mixed_precision="no",
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(seconds=SECONDS_WITHOUT_ANSWER))],
    )
    expected = int(os.environ.get("WORLD_SIZE", "1"))
    if joined.num_processes != expected:
        raise ProjectError(
            f"{expected} processes were started, and this one knows of {joined.num_processes}: "
            "several processes need CUDA devices or CPUs"
        )
    return joined


def launch(module: str, arguments: list[str], parent: int | None = None) -> None:
    """Runs a module in `machine.processes` processes of this machine and waits for them.

    `--parent` names the process that they stop with: this one, if no other is given.

    Args:
        module: its name.
        arguments: those of its command line.
        parent: a process above this one; when it ends, this one stops too.

    Raises:
        ProjectError: one of them failed; its own message is on standard error.
        KeyboardInterrupt: they were asked to stop, and did.
    """
    processes = wanted()
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=f"ihdm-{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        shutdown_timeout=SECONDS_TO_STOP,
    )
    try:
        above = ["--parent", str(os.getpid() if parent is None else parent)]
        elastic_launch(config, sys.executable)("-u", "-m", module, *arguments, *above)
    except SignalException:
        raise KeyboardInterrupt from None
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        told = "failed; its message is above" if code >= 0 else ended_by(-code)
        raise ProjectError(f"one of {processes} processes of {module} {told}") from None


def ended_by(number: int) -> str:
    return (
        f"was ended by signal {number} (9 is often a lack of memory); the same command goes on "
        "from where it was last saved"
    )


@contextmanager
def explained(name: str, images: int) -> Iterator[None]:
    """Turns a device's lack of memory, and the end of another process, into messages with remedies.

    Args:
        name: the experiment.
        images: how many were in one pass through the network.

    Raises:
        ProjectError: a device had not enough memory, or another process of this program ended.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ProjectError(
            f"the device has too little memory for {images} images at a time ({error}). Set "
            f"experiments.{name}.train.images_per_pass to {max(1, images // 2)}, or, to train, "
            "activation_checkpointing to true; the same command then goes on from the last save"
        ) from None
    except RuntimeError as error:
        # Gloo has no class of errors.
        if not isinstance(error, DistError) and "gloo/transport" not in str(error):
            raise
        raise ProjectError(
            f"another process of {name} ended or does not answer ({error}). Its own message says "
            "why; the same command goes on from the last save"
        ) from None


def orphaned(parent: int | None) -> bool:
    """Whether a process that was above this one, directly or not, has ended."""
    if parent is None:
        return False
    try:
        return parent not in (p.pid for p in psutil.Process().parents())
    except psutil.NoSuchProcess:
        # One of them ended during the walk; the next look decides.
        return False


@contextmanager
def requests_to_stop(parent: int | None) -> Iterator[Callable[[], bool]]:
    """Turns SIGINT, SIGTERM and the end of a process above this one into a question.

    Args:
        parent: the process above, directly or not.

    Yields:
        A function that says whether to stop.
    """
    received = []
    before = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }

    looked = time.monotonic()

    def asked() -> bool:
        # A walk through the table of processes takes longer than a step of a small network.
        nonlocal looked
        if received or time.monotonic() - looked < SECONDS_BETWEEN_LOOKS:
            return bool(received)
        looked = time.monotonic()
        return orphaned(parent)

    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def follow(module: str, arguments: list[str]) -> None:
    """Runs a module of this package in a process of its own and shows its log, for notebooks.

    `--parent` names this process; the other one stops when this one ends.

    Args:
        module: its name.
        arguments: those of its command line.

    Raises:
        ProjectError: it failed, with its message; or another program stopped it.
        KeyboardInterrupt: this process was asked to stop; the other one saves and stops too.
    """
    command = [sys.executable, "-u", "-m", module, *arguments, "--parent", str(os.getpid())]
    tail: deque[str] = deque(maxlen=200)
    with subprocess.Popen(
        command,
        cwd=root(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            for line in process.stdout or ():
                tail.append(line)
                print(line, end="", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            process.terminate()
            raise
    if process.returncode < 0:
        raise ProjectError(f"{module} {' '.join(arguments)} {ended_by(-process.returncode)}")
    if process.returncode == 128 + signal.SIGINT:
        raise ProjectError(f"{module} {' '.join(arguments)} was stopped; the same command goes on")
    if process.returncode:
        # The first one, since a program of several processes ends with an error of its own.
        *_, told = re.split(r"^error: ", "".join(tail), maxsplit=1, flags=re.MULTILINE)
        raise ProjectError(re.split(r"^error: ", told, flags=re.MULTILINE)[0].strip())

"""Kills the smoke pipeline at random moments: `python -m tests.kill_drill --drills 20`.

An undisturbed run gives the results to compare with and the time in which to kill. Each drill
starts from nothing and is killed once by SIGKILL: in turn `dvc` with what shares its process group,
which orphans the kernel and a training, or everything below it. It goes on by `dvc repro`, and has
to end with the same bytes: metrics, figures, executed notebooks, and `dvc.lock`, which names the
hashes of weights and samples.

It takes minutes for each drill and is no part of the default test run.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from tests.conftest import copy_sources, small_settings
from tests.test_notebooks import results_of


def started(project):
    return subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro"],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(project)},
        stdout=(project / "log").open("a"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def kill(process, everything):
    below = psutil.Process(process.pid).children(recursive=True) if everything else []
    os.killpg(process.pid, signal.SIGKILL)
    for child in below:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()


def drill(number, source, seconds, expected):
    """One drill.

    Returns:
        Whether it passed, and what happened.
    """
    project = source.with_name(f"drill-{number}")
    shutil.copytree(source, project)
    moment, everything = random.Random(number).uniform(0, seconds), number % 2 == 0
    process = started(project)
    time.sleep(moment)
    running = process.poll() is None
    if running:
        kill(process, everything)
    stages = (project / "log").read_text().count("Running stage")
    code = started(project).wait()
    found = results_of(project)
    differing = sorted(name for name in found | expected if found.get(name) != expected.get(name))
    passed = running and code == 0 and not differing
    what = "everything" if everything else "the process group of dvc"
    report = f"{what} killed after {moment:.0f} s, in stage {stages}: "
    if not running:
        report += "it had ended before"
    elif code:
        report += f"`dvc repro` failed; see {project / 'log'}"
    elif differing:
        report += f"{len(differing)} files differ, as {differing[0]}; see {project}"
    else:
        report += f"all {len(found)} files as undisturbed"
        shutil.rmtree(project)
    print(f"drill {number}: {'passed' if passed else 'FAILED'}; {report}", flush=True)
    return passed


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.kill_drill", description=__doc__)
    parser.add_argument("--drills", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2, help="drills at a time, of one thread each")
    arguments = parser.parse_args()
    source = Path(tempfile.mkdtemp(prefix="ihdm-drill-")) / "source"
    copy_sources(source, small_settings())
    whole = source.with_name("undisturbed")
    shutil.copytree(source, whole)
    began = time.monotonic()
    if started(whole).wait():
        sys.exit(f"error: the undisturbed run failed; see {whole / 'log'}")
    seconds = time.monotonic() - began
    print(f"undisturbed: {seconds:.0f} s", flush=True)
    expected = results_of(whole)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        passed = list(
            pool.map(lambda i: drill(i, source, seconds, expected), range(arguments.drills))
        )
    print(f"{sum(passed)} of {len(passed)} drills passed")
    sys.exit(0 if all(passed) else 1)


if __name__ == "__main__":
    main()

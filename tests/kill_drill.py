"""Kills the smoke pipeline at random moments: `python -m tests.kill_drill --drills 20`.

An undisturbed run gives the results to compare with and the time in which to kill. Each drill
starts from nothing and is killed by SIGKILL, once or `--kills` times: in turn `dvc` with what
shares its process group, which orphans the kernel and a training, or everything below it. It goes
on by `dvc repro`, and has to end with the same bytes: metrics, figures, executed notebooks, and
`dvc.lock`, which names the hashes of weights and samples.

It takes minutes for each drill and is no part of the default test run.
"""

import argparse
import os
import random
import re
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


def drill(number, source, kills, seconds, expected):
    """One drill.

    Returns:
        How often it was killed, and whether it ended as the undisturbed run.
    """
    project = source.with_name(f"drill-{number}")
    shutil.copytree(source, project)
    chance, killed = random.Random(number), []
    while len(killed) < kills:
        process = started(project)
        # So that a drill of several kills is on average at its end with the last.
        time.sleep(chance.uniform(0, 0.9 * seconds if kills == 1 else 2 * seconds / kills))
        if process.poll() is not None:
            break
        everything = (number + len(killed)) % 2 == 0
        kill(process, everything)
        running = re.findall("Running stage '(.+)'", (project / "log").read_text())
        killed.append(("all" if everything else "dvc", running[-1] if running else "the start"))
    code = started(project).wait()
    found = results_of(project)
    differing = sorted(name for name in found | expected if found.get(name) != expected.get(name))
    passed = bool(killed) and code == 0 and not differing
    if passed:
        shutil.rmtree(project)
    told = f"all {len(found)} files as undisturbed"
    if differing:
        told = f"{len(differing)} files differ, as {differing[0]}"
    if code:
        told = f"`dvc repro` failed; see {project / 'log'}"
    moments = ", ".join(f"{what} in {stage}" for what, stage in killed)
    print(f"drill {number}: {told}; killed: {moments or 'never'}", flush=True)
    return len(killed), passed


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.kill_drill", description=__doc__)
    parser.add_argument("--drills", type=int, default=20)
    parser.add_argument("--kills", type=int, default=1, help="in each drill")
    parser.add_argument("--jobs", type=int, default=2, help="drills at a time, of one thread each")
    arguments = parser.parse_args()
    source = Path(tempfile.mkdtemp(prefix="ihdm-drill-")) / "source"
    copy_sources(source, small_settings())
    # DVC asks for a repository.
    subprocess.run(["git", "init", "--quiet"], cwd=source, check=True)
    whole = source.with_name("undisturbed")
    shutil.copytree(source, whole)
    began = time.monotonic()
    if started(whole).wait():
        sys.exit(f"error: the undisturbed run failed; see {whole / 'log'}")
    seconds = time.monotonic() - began
    print(f"undisturbed: {seconds:.0f} s", flush=True)
    expected = results_of(whole)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        found = list(
            pool.map(
                lambda i: drill(i, source, arguments.kills, seconds, expected),
                range(arguments.drills),
            )
        )
    kills, passed = (sum(values) for values in zip(*found, strict=True))
    print(f"{passed} of {len(found)} drills with {kills} kills ended as the undisturbed run")
    sys.exit(0 if passed == len(found) else 1)


if __name__ == "__main__":
    main()

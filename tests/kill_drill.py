"""Kills the smoke pipeline at random moments: `python -m tests.kill_drill`.

An undisturbed run gives the results to compare with. There are two kinds of drill:

- `--drills`: in a finished project, one stage is run again from nothing (a training without its
  state) and killed at a random moment of it; the stages take turns.
- `--runs`: the whole pipeline runs from nothing and is killed five times at random moments.

The signal is SIGKILL, in turn to `dvc` with what shares its process group, which orphans the kernel
and a training, or to everything below it. After `make repro` every byte has to be as undisturbed:
metrics, figures, executed notebooks, and `dvc.lock`, which names the hashes of weights and samples.

It takes an hour and is no part of the default test run.
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
from tests.pipeline import results_of

KILLS_OF_A_RUN = 5


def started(project, *arguments):
    # As `make repro` does.
    mend = [sys.executable, "-m", "ihdm.pipeline.lockfile"]
    subprocess.run(mend, cwd=project, env=os.environ | {"PYTHONPATH": str(project)}, check=True)
    return subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", *arguments],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(project)},
        stdout=(project / "log").open("a"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def stages_of(project):
    """The stages that have run, in order."""
    return re.findall("Running stage '(.+)'", (project / "log").read_text())


def killed(process, chance, seconds):
    """Kills a run within some seconds.

    Returns:
        What was killed; None where it ended before.
    """
    everything = chance.random() < 0.5
    time.sleep(chance.uniform(0, seconds))
    if process.poll() is not None:
        return None
    below = psutil.Process(process.pid).children(recursive=True) if everything else []
    os.killpg(process.pid, signal.SIGKILL)
    for child in below:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()
    return "all" if everything else "dvc"


def one_stage(project, stage, chance):
    """Runs a stage of a finished project again and kills it."""
    name = stage.partition("@")[2]
    for folder in (project / "state").glob(f"{name}-{'?' * 12}") if "train@" in stage else ():
        shutil.rmtree(folder)
    (project / "log").write_text("")
    seconds = 16
    while True:
        process = started(project, "--force", "--single-item", stage)
        while not stages_of(project) and process.poll() is None:
            time.sleep(0.1)
        what = killed(process, chance, seconds)
        if what:
            return [f"{what} in {stage}"]
        # A stage shorter than that is run again.
        seconds /= 2


def whole_run(project, seconds, chance):
    """Runs the pipeline from nothing and kills it time and again."""
    moments = []
    while len(moments) < KILLS_OF_A_RUN:
        what = killed(started(project), chance, 2 * seconds / KILLS_OF_A_RUN)
        if what is None:
            break
        moments.append(f"{what} in {(stages_of(project) or ['no stage'])[-1]}")
    return moments


def ends_as(expected, project, moments):
    """Whether a killed pipeline ends as the undisturbed one."""
    code = started(project).wait()
    found = results_of(project)
    differing = sorted(name for name in found | expected if found.get(name) != expected.get(name))
    told = f"all {len(found)} files as undisturbed"
    if differing:
        told = f"{len(differing)} files differ, as {differing[0]}"
    if code:
        told = f"`dvc repro` failed; see {project / 'log'}"
    print(f"{project.name}: {told}; killed: {', '.join(moments) or 'never'}", flush=True)
    passed = bool(moments) and code == 0 and not differing
    if passed:
        shutil.rmtree(project)
    return passed


def drill(number, finished, expected):
    project = finished.with_name(f"drill-{number}")
    shutil.copytree(finished, project, symlinks=True)
    stages = stages_of(project)
    moments = one_stage(project, stages[number % len(stages)], random.Random(number))
    return ends_as(expected, project, moments)


def run(number, source, seconds, expected):
    project = source.with_name(f"run-{number}")
    shutil.copytree(source, project)
    return ends_as(expected, project, whole_run(project, seconds, random.Random(number)))


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.kill_drill", description=__doc__)
    parser.add_argument("--drills", type=int, default=28, help="of one stage each")
    parser.add_argument("--runs", type=int, default=4, help="of the whole pipeline")
    parser.add_argument("--jobs", type=int, default=2, help="at a time, of one thread each")
    parser.add_argument("--finished", type=Path, help="an undisturbed run of an earlier call")
    arguments = parser.parse_args()
    whole = arguments.finished
    if whole is None:
        source = Path(tempfile.mkdtemp(prefix="ihdm-drill-")) / "source"
        copy_sources(source, small_settings())
        # DVC asks for a repository.
        subprocess.run(["git", "init", "--quiet"], cwd=source, check=True)
        whole = source.with_name("undisturbed")
        shutil.copytree(source, whole)
        began = time.monotonic()
        if started(whole).wait():
            sys.exit(f"error: the undisturbed run failed; see {whole / 'log'}")
        (whole / "seconds").write_text(f"{time.monotonic() - began:.0f}")
    seconds = float((whole / "seconds").read_text())
    print(f"{whole}: {seconds:.0f} s undisturbed", flush=True)
    expected = results_of(whole)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        drills = pool.map(lambda i: drill(i, whole, expected), range(arguments.drills))
        source = whole.with_name("source")
        runs = pool.map(lambda i: run(i, source, seconds, expected), range(arguments.runs))
        passed = [*drills, *runs]
    print(f"{sum(passed)} of {len(passed)} ended as the undisturbed run")
    sys.exit(0 if all(passed) else 1)


if __name__ == "__main__":
    main()

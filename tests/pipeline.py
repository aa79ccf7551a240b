"""Runs of the whole pipeline of a smoke project, with real DVC, papermill and Jupyter."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
TRACING = Path(__file__).parent / "tracing"
EXPERIMENTS = (
    *("mnist", "mnist_ddpm", "mnist_blurring"),
    *("mnist_sigma0", "mnist_published", "mnist_colour"),
)
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
# The playground is for hands; it runs in the tests, and no stage makes anything of it.
STAGED = [path for path in NOTEBOOKS if path.stem != "17-playground"]
FILTER = f'"{sys.executable}" -m nbstripout --keep-id --extra-keys "metadata.language_info"'
DRIVER = f'"{Path(sys.executable).with_name("git-nbdiffdriver")}" diff --use-filter'


def shell(*command, check=True, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def dvc(*arguments, **options):
    return shell(sys.executable, "-m", "dvc", *arguments, **options)


def ran(output):
    return re.findall(r"Running stage '([^']+)'", output)


def results_of(project):
    """Hashes of all results and the page, and of the lock file, which names those of the data."""
    made = [path for name in ("results", "site") for path in (project / name).rglob("*")]
    return {
        str(path.relative_to(project)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in [project / "dvc.lock", *made]
        if path.is_file()
    }


def run_pipeline(project, source):
    """Runs the whole pipeline of a copy of the source, which is then a git repository."""
    shutil.copytree(source, project)
    shell("git", "init", "--quiet", cwd=project)
    shell("git", "config", "filter.nbstripout.clean", FILTER, cwd=project)
    shell("git", "config", "diff.jupyternotebook.command", DRIVER, cwd=project)
    tracing = {"PYTHONPATH": str(TRACING), "IHDM_TRACE": str(project.parent / "trace")}
    stages = ran(dvc("repro", cwd=project, env=os.environ | tracing))
    name = ["-c", "user.name=a", "-c", "user.email=a@b"]
    shell("git", "add", "--all", cwd=project)
    shell("git", *name, "commit", "--quiet", "-m", "run", cwd=project)
    assert stages[0] == "check"
    assert set(stages) == {
        "check",
        "data",
        "strip",
        "code",
        "digit-features",
        "controls",
        "page",
        *(path.stem[3:] for path in STAGED if path.stem[3:] not in ("training", "samples")),
        *(f"{stage}@{experiment}" for stage in ("train", "samples") for experiment in EXPERIMENTS),
    }

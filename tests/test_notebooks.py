"""The notebooks as files, and the pipeline that runs them, with real DVC, papermill and Jupyter."""

import copy
import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image
from ruamel.yaml import YAML

from ihdm.results import drawn
from ihdm.settings import load
from tests.conftest import REPOSITORY, make_small, plain, use_published, write_settings
from tests.pipeline import (
    FILTER,
    NOTEBOOKS,
    dvc,
    ran,
    results_of,
    shell,
)
from tests.test_training import change, gone, wait_for_checkpoint


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs_as_the_filter_writes_it(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in cells) == 1
    filtered = subprocess.run(FILTER, shell=True, input=path.read_bytes(), capture_output=True)
    assert filtered.stdout == path.read_bytes()


def test_the_second_run_does_nothing_and_dvc_shows_what_there_is(finished):
    assert ran(dvc("repro")) == []
    assert "up to date" in dvc("status")
    assert "train@mnist" in dvc("dag")
    table = dvc("metrics", "show")
    assert "held_out_loss" in table
    assert "kid.BDM" in table
    assert "fid.DDPM" in table
    assert "index.html" in dvc("plots", "show")
    page = (finished / "dvc_plots" / "index.html").read_text()
    assert "held_out" in page


def test_what_needs_no_training_holds_in_the_smoke_run(finished):
    metrics = finished / "results" / "metrics"
    walked = json.loads((metrics / "04-blurring-diffusion.json").read_text())["walk"]
    assert max(max(errors.values()) for errors in walked.values()) < 1e-5
    asymptotics = json.loads((metrics / "05-asymptotics.json").read_text())
    assert all(abs(rate + 1) < 0.05 for rate in asymptotics["rate"].values())


def test_results_carry_no_path_and_no_time_of_this_machine(finished):
    for path in (finished / "results" / "notebooks").glob("*.ipynb"):
        text = path.read_text()
        assert str(finished.parent) not in text
        assert str(Path.home()) not in text
        assert "papermill" not in json.loads(text)["metadata"]
        assert not re.search(r"20\d\d-\d\d-\d\dT", text)


def test_a_second_run_of_a_stage_gives_the_same_bytes(finished):
    # The tables of all notebooks are compared in test_lessons.
    before = results_of(finished)
    for folder in (finished / "state").glob("mnist_blurring-*"):
        shutil.rmtree(folder)
    again = ["train@mnist_blurring", "samples@mnist_blurring", "fid-tables", "controls", "page"]
    again += ["heat-equation", "psd-duality"]
    output = dvc("repro", "--force", "--single-item", *again)
    assert "training from the beginning" in output
    assert ran(output) == again
    assert results_of(finished) == before
    assert {name.split("/")[-1] for name in before} >= {"uncurated.png", "13-fid-tables.json"}


def test_another_delta_runs_only_what_depends_on_it(finished, smoke_settings):
    change(finished, smoke_settings, "experiments.mnist.sampling.delta", 0.02)
    showing = ["asymptotics", "blurring-diffusion", "fid-tables", "interpolation", "likelihood"]
    showing += ["nearest-neighbours", "noise-scale", "prior-overlap", "psd-duality"]
    showing += ["claims", "controls", "page"]
    compared = sorted([*showing, "check", "samples@mnist"])
    assert sorted(ran(dvc("repro"))) == compared
    changed = re.findall(r"experiments\.\S+|notebooks\.\S+", dvc("params", "diff"))
    assert changed == ["experiments.mnist.sampling.delta"]
    moved = set(re.findall(r"results/metrics/\d\d-(\S+)\.json", dvc("metrics", "diff")))
    assert moved >= {"fid-tables", "likelihood", "prior-overlap"}
    assert moved <= {*showing, "samples-mnist"}
    dvc("plots", "diff")
    shown = {path.name for path in (finished / "dvc_plots" / "static").iterdir()}
    name = "results_figures_03-samples-mnist_uncurated.png"
    assert shown >= {f"HEAD_{name}", f"workspace_{name}"}


def test_another_learning_rate_trains_afresh_and_going_back_trains_nothing(
    finished, smoke_settings
):
    weights = (finished / "results/weights/mnist.safetensors").read_bytes()
    change(finished, smoke_settings, "experiments.mnist.train.learning_rate", 0.01)
    output = dvc("repro", "train@mnist")
    assert "training from the beginning" in output
    assert (finished / "results/weights/mnist.safetensors").read_bytes() != weights
    write_settings(finished, smoke_settings)
    assert "training from the beginning" not in dvc("repro", "train@mnist")
    assert (finished / "results/weights/mnist.safetensors").read_bytes() == weights


def test_another_word_in_a_notebook_trains_nothing(finished):
    notebook = finished / "notebooks" / "02-training.ipynb"
    notebook.write_text(notebook.read_text().replace("## The loss", "## A loss"))
    output = dvc("repro", "train@mnist")
    assert ran(output) == ["strip", "code", "train@mnist"]
    assert "already trained" in output


def test_bad_settings_fail_before_any_work(finished, smoke_settings):
    change(finished, smoke_settings, "experiments.mnist.process.K", 0)
    output = dvc("repro", check=False)
    assert ran(output) == ["check"]
    assert "experiments.mnist.process.K" in output


def by_hand(path):
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, resources={"metadata": {"path": str(path.parent)}})
    client.execute()
    assert any(cell.get("outputs") for cell in notebook.cells)
    nbformat.write(notebook, path)


def test_a_notebook_run_by_hand_leaves_git_and_dvc_alone(finished):
    for name in ("01-heat-equation", "03-samples", "17-playground"):
        by_hand(finished / "notebooks" / f"{name}.ipynb")
    # git status goes by the size of a file alone until `git add` has looked inside.
    assert "Traceback" not in shell("git", "status")
    assert shell("git", "diff").strip() == ""
    shell("git", "add", "--all")
    assert shell("git", "status", "--porcelain").strip() == ""
    assert ran(dvc("repro")) == ["strip"]
    assert ran(dvc("repro")) == []

    path = finished / "notebooks" / "03-samples.ipynb"
    path.write_text(path.read_text().replace("# 3. Samples", "# 3. Some samples"))
    difference = shell("git", "diff")
    assert "Some samples" in difference
    assert "output" not in difference
    assert "Traceback" not in difference


def examples():
    """The committed params.yaml with the entries of each example of the README."""
    pages = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
    readme = "\n".join(path.read_text() for path in pages)
    for entries in re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL):
        # Under the headings of the committed file, so that its marked blocks are known.
        text = (REPOSITORY / "params.yaml").read_text()
        for heading, lines in re.findall(r"^(\w+):\n((?:  .*\n)+)", entries, re.MULTILINE):
            assert heading in ("run", "data", "experiments")
            text = re.sub(rf"(?ms)^({heading}:\n.*?)(?=^\w|\Z)", lambda m, x=lines: m[1] + x, text)
        yield text


def test_every_example_of_the_readme_is_valid(project):
    switched_on = []
    for text in examples():
        (project / "params.yaml").write_text(text)
        switched_on += load().run.items()
    assert {("mine", "my_pictures"), ("cifar10", "cifar10")} <= set(switched_on)
    assert ("cifar10_published", "cifar10") in switched_on


def test_the_folder_of_pictures_in_the_readme_needs_its_entries_alone(finished, smoke_settings):
    (text,) = (text for text in examples() if "my_pictures" in text)
    told = plain(YAML(typ="safe", pure=True).load(text))
    before = load(REPOSITORY / "params.yaml")
    ((name, data),) = told["run"].items() - before.run.items()
    (finished / "params.yaml").write_text(text)
    assert load().experiment(name)[1] == data

    settings = copy.deepcopy(smoke_settings)
    settings["run"][name] = data
    settings["data"][data] = told["data"][data] | {"splits": {"train": 6, "tune": 2, "report": 2}}
    settings["experiments"][name] = told["experiments"][name]
    make_small(settings["experiments"][name])
    write_settings(finished, settings)
    folder = finished / told["data"][data]["path"]
    folder.mkdir(parents=True)
    for i in range(10):
        noise = np.random.default_rng(i).integers(0, 256, (80, 100, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"{i}.png")
    assert f"samples@{name}" in ran(dvc("repro", f"samples@{name}"))
    assert (finished / f"results/figures/03-samples-{name}/uncurated.png").is_file()
    assert drawn(name)[0].shape[1:] == (3, 64, 64)


def test_a_published_checkpoint_goes_through_the_pipeline(finished, smoke_settings):
    use_published(finished, smoke_settings)
    output = dvc("repro", "samples@photos")
    assert {"train@photos", "samples@photos"} <= set(ran(output))
    assert "training from" not in output
    assert drawn("photos")[0].shape == (8, 3, 16, 16)
    executed = (finished / "results/notebooks/02-training-photos.ipynb").read_text()
    assert "published, trained for" in executed


def test_a_grid_of_delta_runs_as_queued_experiments(finished):
    # It works with the filter too, which strips every notebook several times.
    shell("git", "config", "--unset", "filter.nbstripout.clean")
    grid = "experiments.mnist.sampling.delta=0.05,0.1"
    dvc("exp", "run", "--queue", "--set-param", grid, "samples@mnist")
    dvc("queue", "start", "--jobs", "2")
    for _ in range(120):
        status = dvc("queue", "status")
        if not re.search("Queued|Running", status):
            break
        time.sleep(1)
    assert status.count("Success") == 2
    names = re.findall(r"^\S+ +(\S+) .*Success", status, flags=re.MULTILINE)
    for name in names:
        assert sorted(ran(dvc("queue", "logs", name))) == [
            "check",
            "code",
            "samples@mnist",
            "strip",
        ]
    table = dvc("exp", "show", "--csv", "--only-changed")
    rows = {row["Experiment"]: row for row in csv.DictReader(io.StringIO(table))}
    contrast = "results/metrics/03-samples-mnist.json:contrast.samples"
    found = sorted(
        (float(rows[name][grid.partition("=")[0]]), float(rows[name][contrast])) for name in names
    )
    assert [delta for delta, _ in found] == [0.05, 0.1]
    # More noise of sampling leaves more contrast.
    assert found[0][1] < found[1][1]


def interrupted_training(project, settings, number):
    """Sends a signal to `dvc repro` and its children once training has saved its state.

    Returns:
        The pid of the training program, which the signal does not reach.
    """
    settings = change(project, settings, "experiments.mnist.train.steps", 300)
    change(project, settings, "experiments.mnist.train.log_every", 100)
    shutil.rmtree(project / "state")
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", "train@mnist"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_for_checkpoint(project)
    pid = int(next((project / "state").glob("*/pid")).read_text().split()[0])
    os.killpg(process.pid, number)
    assert process.wait(60) != 0
    return pid


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill"])
def test_interrupted_training_goes_on_from_its_checkpoint(finished, smoke_settings, number):
    pid = interrupted_training(finished, smoke_settings, number)
    # After a kill, the orphan may still be saving its state: the run waits for it.
    assert "going on from step" in dvc("repro", "train@mnist")
    assert gone(pid)

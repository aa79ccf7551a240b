"""The workflows, the container and Binder call targets that exist; the linter finds wrong keys."""

import re
import subprocess
import sys

import pytest
from ruamel.yaml import YAML

from tests.pipeline import REPOSITORY

WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))
CALLERS = [
    *WORKFLOWS,
    REPOSITORY / ".devcontainer" / "devcontainer.json",
    REPOSITORY / ".binder" / "postBuild",
]


def read(path):
    return YAML(typ="safe", pure=True).load(path)


def called(text):
    return set(re.findall(r"(?m)(?:^|[ \"])make ([a-z]+)(?: [A-Z]+=| *$|\")", text))


@pytest.mark.parametrize("path", CALLERS, ids=lambda path: path.name)
def test_targets_that_are_called_exist(path):
    (phony,) = re.findall(r"(?m)^\.PHONY: (.+)$", (REPOSITORY / "Makefile").read_text())
    targets = called(path.read_text())
    assert targets
    assert targets <= set(phony.split())


def test_the_workflow_of_tests_runs_what_the_gate_runs():
    gate = called((REPOSITORY / ".ci" / "run").read_text())
    steps = read(REPOSITORY / ".github/workflows/tests.yml")["jobs"]["tests"]["steps"]
    assert called("\n".join(step.get("run", "") for step in steps)) == gate | {"setup"}


@pytest.mark.parametrize("there", [(), ("chromium",), ("chromedriver",)])
def test_a_part_of_the_browser_is_not_enough(tmp_path, there):
    steps = read(REPOSITORY / ".github/workflows/tests.yml")["jobs"]["tests"]["steps"]
    (step,) = (step["run"] for step in steps if "browser" in step.get("name", ""))

    def status(names):
        for name in names:
            (tmp_path / name).write_text("#!/bin/sh\n")
            (tmp_path / name).chmod(0o755)
        command = ["/bin/bash", "-e", "-c", step]  # as GitHub runs a step
        return subprocess.run(command, env={"PATH": str(tmp_path)}, check=False).returncode

    assert status(there) != 0
    assert status(("chromium", "chromedriver")) == 0


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_only_the_deployment_of_the_page_may_write(path):
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    writing = {name for name, job in workflow["jobs"].items() if "permissions" in job}
    assert writing == ({"deploy"} if path.stem == "page" else set())


def check(path):
    """The exit status of make's check of a workflow."""
    makefile = (REPOSITORY / "Makefile").read_text()
    pattern = r"(?m)^\t\$\(BIN\)/check-jsonschema (.*vendor\.github-workflows) "
    (schema,) = re.findall(pattern, makefile)
    command = [sys.executable, "-m", "check_jsonschema", *schema.split(), path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_a_wrong_key_in_a_workflow_is_found(tmp_path):
    text = WORKFLOWS[0].read_text()
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(text)
    assert check(wrong)[0] == 0
    wrong.write_text(text.replace("timeout-minutes:", "timeout_minutes:"))
    status, output = check(wrong)
    assert status == 1
    assert "'timeout_minutes' was unexpected" in output

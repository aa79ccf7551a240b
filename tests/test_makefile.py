"""The Makefile, also as the make of macOS (3.81) takes it, with stand-ins for programs.

GNU make 3.81 itself was not to be had, so what it lacks is looked for in the text.
"""

import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.pipeline import REPOSITORY

MAKEFILE = (REPOSITORY / "Makefile").read_text()
TOOLS = ("check-jsonschema", "dvc", "jupyter", "mypy", "python", "ruff")
RUN = {
    "play": ["jupyter lab notebooks/17-playground.ipynb"],
    "quick": [
        "python -m ihdm.pipeline.lockfile",
        "dvc repro data",
        "python -m ihdm.pipeline.adopting",
        "dvc repro",
    ],
    "retrain": [
        "python -m ihdm.pipeline.lockfile",
        "dvc repro data",
        "python -m ihdm.pipeline.adopting drop",
        "dvc repro --no-run-cache",
    ],
    "test": ["python -m pytest"],
    "lab": ["jupyter lab --notebook-dir=notebooks"],
    "share": ["python -m ihdm.pipeline.sharing"],
}
# Made after 3.81, or read in another way by it.
NEWER = {
    "!=": r"^\w+\s*!=",
    "::= and :::=": r":::?=",
    ".ONESHELL": r"\.ONESHELL",
    ".SHELLFLAGS": r"\.SHELLFLAGS",
    ".EXTRA_PREREQS, .WAIT, .NOTINTERMEDIATE": r"\.(EXTRA_PREREQS|WAIT|NOTINTERMEDIATE)",
    "new functions": r"\$[({](file|guile|let|intcmp)\b",
    "undefine and private": r"^\s*(undefine|private)\b",
    "&:": r"&:",
    "load": r"^-?load\b",
    "define with an operator": r"^\s*define\s+\S+\s*[:?+]?=",
}


@pytest.fixture
def folder(tmp_path):
    """A set-up project, whose programs tell their calls; the wrong ones come first in PATH."""
    made = tmp_path / "my project"
    (made / ".venv/bin").mkdir(parents=True)
    for name in ("pyproject.toml", "requirements.txt"):
        shutil.copyfile(REPOSITORY / name, made / name)
    (made / "Makefile").write_text(MAKEFILE)
    (tmp_path / "others").mkdir()
    for tool in TOOLS:
        write(made / ".venv/bin" / tool, f'echo "{tool} $@" >>calls; echo "${{PATH%%:*}}" >>first')
        write(tmp_path / "others" / tool, "exit 9")
    (made / ".venv/ready").touch()
    return made


def write(path, body):
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def make(folder, *arguments):
    # A whole PATH, but with the wrong programs in front.
    environment = os.environ | {"PATH": f"{folder.parent / 'others'}:{os.environ['PATH']}"}
    return subprocess.run(
        ["make", f"PYTHON={sys.executable}", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("exported", [True, False], ids=["4", "as in 3.81"])
@pytest.mark.parametrize("target", RUN)
def test_recipes_find_the_programs_of_the_environment(folder, target, exported):
    if not exported:
        # 3.81 exports PATH to the programs that it starts, but does not search it for them.
        text = re.sub(r"^export PATH.*\n", "", MAKEFILE, flags=re.M)
        assert text != MAKEFILE
        (folder / "Makefile").write_text(text)
        os.utime(folder / ".venv/ready")
    done = make(folder, target)
    assert done.returncode == 0, done.stderr
    assert [call.strip() for call in (folder / "calls").read_text().splitlines()] == RUN[target]
    if exported:
        # So that the stages of DVC find them by name.
        assert set((folder / "first").read_text().splitlines()) == {str(folder / ".venv/bin")}


def test_no_recipe_names_a_program_of_the_environment_without_its_path():
    joined = MAKEFILE.replace("\\\n", " ")
    lines = [line.strip("\t @") for line in joined.splitlines() if line.startswith("\t")]
    recipes = [re.sub("'[^']*'", "", line).replace("$(BIN)", ".venv/bin") for line in lines]
    assert sum(line.startswith(".venv/bin/dvc ") for line in recipes) >= 8
    programs = rf"(?:^|[;&|(]\s*)({'|'.join([*TOOLS, 'pytest', 'pip', 'nbstripout'])})\b"
    assert [line for line in recipes if re.search(programs, line)] == []
    # Those without a character that makes a shell read them, by their first words.
    simple = {line.split()[0] for line in recipes if not re.search(r"[;&|<>(){}\"`#*$\\]", line)}
    assert {word for word in simple if "/" not in word} <= {"echo", "rm", "touch"}


def test_the_makefile_has_nothing_that_is_newer_than_3_81():
    text = re.sub(r"^#.*\n", "", MAKEFILE, flags=re.M)
    for name, pattern in NEWER.items():
        assert not re.search(pattern, text, re.M), name


@pytest.mark.parametrize(("system", "machine"), [("Darwin", "x86_64"), ("Darwin", "arm64")])
def test_intel_macs_are_refused_before_anything_is_installed(folder, system, machine):
    stub = folder.parent / "elsewhere"
    stub.write_text(
        f"#!{sys.executable}\nimport platform, sys\n"
        f"platform.system, platform.machine = lambda: {system!r}, lambda: {machine!r}\n"
        "if sys.argv[1] == '-c':\n    exec(sys.argv[2])\nelse:\n    sys.exit('went on')\n"
    )
    stub.chmod(0o755)
    (folder / ".venv/ready").unlink()
    done = make(folder, f"PYTHON={stub}", "setup")
    assert done.returncode
    refused = "error: PyTorch ended its builds for Intel Macs" in done.stderr
    assert refused == (machine == "x86_64")
    assert ("went on" in done.stderr) != refused

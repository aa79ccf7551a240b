"""The code that each stage of the pipeline reaches: `python -m ihdm.pipeline.stage_code`.

It writes `build/code/STAGE.txt` for every stage, and the stage depends on this file:

    ihdm.heat 3b0c7a9d1e24       a module, and a hash of its source without comments and docstrings

A stage reaches the module that its command runs; for a notebook, also the modules that its cells
import; and from there every module that is imported anywhere in a source, or whose name stands in
it as a string, which is how one program starts another. Modules in `EXEMPT` are left out: values of
params.yaml enter a stage through its `params`, and a progress bar changes no result.
"""

import ast
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
from ruamel.yaml import YAML

from ihdm.pipeline.fingerprint import syntax
from ihdm.project import ProjectError, exit_on_error, replacing, root

__all__ = ["EXEMPT", "reached", "stages", "write"]

EXEMPT = {"settings", "project", "progress"}


def sources(project: Path) -> dict[str, Path]:
    """Every module of the package by its name; a package stands for its `__init__`."""
    paths = sorted((project / "ihdm").rglob("*.py"))
    return {
        ".".join(path.relative_to(project).with_suffix("").parts).removesuffix(".__init__"): path
        for path in paths
    }


def named(source: str, modules: dict[str, Path]) -> Iterator[str]:
    """The modules that a source imports, or names in a string; not if for type checking alone."""
    waiting: list[ast.AST] = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            own = node.module or ""
            names = [own, *(f"{own}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = [node.value]
        else:
            continue
        yield from (name for name in names if name in modules)


def reached(source: str, modules: dict[str, Path]) -> list[str]:
    """The modules that a source reaches, directly or not, sorted; without `EXEMPT`.

    Args:
        source: Python code.
        modules: the modules of the package, from `sources`.
    """
    seen: set[str] = set()
    waiting = set(named(source, modules))
    while waiting:
        module = waiting.pop()
        if module in seen or EXEMPT & set(module.split(".")[1:2]):
            continue
        seen.add(module)
        waiting |= set(named(modules[module].read_text(), modules))
    return sorted(seen)


def stages(project: Path, modules: dict[str, Path]) -> dict[str, list[str]]:
    """The modules that each stage reaches.

    Args:
        project: the project's folder, with notebooks that were stripped by `stages strip`.
        modules: the modules of the package, from `sources`.

    Raises:
        ProjectError: a command in dvc.yaml runs no module of the package.
    """
    described = YAML(typ="safe", pure=True).load(project / "dvc.yaml")["stages"]
    by_stage = {}
    for stage, entry in described.items():
        command = entry.get("do", entry)["cmd"]
        program = re.match(r"python -m (ihdm[\w.]+)(?: run (\S+))?", command)
        if program is None or program[1] not in modules:
            raise ProjectError(f"dvc.yaml: the stage '{stage}' runs no module of ihdm: {command}")
        source = f"import {program[1]}\n"
        if program[2]:
            path = project / "build" / "notebooks" / f"{program[2]}.ipynb"
            cells = nbformat.read(path, as_version=4).cells
            source += "\n".join(cell.source for cell in cells if cell.cell_type == "code")
        by_stage[stage] = reached(source, modules)
    return by_stage


def write(project: Path) -> None:
    """Writes `build/code/`, and removes files of stages that are no more.

    Args:
        project: the project's folder.

    Raises:
        ProjectError: see `stages`.
    """
    modules = sources(project)
    hashes = {
        name: hashlib.sha256(syntax(path.read_text()).encode()).hexdigest()[:12]
        for name, path in modules.items()
    }
    folder = project / "build" / "code"
    listed = stages(project, modules)
    for stage, names in listed.items():
        with replacing(folder / f"{stage}.txt") as temporary:
            temporary.write_text("".join(f"{name} {hashes[name]}\n" for name in names))
    for path in folder.glob("*.txt"):
        if path.stem not in listed:
            path.unlink()


if __name__ == "__main__":
    with exit_on_error():
        write(root())

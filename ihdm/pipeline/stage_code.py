"""The code that each stage of the pipeline reaches: `python -m ihdm.pipeline.stage_code`.

It writes a file for every notebook and program, and the stage that runs it depends on this file:

    build/code/03-samples.txt           of a notebook
    build/code/data.prepare.txt         of a program, by its module

    ihdm.heat 3b0c7a9d1e24              a module, and a hash of its source without comments,
                                        docstrings and layout

A stage reaches the module that its command runs; for a notebook, also the modules that its cells
import; and from there every module that is imported anywhere in a source, or whose name stands in
it as a string, which is how one program starts another. Modules in `EXEMPT` are left out: values of
params.yaml enter a stage through its `params`, and a progress bar changes no result.
"""

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path

import nbformat

from ihdm.pipeline.fingerprint import syntax
from ihdm.project import exit_on_error, replacing, root

__all__ = ["EXEMPT", "entries", "named", "reached", "sources", "write"]

EXEMPT = {"settings", "project", "progress"}


def sources(project: Path) -> dict[str, Path]:
    """Every module of the package by its name; a package stands for its `__init__`."""
    paths = sorted((project / "ihdm").rglob("*.py"))
    return {
        ".".join(path.relative_to(project).with_suffix("").parts).removesuffix(".__init__"): path
        for path in paths
    }


def named(source: str, modules: dict[str, Path]) -> Iterator[str]:
    """The modules that a source imports or names in a string, type checking aside."""
    waiting: list[ast.AST] = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
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
        for name in names:
            # With a module, the packages that hold it are imported.
            parts = name.split(".")
            holders = (".".join(parts[:end]) for end in range(1, len(parts)))
            if name in modules:
                yield from (name, *(holder for holder in holders if holder in modules))


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


def entries(project: Path, modules: dict[str, Path]) -> dict[str, str]:
    """Everything that a stage can run: its name -> a source that stands for it.

    Args:
        project: the project's folder, with notebooks that were stripped by `stages strip`.
        modules: the modules of the package, from `sources`.

    Returns:
        A notebook by its name without ending, with the code that runs it; a program by the name of
        its module without `ihdm.`.
    """
    runs = {
        name.removeprefix("ihdm."): f"import {name}"
        for name, path in modules.items()
        if 'if __name__ == "__main__":' in path.read_text().splitlines()
    }
    for path in sorted((project / "build" / "notebooks").glob("*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        code = [cell.source for cell in cells if cell.cell_type == "code"]
        runs[path.stem] = "\n".join(["import ihdm.pipeline.stages", *code])
    return runs


def write(project: Path) -> None:
    """Writes `build/code/`; DVC empties it first.

    Args:
        project: the project's folder, with notebooks that were stripped by `stages strip`.
    """
    modules = sources(project)
    hashes = {
        name: hashlib.sha256(syntax(path.read_text()).encode()).hexdigest()[:12]
        for name, path in modules.items()
    }
    for entry, source in entries(project, modules).items():
        lines = [f"{name} {hashes[name]}\n" for name in reached(source, modules)]
        with replacing(project / "build" / "code" / f"{entry}.txt") as temporary:
            temporary.write_text("".join(lines))


if __name__ == "__main__":
    with exit_on_error():
        write(root())

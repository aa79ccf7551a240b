"""Runs the notebooks as stages of the pipeline.

`python -m ihdm.pipeline.stages strip` copies `notebooks/` to `build/notebooks/` without outputs, by
the same filter that keeps outputs out of git. The stages depend on these copies, so that saving a
notebook in JupyterLab runs nothing again.

`python -m ihdm.pipeline.stages run NAME [--experiment E]` executes a copy by papermill and writes
the executed notebook to `results/notebooks/`, without times and paths of this machine.
"""

import argparse
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import papermill
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from ihdm import settings
from ihdm.project import ProjectError, exit_on_error, replacing, root

__all__ = ["run", "strip"]

# The Makefile gives git the same filter.
STRIP = ["-m", "nbstripout", "--keep-id", "--extra-keys", "metadata.language_info"]


def strip(project: Path) -> None:
    """Writes `build/notebooks/`: every notebook as git would store it.

    Args:
        project: the project's folder.
    """
    target = project / "build" / "notebooks"
    target.mkdir(parents=True, exist_ok=True)

    def copy(path: Path) -> None:
        filtered = subprocess.run(
            [sys.executable, *STRIP], input=path.read_bytes(), capture_output=True, check=False
        )
        if filtered.returncode:
            raise ProjectError(f"{path} is not a notebook: {filtered.stderr.decode().strip()}")
        (target / path.name).write_bytes(filtered.stdout)

    with ThreadPoolExecutor() as pool:
        list(pool.map(copy, sorted((project / "notebooks").glob("*.ipynb"))))


def run(name: str, experiment: str | None, project: Path) -> Path:
    """Executes a notebook with its results switched on.

    Args:
        name: the notebook without ending.
        experiment: the value of its parameter `experiment`, if it has one.
        project: the project's folder.

    Returns:
        The executed notebook.

    Raises:
        ProjectError: a cell failed; the cells before it are kept under `build/failed/`.
    """
    stem = f"{name}-{experiment}" if experiment else name
    target = project / "results" / "notebooks" / f"{stem}.ipynb"
    unfinished = project / "build" / "failed" / f"{stem}.ipynb"
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    values = {"results": "results"} | ({"experiment": experiment} if experiment else {})
    try:
        papermill.execute_notebook(
            project / "build" / "notebooks" / f"{name}.ipynb",
            unfinished,
            values,
            cwd=project,
            kernel_name="python3",
            progress_bar=False,
            stdout_file=sys.stdout,
            stderr_file=sys.stderr,
            # Below an error, the kernel would warn that it talks to this process by TCP.
            extra_arguments=["--log-level=ERROR"],
        )
    except PapermillExecutionError as error:
        reason = error.evalue if error.ename == "ProjectError" else str(error)
        raise ProjectError(f"{reason}\n(the cells of {name} that ran: {unfinished})") from None
    except DeadKernelError:
        raise ProjectError(f"the kernel of {name} died, often for a lack of memory") from None
    executed = nbformat.read(unfinished, as_version=4)
    publishable(executed)
    with replacing(target) as temporary:
        nbformat.write(executed, temporary)
    unfinished.unlink()
    return target


def publishable(notebook: nbformat.NotebookNode) -> None:
    """Drops everything that differs between equal runs: times, paths, random ids, progress."""
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.id = "injected-parameters"
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ihdm.pipeline.stages", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("strip", help="copy the notebooks without outputs")
    runner = commands.add_parser("run", help="execute one notebook")
    runner.add_argument("name", help="the notebook without ending")
    runner.add_argument("--experiment", help="its parameter `experiment`")
    arguments = parser.parse_args()
    with exit_on_error():
        project = root()
        if arguments.command == "strip":
            strip(project)
        else:
            settings.load()
            run(arguments.name, arguments.experiment, project)


if __name__ == "__main__":
    main()

"""The files of a notebook's results, with their provenance.

    results/figures/NAME/FIGURE.png     150 dpi, in git
    results/pdf/NAME/FIGURE.pdf         in the DVC cache
    results/metrics/NAME.json           numbers
    results/metrics/NAME/TABLE.csv      curves
    results/weights/EXPERIMENT.safetensors, results/samples/EXPERIMENT.safetensors,
    results/films/EXPERIMENT.safetensors or NAME.safetensors
                                        in the DVC cache

NAME is the notebook's name, followed by the experiment if the notebook runs for each. A notebook
that is run by hand shows its figures and writes nothing.
"""

import csv
import json
import math
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from IPython.display import Markdown
from matplotlib.figure import Figure
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ihdm.project import ProjectError, root
from ihdm.settings import Settings, digest

__all__ = ["Results", "drawn", "filmed", "measured", "measurements"]


class Results:
    """The results of one run of a notebook.

    Args:
        notebook: its name without ending.
        folder: `results` in the pipeline, relative to the project; None writes nothing.
        experiment: the experiment that the notebook runs for, if there is one.
        settings: the descriptions that the results depend on, for provenance.
    """

    def __init__(
        self,
        notebook: str,
        folder: str | None,
        experiment: str | None = None,
        settings: Sequence[Settings] = (),
    ):
        self._folder = root() / folder if folder else None
        self._name = f"{notebook}-{experiment}" if experiment else notebook
        stage = os.environ.get("DVC_STAGE", "none")
        self._provenance = (
            f"notebook {notebook}; stage {stage}; experiment {experiment or 'none'}; "
            f"parameters {digest(*settings)}"
        )

    def figure(self, figure: Figure, name: str) -> None:
        """Writes a figure as PNG and PDF with its provenance in the metadata.

        Args:
            figure: drawn with matplotlib.
            name: file name without ending.
        """
        if self._folder is None:
            return
        png = self._file("figures", self._name, f"{name}.png")
        pdf = self._file("pdf", self._name, f"{name}.pdf")
        title = f"{self._name}: {name}"
        # Neither file holds a date, so that the same figure has the same bytes.
        own: dict[str, Any] = {"Title": title, "Source": self._provenance}
        figure.savefig(png, dpi=150, bbox_inches="tight", metadata=own)
        own = {"Title": title, "Subject": self._provenance, "CreationDate": None, "ModDate": None}
        figure.savefig(pdf, bbox_inches="tight", metadata=own)

    def metrics(self, **numbers: float | Mapping[str, Any]) -> None:
        """Writes numbers as JSON, for `dvc metrics`.

        Args:
            numbers: name -> number, or name -> several of them by name.
        """
        if self._folder is not None:
            path = self._file("metrics", f"{self._name}.json")
            path.write_text(json.dumps(numbers, indent=1) + "\n")

    def table(self, rows: Sequence[Mapping[str, float]], name: str) -> None:
        """Writes rows as CSV, for `dvc plots`.

        Args:
            rows: column -> number, the same columns in each.
            name: file name without ending.
        """
        if self._folder is None:
            return
        with self._file("metrics", self._name, f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    def weights(self, path: Path, experiment: str) -> None:
        """Publishes finished weights as an output of the pipeline.

        Args:
            path: the safetensors file of a training.
            experiment: whose weights they are.
        """
        if self._folder is not None:
            shutil.copyfile(path, self._file("weights", f"{experiment}.safetensors"))

    def samples(self, states: Mapping[int, Tensor], experiment: str) -> None:
        """Publishes samples of an experiment, for the notebooks that compare; see `drawn`.

        Args:
            states: level -> (N, C, H, W) states of the same samples.
            experiment: whose samples they are.
        """
        if self._folder is not None:
            path = self._file("samples", f"{experiment}.safetensors")
            save_file({str(k): u.contiguous() for k, u in states.items()}, path)

    def film(self, frames: Mapping[str, Tensor], name: str) -> None:
        """Publishes images from which the page makes videos; see `filmed`.

        Args:
            frames: name -> (F, N, C, H, W) float32 in the order of time; they are stored in half
                precision. Integers, as levels, are stored as they are.
            name: the experiment whose states they are, or the notebook.
        """
        if self._folder is not None:
            stored = {key: u.half() if u.is_floating_point() else u for key, u in frames.items()}
            path = self._file("films", f"{name}.safetensors")
            save_file({key: u.contiguous() for key, u in stored.items()}, path)

    def _file(self, *parts: str) -> Path:
        assert self._folder is not None
        path = self._folder.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def measurements(rows: Iterable[tuple[str, str, float, float | None]]) -> Markdown:
    """A small table of measured values, for the last line of a notebook.

    Args:
        rows: the words for a value, its unit or "", the value, and half of its 95 % interval or
            None. Integers are shown whole, other values with three digits or with the decimals
            of their interval, six at most: smaller differences are rounding.
    """
    lines = ["| measured | value | unit |", "|---|---|---|"]
    for words, unit, value, half in rows:
        if half is not None and 0 < round(half, 6) < math.inf:
            decimals = min(max(1 - math.floor(math.log10(half)), 0), 6)
            shown = f"{value:.{decimals}f} ± {half:.{decimals}f}"
        elif half is not None:
            shown = f"{round(value, 6):.3g} ± {round(half, 6):g}"
        else:
            shown = f"{value:,}" if isinstance(value, int) else f"{value:.3g}"
        lines.append(f"| {words} | {shown} | {unit} |")
    return Markdown("\n".join(lines))


def measured(stage: str) -> dict[str, Any]:
    """The numbers that a stage of the pipeline wrote.

    Args:
        stage: the name of its notebook without ending, or `digit_features`.

    Raises:
        ProjectError: they are missing or damaged.
    """
    path = root() / "results" / "metrics" / f"{stage}.json"
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError) as error:
        raise ProjectError(f"{path} is missing or damaged ({error}): run `dvc repro`") from None


def drawn(experiment: str) -> dict[int, Tensor]:
    """The samples that the notebook `03-samples` drew from an experiment.

    Args:
        experiment: its name in params.yaml.

    Returns:
        level -> (N, C, H, W) float32 states, from K down to the images at 0; the same samples at
        every level.

    Raises:
        ProjectError: they are missing or damaged.
    """
    states = tensors("samples", experiment, f"samples@{experiment}")
    return {k: states[str(k)] for k in sorted(map(int, states), reverse=True)}


def filmed(name: str) -> dict[str, Tensor]:
    """The frames that a notebook kept for videos.

    Args:
        name: an experiment, for the frames that `03-samples` kept, or `10-interpolation`.

    Returns:
        name -> (F, N, C, H, W) float32 in the order of time; of an experiment `sequences` and
        `shared`, with their `levels`, (F,) int64, beside them.

    Raises:
        ProjectError: they are missing or damaged.
    """
    stage = name[3:] if re.match(r"\d\d-", name) else f"samples@{name}"
    frames = tensors("films", name, stage)
    return {key: u.float() if u.is_floating_point() else u for key, u in frames.items()}


def tensors(kind: str, name: str, stage: str) -> dict[str, Tensor]:
    path = root() / "results" / kind / f"{name}.safetensors"
    try:
        return load_file(path)
    except (FileNotFoundError, SafetensorError) as error:
        raise ProjectError(
            f"{path} is missing or damaged ({error}): run `dvc repro --force {stage}`"
        ) from None

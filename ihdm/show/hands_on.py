"""The controls of the page: their sheets of images, and the curves on which marks move.

The stage `controls` draws the images; scripts in `notebooks/page/scripts` move them.
"""

import base64
import csv
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ihdm.project import root
from ihdm.results import measured
from ihdm.settings import Params

__all__ = ["Sheet", "curve", "place"]


class Sheet(NamedTuple):
    """A picture that holds images of one size in rows and columns.

    Attributes:
        file: its name among the static files of the page.
        columns: images in a row.
        rows: images in a column.
        ratio: width of an image by its height.
    """

    file: str
    columns: int
    rows: int
    ratio: float


def place(params: Params, static: Path) -> dict[str, Any]:
    """Copies the sheets to the page and describes each control to its template.

    Args:
        params: of the run.
        static: the folder of the page's static files.

    Returns:
        For each of `melt`, `delta`, `branch` and `noise` the values that its template shows.

    Raises:
        ProjectError: a table of results is missing or damaged.
        OSError: a sheet is missing or damaged.
    """
    made, options = root() / "results" / "controls", params.controls
    values = json.loads((made / "values.json").read_text())
    deltas, levels = values["deltas"], values["levels"]
    heat, grid = params.notebooks.fid_tables.inverse_heat, params.notebooks.colour_and_shape
    described, _ = params.experiment(heat)
    sigma = described.numbers["sigma"]

    def sheet(name: str, columns: int, rows: int) -> Sheet:
        file = f"control-{name}.png"
        shutil.copyfile(made / f"{name}.png", static / file)
        with Image.open(static / file) as picture:
            ratio = (picture.width / columns) / (picture.height / rows)
        return Sheet(file, columns, rows, ratio)

    kid = {float(value): at for value, at in measured("13-fid-tables")["kid_against_delta"].items()}
    usual = described.sampling.delta / sigma
    curves = [
        curve("KID", kid, deltas, "{:.3f}"),
        curve("Bound", bound(), deltas, "{:,.0f} nats"),
    ]
    return {
        "melt": {
            "sigma": sigma,
            "floor": 2 * math.log10(sigma),  # the power of the training noise
            "size": options.photograph_size,
            "name": options.photograph,
            "png": base64.b64encode((made / "photograph.png").read_bytes()).decode(),
        },
        "delta": {
            "experiment": heat,
            "sheet": sheet("delta", len(deltas), options.starts),
            "deltas": deltas,
            "first": int(np.abs(np.array(deltas) - usual).argmin()),
            "curves": curves,
            "json": json.dumps({"deltas": deltas, "marks": [c["marks"] for c in curves]}),
        },
        "branch": {
            "experiment": heat,
            "sheet": sheet("branch", 1 + options.branches, options.sequences * len(levels)),
            "sequences": options.sequences,
            "levels": levels,
        },
        "noise": {
            "experiment": grid.experiment,
            "sheet": sheet("noise", grid.starts, 1 + grid.noises),
        },
    }


def bound() -> dict[float, float]:
    """The negative ELBO that chapter 14 measured: delta in units of sigma -> nats."""
    path = root() / "results" / "metrics" / "14-likelihood" / "against-delta.csv"
    with path.open(newline="") as file:
        return {float(row["delta"]): float(row["nats"]) for row in csv.DictReader(file)}


def curve(
    name: str, measured: Mapping[float, float], deltas: Sequence[float], text: str
) -> dict[str, Any]:
    """A curve against delta, in a box of 200 by 120 that begins at delta = 0.

    Args:
        name: of the quantity.
        measured: delta -> value.
        deltas: where marks can stand; the largest is the right edge of the box.
        text: how a value is written.

    Returns:
        `name`; the `path` of the curve; the `low` and `high` ends of its axis as text; and `marks`,
        for each delta its x, y and text, interpolated between what was measured, and None beyond.
    """
    x = np.array(sorted(measured))
    y = np.array([measured[value] for value in x])
    low, high = y.min(), y.max()
    across = 200 * x / max(deltas)
    down = 120 * (high - y) / max(high - low, 1e-12)
    inside = across <= 200
    path = "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(across[inside], down[inside], strict=True))
    marks = [
        [
            round(200 * value / max(deltas), 1),
            round(float(np.interp(value, x, down)), 1),
            text.format(np.interp(value, x, y)),
        ]
        if x[0] <= value <= x[-1]
        else None
        for value in deltas
    ]
    ends = {"low": text.format(low), "high": text.format(high)}
    return {"name": name, "path": f"M{path}", "marks": marks} | ends

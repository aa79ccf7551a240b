"""The moving parts of the page: the films of a run, and the states of its slider."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from ihdm.measures import spectrum
from ihdm.results import filmed
from ihdm.settings import Params
from ihdm.show import videos

__all__ = ["MODELS", "Video", "slider", "write"]

MODELS = {"inverse_heat": "Inverse heat dissipation", "denoising": "DDPM", "blurring": "BDM"}
SPRITE_SIDE = 128  # pixels of a frame of the slider at most
STRIP = 16_000  # pixels of all its frames side by side: browsers have limits
POWER = (1e-8, 1e4)  # between which spectra are drawn


class Video(NamedTuple):
    """A film of the page: its file without ending, and its size in pixels."""

    file: str
    width: int
    height: int


def write(params: Params, folder: Path) -> dict[str, Video]:
    """Writes the films of every experiment, of all processes side by side, and of interpolation.

    Args:
        params: of the run.
        folder: where they go, as MP4 with a poster each.

    Returns:
        The name of a film -> the film.

    Raises:
        ProjectError: frames are missing or damaged, or do not fit into a film.
    """
    films = {}

    def add(name: str, frames: np.ndarray) -> None:
        height, width = videos.write(frames, folder / f"{name}.mp4")
        films[name] = Video(f"videos/{name}", width, height)

    for experiment in params.run:
        frames = filmed(experiment)
        add(experiment, videos.mosaic(frames["sequences"], 4))
        process = params.experiments[experiment].process
        # Other starts are noise, or do not grow into images.
        if process.kind == "inverse_heat" and process.sigma > 0:
            add(f"{experiment}-shared", videos.mosaic(frames["shared"], 4))
    compared = [filmed(name)["sequences"] for name in together(params)]
    add("together", videos.side_by_side([videos.mosaic(u[:, :6], 2) for u in compared]))
    pair, between = params.notebooks.interpolation, filmed("10-interpolation")
    # Forward, then back, so that the film can run in a circle.
    paths = [between[name] for name in (pair.inverse_heat, pair.denoising)]
    loops = [videos.mosaic(torch.cat([u, u.flip(0)]), 2) for u in paths]
    add("interpolation", videos.side_by_side(loops))
    return films


def together(params: Params) -> list[str]:
    """The experiments shown on one clock: one of each process, on the same data."""
    models = params.notebooks.blurring_diffusion
    return [models.inverse_heat, models.denoising, models.blurring]


def slider(params: Params, folder: Path) -> dict[str, Any]:
    """The states of the slider: for each model a strip of frames, and the spectrum of each frame.

    Args:
        params: of the run.
        folder: where the strips go, as PNG.

    Returns:
        `rows`, one for each model, with the paths of its spectra in a box of 200 by 120; the number
        of `frames`; and the `first` that is shown.

    Raises:
        ProjectError: frames are missing or damaged.
    """
    rows, spectra = [], []
    for kind, name in zip(MODELS, together(params), strict=True):
        strip = filmed(name)
        width, height = sprite(strip["sequences"], folder / f"scrub-{kind}.png")
        # A model that has failed leaves the range of half precision, and then that of the drawing.
        psd = [spectrum.radial_psd(u.nan_to_num()) for u in strip["sequences"]]
        spectra.append(torch.stack([power[1:] for _, power in psd]).clamp(*POWER).log10())
        about = {"kind": kind, "name": MODELS[kind], "experiment": name}
        levels = strip["levels"].tolist()
        rows.append(about | {"levels": levels, "width": width, "height": height})
    # All are of one data set, and so of the same frequencies.
    x = psd[0][0][1:].log10()
    x = 200 * (x - x[0]) / (x[-1] - x[0])
    low, high = min(u.min() for u in spectra).floor(), max(u.max() for u in spectra).ceil()
    for row, power in zip(rows, spectra, strict=True):
        row["paths"] = [
            "M" + "L".join(f"{a:.0f} {b:.0f}" for a, b in zip(x, y, strict=True))
            for y in (120 * (high - power) / (high - low)).tolist()
        ]
        row["json"] = json.dumps({"levels": row["levels"], "paths": row["paths"]})
    frames = len(levels)
    return {"rows": rows, "frames": frames, "first": 2 * frames // 3}


def sprite(sequences: torch.Tensor, path: Path) -> tuple[int, int]:
    """Writes the frames of the first sequence side by side; gives the size of one."""
    edge = videos.GAP
    frames = videos.mosaic(sequences[:, :1], 1, 1)[:, edge:-edge, edge:-edge]
    limit = min(SPRITE_SIDE, STRIP // len(frames))
    strip = []
    for frame in map(Image.fromarray, frames):
        frame.thumbnail((limit, limit))
        strip.append(np.asarray(frame))
    Image.fromarray(np.concatenate(strip, axis=1)).save(path, optimize=True)
    return frame.size

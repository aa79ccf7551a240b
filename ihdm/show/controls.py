"""The images behind the controls of the page, a stage of the pipeline.

`python -m ihdm.show.controls` draws from the trained models and writes

    results/controls/photograph.png   the photograph that a visitor melts
    results/controls/delta.png        a row for each start, a column for each delta
    results/controls/branch.png       a row for each level of each sequence: its state, and the
                                      endings that are drawn from there
    results/controls/noise.png        prior states, and below them a row for each noise
    results/controls/values.json      the deltas in units of sigma, and the levels

The last three are sheets: images of one size without gaps, of which the page shows one at a time.
"""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ihdm import settings
from ihdm.data.photographs import photograph
from ihdm.model import Model
from ihdm.pixels import to_bytes
from ihdm.project import exit_on_error, replacing, root
from ihdm.settings import Controls, Params

__all__ = ["branching", "draw", "shared_noise", "turned"]


def turned(model: Model, options: Controls) -> tuple[list[float], Tensor]:
    """The same starts and the same noise at growing delta (Sec. 4, Fig. 6).

    Args:
        model: of inverse heat dissipation.
        options: how many starts and deltas.

    Returns:
        The deltas in units of sigma, that of sampling among them; and (starts, deltas, C, H, W)
        images in [0, 1].
    """
    sigma, usual = model.inverse_heat.sigma, model.inverse_heat.delta
    even = np.linspace(0, options.delta_max, options.deltas)
    deltas = sorted({round(float(value), 6) for value in (*even, usual / sigma)})
    images = [model.with_delta(value * sigma).draw(options.starts)[0] for value in deltas]
    return deltas, torch.stack(images, dim=1)


def branching(model: Model, options: Controls) -> tuple[list[int], Tensor]:
    """Endings that are drawn from states of one sequence, with other noise (Fig. 5b).

    Args:
        model: of any process.
        options: how many sequences, levels and branches.

    Returns:
        The levels, from K down to 0, where the image is finished; and
        (sequences, levels, 1 + branches, C, H, W): the state of a sequence, then the endings.
    """
    even = np.linspace(model.process.K, 0, options.levels + 1).round().astype(int)
    levels = sorted(set(even.tolist()), reverse=True)
    first, count = options.sequences, options.sequences * options.branches
    states = model.draw(options.sequences, levels=levels)
    rows = []
    for k in levels:
        again = states[k].repeat_interleave(options.branches, dim=0)
        endings = model.draw(range(first, first + count), start=again, k=k)[0] if k else again
        own = endings.unflatten(0, (options.sequences, options.branches))
        rows.append(torch.cat([states[k][:, None], own], dim=1))
    return levels, torch.stack(rows, dim=1)


def shared_noise(model: Model, starts: int, noises: int) -> Tensor:
    """Every pair of a prior state and the noise of a sample, as in chapter 9 (Figs. 7a and 29).

    Args:
        model: the model.
        starts: number of prior states.
        noises: number of samples whose noise is taken.

    Returns:
        (1 + noises, starts, C, H, W): the prior states, then a row for each noise.
    """
    priors = model.starts(starts)
    noise_of = [row for row in range(noises) for _ in range(starts)]
    drawn = model.draw(noise_of, start=priors.repeat(noises, 1, 1, 1))[0]
    return torch.cat([priors[None], drawn.unflatten(0, (noises, starts))])


def sheet(images: Tensor, path: Path) -> None:
    """Writes (rows, columns, C, H, W) images in [0, 1], clipped, as one PNG without gaps."""
    pixels = to_bytes(images.nan_to_num(0)).permute(0, 3, 1, 4, 2).numpy()
    rows, H, columns, W, C = pixels.shape
    flat = pixels.reshape(rows * H, columns * W, C)
    with replacing(path) as temporary:
        Image.fromarray(flat.squeeze(-1) if C == 1 else flat).save(temporary, "png", optimize=True)


def draw(params: Params, folder: Path) -> None:
    """Draws the images of every control.

    Args:
        params: of the run.
        folder: the folder to write to.

    Raises:
        ProjectError: data or weights are missing or damaged.
    """
    options, grid = params.controls, params.notebooks.colour_and_shape
    grey = Model.trained(params.notebooks.fid_tables.inverse_heat)
    coloured = Model.trained(grid.experiment)
    sheet(photograph(options.photograph, options.photograph_size)[None], folder / "photograph.png")
    deltas, images = turned(grey, options)
    sheet(images, folder / "delta.png")
    levels, branches = branching(grey, options)
    sheet(branches.flatten(0, 1), folder / "branch.png")
    sheet(shared_noise(coloured, grid.starts, grid.noises), folder / "noise.png")
    with replacing(folder / "values.json") as temporary:
        temporary.write_text(json.dumps({"deltas": deltas, "levels": levels}) + "\n")


def main() -> None:
    with exit_on_error():
        draw(settings.load(), root() / "results" / "controls")


if __name__ == "__main__":
    main()

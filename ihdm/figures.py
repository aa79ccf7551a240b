"""One style for all figures, and the pictures that several notebooks draw.

Images are (C, H, W) tensors in [0, 1], of one or three channels; they are drawn with nearest-pixel
edges, clipped to [0, 1]. Colour carries meaning or is not used.
"""

import logging
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, SymLogNorm
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Circle, FancyArrowPatch, Rectangle
from torch import Tensor

__all__ = ["Signed", "graphical_models", "grid", "image", "strips", "style"]

COLUMN_WIDTH = 8.0


def style() -> None:
    """Sets the project's look: call it once at the top of a notebook."""
    # Embedding a font in a PDF makes fontTools remark on the dates in that font.
    logging.getLogger("fontTools").setLevel(logging.ERROR)
    sns.set_theme(context="paper", style="ticks", palette="colorblind", font_scale=1.1)
    plt.rcParams.update(
        {
            "axes.spines.right": False,
            "axes.spines.top": False,
            "figure.constrained_layout.use": True,
            "figure.dpi": 90,
            "figure.figsize": (COLUMN_WIDTH, 3.2),
            "image.interpolation": "nearest",
            "legend.frameon": False,
            "pdf.fonttype": 42,
        }
    )


class Signed(NamedTuple):
    """A picture of signed values, drawn from blue through white (0) to red.

    Attributes:
        picture: (C, H, W); the first channel is drawn.
        limit: the value of full colour; the largest finite one of the picture if not given.
        linear: if given, colours are logarithmic outside of minus to plus this value.
        mark: row and column of a pixel to frame.
    """

    picture: Tensor
    limit: float | None = None
    linear: float | None = None
    mark: tuple[int, int] | None = None


def image(axes: Axes, picture: Tensor | Signed) -> None:
    """Draws one picture without axes.

    Args:
        axes: the axes to draw on.
        picture: (C, H, W) in [0, 1], or signed.
    """
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    if isinstance(picture, Signed):
        values = picture.picture[0].numpy()
        finite = abs(values[np.isfinite(values)])
        limit = picture.limit or float(finite.max(initial=0)) or 1.0
        norm = Normalize(-limit, limit)
        if picture.linear is not None:
            norm = SymLogNorm(picture.linear, vmin=-limit, vmax=limit)
        axes.imshow(values, cmap="RdBu_r", norm=norm)
        if picture.mark is not None:
            corner = picture.mark[1] - 0.5, picture.mark[0] - 0.5
            axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="black", linewidth=0.8))
        return
    pixels = picture.permute(1, 2, 0).numpy()
    if len(picture) == 1:
        axes.imshow(pixels[..., 0], cmap="gray", vmin=0, vmax=1)
    else:
        axes.imshow(pixels.clip(0, 1))


def grid(pictures: Tensor, columns: int) -> Figure:
    """Pictures row by row without labels, as for uncurated samples.

    Args:
        pictures: (N, C, H, W).
        columns: pictures in a row.
    """
    rows = -(-len(pictures) // columns)
    ratio = pictures.shape[2] / pictures.shape[3]
    size = (COLUMN_WIDTH, COLUMN_WIDTH * ratio * rows / columns)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    packed(figure, 0.01)
    for place in axes.flat:
        place.set_axis_off()
    for place, picture in zip(axes.flat, pictures, strict=False):
        image(place, picture)
    return figure


def packed(figure: Figure, pad: float) -> None:
    """Sets the gaps between the pictures of a figure, in inches."""
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(w_pad=pad, h_pad=pad, wspace=0, hspace=0)


def strips(
    rows: Sequence[Sequence[Tensor | Signed | None]],
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    bars: bool = False,
) -> Figure:
    """A table of pictures with labels at the left and on top.

    Args:
        rows: pictures (C, H, W) of each row, all of one size; None leaves a place empty.
        row_labels: one for each row, or none.
        column_labels: one for each column, or none.
        bars: whether rows with signed pictures end in a colour bar; the signed pictures of such a
            row have to share their scale.
    """
    columns = max(len(row) for row in rows)
    first = next(cell for row in rows for cell in row if cell is not None)
    _, H, W = (first.picture if isinstance(first, Signed) else first).shape
    side = COLUMN_WIDTH / (columns + (0.8 if row_labels else 0) + (0.6 if bars else 0))
    size = (COLUMN_WIDTH, side * H / W * len(rows) + (0.3 if column_labels else 0))
    widths = [1.0] * columns + ([0.08] if bars else [])
    figure, axes = plt.subplots(
        len(rows), len(widths), figsize=size, width_ratios=widths, squeeze=False
    )
    packed(figure, 0.015)
    for index, row in enumerate(rows):
        for column in range(columns):
            picture = row[column] if column < len(row) else None
            if picture is None:
                axes[index, column].set_axis_off()
            else:
                image(axes[index, column], picture)
        if bars:
            colour_bar(figure, axes[index], [isinstance(cell, Signed) for cell in row])
    for place, label in zip(axes[:, 0], row_labels, strict=False):
        place.set_axis_on()
        place.set(xticks=[], yticks=[])
        place.spines[:].set_visible(False)
        place.set_ylabel(label, rotation=0, ha="right", va="center")
    for place, label in zip(axes[0], column_labels, strict=False):
        place.set_title(label, fontsize="medium")
    return figure


def colour_bar(figure: Figure, row: Sequence[Axes], signed: Sequence[bool]) -> None:
    """The scale of the first signed picture of a row in the row's last place; nothing without."""
    if not any(signed):
        row[-1].set_axis_off()
        return
    drawn = row[signed.index(True)].images[0]
    limit = drawn.get_clim()[1]
    assert limit is not None
    bar = figure.colorbar(drawn, cax=row[-1], ticks=[-limit, 0, limit], format="%.2g")
    bar.ax.tick_params(labelsize="x-small", length=2)
    bar.ax.minorticks_off()
    bar.outline.set_visible(False)


def graphical_models() -> Figure:
    """The graphical models of Fig. 3a: heat dissipation above, a diffusion model below.

    Solid arrows are the reverse process, dashed ones the forward process. In heat dissipation every
    latent depends on u_0 alone (Eq. 4); in a diffusion model the forward process is a Markov chain.
    """
    names = [r"$u_K$", r"$\cdots$", r"$u_2$", r"$u_1$", r"$u_0$"]
    figure, panels = plt.subplots(2, figsize=(COLUMN_WIDTH, 3.6), height_ratios=(1.25, 0.85))
    forward, reverse = sns.color_palette()[0], "black"
    for axes, markov in zip(panels, (False, True), strict=True):
        for place, name in enumerate(names):
            face = "0.85" if place == len(names) - 1 else "white"
            if place == 1:
                axes.text(place, 0, name, ha="center", va="center", fontsize="x-large")
                continue
            axes.add_patch(Circle((place, 0), 0.2, facecolor=face, edgecolor="black"))
            axes.text(place, 0, name, ha="center", va="center", fontsize="large")
        for place in range(len(names) - 1):
            arrow(axes, place, place + 1, 0.0, reverse, "-")
            if markov:
                arrow(axes, place + 1, place, 0.45, forward, "--")
            elif place != 1:
                arrow(axes, len(names) - 1, place, 0.3, forward, "--")
        axes.set(xlim=(-0.4, 4.4), ylim=(-0.25, 0.4 if markov else 0.8), aspect="equal")
        axes.set_axis_off()
        axes.set_title("Diffusion model" if markov else "Inverse heat dissipation", loc="left")
    panels[0].plot([], [], "-", color=reverse, label=r"reverse process $p_\theta$")
    panels[0].plot([], [], "--", color=forward, label="forward process $q$")
    panels[0].legend(loc="upper right", bbox_to_anchor=(1, 1.25))
    return figure


def arrow(axes: Axes, start: int, end: int, bend: float, colour: str, line: str) -> None:
    """An arrow between two nodes of a graphical model; a bent one passes above them."""
    axes.add_patch(
        FancyArrowPatch(
            (start, 0),
            (end, 0),
            connectionstyle=f"arc3,rad={bend}",
            arrowstyle="-|>",
            mutation_scale=12,
            shrinkA=25,
            shrinkB=25,
            linestyle=line,
            color=colour,
        )
    )

"""Claims on the page: a small picture of each, and links between its chapter and the ledger."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import nbformat
from PIL import Image, ImageOps

from ihdm.measures.claims import Claim, Judged
from ihdm.project import ProjectError
from ihdm.show.chapters import Figure

__all__ = ["LEDGER", "illustrate", "picture", "verdicts", "write"]

LEDGER = "16-claims"
# In CSS pixels. One size for all, so that rows line up and nothing moves as pictures load.
WIDTH, HEIGHT = 96, 64
DENSITY = 3  # pixels of the file to a CSS pixel, for sharp screens

Ledger = Sequence[tuple[Claim, Judged]]
Figures = Mapping[tuple[str, str], Figure]


def write(judged: Ledger, figures: Path, folder: Path) -> None:
    """Writes a small copy of the figure of each claim, padded with white.

    Args:
        judged: the ledger.
        figures: the folder of the figures of the notebooks.
        folder: a new folder, for chapter/name.png.

    Raises:
        OSError: a figure is missing or damaged.
    """
    for name in {claim.figure for claim, _ in judged}:
        small = folder / f"{name}.png"
        small.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(figures / f"{name}.png") as image:
            size = DENSITY * WIDTH, DENSITY * HEIGHT
            padded = ImageOps.pad(image.convert("RGB"), size, color="white")
            padded.quantize(64).save(small, optimize=True)


def picture(claim: Claim, figures: Figures, root: str) -> str:
    """The picture of a claim as HTML, a link to the figure in its chapter.

    Args:
        claim: with the figure to show.
        figures: (chapter, name) -> figure, of all chapters so far.
        root: the path to the site's first page, as "../" from a chapter.

    Raises:
        ProjectError: no notebook made this figure.
    """
    chapter, name = claim.figure.split("/")
    if (chapter, name) not in figures:
        raise ProjectError(
            f"the claim '{claim.claim}' names {claim.figure}, which no notebook made"
        )
    figure = figures[chapter, name]
    return (
        f'<a class="thumb" href="{root}chapters/{chapter}.html#{figure.label}">'
        f'<img src="{root}_static/thumbs/{claim.figure}.png" alt="{escape(figure.alt)}" '
        f'width="{WIDTH}" height="{HEIGHT}" loading="lazy"></a>'
    )


def label(claim: Claim) -> str:
    """The target of links to the claim in the ledger."""
    return f"claim-{claim.judge.__name__}".replace("_", "-")


def verdicts(stem: str, judged: Ledger, figures: Figures) -> str:
    """The claims of a chapter as a list in Markdown, each with picture and verdict."""
    return "\n".join(
        f"- {picture(claim, figures, '../')} {claim.claim}: *{found.verdict}*"
        f"{f', {found.value}' if found.value else ''} "
        f'(<a href="{LEDGER}.html#{label(claim)}">test and remarks</a>).'
        for claim, found in judged
        if claim.notebook == stem
    )


def illustrate(notebook: nbformat.NotebookNode, judged: Ledger, figures: Figures) -> None:
    """Adds to each row of the table of chapter 16 its picture and a target for links, in place.

    Raises:
        ProjectError: the table lacks a claim.
    """
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    (table,) = (
        o.data for o in outputs if o.get("data", {}).get("text/markdown", "")[:8] == "| claim "
    )
    for claim, _ in judged:
        row = f"\n| {claim.claim} ("
        if row not in table["text/markdown"]:
            raise ProjectError(f"chapter 16 has no row '{claim.claim}': run `dvc repro`")
        start = f'<span id="{label(claim)}"></span>{picture(claim, figures, "../")}'
        table["text/markdown"] = table["text/markdown"].replace(row, f"\n| {start} {row[3:]}")

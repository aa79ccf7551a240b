"""Executed notebooks as chapters of the page, and their figures."""

import base64
import io
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import nbformat
from PIL import Image
from ruamel.yaml import YAML

from ihdm.project import ProjectError, root
from ihdm.results import measured
from ihdm.settings import Params

__all__ = [
    "TEMPLATES",
    "Figure",
    "chapter",
    "executed",
    "paper_table",
    "parameters",
    "parts",
    "placed",
    "play",
    "summary",
]


def part(name: str) -> str:
    """A template of a part of the page, from `notebooks/page/parts/`."""
    return (root() / "notebooks" / "page" / "parts" / name).read_text()


TEMPLATES = jinja2.Environment(
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    loader=jinja2.FunctionLoader(part),
)
# Films and controls, as parts of the page -> the figure of a notebook that each stands below.
BELOW = {
    "sequences.md": "03-samples/sequences",
    "branch.md": "03-samples/branching",
    "shared.md": "03-samples/shared-start",
    "together.md": "04-blurring-diffusion/sequences",
    "delta.md": "07-noise-scale/against-delta",
    "noise.md": "09-colour-and-shape/grid",
    "interpolation.md": "10-interpolation/paths",
}


class Figure(NamedTuple):
    """A figure of a notebook, as the page shows it.

    Attributes:
        chapter: the executed notebook without ending, as 03-samples-mnist.
        name: of its file, without ending.
        alt: a description for readers who cannot see it.
        heading: the heading above it.
        source: its provenance, as `Results.figure` wrote it into the file.
        width: on the page.
    """

    chapter: str
    name: str
    alt: str
    heading: str
    source: str
    width: str

    @property
    def label(self) -> str:
        """The target of links to its cell."""
        return f"fig-{self.chapter}-{self.name}".replace("_", "-")

    @property
    def made_by(self) -> str:
        """The stage and a link to the parameters."""
        parts = dict(part.split(" ", 1) for part in self.source.split("; "))
        return (
            f"stage `{parts['stage']}`, {{ref}}`parameters {parts['parameters']} "
            f"<parameters-{self.chapter.replace('_', '-')}>`"
        )


def parts(stem: str) -> tuple[str, str | None]:
    """The notebook of an executed copy, and the experiment if the notebook runs for each."""
    match = re.fullmatch(r"(0[23]-(?:training|samples))-(.+)", stem)
    return (match[1], match[2]) if match else (stem, None)


def executed(folder: Path, params: Params) -> list[Path]:
    """Executed notebooks in the order of their numbers and of `run`, if `run` names them."""
    places = {None: 0} | {name: i for i, name in enumerate(params.run)}
    order = []
    for path in folder.glob("*.ipynb"):
        notebook, experiment = parts(path.stem)
        if experiment in places:
            order.append((notebook, places[experiment], path))
    if not order:
        raise ProjectError(f"{folder} has no executed notebooks: run `dvc repro`")
    return [path for _, _, path in sorted(order)]


def chapter(
    notebook: nbformat.NotebookNode, stem: str, project: Path, described: dict[str, str]
) -> Iterator[Figure]:
    """Turns an executed notebook into a chapter, in place, and yields its figures.

    Code is folded; figures are those of `results/figures`, which are sharper than the notebook's,
    with a description and a caption.
    """
    short, experiment = parts(stem)
    heading = ""
    if experiment:
        first = notebook.cells[0]
        first.source = re.sub("^(# .*)$", rf"\1: `{experiment}`", first.source, count=1, flags=re.M)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = [heading, *re.findall(r"^#+ (.*)$", cell.source, re.MULTILINE)][-1]
            # Sphinx wraps formulas of several lines in an environment that allows no number.
            cell.source = re.sub(
                r"\$\$.*?\$\$", lambda m: m[0].replace(r"\\", r"\cr "), cell.source, flags=re.S
            )
            continue
        tags = cell.metadata.setdefault("tags", [])
        if {"parameters", "injected-parameters"} & {*tags}:
            tags.append("remove-cell")
        elif "show-input" not in tags:
            tags.append("hide-input")
        name = re.search(r'record\.figure\(.*"([\w-]+)"\)', cell.source, re.DOTALL)
        pictures = [o for o in cell.outputs if "image/png" in o.get("data", {})]
        # Some figures are of experiments of one kind alone.
        if not (name and pictures):
            continue
        key = f"{short}/{name[1]}"
        if key not in described:
            raise ProjectError(
                f"notebooks/page/descriptions.yaml has no description of {key}: add it"
            )
        png = project / "results" / "figures" / stem / f"{name[1]}.png"
        with Image.open(png) as image:
            # At 110 pixels an inch, so that letters are of one size in all figures.
            source, width = image.info["Source"], round(110 / 150 * image.width)
        alt = described[key] + (f" Experiment {experiment}." if experiment else "")
        figure = Figure(stem, name[1], alt, heading, source, f"{width}px")
        for picture in pictures:
            picture.data["image/png"] = base64.b64encode(png.read_bytes()).decode()
        cell.metadata["mystnb"] = {
            # With a width it becomes a link to the whole picture.
            "image": {"alt": alt, "width": figure.width},
            "figure": {
                "name": figure.label,
                "caption": f"{alt} From the cell above, {figure.made_by}",
            },
        }
        yield figure


def play(notebook: nbformat.NotebookNode, stem: str, known: dict[str, Any]) -> None:
    """Places the films and controls of a chapter below their figures, in place.

    Args:
        notebook: an executed notebook that `chapter` has turned into a chapter.
        stem: its name without ending.
        known: what the templates of the parts show.

    Raises:
        ProjectError: it has no such figure.
    """
    short, experiment = parts(stem)
    for name, key in BELOW.items():
        if not key.startswith(f"{short}/"):
            continue
        label = f"fig-{stem}-{key.split('/')[1]}".replace("_", "-")
        places = [
            i
            for i, cell in enumerate(notebook.cells)
            if cell.metadata.get("mystnb", {}).get("figure", {}).get("name") == label
        ]
        if not places:
            raise ProjectError(f"{stem} has no figure {key}, below which the page shows {name}")
        shown = TEMPLATES.get_template(name).render(known, root="../", experiment=experiment)
        if shown.strip():
            cell = nbformat.v4.new_markdown_cell(shown, id=name.removesuffix(".md"))
            notebook.cells.insert(places[0] + 1, cell)


def summary(
    stem: str,
    described: dict[str, dict[str, str]],
    params: Params,
    verdicts: str,
) -> nbformat.NotebookNode:
    """The box at the top of a chapter: the claim, a finding, and the verdicts of the ledger."""
    short, experiment = parts(stem)
    if short not in described:
        raise ProjectError(
            f"notebooks/page/descriptions.yaml has no chapter {short}: add two sentences"
        )
    kind = params.experiments[experiment].process.kind if experiment else None
    known = {"m": measured(stem), "kind": kind}
    claimed, finding = (
        TEMPLATES.from_string(described[short].get(key, "")).render(known)
        for key in ("claimed", "found")
    )
    finding = f"{finding}\n\n{verdicts}"
    text = f"**Claimed:** {claimed}\n\n**Found:** {finding}"
    return nbformat.v4.new_markdown_cell(f":::{{admonition}} In short\n{text}\n:::", id="in-short")


def parameters(stem: str, params: Params) -> nbformat.NotebookNode:
    """The last section of a chapter: the part of params.yaml that its figures depend on."""
    short, experiment = parts(stem)
    key = short[3:].replace("-", "_")
    section = params.notebooks.model_dump(mode="json").get(key, {})
    named = [experiment] if experiment else section.values()
    names = [name for name in params.run if name in named]
    used: dict[str, Any] = {"notebooks": {key: section}}
    if names:
        described = {name: params.experiments[name].model_dump(mode="json") for name in names}
        used["experiments"] = described
    lines = io.StringIO()
    YAML(typ="safe", pure=True).dump(used, lines)
    label = f"parameters-{stem.replace('_', '-')}"
    text = (
        f"({label})=\n## Parameters\n\nThis chapter is `notebooks/{parts(stem)[0]}.ipynb`, with this "
        "part of `params.yaml`. After an edit there, `dvc repro` runs again what depends on it, and "
        f"`make compare` shows the numbers that moved.\n\n```yaml\n{lines.getvalue()}```"
    )
    return nbformat.v4.new_markdown_cell(text, id="parameters-used")


def placed(figures: dict[tuple[str, str], Figure], chapter: str, name: str, caption: str) -> str:
    """A figure on another page than its chapter, with a link back to its cell."""
    figure = figures.get((chapter, name))
    if figure is None:
        raise ProjectError(f"the page shows {chapter}/{name}, which no notebook made")
    options = f":alt: {figure.alt}\n:width: {figure.width}"
    return (
        f":::{{figure}} /figures/{chapter}/{name}.png\n{options}\n\n"
        f"{caption} {{ref}}`Cell of {chapter} <{figure.label}>`, {figure.made_by}.\n:::"
    )


def paper_table(
    paper: dict[str, str], figures: Iterable[Figure], params: Params
) -> list[tuple[str, str, str]]:
    """Every figure and table of the paper: its number, what it shows, and links to ours."""
    ours: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for figure in figures:
        text = f"{int(figure.chapter[:2])}, {figure.name.replace('-', ' ')}"
        experiment = parts(figure.chapter)[1]
        for number in numbers(figure.heading):
            link = f"{{ref}}`{experiment or text} <{figure.label}>`"
            ours[number][f"{text}: " if experiment else ""].append(link)
    rows = []
    for number, shows in paper.items():
        what, _, more = shows.partition(" | ")
        links = [start + ", ".join(own) for start, own in ours[number].items()]
        experiment = parts(more)[1]
        if experiment and experiment not in params.run:
            links.append(f"not made: needs `{experiment}` in `run`")
        elif more:
            links.append(f"[{more}](chapters/{more}.ipynb)")
        rows.append((number, what, "; ".join(links)))
    return rows


def numbers(heading: str) -> Iterator[str]:
    """The paper's figures that a heading names, as 7 of '(Figs. 7b and 26-28)'."""
    for group in re.findall(r"\(Figs?\. ([^)]*)\)", heading):
        for first, last in re.findall(r"(\d+)(?:-(\d+))?", group):
            yield from map(str, range(int(first), int(last or first) + 1))

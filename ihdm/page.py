"""The page: a static site made from the results of a run, the last stage of the pipeline.

`python -m ihdm.page` gathers text, executed notebooks, figures and films under `build/page/` and
has Sphinx make `site/` of them. The text is in `notebooks/page/`; numbers come from
`results/metrics/` and the ledger of claims when the page is built. The site works from a folder
and asks for nothing outside of it.
"""

import base64
import io
import json
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import nbformat
import numpy as np
import torch
from PIL import Image
from ruamel.yaml import YAML
from sphinx.application import Sphinx

from ihdm import claims, params, spectrum, videos
from ihdm.results import Film, filmed, measured
from ihdm.settings import Params, ProjectError

__all__ = ["Figure", "build", "gather"]

SPHINX = {
    "project": "Inverse heat dissipation, made again",
    "extensions": ["myst_nb", "ihdm.formulas"],
    "html_theme": "furo",
    "html_math_renderer": "drawn",
    "html_title": "Inverse heat dissipation, made again",
    "html_static_path": ["static"],
    "html_css_files": ["page.css"],
    "html_js_files": [("scrub.js", {"defer": "defer"})],
    "html_extra_path": ["extra"],
    "html_copy_source": False,
    "html_show_sphinx": False,
    "html_show_copyright": False,
    "myst_enable_extensions": ["amsmath", "colon_fence", "dollarmath"],
    "myst_heading_anchors": 3,
    "nb_execution_mode": "off",
    "nb_merge_streams": True,
    "pygments_style": "a11y-high-contrast-light",
}
SPRITE_SIDE = 128  # pixels of a frame of the slider at most, so that browsers can hold the strip
POWER = (1e-8, 1e4)  # between which spectra are drawn
MODELS = {"inverse_heat": "Inverse heat dissipation", "denoising": "DDPM", "blurring": "BDM"}


class Figure(NamedTuple):
    """A figure of a notebook and what the page says of it.

    Attributes:
        chapter: the executed notebook without ending, as 03-samples-mnist.
        name: of its file, without ending.
        alt: what can be seen, for those who cannot see it.
        heading: the heading above it.
        source: its provenance, as `Results.figure` wrote it into the file.
    """

    chapter: str
    name: str
    alt: str
    heading: str
    source: str

    @property
    def label(self) -> str:
        """What links to its cell lead to."""
        return f"fig-{self.chapter}-{self.name}".replace("_", "-")

    @property
    def made_by(self) -> str:
        """The caption: a link to the cell, the stage and the parameters."""
        stage, digest = (
            re.search(rf"{key} ([^;]+)", self.source) for key in ("stage", "param\\w+")
        )
        return (
            f"{{ref}}`Cell of {self.chapter} <{self.label}>`, stage `{stage[1]}`, "
            f"{{ref}}`parameters {digest[1]} <parameters-{self.chapter.replace('_', '-')}>`"
        )


def build(project: Path) -> Path:
    """Makes the site.

    Args:
        project: the project's folder, with finished results.

    Returns:
        The first page of the site.

    Raises:
        ProjectError: results are missing or damaged, or Sphinx warned of something.
    """
    work, site = project / "build" / "page", project / "site"
    shutil.rmtree(work, ignore_errors=True)
    gather(project, work / "source")
    told = io.StringIO()
    app = Sphinx(
        work / "source",
        None,
        work / "site",
        work / "doctrees",
        "html",
        confoverrides=SPHINX,
        status=None,
        warning=told,
    )
    app.build()
    if app.statuscode or told.getvalue():
        raise ProjectError(f"the page has problems:\n{told.getvalue()}")
    # What Sphinx keeps for its next build is of no use to a reader.
    for name in (".buildinfo", "objects.inv"):
        (work / "site" / name).unlink(missing_ok=True)
    shutil.rmtree(site, ignore_errors=True)
    shutil.move(work / "site", site)
    return site / "index.html"


def gather(project: Path, source: Path) -> None:
    """Collects what Sphinx makes the site of.

    Args:
        project: the project's folder.
        source: an empty or new folder.

    Raises:
        ProjectError: results are missing or damaged, or a figure has no description.
    """
    settings = params.load(project / "params.yaml")
    text = project / "notebooks" / "page"
    shutil.copytree(project / "results" / "figures", source / "figures")
    (source / "static").mkdir()
    for name in ("page.css", "scrub.js"):
        shutil.copyfile(text / name, source / "static" / name)
    described = YAML(typ="safe", pure=True).load(text / "figures.yaml")
    judged = claims.ledger(settings.notebooks)
    figures = {}
    (source / "chapters").mkdir()
    paths = sorted((project / "results" / "notebooks").glob("*.ipynb"))
    paths = [path for path in paths if switched_on(path.stem, settings)]
    if not paths:
        raise ProjectError(f"{project / 'results' / 'notebooks'} is empty: run `dvc repro`")
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        for figure in chapter(notebook, path.stem, project, described["figures"], settings, judged):
            figures[figure.chapter, figure.name] = figure
        nbformat.write(notebook, source / "chapters" / path.name)
    films = film(settings, source / "extra" / "videos")
    readme = (project / "README.md").read_text()
    known = {
        "settings": settings,
        "chapters": [path.stem for path in paths],
        "judged": judged,
        "verdicts": [claims.SUPPORTED, claims.CONTRADICTED, claims.UNTESTABLE],
        "fid": measured("13-fid-tables"),
        "likelihood": measured("14-likelihood"),
        "films": films,
        "models": MODELS,
        "scrub": scrub(settings, source / "static"),
        "paper": paper_table(described["paper"], figures.values()),
        "figure": partial(placed, figures),
        "readme": partial(section, readme),
        "citation": YAML(typ="safe", pure=True).load(project / "CITATION.cff"),
    }
    loader = jinja2.FileSystemLoader(text)
    environment = jinja2.Environment(
        loader=loader, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    for path in sorted(text.glob("*.md")):
        (source / path.name).write_text(environment.get_template(path.name).render(known))


def experiment_of(stem: str) -> str | None:
    """The experiment that an executed notebook ran for, where it runs for each."""
    match = re.fullmatch(r"0[23]-(?:training|samples)-(.+)", stem)
    return match[1] if match else None


def switched_on(stem: str, settings: Params) -> bool:
    experiment = experiment_of(stem)
    return experiment is None or experiment in settings.run


def chapter(
    notebook: nbformat.NotebookNode,
    stem: str,
    project: Path,
    described: dict[str, str],
    settings: Params,
    judged: Sequence[tuple[claims.Claim, claims.Judged]],
) -> Iterator[Figure]:
    """Turns an executed notebook into a chapter, in place, and yields its figures.

    Code is folded; figures are those of `results/figures`, which are sharper than what a notebook
    shows, with a description and a caption; verdicts come after the introduction and parameters at
    the end.
    """
    experiment = experiment_of(stem)
    short = stem.removesuffix(f"-{experiment}")
    heading = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = [heading, *re.findall(r"^#+ (.*)$", cell.source, re.MULTILINE)][-1]
            continue
        tags = cell.metadata.setdefault("tags", [])
        tags.append(
            "remove-cell" if {"parameters", "injected-parameters"} & {*tags} else "hide-input"
        )
        for output in cell.outputs:
            # Sphinx leaves links in outputs as they are.
            if text := output.get("data", {}).get("text/markdown"):
                output.data["text/markdown"] = re.sub(r"\]\(([\w-]+)\.ipynb\)", r"](\1.html)", text)
        name = re.search(r'record\.figure\(.*"([\w-]+)"\)', cell.source, re.DOTALL)
        if not name:
            continue
        key = f"{short}/{name[1]}"
        if key not in described:
            raise ProjectError(
                f"notebooks/page/figures.yaml has no description of {key}: add what can be seen"
            )
        png = project / "results" / "figures" / stem / f"{name[1]}.png"
        with Image.open(png) as image:
            source = image.text["Source"]
        alt = described[key] + (f" Experiment {experiment}." if experiment else "")
        figure = Figure(stem, name[1], alt, heading, source)
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = base64.b64encode(png.read_bytes()).decode()
        cell.metadata["mystnb"] = {
            "image": {"alt": alt},
            "figure": {"name": figure.label, "caption": figure.made_by},
        }
        yield figure
    first = notebook.cells[0]
    if experiment:
        first.source = re.sub(
            r"^(# .*)$", rf"\1: `{experiment}`", first.source, count=1, flags=re.M
        )
    verdicts = [
        f"- **{found.verdict}**: {claim.claim} ({claim.place}). Ours: {found.value}."
        for claim, found in judged
        if claim.notebook == stem
    ]
    said = [
        output.data["text/markdown"].strip().split("\n\n")[0]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "text/markdown" in output.get("data", {})
    ]
    what = "\n".join(verdicts) or said[-1]
    what += "\n\nMore in [what our numbers say](#what-our-numbers-say)."
    if stem != "16-claims":
        notebook.cells.insert(
            1, text_cell("found", f":::{{admonition}} What we found\n{what}\n:::")
        )
    notebook.cells.append(text_cell("parameters-used", parameters(stem, short, settings)))


def text_cell(name: str, text: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_markdown_cell(text, id=name)


def parameters(stem: str, short: str, settings: Params) -> str:
    """The last section of a chapter: what of params.yaml its figures depend on."""
    key = short[3:].replace("-", "_")
    section = settings.notebooks.model_dump(mode="json").get(key, {})
    names = [name for name in settings.run if name in section.values()]
    if experiment := experiment_of(stem):
        names = [experiment]
    shown: dict[str, Any] = {"notebooks": {key: section}}
    if names:
        described = {name: settings.experiments[name].model_dump(mode="json") for name in names}
        shown["experiments"] = described
    text = io.StringIO()
    YAML(typ="safe", pure=True).dump(shown, text)
    label = f"parameters-{stem.replace('_', '-')}"
    return f"({label})=\n## Parameters\n\nFrom `params.yaml`:\n\n```yaml\n{text.getvalue()}```"


def placed(figures: dict[tuple[str, str], Figure], chapter: str, name: str, caption: str) -> str:
    """A figure on another page than its chapter, with a link back to its cell."""
    found = figures.get((chapter, name))
    if found is None:
        raise ProjectError(f"the page shows {chapter}/{name}, which no notebook made")
    return (
        f":::{{figure}} /figures/{chapter}/{name}.png\n:alt: {found.alt}\n\n"
        f"{caption} {found.made_by}.\n:::"
    )


def section(readme: str, heading: str) -> str:
    """A section of the README; its links lead to chapters, to the web, or become plain text."""
    match = re.search(rf"^(#+) {re.escape(heading)}\n(.*?)(?=^#)", readme, re.MULTILINE | re.DOTALL)
    if match is None:
        raise ProjectError(f"README.md has no section '{heading}', which the page includes")
    text = re.sub(r"\]\(results/notebooks/(.*?)\)", r"](chapters/\1)", match[2])
    return re.sub(r"\[([^]]*)\]\((?!chapters/|https?:)[^)]*\)", r"\1", text).strip("\n")


def paper_table(paper: dict[str, str], figures: Sequence[Figure]) -> list[tuple[str, str, str]]:
    """Every figure and table of the paper: its number, what it shows, and links to ours."""
    ours = defaultdict(dict)
    for figure in figures:
        for number in numbers(figure.heading):
            ours[number].setdefault(f"{figure.chapter[:2]}-{figure.name}", figure)
    rows = []
    for number, shows in paper.items():
        what, _, instead = shows.partition(" | ")
        links = [
            f"{{ref}}`{figure.chapter}: {figure.name} <{figure.label}>`"
            for key, figure in ours[number].items()
        ]
        if instead:
            links.append(instead)
        rows.append((number, what, ", ".join(links) or "not made"))
    return rows


def numbers(heading: str) -> Iterator[str]:
    """The paper's figures that a heading names, as 7 of '(Figs. 7b and 26-28)'."""
    for group in re.findall(r"\(Figs?\. ([^)]*)\)", heading):
        for first, last in re.findall(r"(\d+)(?:-(\d+))?", group):
            yield from map(str, range(int(first), int(last or first) + 1))


def film(settings: Params, folder: Path) -> dict[str, str]:
    """Writes the videos; gives the file of each by what it shows."""
    films = {}

    def write(name: str, frames: np.ndarray) -> None:
        videos.write(frames, folder / f"{name}.mp4")
        films[name] = f"videos/{name}"

    side = 112
    for experiment in settings.run:
        found = filmed(experiment)
        columns = next(c for c in (4, 3, 2, 1) if found.sequences.shape[1] % c == 0)
        write(experiment, videos.mosaic(found.sequences, columns, side))
        process = settings.experiments[experiment].process
        # Elsewhere a start is noise, or what grows from it is no image.
        if process.kind == "inverse_heat" and process.sigma > 0:
            write(f"{experiment}-shared", videos.mosaic(found.shared, columns, side))
    compared = [filmed(name).sequences for name in together(settings)]
    write("together", videos.side_by_side([videos.mosaic(u[:, :6], 2, 84) for u in compared]))
    return films


def together(settings: Params) -> list[str]:
    """The experiments that are shown on one clock: one of each process, on the same data."""
    shown = settings.notebooks.blurring_diffusion
    return [shown.inverse_heat, shown.denoising, shown.blurring]


def scrub(settings: Params, folder: Path) -> dict[str, Any]:
    """What the slider shows: for each model a strip of its frames, and its spectrum at each."""
    rows = []
    for kind, name in zip(MODELS, together(settings), strict=True):
        found = filmed(name)
        sprite(found, folder / f"scrub-{kind}.png")
        # A model that has failed leaves the range of half precision, and then that of the drawing.
        states = found.sequences.nan_to_num()
        power = torch.stack([spectrum.radial_psd(u)[1] for u in states]).clamp(*POWER)
        rows.append(
            {
                "kind": kind,
                "name": MODELS[kind],
                "experiment": name,
                "levels": found.levels.tolist(),
                "power": power[:, 1:].log10(),
            }
        )
    low = min(row["power"].min() for row in rows).floor().item()
    high = max(row["power"].max() for row in rows).ceil().item()
    frequency = spectrum.radial_psd(found.sequences[-1])[0][1:].log10()
    x = (frequency - frequency[0]) / (frequency[-1] - frequency[0])
    for row in rows:
        y = (high - row.pop("power")) / (high - low)
        row["paths"] = [
            "M" + "L".join(f"{200 * a:.0f} {120 * b:.0f}" for a, b in zip(x, line, strict=True))
            for line in y.tolist()
        ]
        row["json"] = json.dumps({"levels": row["levels"], "paths": row["paths"]})
    return {"rows": rows, "frames": len(found.levels), "low": int(low), "high": int(high)}


def sprite(found: Film, path: Path) -> None:
    """Writes the frames of the first sequence side by side."""
    frames = videos.mosaic(found.sequences[:, :1], 1, 1)[:, 2:-2, 2:-2]
    image = Image.fromarray(np.concatenate(list(frames), axis=1))
    scale = min(1.0, SPRITE_SIDE / frames.shape[1])
    size = len(frames) * round(scale * frames.shape[2]), round(scale * frames.shape[1])
    image.resize(size).save(path, optimize=True)


def main() -> None:
    with params.exit_on_error():
        print(f"The page: {build(params.root())}")


if __name__ == "__main__":
    main()

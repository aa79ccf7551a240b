"""The page: a static site made from the results of a run, the last stage of the pipeline.

`python -m ihdm.page` gathers text, executed notebooks, figures and films under `build/page/` and
has Sphinx make `site/` of them. The text is in `notebooks/page/`; numbers come from
`results/metrics/` and the ledger of claims when the page is built. The site works from a folder
and asks for nothing outside of it.
"""

import base64
import importlib.resources
import io
import re
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import nbformat
from nbconvert.filters import strip_ansi
from nbformat.reader import NotJSONError
from PIL import Image
from ruamel.yaml import YAML
from sphinx.application import Sphinx

from ihdm import claims, films, params
from ihdm.results import measured
from ihdm.settings import Params, ProjectError

__all__ = ["Figure", "build", "gather"]

MATHJAX = "tex-svg-full.js"  # in one file, without fonts

SPHINX = {
    "project": "Inverse heat dissipation, made again",
    "extensions": ["myst_nb", "sphinx.ext.mathjax"],
    "html_theme": "furo",
    "html_title": "Inverse heat dissipation, made again",
    "html_static_path": ["static"],
    "html_css_files": ["page.css"],
    "html_js_files": [("page.js", {"defer": "defer"})],
    "html_extra_path": ["extra"],
    "html_copy_source": False,
    "html_use_index": False,
    # A summary beside what is found would be fetched, which a browser denies to a folder.
    "html_show_search_summary": False,
    "html_show_sphinx": False,
    "html_show_copyright": False,
    "myst_enable_extensions": ["colon_fence", "dollarmath"],
    "mathjax_path": MATHJAX,
    # Formulas stay out of the way of the tab key; what they say is there as MathML.
    "mathjax3_config": {"options": {"enableMenu": False}, "svg": {"scale": 0.9}},
    "myst_heading_anchors": 3,
    "nb_code_prompt_show": "Show the code",
    "nb_code_prompt_hide": "Hide the code",
    "nb_execution_mode": "off",
    "nb_merge_streams": True,
    "nb_render_markdown_format": "myst",
    "pygments_style": "a11y-high-contrast-light",
}
TEMPLATES = jinja2.Environment(
    undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


class Figure(NamedTuple):
    """A figure of a notebook and what the page says of it.

    Attributes:
        chapter: the executed notebook without ending, as 03-samples-mnist.
        name: of its file, without ending.
        alt: what can be seen, for those who cannot see it.
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
        """What links to its cell lead to."""
        return f"fig-{self.chapter}-{self.name}".replace("_", "-")

    @property
    def made_by(self) -> str:
        """The stage and a link to the parameters."""
        stage, digest = (
            re.search(rf"{key} ([^;]+)", self.source) for key in ("stage", "param\\w+")
        )
        return (
            f"stage `{stage[1]}`, "
            f"{{ref}}`parameters {digest[1]} <parameters-{self.chapter.replace('_', '-')}>`"
        )


def build() -> Path:
    """Makes the site of the project that holds the working directory.

    Returns:
        The first page of the site.

    Raises:
        ProjectError: results are missing or damaged, or Sphinx warned of something.
    """
    work, site = params.root() / "build" / "page", params.root() / "site"
    shutil.rmtree(work, ignore_errors=True)
    try:
        gather(work / "source")
    except (OSError, NotJSONError) as error:
        raise ProjectError(f"a result is missing or damaged ({error}): run `dvc repro`") from None
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
        raise ProjectError(f"the page has problems:\n{strip_ansi(told.getvalue())}")
    # What Sphinx keeps for its next build is of no use to a reader.
    for name in (".buildinfo", "objects.inv"):
        (work / "site" / name).unlink(missing_ok=True)
    shutil.rmtree(site, ignore_errors=True)
    shutil.move(work / "site", site)
    shutil.rmtree(work)
    return site / "index.html"


def gather(source: Path) -> None:
    """Collects what Sphinx makes the site of.

    Args:
        source: a new folder.

    Raises:
        ProjectError: results are missing or damaged, or a figure has no description.
        OSError: a notebook or a figure is missing or damaged.
    """
    project, settings = params.root(), params.load()
    text = project / "notebooks" / "page"
    shutil.copytree(project / "results" / "figures", source / "figures")
    (source / "static").mkdir()
    mathjax = importlib.resources.files("sphinx-mathjax-offline") / "static" / "mathjax"
    for path in (text / "page.css", text / "page.js", mathjax / MATHJAX):
        shutil.copyfile(path, source / "static" / path.name)
    described = YAML(typ="safe", pure=True).load(text / "descriptions.yaml")
    judged = claims.ledger(settings.notebooks)
    figures = {}
    (source / "chapters").mkdir()
    paths = executed(project / "results" / "notebooks", settings)
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        for figure in chapter(notebook, path.stem, project, described["figures"]):
            figures[figure.chapter, figure.name] = figure
        notebook.cells.insert(1, summary(path.stem, described["chapters"], settings, judged))
        notebook.cells.append(parameters(path.stem, settings))
        nbformat.write(notebook, source / "chapters" / path.name)
    shown_first = settings.notebooks.blurring_diffusion.inverse_heat
    readme = (project / "README.md").read_text()
    known = {
        "settings": settings,
        "shown_first": shown_first,
        "chapters": [path.stem for path in paths],
        "others": [path.stem for path in paths if parts(path.stem)[1] not in (None, shown_first)],
        "judged": judged,
        "of_papers": sum(not claim.place.startswith("ours") for claim, _ in judged),
        "verdicts": [claims.SUPPORTED, claims.CONTRADICTED, claims.UNTESTABLE],
        "fid": measured("13-fid-tables"),
        "likelihood": measured("14-likelihood"),
        "films": films.write(settings, source / "extra" / "videos"),
        "models": films.MODELS,
        "scrub": films.slider(settings, source / "static"),
        "paper": paper_table(described["paper"], figures.values(), settings),
        "figure": partial(placed, figures),
        "readme": partial(section, readme),
        "citation": YAML(typ="safe", pure=True).load(project / "CITATION.cff"),
    }
    for path in text.glob("*.md"):
        (source / path.name).write_text(TEMPLATES.from_string(path.read_text()).render(known))


def parts(stem: str) -> tuple[str, str | None]:
    """Of an executed notebook, the notebook and, where it runs for each, the experiment."""
    match = re.fullmatch(r"(0[23]-(?:training|samples))-(.+)", stem)
    return match.groups() if match else (stem, None)


def executed(folder: Path, settings: Params) -> list[Path]:
    """Executed notebooks in the order of their numbers and of `run`, without what it leaves out."""
    places = {None: 0} | {name: i for i, name in enumerate(settings.run)}
    order = {}
    for path in folder.glob("*.ipynb"):
        notebook, experiment = parts(path.stem)
        if experiment in places:
            order[path] = notebook, places[experiment]
    if not order:
        raise ProjectError(f"{folder} has no executed notebooks: run `dvc repro`")
    return sorted(order, key=order.get)


def chapter(
    notebook: nbformat.NotebookNode, stem: str, project: Path, described: dict[str, str]
) -> Iterator[Figure]:
    """Turns an executed notebook into a chapter, in place, and yields its figures.

    Code is folded; figures are those of `results/figures`, which are sharper than what a notebook
    shows, with a description and a caption.
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
        tags.append(
            "remove-cell" if {"parameters", "injected-parameters"} & {*tags} else "hide-input"
        )
        name = re.search(r'record\.figure\(.*"([\w-]+)"\)', cell.source, re.DOTALL)
        if not name:
            continue
        key = f"{short}/{name[1]}"
        if key not in described:
            raise ProjectError(
                f"notebooks/page/descriptions.yaml has no description of {key}: add it"
            )
        png = project / "results" / "figures" / stem / f"{name[1]}.png"
        with Image.open(png) as image:
            # At 110 pixels an inch, so that letters are of one size in all figures.
            source, width = image.text["Source"], round(110 / 150 * image.width)
        alt = described[key] + (f" Experiment {experiment}." if experiment else "")
        figure = Figure(stem, name[1], alt, heading, source, f"{width}px")
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = base64.b64encode(png.read_bytes()).decode()
        cell.metadata["mystnb"] = {
            # With a width it becomes a link to the whole picture.
            "image": {"alt": alt, "width": figure.width},
            "figure": {"name": figure.label, "caption": f"From the cell above, {figure.made_by}"},
        }
        yield figure


def summary(
    stem: str,
    described: dict[str, dict[str, str]],
    settings: Params,
    judged: Sequence[tuple[claims.Claim, claims.Judged]],
) -> nbformat.NotebookNode:
    """The box at the top of a chapter: what is claimed and what was found, a sentence each."""
    short, experiment = parts(stem)
    if short not in described:
        raise ProjectError(
            f"notebooks/page/descriptions.yaml has no chapter {short}: add two sentences"
        )
    known = {
        "m": measured(stem),
        "v": {claim.judge.__name__: found for claim, found in judged},
        "s": settings.notebooks,
        "kind": settings.experiments[experiment].process.kind if experiment else None,
    }
    claimed, found = (
        TEMPLATES.from_string(described[short][key]).render(known) for key in ("claimed", "found")
    )
    text = f"**Claimed:** {claimed}\n\n**Found:** {found}"
    return nbformat.v4.new_markdown_cell(f":::{{admonition}} In short\n{text}\n:::", id="in-short")


def parameters(stem: str, settings: Params) -> nbformat.NotebookNode:
    """The last section of a chapter: what of params.yaml its figures depend on."""
    short, experiment = parts(stem)
    key = short[3:].replace("-", "_")
    section = settings.notebooks.model_dump(mode="json").get(key, {})
    used = [experiment] if experiment else section.values()
    names = [name for name in settings.run if name in used]
    shown: dict[str, Any] = {"notebooks": {key: section}}
    if names:
        described = {name: settings.experiments[name].model_dump(mode="json") for name in names}
        shown["experiments"] = described
    text = io.StringIO()
    YAML(typ="safe", pure=True).dump(shown, text)
    label = f"parameters-{stem.replace('_', '-')}"
    text = f"({label})=\n## Parameters\n\nFrom `params.yaml`:\n\n```yaml\n{text.getvalue()}```"
    return nbformat.v4.new_markdown_cell(text, id="parameters-used")


def placed(figures: dict[tuple[str, str], Figure], chapter: str, name: str, caption: str) -> str:
    """A figure on another page than its chapter, with a link back to its cell."""
    found = figures.get((chapter, name))
    if found is None:
        raise ProjectError(f"the page shows {chapter}/{name}, which no notebook made")
    return (
        f":::{{figure}} /figures/{chapter}/{name}.png\n:alt: {found.alt}\n:width: {found.width}\n\n"
        f"{caption} {{ref}}`Cell of {chapter} <{found.label}>`, {found.made_by}.\n:::"
    )


def section(readme: str, heading: str) -> str:
    """A section of the README; its links into the repository become plain text."""
    match = re.search(rf"^(#+) {re.escape(heading)}\n(.*?)(?=^#)", readme, re.MULTILINE | re.DOTALL)
    if match is None:
        raise ProjectError(f"README.md has no section '{heading}', which the page includes")
    return re.sub(r"\[([^]]*)\]\((?!https?:)[^)]*\)", r"\1", match[2]).strip("\n")


def paper_table(
    paper: dict[str, str], figures: Iterable[Figure], settings: Params
) -> list[tuple[str, str, str]]:
    """Every figure and table of the paper: its number, what it shows, and links to ours."""
    ours = defaultdict(lambda: defaultdict(list))
    for figure in figures:
        text = f"{int(figure.chapter[:2])}, {figure.name.replace('-', ' ')}"
        experiment = parts(figure.chapter)[1]
        for number in numbers(figure.heading):
            link = f"{{ref}}`{experiment or text} <{figure.label}>`"
            ours[number][f"{text}: " if experiment else ""].append(link)
    rows = []
    for number, shows in paper.items():
        what, _, more = shows.partition(" | ")
        links = [start + ", ".join(found) for start, found in ours[number].items()]
        experiment = parts(more)[1]
        if experiment and experiment not in settings.run:
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


def main() -> None:
    with params.exit_on_error():
        print(f"The page: {build()}")


if __name__ == "__main__":
    main()

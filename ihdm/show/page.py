"""The page: a static site made from the results of a run, the last stage of the pipeline.

`python -m ihdm.show.page` gathers text, executed notebooks, figures and films under `build/page/`,
and Sphinx makes `site/` of them. The text is in `notebooks/page/`; numbers come from
`results/metrics/` and the ledger of claims when the page is built. The site opens from a folder and
works offline.
"""

import importlib.resources
import io
import json
import re
import shutil
from functools import partial
from pathlib import Path

import nbformat
from nbconvert.filters import strip_ansi
from nbformat.reader import NotJSONError
from PIL import Image, ImageOps
from ruamel.yaml import YAML
from sphinx.application import Sphinx

from ihdm import settings
from ihdm.measures import claims
from ihdm.measures.verdicts import VERDICTS
from ihdm.project import ProjectError, exit_on_error, root
from ihdm.results import measured
from ihdm.show import films, hands_on, thumbnails
from ihdm.show.chapters import (
    TEMPLATES,
    Figure,
    chapter,
    executed,
    paper_table,
    parameters,
    parts,
    placed,
    play,
    summary,
)

__all__ = ["build", "gather"]

MATHJAX = "tex-svg-full.js"  # in one file, without fonts
PREVIEW = (1200, 630)  # pixels of the picture in previews of links


def build() -> Path:
    """Makes the site of the project that holds the working directory.

    Returns:
        The first page of the site.

    Raises:
        ProjectError: results are missing or damaged, or Sphinx warned of something.
    """
    work, site = root() / "build" / "page", root() / "site"
    shutil.rmtree(work, ignore_errors=True)
    try:
        gather(work / "source")
    except (OSError, NotJSONError, json.JSONDecodeError) as error:
        raise ProjectError(f"a result is missing or damaged ({error}): run `dvc repro`") from None
    warnings = io.StringIO()
    app = Sphinx(
        work / "source",
        work / "source",
        work / "site",
        work / "doctrees",
        "html",
        status=None,
        warning=warnings,
    )
    app.build()
    if app.statuscode or warnings.getvalue():
        raise ProjectError(f"the page has problems:\n{strip_ansi(warnings.getvalue())}")
    # Sphinx keeps these for its next build; a reader has no use for them.
    for name in (".buildinfo", "objects.inv"):
        (work / "site" / name).unlink(missing_ok=True)
    shutil.rmtree(site, ignore_errors=True)
    shutil.move(work / "site", site)
    shutil.rmtree(work)
    return site / "index.html"


def gather(source: Path) -> None:
    """Collects the sources of the site.

    Args:
        source: a new folder.

    Raises:
        ProjectError: results are missing or damaged, or a figure has no description.
        OSError: a notebook or a figure is missing or damaged.
    """
    project, params = root(), settings.load()
    text, static = project / "notebooks" / "page", source / "static"
    shutil.copytree(project / "results" / "figures", source / "figures")
    shutil.copytree(text / "scripts", static / "scripts")
    shutil.copyfile(text / "conf.py", source / "conf.py")
    mathjax = importlib.resources.files("sphinx-mathjax-offline") / "static" / "mathjax"
    for path in (text / "page.css", Path(str(mathjax / MATHJAX))):
        shutil.copyfile(path, static / path.name)
    described = YAML(typ="safe", pure=True).load(text / "descriptions.yaml")
    judged = claims.told(measured(thumbnails.LEDGER)["claims"], params.notebooks)
    shown_first = params.notebooks.blurring_diffusion.inverse_heat
    first = project / "results" / "figures" / f"03-samples-{shown_first}" / "sequences.png"
    with Image.open(first) as picture:
        preview = ImageOps.pad(picture.convert("RGB"), PREVIEW, color="white")
        preview.save(static / "preview.png", optimize=True)
    thumbnails.write(judged, project / "results" / "figures", static / "thumbs")
    moving = {
        "films": films.write(params, source / "extra" / "videos"),
        "models": films.MODELS,
        "scrub": films.slider(params, static),
        **hands_on.place(params, static),
    }
    figures: dict[tuple[str, str], Figure] = {}
    (source / "chapters").mkdir()
    paths = executed(project / "results" / "notebooks", params)
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        for figure in chapter(notebook, path.stem, project, described["figures"]):
            figures[figure.chapter, figure.name] = figure
        play(notebook, path.stem, moving)
        if path.stem == thumbnails.LEDGER:
            thumbnails.illustrate(notebook, judged, figures)
        verdicts = thumbnails.verdicts(path.stem, judged, figures)
        notebook.cells.insert(1, summary(path.stem, described["chapters"], params, verdicts))
        notebook.cells.append(parameters(path.stem, params))
        nbformat.write(notebook, source / "chapters" / path.name)
    readme = (project / "README.md").read_text()
    known = moving | {
        "root": "",
        "params": params,
        "shown_first": shown_first,
        "chapters": [path.stem for path in paths],
        "others": [path.stem for path in paths if parts(path.stem)[1] not in (None, shown_first)],
        "judged": judged,
        "of_papers": [each for each in judged if not each[0].place.startswith("ours")],
        "verdicts": VERDICTS,
        "fid": measured("13-fid-tables"),
        "likelihood": measured("14-likelihood"),
        "paper": paper_table(described["paper"], figures.values(), params),
        "figure": partial(placed, figures),
        "picture": partial(thumbnails.picture, figures=figures, root=""),
        "readme": partial(section, readme),
        "citation": YAML(typ="safe", pure=True).load(project / "CITATION.cff"),
    }
    for path in text.glob("*.md"):
        (source / path.name).write_text(TEMPLATES.from_string(path.read_text()).render(known))


def section(readme: str, heading: str) -> str:
    """A section of a text in Markdown; its links into the repository become plain text."""
    match = re.search(
        rf"^(#+) {re.escape(heading)}\n(.*?)(?=^#|\Z)", readme, re.MULTILINE | re.DOTALL
    )
    if match is None:
        raise ProjectError(f"README.md has no section '{heading}', which the page includes")
    return re.sub(r"\[([^]]*)\]\((?!https?:)[^)]*\)", r"\1", match[2]).strip("\n")


def main() -> None:
    with exit_on_error():
        print(f"The page: {build()}")


if __name__ == "__main__":
    main()

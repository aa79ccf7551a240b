"""The small pictures of the claims, and the links between a claim, its chapter and the ledger."""

import nbformat
import pytest
from bs4 import BeautifulSoup
from PIL import Image

from ihdm.measures import claims
from ihdm.measures.verdicts import SUPPORTED, Judged
from ihdm.project import ProjectError
from ihdm.settings import load
from ihdm.show import thumbnails
from tests.pipeline import REPOSITORY

JUDGED = [
    (claim, Judged("1", SUPPORTED))
    for claim in claims.stated(load(REPOSITORY / "params.yaml").notebooks)
]


def read(path):
    return BeautifulSoup(path.read_text(), "html.parser")


def test_pictures_of_any_shape_become_one_small_size(tmp_path):
    for claim, _ in JUDGED:
        figure = tmp_path / "figures" / f"{claim.figure}.png"
        figure.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((400, 100 if "kid" in claim.figure else 900), 99).save(figure)
    thumbnails.write(JUDGED, tmp_path / "figures", tmp_path / "thumbs")
    small = list((tmp_path / "thumbs").rglob("*.png"))
    assert len(small) == len({claim.figure for claim, _ in JUDGED})
    for path in small:
        assert path.stat().st_size < 60_000
        with Image.open(path) as picture:
            assert picture.size == (288, 192)


def test_a_claim_without_its_figure_or_its_row_is_named():
    (claim, _), *_ = JUDGED
    with pytest.raises(ProjectError, match=claim.figure):
        thumbnails.picture(claim, {}, "")
    table = nbformat.v4.new_output(
        "display_data", {"text/markdown": "| claim | test |\n|---|---|\n"}
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(outputs=[table])])
    with pytest.raises(ProjectError, match=claim.claim):
        thumbnails.illustrate(notebook, JUDGED, {})


def test_each_claim_leads_from_its_chapter_to_the_ledger_and_back(site, monkeypatch):
    monkeypatch.chdir(site.parent)
    ledger = read(site / "chapters" / "16-claims.html")
    for claim in claims.stated(load().notebooks):
        label = thumbnails.label(claim)
        box = read(site / "chapters" / f"{claim.notebook}.html").select_one("div.admonition")
        entry = box.find("a", href=f"16-claims.html#{label}").find_parent("li")
        row = ledger.find(id=label).find_parent("tr")
        assert row.find("a", href=f"{claim.notebook}.html")
        for place in (entry, row):
            assert claim.claim in place.get_text()
            picture = place.select_one("a.thumb")
            chapter, _, target = picture["href"].rpartition("/")[2].partition(".html#")
            assert read(site / "chapters" / f"{chapter}.html").find(id=target).name == "figure"
            assert picture.img["loading"] == "lazy"
            assert picture.img["src"].endswith(f"{claim.figure}.png")
            assert len(picture.img["alt"]) > 20

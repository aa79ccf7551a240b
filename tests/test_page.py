"""The page of the smoke run: its files, and how it looks and moves in a browser."""

import itertools
import json
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import torch
from axe_core_python.selenium import Axe
from bs4 import BeautifulSoup
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from ihdm.project import ProjectError
from ihdm.show import chapters, videos
from tests.browsing import NARROW, WIDE, complaints, resize, visit
from tests.conftest import REPOSITORY


@pytest.fixture(scope="session")
def pages(site):
    """Every page of the site, read."""
    found = {path: BeautifulSoup(path.read_text(), "html.parser") for path in site.rglob("*.html")}
    assert site / "index.html" in found
    return found


def references(soup):
    """What a page refers to: the name of the element and the address."""
    for name in ("href", "src", "poster", "data-src"):
        for element in soup.find_all(attrs={name: True}):
            yield element.name, element[name]
    for element in soup.find_all(style=True):
        for address in re.findall(r"url\((.*?)\)", element["style"]):
            yield element.name, address


def test_every_link_and_image_resolves_and_nothing_is_asked_from_outside(pages):
    ids = {path: {e["id"] for e in soup.find_all(id=True)} for path, soup in pages.items()}
    checked = 0
    for path, soup in pages.items():
        for element, address in references(soup):
            parts = urlsplit(address)
            if parts.scheme in ("http", "https"):
                assert element == "a" or soup.find(element, href=address)["rel"] == ["canonical"]
                continue
            if parts.scheme == "data":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file(), f"{path.name} refers to {address}"
            if parts.fragment and target in ids:
                assert unquote(parts.fragment) in ids[target], f"{path.name} refers to {address}"
            checked += 1
    assert checked > 100


def test_scripts_work_from_a_folder(pages):
    for path, soup in pages.items():
        for script in soup.find_all("script"):
            assert script.get("type") in (None, "text/javascript", "application/json"), path
    scripts = [*(REPOSITORY / "notebooks" / "page" / "scripts").glob("*.js")]
    assert len(scripts) >= 6
    for script in scripts:
        assert not re.search(r"\bfetch\b|\bimport\b|XMLHttpRequest", script.read_text())


def test_every_page_has_what_a_preview_of_a_link_shows(pages):
    for path, soup in pages.items():
        tags = soup("meta", content=True)
        told = {tag.get("property", tag.get("name")): tag["content"] for tag in tags}
        assert len(told["og:title"]) > 5
        assert told["description"] == told["og:description"]
        with Image.open(path.parent / told["og:image"]) as picture:
            assert picture.size == (1200, 630)
    assert len({soup.find(property="og:title")["content"] for soup in pages.values()}) > 20


def test_films_stand_in_the_chapters_that_speak_of_them(site, pages):
    shown = {
        "03-samples-mnist": ["mnist", "mnist-shared"],
        "03-samples-mnist_ddpm": ["mnist_ddpm"],
        "04-blurring-diffusion": ["together"],
        "10-interpolation": ["interpolation"],
    }
    for chapter, films in shown.items():
        sources = pages[site / "chapters" / f"{chapter}.html"].select("video source")
        assert [Path(source["src"]).stem for source in sources] == films


def test_every_image_has_a_description(pages):
    for path, soup in pages.items():
        for image in soup.find("article", id="furo-main-content").find_all("img"):
            assert len(image.get("alt", "")) > 20, f"{path.name}: {image.get('src', '')[:80]}"
        for film in soup.find_all("video"):
            assert film["aria-label"]


def test_every_figure_of_a_chapter_leads_to_its_parameters(site, pages):
    figures = (site.parent / "results" / "figures").rglob("*.png")
    made = {f"fig-{png.parent.name}-{png.stem}".replace("_", "-") for png in figures}
    shown = set()
    for path, soup in pages.items():
        if path.parent.name == "chapters":
            for figure in soup.find_all("figure", id=re.compile("^fig-")):
                shown.add(figure["id"])
                links = [a["href"] for a in figure.find_all("a")]
                assert any("#parameters-" in link for link in links)
            if soup.find("figure"):
                assert soup.find(id=re.compile("^parameters-")).find("pre")
    assert shown == made


def test_every_description_is_of_a_figure_that_is_made(site):
    text = (REPOSITORY / "notebooks" / "page" / "descriptions.yaml").read_text()
    described = set(re.findall(r"^  (\d\d-[\w-]+/[\w-]+):", text, re.MULTILINE))
    made = set()
    for png in (site.parent / "results" / "figures").rglob("*.png"):
        made.add(f"{chapters.parts(png.parent.name)[0]}/{png.stem}")
    assert described == made


def test_every_chapter_says_what_was_claimed_and_what_was_found(pages):
    for path, soup in pages.items():
        if path.parent.name == "chapters":
            said = soup.select_one("div.admonition").get_text(" ", strip=True)
            assert re.search(r"Claimed: .{20,} Found: .{20,}", said), path.name


def test_the_numbers_of_the_landing_page_are_those_of_the_run(site, pages):
    text = pages[site / "index.html"].get_text()
    metrics = site.parent / "results" / "metrics"
    judged = json.loads((metrics / "16-claims.json").read_text())["claims"]
    for found in judged.values():
        assert found["value"] in text
    for value in json.loads((metrics / "13-fid-tables.json").read_text())["kid"].values():
        assert f"{value:.3f}" in text


def test_pages_load_without_errors_or_requests_and_fit_a_telephone(browser, pages):
    for path in pages:
        for width in (WIDE, NARROW):
            resize(browser, width)
            visit(browser, path)
            wide = browser.execute_script("return document.documentElement.scrollWidth")
            assert wide <= width, f"{path.name} scrolls sideways at {width} pixels"
        assert not browser.find_elements(By.CSS_SELECTOR, "[data-mml-node=merror]"), path.name
        assert list(complaints(browser)) == [], path.name


def test_pages_meet_the_rules_of_accessibility(browser, pages):
    rules = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa"]}}
    unfold = "document.querySelectorAll('details').forEach(d => d.open = true);"
    for path in pages:
        # Chapters of one notebook differ in nothing but their numbers.
        if chapters.parts(path.stem)[1] not in (None, "mnist"):
            continue
        visit(browser, path)
        browser.execute_script(unfold)
        # Opening a page takes longer than judging it, so one visit serves all four.
        for scheme, width in itertools.product(("light", "dark"), (WIDE, NARROW)):
            prefers = {"name": "prefers-color-scheme", "value": scheme}
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [prefers]})
            resize(browser, width)
            browser.execute_script("document.getAnimations().forEach(a => a.finish())")
            found = Axe().run(browser, options=rules)["violations"]
            first = [rule["nodes"][0] for rule in found]
            told = [(node["html"][:200], node["any"][0]["message"]) for node in first]
            assert not told, f"{path.name}, {scheme}, {width} pixels"


def test_the_search_finds_pages(browser, site):
    visit(browser, site / "search.html", "?q=Tweedie")
    found = WebDriverWait(browser, 30).until(
        lambda b: b.find_elements(By.CSS_SELECTOR, "ul.search a")
    )
    assert "asymptotics.html" in " ".join(link.get_attribute("href") for link in found)
    assert list(complaints(browser)) == []


def test_videos_report_a_duration_and_are_small(browser, site):
    visit(browser, site / "index.html")
    lengths = "return Array.from(document.querySelectorAll('video'), v => v.duration)"
    WebDriverWait(browser, 30).until(lambda b: all(b.execute_script(lengths)))
    films = sorted((site / "videos").glob("*.mp4"))
    assert len(browser.execute_script(lengths)) == len(films) >= 6
    for film in films:
        assert film.stat().st_size <= 2_000_000
        content = film.read_bytes()
        assert content.index(b"moov") < content.index(b"mdat")
        with Image.open(film.with_suffix(".png")) as poster:
            assert poster.width % 2 == poster.height % 2 == 0


def test_the_slider_moves_states_and_spectra_by_keyboard(browser, site):
    resize(browser, WIDE)
    visit(browser, site / "index.html")
    slider = browser.find_element(By.CSS_SELECTOR, ".scrub input[type=range]")
    assert slider.accessible_name

    def shown():
        states = browser.find_elements(By.CSS_SELECTOR, ".scrub .state")
        return (
            [state.value_of_css_property("background-position") for state in states],
            [e.get_attribute("d") for e in browser.find_elements(By.CSS_SELECTOR, ".scrub .now")],
            [e.text for e in browser.find_elements(By.CSS_SELECTOR, ".scrub .level")],
        )

    slider.send_keys(Keys.HOME)
    first = shown()
    slider.send_keys(Keys.ARROW_RIGHT)
    second = shown()
    slider.send_keys(Keys.END)
    last = shown()
    assert len(first[0]) == 3
    for before, after in ((first, second), (second, last)):
        for a, b in zip(before, after, strict=True):
            assert all(x != y for x, y in zip(a, b, strict=True))
    assert last[2] == ["0", "0", "0"]


def test_mathematics_is_drawn(browser, site):
    visit(browser, site / "objective.html")
    sizes = "return Array.from(document.querySelectorAll('mjx-container svg'), s => {"
    sizes += "const r = s.getBoundingClientRect(); return [r.width, r.height]})"
    drawn = browser.execute_script(sizes)
    assert len(drawn) > 40
    assert min(min(size) for size in drawn) > 2
    text = browser.find_element(By.TAG_NAME, "article").text
    assert not re.search(r"\$|\\[a-z(\[]+", text)
    spoken = browser.find_elements(By.CSS_SELECTOR, "mjx-assistive-mml math")
    assert len(spoken) == len(browser.find_elements(By.TAG_NAME, "mjx-container"))


def test_the_same_states_give_the_same_film(tmp_path):
    states = torch.rand(3, 4, 1, 5, 7, generator=torch.Generator().manual_seed(0))
    frames = videos.mosaic(states, 2, side=15)
    assert frames.shape == (3, 2 * 17 + 2, 2 * 23 + 2, 3)
    expected = (states[1, 3, 0] * 255).round().byte().numpy()
    np.testing.assert_array_equal(frames[1, 19:34:3, 25:46:3, 0], expected)
    written = []
    for name in ("first", "second"):
        videos.write(frames, tmp_path / f"{name}.mp4")
        written.append((tmp_path / f"{name}.mp4").read_bytes())
    assert written[0] == written[1]


def test_states_out_of_range_are_shown_at_its_ends():
    states = torch.tensor([-1.0, 2.0, torch.nan, torch.inf]).view(1, 4, 1, 1, 1)
    frames = videos.mosaic(states, 4, side=1)
    assert frames[0, 2, 2::3, 0].tolist()[:4] == [0, 255, 0, 255]


def test_a_film_that_is_too_large_becomes_smaller(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (4, 90, 130, 3), np.uint8)
    sizes = {}
    for limit in (2_000_000, 4_000):
        monkeypatch.setattr(videos, "LIMIT", limit)
        sizes[limit] = videos.write(noise, tmp_path / f"{limit}.mp4")
        assert (tmp_path / f"{limit}.mp4").stat().st_size <= limit
        with Image.open(tmp_path / f"{limit}.png") as poster:
            assert poster.size == sizes[limit][::-1]
    assert sizes[2_000_000] == (90, 130)
    assert sizes[4_000] in [(44, 64), (22, 32), (10, 16)]


def test_a_film_that_cannot_be_small_says_what_to_lower(tmp_path, monkeypatch):
    monkeypatch.setattr(videos, "LIMIT", 10)
    with pytest.raises(ProjectError, match="film_frames"):
        videos.write(np.zeros((2, 4, 4, 3), np.uint8), Path(tmp_path / "film.mp4"))

"""The controls of the page in a browser: what they show is what the package computes."""

import base64
import io
import os

import numpy as np
import pytest
import torch
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from ihdm import heat, settings
from ihdm.data.photographs import photograph
from ihdm.measures import spectrum
from ihdm.model import Model
from ihdm.pixels import to_unit
from ihdm.results import measured
from tests.browsing import NARROW, WIDE, complaints, resize, visit

VIEWS = [(WIDE, "light"), (NARROW, "dark")]


@pytest.fixture
def params(site, monkeypatch):
    """The settings of the run, whose project becomes the working directory."""
    monkeypatch.chdir(site.parent)
    return settings.load()


@pytest.fixture(params=VIEWS, ids=lambda view: "-".join(map(str, view)))
def open_control(request, browser, site):
    """Opens a page and finds a control of it, at two widths, by day and by night."""
    width, scheme = request.param
    resize(browser, width)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def opened(page, name):
        visit(browser, site / page)
        box = browser.find_element(By.CSS_SELECTOR, f".control.{name}")
        into_view(browser, box)
        return box

    yield opened
    assert list(complaints(browser)) == []


def into_view(browser, element):
    script = "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})"
    browser.execute_script(script, element)


def pixels_of(browser, tile, height, width):
    """The (H, W, 3) image that a tile shows on the screen, read at the centres of its pixels."""
    into_view(browser, tile)
    # Chromium paints between whole pixels; its picture of an element may lack a row of them.
    ends = "const b = arguments[0].getBoundingClientRect(); "
    ends += "return [b.top, b.bottom, b.left, b.right].map(Math.round)"
    top, bottom, left, right = browser.execute_script(ends, tile)
    with Image.open(io.BytesIO(browser.get_screenshot_as_png())) as shot:
        screen = np.asarray(shot.convert("RGB"))
    down, across = (
        (start + (np.arange(n) + 0.5) * (end - start) / n).astype(int)
        for n, start, end in ((height, top, bottom), (width, left, right))
    )
    return screen[np.ix_(down, across)]


def assert_shows(browser, tile, image):
    """Whether a tile shows a (C, H, W) image in [0, 1] to 1/255."""
    C, H, W = image.shape
    expected = image.clamp(0, 1).expand(3 if C == 1 else C, H, W).permute(1, 2, 0)

    def shown(_):
        seen = pixels_of(browser, tile, H, W) / 255
        return np.abs(seen - expected.numpy()).max() <= 1 / 255 + 1e-6

    # The browser may decode and paint a sheet after the script has run.
    WebDriverWait(browser, 10).until(shown)


def tiles(box, place=""):
    return box.find_elements(By.CSS_SELECTOR, f"{place} .tile")


def canvas(browser, box):
    """The melted picture, (1, 3, H, W) in [0, 1]."""
    script = "return arguments[0].querySelector('canvas').toDataURL()"
    png = base64.b64decode(browser.execute_script(script, box).split(",")[1])
    with Image.open(io.BytesIO(png)) as picture:
        return to_unit(np.asarray(picture.convert("RGB")).transpose(2, 0, 1)[None])


def assert_melted(browser, box, picture, sigma):
    """Whether picture, spectrum and number are those of the package at the width of the slider."""
    H, W = picture.shape[-2:]
    width = float(box.get_attribute("data-width"))
    equation = heat.HeatEquation(H, W, torch.tensor([width], dtype=torch.float64))
    melted = equation.blur(picture.double(), 0)
    difference = (canvas(browser, box) - melted.clamp(0, 1)).abs().max()
    assert difference <= 1 / 255, width
    left = int((heat.to_frequencies(melted)[0].square().mean(0) > sigma**2).sum())
    assert box.find_element(By.CLASS_NAME, "left").text == f"{left:,} of {H * W:,}"
    path = box.find_element(By.CLASS_NAME, "now").get_attribute("d")
    drawn = np.array([point.split() for point in path[1:].split("L")], float)
    _, power = spectrum.radial_psd(melted)
    expected = 10 * (4 - power[1:].clamp(min=1e-8).log10())
    np.testing.assert_allclose(drawn[:, 1], expected, atol=0.1)
    return width


def test_a_picture_melts_as_the_heat_equation_says(open_control, browser, params):
    box = open_control("index.html", "melt")
    sigma = params.experiments["mnist"].process.sigma
    picture = photograph(params.controls.photograph, params.controls.photograph_size)
    slider = box.find_element(By.CSS_SELECTOR, "input[type=range]")
    assert "pixels" in slider.accessible_name
    WebDriverWait(browser, 30).until(lambda b: box.get_attribute("data-width"))
    ActionChains(browser).move_to_element_with_offset(slider, 30, 0).click().perform()
    until_drawn(browser)
    widths = [assert_melted(browser, box, picture, sigma)]
    for key in (Keys.HOME, Keys.ARROW_RIGHT, Keys.PAGE_UP, Keys.PAGE_UP, Keys.END):
        slider.send_keys(key)
        until_drawn(browser)
        widths.append(assert_melted(browser, box, picture, sigma))
    assert widths[1] == 0
    assert widths[1:] == sorted(set(widths[1:]))
    assert widths[-1] == pytest.approx(params.controls.photograph_size)
    assert "frequencies left" in slider.get_attribute("aria-valuetext")


def until_drawn(browser):
    """Waits for two frames, of which the first moves the picture."""
    two = "requestAnimationFrame(() => requestAnimationFrame(arguments[0]))"
    browser.execute_async_script(two)


def test_a_visitor_melts_a_picture_of_their_own(open_control, browser, params, tmp_path):
    box = open_control("index.html", "melt")
    size = params.controls.photograph_size
    # Half as wide again as it is high, so that a square is cut out of its middle.
    own = np.random.default_rng(0).integers(0, 256, (size, size + size // 2, 3), np.uint8)
    Image.fromarray(own).save(tmp_path / "own.png")
    (tmp_path / "words.txt").write_text("no picture")
    chooser = box.find_element(By.CSS_SELECTOR, "input[type=file]")
    assert chooser.accessible_name
    told = box.find_element(By.TAG_NAME, "output")
    chooser.send_keys(os.fspath(tmp_path / "own.png"))
    WebDriverWait(browser, 30).until(lambda b: told.text == "Melting own.png")
    square = to_unit(own[:, size // 4 : size // 4 + size].transpose(2, 0, 1)[None])
    assert_melted(browser, box, square, params.experiments["mnist"].process.sigma)
    before = canvas(browser, box)
    chooser.send_keys(os.fspath(tmp_path / "words.txt"))
    WebDriverWait(browser, 30).until(lambda b: "words.txt is not a picture" in told.text)
    assert torch.equal(canvas(browser, box), before)


def test_delta_turns_samples_and_marks(open_control, browser, params):
    box = open_control("chapters/07-noise-scale.html", "delta")
    model = Model.trained(params.notebooks.fid_tables.inverse_heat)
    slider = box.find_element(By.CSS_SELECTOR, "input[type=range]")
    usual = model.process.delta / model.process.sigma
    assert float(box.find_element(By.CLASS_NAME, "value").text) == pytest.approx(usual)
    ActionChains(browser).move_to_element(slider).click().perform()
    kids = {float(at): kid for at, kid in measured("13-fid-tables")["kid_against_delta"].items()}
    for key in (None, Keys.ARROW_RIGHT, Keys.END, Keys.HOME):
        if key:
            slider.send_keys(key)
        value = float(box.find_element(By.CLASS_NAME, "value").text)
        expected = model.with_delta(value * model.process.sigma).draw(params.controls.starts)[0]
        for tile, image in zip(tiles(box), expected, strict=True):
            assert_shows(browser, tile, image)
        assert f"{value:g} sigma" in slider.get_attribute("aria-valuetext")
        kid, bound = box.find_elements(By.CLASS_NAME, "reading")
        if value in kids:
            assert kid.text == f"about {kids[value]:.3f}"
    assert value == 0
    marks = box.find_elements(By.CLASS_NAME, "mark")
    assert [kid.text, bound.text] == ["not measured here"] * 2
    assert not any(mark.is_displayed() for mark in marks)


def test_a_sequence_branches_where_it_is_clicked(open_control, browser, params):
    options = params.controls
    name = params.notebooks.fid_tables.inverse_heat
    box = open_control(f"chapters/03-samples-{name}.html", "branch")
    model = Model.trained(name)
    sequences, levels = (
        box.find_elements(By.CSS_SELECTOR, f"input[name={radio}]")
        for radio in ("sequence", "level")
    )
    assert len(sequences) == options.sequences
    into_view(browser, sequences[-1])
    ActionChains(browser).click(sequences[-1]).perform()
    into_view(browser, levels[1])
    ActionChains(browser).click(levels[1]).perform()
    assert_branches(browser, box, model, options, options.sequences - 1)
    before = box.find_element(By.CLASS_NAME, "value").text
    levels[1].send_keys(Keys.ARROW_RIGHT)
    assert int(box.find_element(By.CLASS_NAME, "value").text) < int(before)
    sequences[-1].send_keys(Keys.ARROW_LEFT)
    assert_branches(browser, box, model, options, options.sequences - 2)
    for radio in (*sequences, *levels):
        assert radio.accessible_name


def assert_branches(browser, box, model, options, sequence):
    """Whether states and endings are those of the model, at the level that the control names."""
    k = int(box.find_element(By.CLASS_NAME, "value").text)
    shown = [int(e.get_attribute("data-level")) for e in box.find_elements(By.NAME, "level")]
    states = model.draw(options.sequences, levels=shown)
    for level, tile in zip(shown, tiles(box, ".levels"), strict=True):
        assert_shows(browser, tile, states[level][sequence])
    again = states[k].repeat_interleave(options.branches, dim=0)
    others = range(options.sequences, options.sequences * (1 + options.branches))
    endings = model.draw(others, start=again, k=k)[0].unflatten(0, (-1, options.branches))
    for tile, ending in zip(tiles(box, ".endings"), endings[sequence], strict=True):
        assert_shows(browser, tile, ending)


def test_a_start_meets_a_noise(open_control, browser, params):
    options = params.notebooks.colour_and_shape
    box = open_control("chapters/09-colour-and-shape.html", "noise")
    model = Model.trained(options.experiment)
    starts, noises = (
        box.find_elements(By.CSS_SELECTOR, f"input[name={radio}]") for radio in ("start", "noise")
    )
    assert (len(starts), len(noises)) == (options.starts, options.noises)
    priors = model.starts(options.starts)
    for tile, prior in zip(tiles(box, ".starts"), priors, strict=True):
        assert_shows(browser, tile, prior)

    def assert_meeting(start, noise):
        assert starts[start].is_selected()
        assert noises[noise].is_selected()
        text = box.find_element(By.TAG_NAME, "figcaption").text
        assert text == f"Start {start + 1}, noise {noise + 1}"
        image = model.draw([noise], start=priors[start : start + 1])[0][0]
        assert_shows(browser, box.find_element(By.CSS_SELECTOR, "figure .tile"), image)

    grid = box.find_element(By.CLASS_NAME, "grid")
    into_view(browser, grid)
    cell = (grid.size["width"] / options.starts, grid.size["height"] / options.noises)
    click = ActionChains(browser).move_to_element_with_offset(grid, cell[0] / 2, -cell[1] / 2)
    click.click().perform()
    middle = (options.starts // 2, options.noises // 2 - 1)
    assert_meeting(*middle)
    noises[middle[1]].send_keys(Keys.ARROW_DOWN)
    assert_meeting(middle[0], middle[1] + 1)
    starts[middle[0]].send_keys(Keys.ARROW_LEFT)
    assert_meeting(middle[0] - 1, middle[1] + 1)
    for radio in (*starts, *noises):
        assert radio.accessible_name

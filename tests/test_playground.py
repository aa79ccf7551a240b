"""The playground: what its controls do, without a browser."""

import io
import shutil

import numpy as np
import pytest
import torch
from ipywidgets import Button, Dropdown, FloatSlider, Image, IntSlider, Label
from PIL import Image as Picture
from safetensors.torch import save_file

from ihdm import heat
from ihdm.model import Model
from ihdm.settings import load
from ihdm.show import playground, videos
from tests.conftest import portable, untrained


def parts(box, kind):
    return [child for child in box.children if isinstance(child, kind)]


def seen(box):
    with Picture.open(io.BytesIO(parts(box, Image)[0].value)) as picture:
        return np.asarray(picture.convert("RGB"))


def test_moving_a_control_melts_the_image_shown(ready):
    box = playground.melting("mnist")
    first = seen(box)
    box.children[1].value = 50
    second = seen(box)
    assert not np.array_equal(first, second)
    names = parts(box, Dropdown)[0]
    assert "mnist5k, 0" in names.options
    for name in names.options:
        names.value = name
    assert not np.array_equal(second, seen(box))


def test_without_data_there_are_photographs(project):
    box = playground.melting("mnist")
    shown = load().notebooks.psd_duality.photographs
    assert parts(box, Dropdown)[0].options == tuple(shown)
    assert "dvc repro data" in parts(box, Label)[0].value


def test_the_share_above_the_noise_is_that_of_the_blurred_coefficients():
    u = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    title = playground.melted(u, 3.0, 0.05).axes[2].get_title()
    n = torch.arange(16, dtype=torch.float64) * torch.pi / 16
    squared = n[:, None] ** 2 + n**2
    left = heat.to_frequencies(u.double())[0, 0] * torch.exp(-squared * 3.0**2 / 2)
    assert title == f"{(left.square() > 0.05**2).double().mean():.1%} above the noise"


def test_without_weights_it_says_which_commands_bring_them(ready):
    said = playground.drawing("mnist")
    assert isinstance(said, Label)
    assert "dvc repro train@mnist" in said.value
    assert "git restore weights" in said.value


def test_weights_in_git_are_enough_to_play(ready):
    portable("mnist").write(ready / "weights/mnist.safetensors")
    shutil.rmtree(ready / "data/prepared")
    experiment = load().experiments["mnist"]
    box = playground.drawing("mnist")
    prior = seen(box)
    parts(box, Button)[0].click()
    told, source = parts(box, Label)
    assert told.value == f"level 0 of {experiment.process.K}"
    assert source.value == "The weights are in weights/mnist.safetensors."
    # The picture on the screen is that of the model by hand, in every pixel.
    delta = 1.25 * experiment.process.sigma
    model = Model.from_file("weights/mnist.safetensors").with_delta(delta)
    by_hand = videos.mosaic(model.draw(1)[0][None], 1, playground.SCREEN)[0]
    assert np.array_equal(seen(box), by_hand)
    assert not np.array_equal(prior, by_hand)
    names = parts(playground.melting("mnist"), Dropdown)[0]
    assert "mnist5k, 2" in names.options


@pytest.fixture
def drawing(ready):
    network = untrained("mnist")
    path = ready / "results" / "weights" / "mnist.safetensors"
    path.parent.mkdir(parents=True)
    save_file(network.state_dict(), path)
    return playground.drawing("mnist")


def test_the_button_draws_what_the_controls_say(drawing):
    button, (delta,) = parts(drawing, Button)[0], parts(drawing, FloatSlider)
    seed, start = parts(drawing, IntSlider)
    K = load().experiments["mnist"].process.K
    prior, told = seen(drawing), parts(drawing, Label)[0]
    assert told.value == f"level {K} of {K}"
    button.click()
    first = seen(drawing)
    assert told.value == f"level 0 of {K}"
    assert not np.array_equal(prior, first)
    button.click()
    assert np.array_equal(first, seen(drawing))
    seed.value = 1
    button.click()
    second = seen(drawing)
    assert not np.array_equal(first, second)
    # Without noise the seed decides nothing, and the start everything.
    delta.value = 0
    button.click()
    still = seen(drawing)
    seed.value = 2
    button.click()
    assert np.array_equal(still, seen(drawing))
    start.value = 1
    button.click()
    assert not np.array_equal(still, seen(drawing))

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image

from ihdm import draw
from ihdm.model import Model
from ihdm.show.videos import GAP, HOLD
from tests.conftest import portable


@pytest.fixture
def file(ready, tmp_path, monkeypatch):
    """A model in a file, and a working directory far from any project."""
    path = tmp_path / "digits.safetensors"
    portable("mnist").write(path)
    monkeypatch.chdir(tmp_path)
    return path


def test_the_states_begin_with_the_prior_and_end_with_the_samples(file):
    model = Model.from_file(file)
    states = draw.drawn(model, 3)
    assert states.shape == (model.process.K + 1, 3, 1, 28, 28)
    assert torch.equal(states[0], model.starts(3))
    assert torch.equal(states[-1], model.draw(3)[0])


def test_the_picture_holds_the_samples_and_the_film_ends_with_it(file, capsys):
    draw.main([str(file), "--samples", "4", "--out", "new/digits.png", "--film", "digits.mp4"])
    assert "new/digits.png: 4 samples" in capsys.readouterr().out
    with Image.open("new/digits.png") as opened:
        picture = np.asarray(opened)
    samples = Model.from_file(file).draw(4)[0]
    # Two rows of two, each enlarged from 28 to 112 pixels.
    for i, sample in enumerate(samples):
        y, x = (GAP + (112 + GAP) * place for place in divmod(i, 2))
        enlarged = np.kron((255 * sample[0].clamp(0, 1)).round().numpy(), np.ones((4, 4)))
        assert np.array_equal(picture[y : y + 112, x : x + 112, 0], enlarged)
    frames, _ = imageio_ffmpeg.count_frames_and_secs("digits.mp4")
    assert frames == Model.from_file(file).process.K + 1 + HOLD
    with Image.open("digits.png") as last:
        assert np.array_equal(np.asarray(last)[: len(picture)], picture)


def test_another_seed_draws_other_samples_and_the_same_seed_the_same(file):
    made = {}
    for name, seed in (("a", "5"), ("b", "5"), ("c", "6")):
        draw.main([str(file), "--samples", "2", "--seed", seed, "--out", f"{name}.png"])
        made[name] = (file.parent / f"{name}.png").read_bytes()
    assert made["a"] == made["b"] != made["c"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "nothing to write"),
        (["--out", "digits.jpg"], r"digits\.jpg has to end in \.png"),
        (["--film", "digits.gif"], r"digits\.gif has to end in \.mp4"),
        (["--out", "a.png", "--samples", "0"], "at least 1"),
        (["--out", "a.png", "--seed", "-1"], "must not be negative"),
        (["--out", "a.png"], "none does not exist"),
    ],
)
def test_a_mistake_is_told_before_anything_is_drawn(tmp_path, monkeypatch, arguments, told):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=told):
        draw.main(["none", *arguments])
    assert not list(tmp_path.iterdir())

"""params.yaml against Tables 1 and 2 and App. B.1-B.3 of the paper."""

import pytest

from ihdm.settings import load
from tests.conftest import REPOSITORY

# Table 1: side, multipliers, learning rate, sides with attention, EMA, batch, blocks;
# Table 2: K, sigma_blur_max, delta; App. B.2: steps; App. B.3: samples, reference of FID.
# None where the paper gives nothing.
ROWS = {
    "paper_mnist": (28, (1, 2, 2), 1e-4, {7}, 0.999, 128, 4, 100, 20, 0.0125, None, None),
    "cifar10": (
        *(32, (1, 2, 2, 2), 2e-4, {8, 4}, 0.999, 128, 4),
        *(200, 24, 0.01325, 400_000, (50_000, "train")),
    ),
    "ffhq256": (
        *(256, (1, 2, 3, 4, 5), 2e-5, {64, 32, 16}, 0.9999, 32, 2),
        *(200, 128, 0.0125, 800_000, (10_000, "all")),
    ),
    "ffhq128": (
        *(128, (1, 2, 3, 4, 5), 2e-5, {32, 16, 8}, 0.999, 32, 2),
        *(200, 128, 0.0125, None, (50_000, "all")),
    ),
    "afhq256": (
        *(256, (1, 2, 3, 4, 5), 2e-5, {64, 32, 16}, 0.9999, 32, 2),
        *(200, 128, 0.01275, 400_000, (10_000, "all")),
    ),
    "afhq64": (
        *(64, (1, 2, 3, 4), 1e-4, {16, 8}, 0.999, 128, 2),
        *(200, 32, 0.0125, 100_000, (50_000, "all")),
    ),
    "lsun128": (
        *(128, (1, 2, 3, 4, 5), 2e-5, {32, 16, 8}, 0.999, 32, 2),
        *(400, 64, 0.0125, 1_000_000, (50_000, "train")),
    ),
}
DATA = dict.fromkeys(["paper_mnist"], "mnist")
COUNTERPARTS = {
    "cifar10_ddpm": ("cifar10", "denoising", None),
    "cifar10_blurring": ("cifar10", "blurring", 20),
    "ffhq256_ddpm": ("ffhq256", "denoising", None),
    "lsun128_ddpm": ("lsun128", "denoising", None),
    "lsun128_blurring": ("lsun128", "blurring", 20),
}


@pytest.fixture(scope="module")
def committed():
    return load(REPOSITORY / "params.yaml")


@pytest.mark.parametrize("name", ROWS)
def test_an_experiment_is_a_row_of_the_tables(committed, name):
    side, multipliers, rate, attention, ema, batch, blocks, K, blur, delta, steps, fid = ROWS[name]
    e, images = committed.experiments[name], committed.data[DATA.get(name, name)]
    assert images.shape == (1 if name == "paper_mnist" else 3, side, side)
    assert e.network.channels == 128
    assert e.network.multipliers == multipliers
    assert {side // 2**level for level in e.network.attention_levels} == attention
    assert (e.network.res_blocks, e.network.dropout, e.network.groups) == (blocks, 0.1, 32)
    assert (e.network.resample, e.network.parametrization) == ("pool", "published")
    assert (e.train.learning_rate, e.train.ema, e.train.batch) == (rate, ema, batch)
    assert (e.train.warmup, e.train.cooldown, e.train.gradient_clip) == (5000, 0, 1)
    assert e.train.gamma is None
    assert e.train.flips == name.startswith("afhq")
    assert steps in (None, e.train.steps)
    assert (e.process.K, e.process.sigma_blur_max, e.process.sigma) == (K, blur, 0.01)
    assert (e.process.sigma_blur_min, e.sampling.delta) == (0.5, delta)
    assert fid == (e.fid and (e.fid.samples, e.fid.reference))


@pytest.mark.parametrize("name", COUNTERPARTS)
def test_a_counterpart_differs_in_nothing_but_the_process(committed, name):
    of, kind, blur = COUNTERPARTS[name]
    ours, theirs = committed.experiments[name], committed.experiments[of]
    assert ours.process.kind == kind
    assert getattr(ours.process, "sigma_blur_max", None) == blur
    assert ours.network == theirs.network
    assert ours.train.model_copy(update={"gradient_clip": 1.0}) == theirs.train
    channels, height, width = committed.data[of].shape
    assert ours.train.gradient_clip == channels * height * width
    assert ours.fid == theirs.fid

"""The code of docs/scale.md, on random images."""

import re

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from ihdm import processes
from ihdm.losses import held_out_loss
from ihdm.pixels import to_bytes
from ihdm.unet import UNet
from tests.pipeline import REPOSITORY

NUMBERS = {
    "inverse_heat": {"sigma_blur_min": 0.5, "sigma_blur_max": 4, "sigma": 0.05},
    "denoising": {},
    "blurring": {"sigma_blur_max": 4},
}


class Stream(IterableDataset):
    """Bright stripes on a dark ground, without an end or a length."""

    def __iter__(self):
        draws = torch.Generator().manual_seed(0)
        while True:
            stripes = torch.rand(1, 1, 8, generator=draws).expand(1, 8, 8)
            yield to_bytes(stripes)


def documented():
    """The function `train` of the page's only block of Python."""
    (block,) = re.findall(
        r"^```python\n(.*?)^```$", (REPOSITORY / "docs/scale.md").read_text(), re.S | re.M
    )
    assert len(block.splitlines()) <= 25
    names = {}
    exec(block, names)
    return names["train"]


@pytest.mark.parametrize("kind", NUMBERS)
def test_a_process_and_a_network_train_in_another_loop_on_a_stream(kind):
    torch.manual_seed(0)
    process = processes.make(8, 8, kind=kind, K=4, **NUMBERS[kind])
    network = UNet(1, 8, (1, 2), 1, (1,), groups=2)
    batches = DataLoader(Stream(), batch_size=16)
    images = np.stack([next(iter(Stream()))])
    before = held_out_loss(process, network.eval(), images, seed=0)
    network.train()
    told = list(documented()(process, network, batches, 60, rate=0.01))
    assert len(told) == 60
    losses = [loss for loss, _ in told]
    assert np.mean(losses[-15:]) < 0.7 * np.mean(losses[:5])
    assert held_out_loss(process, network, images, seed=0) < 0.7 * before
    average = told[-1][1]
    moved = [
        (mean - own).abs().max()
        for mean, own in zip(average.parameters(), network.parameters(), strict=True)
    ]
    assert max(moved) > 1e-3

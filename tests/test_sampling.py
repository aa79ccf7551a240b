import itertools

import numpy as np
import pytest
import torch

from ihdm import sampling
from ihdm.heat import HeatEquation, blur_schedule
from ihdm.pipeline import published
from ihdm.processes import InverseHeat
from ihdm.unet import UNet
from tests.conftest import REFERENCE


class Pull(torch.nn.Module):
    """A stand-in for a network: moves a state towards its mean, at a rate that depends on k."""

    def __init__(self):
        super().__init__()
        self.rate = torch.nn.Parameter(torch.tensor(0.1))

    def forward(self, u, k):
        return self.rate * k[:, None, None, None] * (u.mean((2, 3), keepdim=True) - u)


def heat_process():
    return InverseHeat(HeatEquation(8, 8, blur_schedule(4, 0.5, 4)), 0.01, 0.0125)


@pytest.fixture
def process():
    return heat_process()


def test_reverse_equals_the_published_sampler(reference):
    arrays = reference("sampler_tiny.npz")
    network = UNet(3, 32, (1, 2), 1, (1,), resample="conv").eval()
    published.load(REFERENCE / "checkpoint_tiny.pth", network)
    K, scale = int(arrays["steps"]), arrays["network_scale"].item()
    heat = HeatEquation(16, 16, blur_schedule(K, 0.5, 8))
    process = InverseHeat(heat, 0.01, arrays["delta"].item())
    steps = list(
        sampling.reverse(
            process, lambda u, k: scale * network(u, k), arrays["u_K"], arrays["noise"]
        )
    )
    assert [step.k for step in steps] == list(range(K - 1, -1, -1))
    for step, state in zip(steps[:-1], arrays["trajectory"][1:-1], strict=True):
        assert (step.state - state).abs().max() < 1e-4
    assert (steps[-1].state - arrays["final_mean"]).abs().max() < 1e-4
    assert torch.equal(steps[-1].state, steps[-1].mean)


def test_reverse_needs_no_noise_for_the_last_step_and_says_where_it_ends(process):
    u = torch.rand(1, 1, 8, 8)
    noise = [torch.randn_like(u) for _ in range(3)]
    assert len(list(sampling.reverse(process, Pull(), u, noise))) == 4
    with pytest.raises(ValueError, match="ended at level 2"):
        list(sampling.reverse(process, Pull(), u, noise[:2]))


def test_reverse_is_reproduced_by_its_generator_and_keeps_no_graph(process):
    u = torch.rand(1, 1, 8, 8)
    runs = [
        list(sampling.reverse(process, Pull(), u, generator=torch.Generator().manual_seed(s)))
        for s in (0, 0, 1)
    ]
    assert torch.equal(runs[0][-1].state, runs[1][-1].state)
    assert not torch.equal(runs[0][-1].state, runs[2][-1].state)
    assert not runs[0][-1].state.requires_grad
    next(sampling.reverse(process, Pull(), u))
    assert torch.is_grad_enabled()


def test_a_repeated_index_shares_its_noise(process):
    first = next(sampling.noises((1, 8, 8), 0, [3, 4, 3]))
    assert torch.equal(first[0], first[2])
    assert not torch.equal(first[0], first[1])
    longer = torch.stack(list(itertools.islice(sampling.noises((1, 8, 8), 0, [3]), 100)))
    assert longer.std().item() == pytest.approx(1, abs=0.03)


def test_starts_come_from_all_training_images(process):
    images = np.full((4, 1, 8, 8), 85, np.uint8) * np.arange(4, dtype=np.uint8)[:, None, None, None]
    means = sampling.starts(process, images, 0, range(100)).mean((1, 2, 3))
    assert torch.bincount((3 * means).round().long(), minlength=4).min() > 10

import pytest
import torch

from ihdm.heat import HeatEquation, blur_schedule
from ihdm.processes import InverseHeat


def process(K=5, sigma=0.01, delta=0.0125, size=8):
    return InverseHeat(HeatEquation(size, size, blur_schedule(K, 0.5, 4)), sigma, delta)


def zero(u, k):
    return torch.zeros_like(u)


def test_loss_is_the_sum_of_squares_of_algorithm_1():
    ihdm = process()
    u_0, noise = torch.rand(3, 1, 8, 8), torch.randn(3, 1, 8, 8)
    k = torch.tensor([1, 3, 5])
    seen = {}

    def network(u, k):
        seen["u"], seen["k"] = u, k
        return 0.1 * u

    loss = ihdm.loss(network, u_0, k, noise)
    for i in range(3):
        u_k = ihdm.heat.blur(u_0[i : i + 1], int(k[i])) + 0.01 * noise[i : i + 1]
        target = ihdm.heat.blur(u_0[i : i + 1], int(k[i]) - 1)
        assert torch.allclose(seen["u"][i], u_k[0], atol=1e-6)
        assert loss[i].item() == pytest.approx((1.1 * u_k - target).square().sum().item(), rel=1e-5)
    assert torch.equal(seen["k"], k)


def test_loss_draws_levels_1_to_K_uniformly_and_unit_noise():
    ihdm = process(K=4, sigma=0.5)
    drawn, spread = [], []

    def network(u, k):
        drawn.append(k)
        spread.append(u.std().item())
        return torch.zeros_like(u)

    generator = torch.Generator().manual_seed(0)
    ihdm.loss(network, torch.zeros(4000, 1, 8, 8), generator=generator)
    counts = torch.bincount(drawn[0], minlength=5)
    assert counts[0] == 0
    assert (counts[1:] - 1000).abs().max() < 120
    assert spread[0] == pytest.approx(0.5, rel=0.01)


def test_loss_is_reproduced_by_the_generator():
    ihdm, u_0 = process(), torch.rand(4, 1, 8, 8)
    first, again, other = (
        ihdm.loss(zero, u_0, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_training_never_reads_delta():
    ihdm = process(delta=None)
    ihdm.loss(zero, torch.rand(1, 1, 8, 8))
    with pytest.raises(ValueError, match="without delta"):
        ihdm.prior(torch.rand(1, 1, 8, 8), torch.zeros(1, 1, 8, 8))


def test_prior_is_the_blurred_image_with_noise_delta():
    ihdm = process(delta=0.3)
    u_0, noise = torch.rand(2, 1, 8, 8), torch.randn(2, 1, 8, 8)
    assert torch.allclose(ihdm.prior(u_0, noise), ihdm.heat.blur(u_0, 5) + 0.3 * noise)


def test_the_last_step_adds_no_noise():
    ihdm, u = process(), torch.rand(1, 1, 8, 8)
    noise = torch.ones_like(u)
    middle, last = ihdm.step(zero, u, 3, noise), ihdm.step(zero, u, 1, noise)
    assert middle.k == 2
    assert torch.allclose(middle.state - middle.mean, 0.0125 * noise)
    assert last.k == 0
    assert torch.equal(last.state, last.mean)


@pytest.mark.parametrize(("sigma", "delta"), [(-0.1, 0.1), (0.1, -0.1)])
def test_negative_noise_is_rejected(sigma, delta):
    with pytest.raises(ValueError, match="negative"):
        process(sigma=sigma, delta=delta)

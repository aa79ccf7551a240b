import numpy as np
import pytest
import torch
from accelerate import Accelerator

from ihdm import batches, loop, losses
from ihdm.heat import HeatEquation, blur_schedule
from ihdm.pipeline import launching
from ihdm.processes import InverseHeat
from ihdm.unet import UNet
from tests import two_processes
from tests.conftest import train_settings


@pytest.fixture
def process():
    return InverseHeat(HeatEquation(8, 8, blur_schedule(4, 0.5, 4)), 0.01)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (7, 1, 8, 8), np.uint8)


def fresh(settings, network=None):
    torch.manual_seed(settings.seed)
    network = network or UNet(1, 8, (1, 2), 1, (1,), groups=2)
    return loop.State.fresh(network, settings, torch.device("cpu"))


def weights(state):
    parameters = [*state.network.parameters(), *state.ema.parameters()]
    return torch.cat([p.detach().flatten() for p in parameters])


def test_a_resumed_run_equals_an_uninterrupted_one(process, images):
    settings = train_settings()
    whole = fresh(settings)
    list(loop.steps(process, whole, images, settings, Accelerator(cpu=True)))
    for stop in (1, 5):
        first = fresh(settings)
        for report in loop.steps(process, first, images, settings, Accelerator(cpu=True)):
            if report.step == stop:
                break
        second = fresh(train_settings(seed=1))
        second.load_state_dict(first.state_dict())
        list(loop.steps(process, second, images, settings, Accelerator(cpu=True)))
        assert torch.equal(weights(second), weights(whole))
        assert second.pending == whole.pending


def test_training_lowers_the_loss_and_the_average_follows(process, images):
    settings = train_settings(steps=150, warmup=5, cooldown=0, batch=7, flips=False)
    state = fresh(settings)
    losses = [r.loss for r in loop.steps(process, state, images, settings, Accelerator(cpu=True))]
    assert np.mean(losses[-20:]) < 0.5 * np.mean(losses[:20])


def test_weights_of_levels_multiply_gradients_and_not_the_reported_loss(process, images):
    settings = train_settings(steps=1, warmup=0, cooldown=0, gradient_clip=1e9)
    plain, doubled, silent = fresh(settings), fresh(settings), fresh(settings)
    doubled.weights, silent.weights = 2 * torch.ones(5), torch.zeros(5)
    found = []
    for state in (plain, doubled, silent):
        (report,) = loop.steps(process, state, images, settings, Accelerator(cpu=True))
        gradients = [p.grad.flatten() for p in state.network.parameters()]
        found.append((report.loss, torch.cat(gradients)))
    (loss, gradient), (same, twice), (also, none) = found
    assert loss == same == also
    assert gradient.norm() > 0
    assert torch.allclose(twice, 2 * gradient, rtol=1e-4, atol=1e-9)
    assert none.abs().max() == 0


def test_the_average_is_the_exponential_one(process, images):
    settings = train_settings(steps=3, warmup=0, cooldown=0)
    state, expected = fresh(settings), None
    for report in loop.steps(process, state, images, settings, Accelerator(cpu=True)):
        now = torch.cat([p.detach().flatten() for p in state.network.parameters()])
        expected = now if report.step == 1 else 0.5 * expected + 0.5 * now
    average = torch.cat([p.flatten() for p in state.ema.module.parameters()])
    assert torch.allclose(average, expected, atol=1e-7)


def test_every_epoch_is_a_permutation_and_batches_cross_its_end():
    settings = train_settings()
    seen = np.concatenate([batches.batch_indices(step, 7, settings) for step in range(14)])
    for epoch in seen.reshape(6, 7):
        assert sorted(epoch) == list(range(7))
    assert len({tuple(epoch) for epoch in seen.reshape(6, 7)}) > 1
    assert len(batches.batch_indices(0, 2, settings)) == 3


def test_the_rate_rises_stays_and_falls():
    settings = train_settings(steps=10, warmup=4, cooldown=4, learning_rate=1.0)
    rates = [loop.learning_rate(step, settings) for step in range(10)]
    assert rates == [0.25, 0.5, 0.75, 1, 1, 1, 1, 0.75, 0.5, 0.25]
    constant = train_settings(warmup=0, cooldown=0, learning_rate=1.0)
    assert {loop.learning_rate(step, constant) for step in range(8)} == {1.0}


class Blowing(torch.nn.Module):
    """A network whose answers are not numbers in some of its calls."""

    def __init__(self, *calls):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))
        self.calls, self.blown = 0, calls

    def forward(self, u, k):
        self.calls += 1
        return self.scale * u * (float("nan") if self.calls in self.blown else 0.1)


def test_a_step_that_is_not_finite_changes_no_weights_and_the_next_goes_on(process, images):
    settings = train_settings()
    state = fresh(settings, Blowing(3))
    losses, after = [], []
    for report in loop.steps(process, state, images, settings, Accelerator(cpu=True)):
        losses.append(report.loss)
        after.append((weights(state), state.skipped_now))
    assert list(np.isfinite(losses)) == [step != 3 for step in range(1, 9)]
    assert (state.step, state.skipped) == (8, [3])
    assert torch.equal(after[2][0], after[1][0])
    assert not torch.equal(after[3][0], after[2][0])
    assert [now for _, now in after] == [0, 0, 1, 0, 0, 0, 0, 0]
    assert state.pending == [loss for loss in losses if np.isfinite(loss)]


def test_too_many_steps_in_a_row_that_are_not_finite_end_the_loop(process, images):
    settings = train_settings(steps=12, skips_in_a_row=3)
    # A resumed run counts those before it.
    for stop in (None, 7):
        state = fresh(settings, Blowing(3, 4, 6, 7, 8))
        for report in loop.steps(process, state, images, settings, Accelerator(cpu=True)):
            if report.step == stop:
                break
        if stop:
            resumed = fresh(settings, Blowing(1))
            resumed.load_state_dict(state.state_dict())
            state = resumed
            list(loop.steps(process, state, images, settings, Accelerator(cpu=True)))
        assert (state.step, state.skipped) == (8, [3, 4, 6, 7, 8])
        assert weights(state).isfinite().all()


def test_flips_mirror_some_images_and_leave_the_others():
    u = torch.rand(64, 1, 4, 4)
    result = batches.flipped(u, batches.flips(0, train_settings(batch=64)))
    mirrored = sum(torch.equal(a, b.flip(-1)) for a, b in zip(result, u, strict=True))
    kept = sum(torch.equal(a, b) for a, b in zip(result, u, strict=True))
    assert mirrored + kept == 64
    assert 16 < mirrored < 48
    assert not batches.flips(0, train_settings(batch=64, flips=False)).any()


def whole_batch(**changes):
    return two_processes.gradients(
        train_settings(batch=5, gradient_clip=1e9, **changes), Accelerator(cpu=True)
    )


def same_gradients(found, expected):
    difference = (found["gradients"] - expected["gradients"]).norm()
    assert difference < 1e-5 * expected["gradients"].norm()
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_passes_have_the_gradient_of_the_whole_batch(size):
    same_gradients(whole_batch(images_per_pass=size), whole_batch())


@pytest.mark.parametrize("size", [None, 2])
def test_two_processes_have_the_gradient_of_one_global_batch(tmp_path, size, monkeypatch):
    monkeypatch.setattr(launching, "wanted", lambda: 2)
    settings = train_settings(batch=5, gradient_clip=1e9, images_per_pass=size)
    arguments = [str(tmp_path / "found.pt"), settings.model_dump_json()]
    launching.launch("tests.two_processes", arguments)
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    assert found["processes"] == 2
    same_gradients(found, whole_batch())


def test_shares_of_processes_are_the_whole_batch():
    class Place:
        num_processes = 3

    for batch in (3, 5, 8):
        parts = []
        for Place.process_index in range(3):
            parts += batches.passes(train_settings(batch=batch, images_per_pass=2), Place)
        assert sorted(i for part in parts for i in range(batch)[part]) == list(range(batch))
        assert all(part.stop - part.start <= 2 for part in parts)


def test_a_process_draws_the_noise_of_its_share_alone(process, images, monkeypatch):
    class Place:
        num_processes, process_index, device = 1, 0, torch.device("cpu")

    settings, drawn = train_settings(batch=7), []
    whole = batches.Batch.of(3, process, images, settings, Place)
    monkeypatch.setattr(
        torch, "randn", lambda *a, g=torch.randn, **k: drawn.append(0) or g(*a, **k)
    )
    Place.num_processes = 3
    shares = []
    for Place.process_index in range(3):
        shares.append(batches.Batch.of(3, process, images, settings, Place))
    assert len(drawn) == 7
    for name in ("u_0", "mirrored", "k", "noise"):
        assert torch.equal(torch.cat([getattr(b, name) for b in shares]), getattr(whole, name))
    assert len({tuple(noise.flatten().tolist()) for noise in whole.noise}) == 7


@pytest.mark.parametrize("size", [None, 2])
def test_a_step_asks_the_device_for_numbers_once(process, images, size, monkeypatch):
    settings = train_settings(batch=5, images_per_pass=size)
    state = fresh(settings)
    reports = loop.steps(process, state, images, settings, Accelerator(cpu=True))
    next(reports)
    reads = []
    for name in ("item", "tolist", "cpu", "nonzero", "__bool__", "__float__", "__int__"):
        real = getattr(torch.Tensor, name)

        def counted(self, *arguments, name=name, real=real, **keywords):
            reads.append(name)
            return real(self, *arguments, **keywords)

        monkeypatch.setattr(torch.Tensor, name, counted)
    next(reports)
    monkeypatch.undo()
    # The average of torch then asks its counter twice, which is on the CPU with any device.
    assert reads == ["tolist", "__bool__", "__bool__"]
    assert state.ema.n_averaged.device.type == "cpu"


def test_level_losses_of_an_idle_network_are_known(process, images):
    class Idle(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = torch.nn.Parameter(torch.zeros(1))

        def forward(self, u, k):
            return torch.zeros_like(u)

    many = np.repeat(images[:1], 4000, axis=0)
    found = losses.level_losses(process, Idle(), many, torch.full((4000,), 3), seed=0)
    u_0 = torch.from_numpy(images[:1]).float() / 255
    blur = (process.heat.blur(u_0, 3) - process.heat.blur(u_0, 2)).square().sum().item()
    assert found.mean().item() == pytest.approx(64 * 0.01**2 + blur, rel=0.02)

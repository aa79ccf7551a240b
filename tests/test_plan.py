import subprocess
import sys

import pytest
import torch

from ihdm import networks, unet
from ihdm.pipeline import plan
from ihdm.settings import load
from tests.conftest import REPOSITORY

SHAPE = (3, 32, 32)


@pytest.fixture(scope="module")
def committed():
    return load(REPOSITORY / "params.yaml")


def with_train(experiment, **changes):
    return experiment.model_copy(update={"train": experiment.train.model_copy(update=changes)})


def products(network, u):
    """Operations of all products of a network, from the shapes that pass through its layers."""
    total = []

    def convolution(layer, _, output):
        total.append(2 * output.numel() * layer.weight[0].numel())

    def linear(layer, _, output):
        total.append(2 * output.numel() * layer.in_features)

    def attention(layer, _, output):
        batch, channels, *sides = output.shape
        total.append(2 * 2 * batch * channels * torch.Size(sides).numel() ** 2)

    kinds = (torch.nn.Conv2d, convolution), (torch.nn.Conv1d, convolution)
    for kind, count in (*kinds, (torch.nn.Linear, linear), (unet.Attention, attention)):
        for module in network.modules():
            if isinstance(module, kind):
                module.register_forward_hook(count)
    with torch.no_grad():
        network(u, torch.ones(len(u)))
    return sum(total)


def test_operations_are_those_of_the_layers(committed):
    experiment = committed.experiments["photos"]
    network = networks.unet(experiment, 3)
    found = plan.plan(experiment, SHAPE)
    assert found.parameters == sum(p.numel() for p in network.parameters())
    assert found.drawing == pytest.approx(
        products(network, torch.zeros(1, 9, *SHAPE[1:])), rel=1e-3
    )
    # Backward, each product gives two: one for its weights and one for its input.
    assert found.training == pytest.approx(3 * found.drawing, rel=0.02)
    assert found.weights == 20 * found.parameters


def test_activations_are_those_that_a_real_pass_keeps(committed):
    experiment = with_train(committed.experiments["photos"], precision="float32")
    network = networks.unet(experiment, 3)
    # By address, so that what two layers keep of one tensor counts once.
    kept = {}

    def keep(tensor):
        if not (tensor.is_leaf and tensor.requires_grad):
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = network(torch.zeros(4, 9, *SHAPE[1:]), torch.ones(4)).square().sum()
    measured = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    loss.backward()
    found = plan.plan(experiment, SHAPE)
    assert 4 * found.activations + found.copies == pytest.approx(measured, rel=0.05)


def test_checkpointing_keeps_less_and_computes_more(committed):
    experiment = committed.experiments["photos"]
    whole = plan.plan(experiment, SHAPE)
    blocks = plan.plan(with_train(experiment, activation_checkpointing=True), SHAPE)
    # With the largest block, while it is computed again.
    assert blocks.activations < 0.6 * whole.activations
    assert whole.training < blocks.training < 1.4 * whole.training
    half, full = (
        plan.plan(with_train(experiment, precision=p), SHAPE).activations
        for p in ("bfloat16", "float32")
    )
    assert half < 0.8 * full


def test_the_program_tells_hours_of_an_experiment_that_is_off():
    command = [
        sys.executable,
        "-m",
        "ihdm.pipeline.plan",
        "cifar10_ddpm",
        "--images-per-second",
        "1000",
    ]
    told = subprocess.run(
        [*command, "--devices", "2"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    assert "cifar10, 60,000 images of 3x32x32" in told
    assert "400,000 steps of 128 images" in told
    # 400,000 x 128 images at 2 x 1,000 a second
    assert "7.1 to train" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["other"], "no 'other'"), (["photos", "--images-per-second", "0"], "above 0")],
)
def test_the_program_refuses_what_makes_no_sense(arguments, told):
    done = subprocess.run(
        [sys.executable, "-m", "ihdm.pipeline.plan", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode
    assert told in done.stderr
    assert "Traceback" not in done.stderr

"""The cost of an experiment: `python -m ihdm.pipeline.plan EXPERIMENT`, before renting a machine.

Parameters, operations and memory are counted on the real network by running it on tensors without
content (torch's fake ones): nothing is allocated. Memory for each device is the sum of

    weights, gradients, two moments of Adam, the moving average      5 x 4 bytes a parameter
    buffers to share gradients in, with several devices              4 bytes a parameter
    copies of the weights in bfloat16, if it is used                 as counted
    tensors that one pass keeps for its backward pass                as counted, for each image
    with activation checkpointing, those of the largest block        as counted, likewise

to which come the device's own libraries and buffers. Hours follow from a throughput measured on one
device, which training shows as images/s.
"""

import argparse
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ihdm import networks, settings
from ihdm.precision import Autocast
from ihdm.project import ProjectError, exit_on_error
from ihdm.settings import Experiment, Params
from ihdm.unet import Stage, UNet

__all__ = ["Plan", "plan"]

# Bytes on disk for each parameter: weights, two moments and average in float32, in two states that
# are kept and one that is being written.
SAVED = 3 * 4 * 4


class Plan(NamedTuple):
    """The cost of an experiment.

    Attributes:
        parameters: number of weights.
        drawing: floating-point operations of one evaluation of the network for one image.
        training: those of the forward and backward pass for one image.
        weights: bytes of weights, gradients, moments and average, on each device.
        copies: bytes of the weights in bfloat16, kept for the backward pass.
        activations: bytes kept for the backward pass, for one image; with activation checkpointing,
            with those of the largest block, while it is computed again.
    """

    parameters: int
    drawing: int
    training: int
    weights: int
    copies: int
    activations: int


def plan(experiment: Experiment, shape: tuple[int, int, int]) -> Plan:
    """Counts the cost of an experiment.

    Args:
        experiment: the validated description; precision "auto" counts as bfloat16.
        shape: (C, H, W) of its images.

    Returns:
        Its cost on one device.
    """
    one, two = (counted(experiment, shape, images) for images in (1, 2))
    activations = two.kept - one.kept
    return Plan(
        one.parameters,
        two.forward - one.forward,
        two.both - one.both,
        5 * 4 * one.parameters,
        one.kept - activations,
        activations,
    )


class Counted(NamedTuple):
    """Of one pass: parameters, operations forward and in all, bytes kept for going backward."""

    parameters: int
    forward: int
    both: int
    kept: int


class Keeping(saved_tensors_hooks):
    """Counts the memory that operations keep for the backward pass."""

    def __init__(self) -> None:
        self.kept: dict[int, Tensor] = {}
        super().__init__(self.keep, lambda tensor: tensor)

    def keep(self, tensor: Tensor) -> Tensor:
        # Parameters are there anyway, and views share their memory.
        if not (tensor.is_leaf and tensor.requires_grad):
            self.kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(tensor.untyped_storage().nbytes() for tensor in self.kept.values())


def largest_block(network: UNet, run: Callable[[], object]) -> int:
    """Bytes that the block with the most of them keeps for its own backward pass."""
    counts: list[Keeping] = []

    def before(*_: object) -> None:
        counts.append(Keeping())
        counts[-1].__enter__()

    for stage in network.modules():
        if isinstance(stage, Stage):
            stage.register_forward_pre_hook(before)
            stage.register_forward_hook(lambda *_: counts[-1].__exit__())
    network.activation_checkpointing = False
    run()
    return max(count.size for count in counts)


def counted(experiment: Experiment, shape: tuple[int, int, int], images: int) -> Counted:
    train = experiment.train
    if train.precision == "auto":
        train = train.model_copy(update={"precision": "bfloat16"})
    with FakeTensorMode():
        network = networks.unet(experiment, shape[0])
        f = Autocast(network, train, torch.device("cpu"))
        inputs = torch.zeros(images, network.first.in_channels, *shape[1:])
        levels = torch.ones(images)
        # Operations inside fused attention are not counted, and memory is that of fused attention.
        with FlopCounterMode(display=False) as operations, sdpa_kernel(SDPBackend.MATH):
            loss = f(inputs, levels).square().sum()
            forward = operations.get_total_flops()
            loss.backward()
        keeping = Keeping()
        with keeping:
            f(inputs, levels).square().sum()
        kept = keeping.size
        if train.activation_checkpointing:
            kept += largest_block(network, lambda: f(inputs, levels))
    both = operations.get_total_flops()
    return Counted(sum(p.numel() for p in network.parameters()), forward, both, kept)


def data_of(name: str, params: Params) -> str:
    """The data set of an experiment: the one in `run`, or the one with a similar name.

    `cifar10_ddpm` is one on `cifar10`, and `paper_mnist` one on `mnist`.

    Raises:
        ProjectError: there is no such experiment, or no such data set.
    """
    if name not in params.experiments:
        raise ProjectError(f"params.yaml has no '{name}' under `experiments`")
    candidates = (params.run.get(name), name, name.partition("_")[0], name.partition("_")[2])
    for data in candidates:
        if data in params.data:
            return data
    raise ProjectError(
        f"add `{name}: DATA SET` to `run` in params.yaml: its images decide the plan"
    )


def listing(name: str, params: Params, rate: float | None, devices: int) -> str:
    """A plan as a table of text.

    Args:
        name: an experiment in params.yaml.
        params: the whole of params.yaml.
        rate: images that one device trains on in a second.
        devices: how many there are.
    """
    data = data_of(name, params)
    experiment, images = params.experiments[name], params.data[data]
    needs, train, splits = plan(experiment, images.shape), experiment.train, images.splits
    share = -(-train.batch // devices)
    size = min(share, train.images_per_pass or share)
    activations = size * needs.activations
    pixels = images.shape[0] * images.shape[1] * images.shape[2]
    number = splits.train + splits.tune + splits.report
    samples = experiment.fid.samples if experiment.fid else 0
    work = train.steps * train.batch * needs.training
    drawing = samples * experiment.process.K * needs.drawing
    # Shared gradients need buffers of their size.
    weights = needs.weights + (4 * needs.parameters if devices > 1 else 0)
    total = weights + needs.copies + activations
    layout = "kept in blocks" if train.activation_checkpointing else "kept whole"
    rows = {
        "data": f"{data}, {number:,} images of {'x'.join(map(str, images.shape))}",
        "parameters": f"{needs.parameters / 1e6:.1f} million",
        "training": f"{train.steps:,} steps of {train.batch} images, "
        f"{needs.training / 1e9:,.0f} GFLOPs for an image, {work / 1e18:,.2f} EFLOPs in all",
        "drawing": f"{samples:,} samples for FID, {experiment.process.K} evaluations of "
        f"{needs.drawing / 1e9:,.0f} GFLOPs for each, {drawing / 1e18:,.2f} EFLOPs in all",
        "memory of a device": f"{total / 1e9:.1f} GB and what the libraries need:",
        "  weights": f"{weights / 1e9:.2f} GB, with gradients, moments and average",
        "  copies": f"{needs.copies / 1e9:.2f} GB, the weights in bfloat16",
        "  activations": f"{activations / 1e9:.2f} GB, {size} images at a time, {layout}",
        "disk": f"{number * pixels / 1e9:.1f} GB of images (twice that in the cache, unless files "
        f"are linked), {SAVED * needs.parameters / 1e9:.1f} GB of states, "
        f"{samples * pixels / 1e9:.1f} GB of samples",
    }
    if rate is None:
        rows["hours"] = "give --images-per-second, as training on one device shows it"
    else:
        speed = rate * devices
        hours = train.steps * train.batch / speed / 3600
        for_fid = drawing / (needs.training * speed) / 3600
        rows["hours"] = (
            f"{hours:,.1f} to train and about {for_fid:,.1f} to draw, on {devices} device(s) of "
            f"{rate:g} images/s, if several are as fast as their sum"
        )
    width = max(map(len, rows))
    return "\n".join([name, *(f"  {key:<{width}}  {value}" for key, value in rows.items())])


def positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"has to be above 0, not {text}")
    return value


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ihdm.pipeline.plan", description=__doc__)
    parser.add_argument("experiment", help="an experiment under `experiments` in params.yaml")
    parser.add_argument("--images-per-second", type=positive, help="of training, on one device")
    parser.add_argument("--devices", type=int, help="how many; machine.processes if not given")
    arguments = parser.parse_args()
    with exit_on_error():
        params = settings.load()
        devices = arguments.devices or params.machine.processes
        print(listing(arguments.experiment, params, arguments.images_per_second, devices))


if __name__ == "__main__":
    main()

"""The network of an experiment, in its parametrisation."""

from torch import Tensor, nn

from ihdm.linear_gaussian import COPIES, LinearGaussian
from ihdm.processes import Process
from ihdm.settings import Experiment
from ihdm.unet import UNet

__all__ = ["make", "seen", "unet"]


def unet(experiment: Experiment, channels: int) -> UNet:
    """The U-Net of an experiment, for images of some channels, before it learned anything."""
    sizes = experiment.network.model_dump(exclude={"parametrization"})
    copies = 1 if experiment.network.parametrization == "published" else COPIES
    checkpointing = experiment.train.activation_checkpointing
    return UNet(channels, **sizes, copies=copies, activation_checkpointing=checkpointing)


def make(experiment: Experiment, process: Process, modes: Tensor) -> nn.Module:
    """The untrained network of an experiment: its U-Net, or a LinearGaussian around it.

    Args:
        experiment: the validated description.
        process: the process that it reverses.
        modes: (2, C, H, W) mean and variance of the modes of training images, as data are prepared
            with (`Images.modes`). Weights that are loaded afterwards bring their own.
    """
    network = unet(experiment, modes.shape[1])
    if experiment.network.parametrization == "published":
        return network
    return LinearGaussian(network, process, *seen(experiment, modes))


def seen(experiment: Experiment, modes: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of the modes of images as training shows them, mirrored or not.

    A mirror image has the opposite sign in every odd horizontal mode.
    """
    m, v = modes.clone()
    if experiment.train.flips:
        v[..., 1::2] += m[..., 1::2] ** 2
        m[..., 1::2] = 0
    return m, v

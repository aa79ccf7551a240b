"""Networks that learned nothing, to compare with: the best linear step, and none.

The best linear step is a `LinearGaussian` whose U-Net answers zero. Learning adds to it. A third
baseline, the perfect denoiser, needs the noise of the state: it leaves `deblurring` to do.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from ihdm import seeds
from ihdm.linear_gaussian import COPIES, LinearGaussian, to_modes
from ihdm.model import Model
from ihdm.pixels import UInt8, to_unit
from ihdm.precision import Autocast
from ihdm.processes import Process
from ihdm.settings import Train

__all__ = ["Idle", "bias_at_zero", "deblurring", "linear_model", "linear_step"]


class Idle(nn.Module):
    """A network that changes nothing: f = 0."""

    def forward(self, u: Tensor, k: Tensor) -> Tensor:
        return torch.zeros_like(u)


class Silent(nn.Module):
    """In the place of a U-Net: it corrects nothing."""

    def forward(self, inputs: Tensor, k: Tensor) -> Tensor:
        return torch.zeros_like(inputs[:, : inputs.shape[1] // COPIES])


def linear_step(process: Process, modes: Tensor) -> LinearGaussian:
    """The network that takes the best linear step at every level.

    Args:
        process: a process whose noise is above 0 at all levels.
        modes: (2, C, H, W) mean and variance of the modes of images (`Images.modes`).
    """
    return LinearGaussian(Silent(), process, *modes).eval()


def linear_model(model: Model, train: Train, modes: Tensor) -> Model:
    """A model with the best linear step in the place of its network.

    Args:
        model: the trained model.
        train: the settings that its network was trained by.
        modes: (2, C, H, W) mean and variance of the modes of its training images.
    """
    network = linear_step(model.process, modes).to(model.device)
    return replace(model, network=Autocast(network, train, model.device).eval())


def deblurring(process: Process, u_0: Tensor, k: Tensor) -> Tensor:
    """The part of the target that is left when a perfect denoiser has removed the noise.

    For inverse heat dissipation `(F(t_{k-1}) - F(t_k)) u_0`; the target is this minus
    `sigma noise` (Alg. 1). For processes that predict the noise nothing is left, zero.

    Args:
        process: the process.
        u_0: (B, C, H, W) images in [0, 1].
        k: (B,) levels.

    Returns:
        (B, C, H, W), in the unit of the images.
    """
    return process.example(u_0, k, torch.zeros_like(u_0))[1]


@torch.no_grad()
def bias_at_zero(
    process: Process, network: nn.Module, images: UInt8, modes: Tensor, level: int, seed: int
) -> Tensor:
    """The mean error of a network at frequency zero, which moves the brightness of samples.

    In units of the standard deviation that the target has there given the state, if modes are
    Gaussian. In inverse heat dissipation the errors of all steps add up: a bias b at every level
    moves the mean of a sample by about `K b sigma / sqrt(H W)` for each channel.

    Args:
        process: the process that the network was trained for.
        network: the network.
        images: (N, C, H, W) uint8.
        modes: (2, C, H, W) mean and variance of the modes of images.
        level: k.
        seed: of the noise.

    Returns:
        (C,) bias on the axes `pixels.opponent` of colour.
    """
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    u_0 = to_unit(images).to(device)
    k = torch.full((1,), level, device=device).expand(len(images))
    noise = torch.randn(u_0.shape, generator=seeds.generator(seed, seeds.HELD_OUT, level))
    u_k, target = process.example(u_0, k, noise.to(device))
    error = to_modes(process.predict(network, u_k, k) - target)[..., 0, 0].mean(0).cpu()
    # Its buffers are in the process's own range.
    variance = linear_step(process, modes).v.double()
    scale = process.conditional(torch.tensor([level]), variance).residual[0, :, 0, 0].abs()
    return error / scale.float()

"""Losses on images that training does not see, by level and in the mean."""

import torch
from torch import Tensor, nn

from ihdm import seeds
from ihdm.pixels import UInt8, to_unit
from ihdm.processes import Process

__all__ = ["held_out_loss", "level_losses"]

HELD_OUT_IMAGES = 256
# Images whose noise comes from one generator.
BLOCK = 64


@torch.no_grad()
def level_losses(
    process: Process,
    network: nn.Module,
    images: UInt8,
    levels: Tensor,
    seed: int,
) -> Tensor:
    """The loss of chosen images, each at a chosen level, without dropout.

    Args:
        process: the process that the network was trained for.
        network: f_theta; set to evaluation mode.
        images: (N, C, H, W) uint8.
        levels: (N,) levels on the scale 0..K.
        seed: seed of the noise, so that two networks can be compared on the same draws.

    Returns:
        (N,) float32 sums of squares, on the CPU.
    """
    network.eval()
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    losses = []
    for first in range(0, len(images), BLOCK):
        block, k = images[first : first + BLOCK], levels[first : first + BLOCK]
        draws = seeds.generator(seed, seeds.HELD_OUT, first)
        noise = torch.randn(block.shape, generator=draws)
        losses.append(process.loss(network, to_unit(block).to(device), k, noise).cpu())
    return torch.cat(losses)


def held_out_loss(process: Process, network: nn.Module, images: UInt8, seed: int) -> float:
    """The mean loss of a network on held-out images, always with the same levels and noise.

    Args:
        process: the process that the network was trained for.
        network: f_theta; set to evaluation mode.
        images: (N, C, H, W) uint8 images to tune on, of which the first 256 are used.
        seed: of levels and noise.
    """
    chosen = images[:HELD_OUT_IMAGES]
    draws = seeds.generator(seed, seeds.HELD_OUT, len(chosen))
    levels = process.levels(len(chosen), draws)
    return level_losses(process, network, chosen, levels, seed).mean().item()

"""bfloat16 if the hardware gains from it, and how images lie in memory.

A CPU gains if it has instructions for bfloat16 products; other CPUs emulate them, which is slower
than float32.
"""

import torch
from torch import Tensor, nn

from ihdm.settings import Train

__all__ = ["Autocast", "gains_from_bfloat16", "memory_format", "resolved"]


def gains_from_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32 on a device."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
    return False


def resolved(train: Train, device: torch.device) -> str:
    """`float32` or `bfloat16`: the precision of a training, with `auto` decided for a device."""
    if train.precision != "auto":
        return train.precision
    return "bfloat16" if gains_from_bfloat16(device) else "float32"


def memory_format(train: Train) -> torch.memory_format:
    """Whether the channels of a pixel lie side by side, which convolutions gain from."""
    return torch.channels_last if train.channels_last else torch.contiguous_format


class Autocast(nn.Module):
    """A network whose products run in bfloat16, with float32 parameters, inputs and outputs.

    Args:
        network: f_theta; called with (B, C, H, W) float32 images and (B,) levels.
        train: its `precision` ("auto" means bfloat16 if the device gains from it) and
            `channels_last`.
        device: the network's device.
    """

    def __init__(self, network: nn.Module, train: Train, device: torch.device):
        super().__init__()
        self.network, self.layout = network, memory_format(train)
        self.enabled = resolved(train, device) == "bfloat16"

    def forward(self, u: Tensor, k: Tensor) -> Tensor:
        with torch.autocast(u.device.type, torch.bfloat16, enabled=self.enabled):
            f = self.network(u.contiguous(memory_format=self.layout), k)
        return f.to(u.dtype)

"""bfloat16 where the hardware gains from it, and how images lie in memory.

On a CPU the former is where it has instructions for bfloat16 products; elsewhere they are emulated
and slower than float32.
"""

import torch
from torch import Tensor, nn

from ihdm.settings import Train

__all__ = ["Autocast", "gains_from_bfloat16", "memory_format"]


def gains_from_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32 on a device."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
    return False


def memory_format(settings: Train) -> torch.memory_format:
    """Whether the channels of a pixel lie side by side, which convolutions gain from."""
    return torch.channels_last if settings.channels_last else torch.contiguous_format


class Autocast(nn.Module):
    """A network whose products run in bfloat16, with float32 parameters, inputs and outputs.

    Args:
        network: f_theta; called with (B, C, H, W) float32 images and (B,) levels.
        settings: `precision`: "float32", "bfloat16", or "auto" for what the device gains from; and
            `channels_last`.
        device: where the network is.
    """

    def __init__(self, network: nn.Module, settings: Train, device: torch.device):
        super().__init__()
        self.network, self.layout = network, memory_format(settings)
        self.enabled = settings.precision == "bfloat16" or (
            settings.precision == "auto" and gains_from_bfloat16(device)
        )

    def forward(self, u: Tensor, k: Tensor) -> Tensor:
        with torch.autocast(u.device.type, torch.bfloat16, enabled=self.enabled):
            f = self.network(u.contiguous(memory_format=self.layout), k)
        return f.to(u.dtype)

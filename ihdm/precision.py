"""bfloat16 if the hardware gains from it, and how images lie in memory.

A CPU gains if it has instructions for bfloat16 products; other CPUs emulate them, which is slower
than float32.
"""

import ctypes
import platform
from functools import lru_cache

import torch
from torch import Tensor, nn

from ihdm.settings import Train
from ihdm.unet import UNet

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

    Without gradients, as many images pass through the network at a time as in training, or 64 if
    `images_per_pass` does not say otherwise.

    Args:
        network: f_theta; called with (B, C, H, W) float32 images and (B,) levels.
        train: its `precision` ("auto" means bfloat16 if the device gains from it),
            `channels_last`, `images_per_pass` and `compile`.
        device: the network's device.
    """

    def __init__(self, network: nn.Module, train: Train, device: torch.device):
        super().__init__()
        self.network, self.layout = network, memory_format(train)
        self.at_once = train.images_per_pass or max(train.batch, 64)
        self.enabled = resolved(train, device) == "bfloat16"
        for module in network.modules():
            if train.compile and isinstance(module, UNet):
                module.compile()
        if device.type == "cpu":
            keep_freed_memory()

    def forward(self, u: Tensor, k: Tensor) -> Tensor:
        """f_theta(u_k, k): (B, C, H, W) of the type of `u`."""
        if torch.is_grad_enabled() or len(u) <= self.at_once:
            return self.of_part(u, k)
        parts = zip(u.split(self.at_once), k.split(self.at_once), strict=True)
        return torch.cat([self.of_part(*part) for part in parts])

    def of_part(self, u: Tensor, k: Tensor) -> Tensor:
        # Every weight is used once, so that copies of the weights are not worth keeping.
        with torch.autocast(u.device.type, torch.bfloat16, self.enabled, cache_enabled=False):
            f = self.network(u.contiguous(memory_format=self.layout), k)
        return f.to(u.dtype)


@lru_cache
def keep_freed_memory() -> None:
    """Asks the C library to use freed memory again instead of returning it to the system.

    An operation of a network allocates megabytes, which the system would clear each time.
    """
    if platform.libc_ver()[0] == "glibc":
        library, trim_threshold, mmap_threshold, largest = ctypes.CDLL(None), -1, -3, 2**31 - 1
        library.mallopt(trim_threshold, largest)
        library.mallopt(mmap_threshold, largest)

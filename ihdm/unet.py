"""The network f_theta: a U-Net with residual blocks and self-attention (App. B.1).

    h   = conv(SiLU(norm(x))) + linear(SiLU(e(k)))
    out = x + conv(dropout(SiLU(norm(h))))                   a residual block
    e(k) = linear(SiLU(linear([cos(k w), sin(k w)])))        the embedding of the level k

The order in which parameters are registered is that of the published checkpoints, which hold their
EMA weights as a bare list (`pipeline.published`).
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

__all__ = ["UNet", "level_embedding"]


def level_embedding(k: Tensor, width: int) -> Tensor:
    """Sinusoidal embedding of a level: cosines, then sines, of `k * 10000^(-i / half)`.

    Args:
        k: (B,) levels on the scale 0..K, integer or real.
        width: even number of entries.

    Returns:
        (B, width) float32.
    """
    half = width // 2
    rate = torch.exp(-math.log(10000) / half * torch.arange(half, device=k.device))
    angle = k.float()[:, None] * rate
    return torch.cat([angle.cos(), angle.sin()], dim=1)


class Norm(nn.GroupNorm):
    """GroupNorm with statistics in float32, and outputs of the type of its input.

    Under autocast, CUDA would make inputs and outputs float32, and keep them for the backward pass.
    """

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            scale, shift = self.weight.to(x.dtype), self.bias.to(x.dtype)
            return F.group_norm(x, self.num_groups, scale, shift, self.eps)


class SiLU(nn.Module):
    """SiLU, in the memory of its input if no gradients are asked for."""

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x, inplace=not torch.is_grad_enabled())


class Double(nn.Module):
    """Nearest-neighbour up-sampling by two, in the type of its input under any autocast."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return F.interpolate(x, scale_factor=2, mode="nearest")


class Residual(nn.Module):
    """Two 3x3 convolutions with the level's embedding added between them, and a skip connection."""

    def __init__(self, inputs: int, outputs: int, embedding: int, dropout: float, groups: int):
        super().__init__()
        self.before = nn.Sequential(
            Norm(groups, inputs), SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1)
        )
        self.embed = nn.Sequential(nn.SiLU(), nn.Linear(embedding, outputs))
        self.after = nn.Sequential(
            Norm(groups, outputs),
            SiLU(),
            nn.Dropout(dropout),
            zeroed(nn.Conv2d(outputs, outputs, 3, padding=1)),
        )
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.before(x) + self.embed(embedding)[:, :, None, None]
        return self.skip(x) + self.after(h)


class Attention(nn.Module):
    """Self-attention over all positions of a feature map, with one head."""

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.norm = Norm(groups, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.project = zeroed(nn.Conv1d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        qkv = self.qkv(self.norm(x).reshape(B, C, H * W))
        # One head, as an axis of its own: (B, 1, H W, C), which fused kernels ask for.
        query, key, value = qkv.transpose(1, 2).contiguous().unsqueeze(1).chunk(3, dim=3)
        with torch.autocast(x.device.type, enabled=False):
            if x.device.type == "cpu":
                # Its fused kernel is slower in bfloat16, three times in the backward pass.
                query, key, value = query.float(), key.float(), value.float()
            mixed = F.scaled_dot_product_attention(query, key, value).squeeze(1).to(qkv.dtype)
        return x + self.project(mixed.transpose(1, 2)).view(B, C, H, W)


class Stage(nn.Module):
    """A residual block, optionally attention, optionally a change of resolution, in this order."""

    def __init__(self, residual: Residual, *others: nn.Module):
        super().__init__()
        self.residual = residual
        self.others = nn.Sequential(*others)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return self.others(self.residual(x, embedding))


class UNet(nn.Module):
    """f_theta of Sec. 3.2 with the architecture of App. B.1.

    Args:
        image_channels: channels of the image, 1 or 3.
        channels: width of the first level; every width below is a multiple of it.
        multipliers: width of each level in units of `channels`; each level but the last halves
            the resolution.
        res_blocks: residual blocks per level of the encoder; the decoder has one more.
        attention_levels: levels with self-attention; 0 is the full resolution.
        dropout: dropout rate of every residual block.
        groups: groups of every GroupNorm; has to divide every width.
        resample: "pool" for average pooling and nearest-neighbour up-sampling (App. B.1), "conv"
            for a strided 3x3 convolution and nearest neighbour followed by a 3x3 convolution (the
            published checkpoints).
        copies: images side by side in the input, each of `image_channels` channels; 1 in the paper.
        activation_checkpointing: whether training keeps the inputs of each residual block alone and
            computes what is between them again for the backward pass, to save memory.

    Raises:
        ValueError: `resample` is neither of the two.
    """

    def __init__(
        self,
        image_channels: int,
        channels: int,
        multipliers: Sequence[int],
        res_blocks: int,
        attention_levels: Sequence[int],
        dropout: float = 0.1,
        groups: int = 32,
        resample: str = "pool",
        copies: int = 1,
        activation_checkpointing: bool = False,
    ):
        super().__init__()
        if resample not in ("pool", "conv"):
            raise ValueError(f"resample must be 'pool' or 'conv', not {resample!r}")
        self.channels = channels
        self.activation_checkpointing = activation_checkpointing
        width = 4 * channels
        last = len(multipliers) - 1

        def stage(inputs: int, outputs: int, level: int, *others: nn.Module) -> Stage:
            attention = [Attention(outputs, groups)] if level in attention_levels else []
            residual = Residual(inputs, outputs, width, dropout, groups)
            return Stage(residual, *attention, *others)

        self.embed = nn.Sequential(nn.Linear(channels, width), nn.SiLU(), nn.Linear(width, width))
        self.first = nn.Conv2d(copies * image_channels, channels, 3, padding=1)
        self.down = nn.ModuleList()
        current, skips = channels, [channels]
        for level, multiplier in enumerate(multipliers):
            for _ in range(res_blocks):
                self.down.append(stage(current, multiplier * channels, level))
                current = multiplier * channels
                skips.append(current)
            if level < last:
                self.down.append(halve(current, resample))
                skips.append(current)
        self.middle = nn.ModuleList(
            [
                Stage(Residual(current, current, width, dropout, groups)),
                Attention(current, groups),
                Stage(Residual(current, current, width, dropout, groups)),
            ]
        )
        self.up = nn.ModuleList()
        for level in range(last, -1, -1):
            for block in range(res_blocks + 1):
                outputs = multipliers[level] * channels
                ends_level = level > 0 and block == res_blocks
                resampling = [double(outputs, resample)] if ends_level else []
                self.up.append(stage(current + skips.pop(), outputs, level, *resampling))
                current = outputs
        self.last = nn.Sequential(
            Norm(groups, current),
            SiLU(),
            zeroed(nn.Conv2d(current, image_channels, 3, padding=1)),
        )

    def forward(self, u: Tensor, k: Tensor) -> Tensor:
        """f_theta(u_k, k) of Eq. 8.

        Args:
            u: (B, copies * image_channels, H, W) floating images; H and W have to be multiples of
                `2 ** (len(multipliers) - 1)`.
            k: (B,) levels on the scale 0..K, on any device.

        Returns:
            (B, image_channels, H, W), of the type of `u` outside autocast.
        """
        embedding = self.embed(level_embedding(k.to(u.device), self.channels).to(u.dtype))
        x = self.first(u)
        skips = [x]
        for module in self.down:
            x = self.through(module, x, embedding) if isinstance(module, Stage) else module(x)
            skips.append(x)
        before, attention, after = self.middle
        x = self.through(after, attention(self.through(before, x, embedding)), embedding)
        for module in self.up:
            x = self.through(module, torch.cat([x, skips.pop()], dim=1), embedding)
        return self.last(x)

    def through(self, stage: nn.Module, x: Tensor, embedding: Tensor) -> Tensor:
        if self.activation_checkpointing and self.training:
            return checkpoint(stage, x, embedding, use_reentrant=False)
        return stage(x, embedding)


def halve(channels: int, resample: str) -> nn.Module:
    if resample == "pool":
        return nn.AvgPool2d(2)
    return nn.Conv2d(channels, channels, 3, stride=2, padding=1)


def double(channels: int, resample: str) -> nn.Module:
    if resample == "pool":
        return Double()
    return nn.Sequential(Double(), nn.Conv2d(channels, channels, 3, padding=1))


def zeroed(layer: nn.Module) -> nn.Module:
    """The layer with its parameters at zero, so that its block starts as the identity (DDPM)."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer

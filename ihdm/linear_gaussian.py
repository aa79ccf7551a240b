r"""Networks that correct the optimal linear answer instead of giving the whole answer.

If the modes of images, their coefficients `V^T u_0` in the cosine basis, were independent Gaussians
of mean m and variance v, the best answer of the network to u_k would be linear in it (Wiener's
filter), and its error in every mode would have a known standard deviation (`Process.conditional`):

    target = V [mean * m + deviation * d + residual * n],   d = V^T u_k - alpha_k m,   n ~ N(0, I)

Real images are not Gaussian, so that n can be predicted, and that is the task of the U-Net:

    network(u_k, k) = V [mean * m + deviation * d + residual * V^T N_theta(inputs, k)]

A U-Net that answers zero gives the best linear step, and its target has unit variance in every
mode and at every level. Any function of u_k and k can be written so: process, objective, sampler
and bound stay as they are. The parametrisation is ours, not the paper's.
"""

import torch
from torch import Tensor, nn

from ihdm.gaussian import Process
from ihdm.heat import to_frequencies, to_pixels
from ihdm.pixels import opponent

__all__ = ["COPIES", "LEAST_VARIANCE", "LinearGaussian", "level_weights", "to_modes"]

# Images in the input of the U-Net; see `LinearGaussian.inputs`.
COPIES = 3
# Of a mode; pixels that are black in every image leave modes that hardly vary.
LEAST_VARIANCE = 1e-7


def to_modes(u: Tensor) -> Tensor:
    """`V^T u`: the cosine transform of each axis of colour (`pixels.opponent`).

    Args:
        u: (..., C, H, W) images of a floating dtype.

    Returns:
        (..., C, H, W) coefficients of the same dtype.
    """
    return to_frequencies(rotated(u, transposed=False))


def rotated(u: Tensor, transposed: bool) -> Tensor:
    """Between colours and their opponent axes; grey images stay as they are."""
    channels = u.shape[-3]
    if channels == 1:
        return u
    basis = torch.from_numpy(opponent(channels)).to(u.dtype).to(u.device)
    return torch.einsum("dc,...chw->...dhw", basis.T if transposed else basis, u)


class LinearGaussian(nn.Module):
    """A network that answers by the optimal linear step and a U-Net's correction of it.

    Buffers `m` and `v` are in the process's own pixel range, so that a file of weights holds all
    that the network needs.

    Args:
        unet: called with (B, 3 C, H, W) inputs and (B,) levels; its answer, (B, C, H, W), is on the
            opponent axes of colour.
        process: the process that the network reverses; its noise has to be above 0 at all levels.
        m: (C, H, W) mean of each mode (see `to_modes`) over images in [0, 1].
        v: (C, H, W) variance of each mode, likewise.
    """

    m: Tensor
    v: Tensor

    def __init__(self, unet: nn.Module, process: Process, m: Tensor, v: Tensor):
        super().__init__()
        self.unet, self.process = unet, process
        scale = process.high - process.low
        black = to_modes(torch.full(m.shape, float(process.low), dtype=torch.float64))
        self.register_buffer("m", (scale * m.double() + black).float())
        self.register_buffer("v", (scale**2 * v.double().clamp(min=LEAST_VARIANCE)).float())

    def forward(self, u_k: Tensor, k: Tensor) -> Tensor:
        """What the process asks of its network: f_theta(u_k, k) or eps_theta(u_k, k).

        Args:
            u_k: (B, C, H, W) float32 states in the process's own range.
            k: (B,) levels.

        Returns:
            (B, C, H, W) float32.
        """
        # Of one level for all images, as in sampling, tables are computed once.
        level = k[:1] if k.stride() == (0,) else k
        with torch.autocast(u_k.device.type, enabled=False):
            # Tables are in float64, on the CPU if the device lacks it.
            alpha = self.process.log_signal(level).exp()[:, None]
            v = self.v.to(alpha.device).double()
            d = to_modes(u_k) - like(alpha, u_k) * self.m
            inputs = self.inputs(u_k, d, alpha, self.process.noise_scale(level), v)
        correction = self.unet(inputs, k)
        with torch.autocast(u_k.device.type, enabled=False):
            mean, deviation, residual = (like(t, u_k) for t in self.process.conditional(level, v))
            answer = residual * to_frequencies(correction.float())
            modes = mean * self.m + deviation * d + answer
            return rotated(to_pixels(modes), transposed=True)

    def inputs(self, u_k: Tensor, d: Tensor, alpha: Tensor, sigma: Tensor, v: Tensor) -> Tensor:
        """(B, 3 C, H, W) inputs of the U-Net, each of unit variance over pixels and images.

        The deviation of the linear estimate of u_0 from the mean image, with its modes scaled to
        the deviations that they have in images (whitened); the same as it is; and u_k itself.
        """
        marginal = alpha**2 * v + sigma.to(alpha.device)[:, None, None, None] ** 2
        copies = []
        for gain in (alpha * v.sqrt() / marginal, alpha * v / marginal):
            expected = (gain**2 * marginal).mean((2, 3), keepdim=True).sqrt()
            copies.append(to_pixels(like(gain / expected, u_k) * d))
        pixels = self.m[0].numel()
        mean = self.m[:, :1, :1] / pixels**0.5
        variance = (self.v + self.m**2).mean((1, 2), keepdim=True) - mean**2
        copies.append((rotated(u_k, transposed=False) - mean) / variance.sqrt())
        return torch.cat(copies, dim=1)


def like(table: Tensor, images: Tensor) -> Tensor:
    return table.to(images.dtype).to(images.device)


def level_weights(process: Process, v: Tensor, gamma: float) -> Tensor:
    """Weights of the loss by level, `w_k = (T_k / mean T)^-gamma / mean T`.

    T_k is the loss of the best linear step at level k: the sum of squares of
    `Process.conditional(k, v).residual`. With gamma = 0 the objective is that of Alg. 1, up to a
    constant; with gamma = 1 the best linear step would score 1 at every level.

    Args:
        process: a process with integer levels.
        v: (C, H, W) variance of each mode over images in [0, 1].
        gamma: how far the levels are made equal, from 0 to 1.

    Returns:
        (K + 1,) float32; that of level k is at index k, and index 0 is not used.
    """
    own = (process.high - process.low) ** 2 * v.double().clamp(min=LEAST_VARIANCE)
    losses = [
        process.conditional(torch.tensor([k]), own).residual.square().sum()
        for k in range(1, process.K + 1)
    ]
    T = torch.stack(losses)
    weights = (T / T.mean()) ** -gamma / T.mean()
    return torch.cat([weights.new_zeros(1), weights]).float()

"""Power spectra of images in the cosine basis.

    PSD(f) = mean of |V^T u|^2 over the coefficients (n, m) whose frequency is near f     (App. B.6)

The frequency of coefficient (n, m) is `pi sqrt(n^2/W^2 + m^2/H^2)` radians per pixel (Eq. 21).
"""

import torch
from torch import Tensor

from ihdm.heat import frequencies, to_frequencies

__all__ = ["radial_psd"]


def radial_psd(images: Tensor) -> tuple[Tensor, Tensor]:
    """The one-dimensional PSD, averaged over equal-frequency contours (App. B.6).

    The contours are rings of width `pi / max(H, W)` around its multiples, up to the highest
    frequency of one axis; what lies beyond in the corners of the plane is left out.

    Args:
        images: (B, C, H, W), in any unit.

    Returns:
        frequency: (R,) float64, radians per pixel, 0 first; R = max(H, W).
        power: (R,) float64, squared orthonormal DCT coefficients in squared units of the images,
            averaged over contour, channels and images.
    """
    H, W = images.shape[-2:]
    u = images.detach().to("cpu", torch.float64)
    squared = to_frequencies(u).square().mean((0, 1))
    size = max(H, W)
    n, m = (torch.arange(side, dtype=torch.float64) * (size / side) for side in (H, W))
    ring = torch.hypot(n[:, None], m).round().long()
    power = torch.stack([squared[ring == r].mean() for r in range(size)])
    return frequencies(size), power

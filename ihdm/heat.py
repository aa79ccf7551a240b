r"""The heat equation on an image, solved in the cosine basis.

    du/dt = Laplacian(u),  zero normal derivative at the border         (Eqs. 1, 14-17)
    u(t) = F(t) u(0) = V exp(Lambda t) V^T u(0)                         (Eqs. 2, 23; Alg. 3)

`V^T` is the orthonormal DCT-II and `Lambda` holds `-pi^2 (n^2/W^2 + m^2/H^2)` (Eq. 21). Time is
given as the width of the equivalent Gaussian blur, `sigma_blur = sqrt(2 t)`, in pixels (Sec. 3.1).

The kernel `exp(-(f_n^2 + f_m^2) t)` factorises over rows and columns, so that

    F(t) u = A u B,   A = C_H^T diag(exp(-f_m^2 t)) C_H,   B = C_W^T diag(exp(-f_n^2 t)) C_W

with the cosine matrices `C` of either axis: two small matrix products for each image instead of
four transforms. A and B are tabulated once for each level.
"""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "HeatEquation",
    "blur_schedule",
    "cosine_basis",
    "finite_differences",
    "frequencies",
    "laplacian",
    "log_decay",
    "operator",
    "to_frequencies",
    "to_pixels",
]


def cosine_basis(size: int) -> Tensor:
    """The orthonormal DCT-II matrix `C` of one axis (Eq. 20).

    `C @ x` is the transform of a signal `x` and `C.T @ y` its inverse.

    Args:
        size: number of pixels along the axis.

    Returns:
        (size, size) float64; row n is the cosine of frequency `pi n / size`.
    """
    frequency = torch.arange(size, dtype=torch.float64)[:, None]
    position = torch.arange(size, dtype=torch.float64)[None, :] + 0.5
    basis = torch.cos(math.pi / size * frequency * position) * math.sqrt(2 / size)
    basis[0] /= math.sqrt(2)
    return basis


def frequencies(size: int) -> Tensor:
    """Angular frequencies `pi n / size` of the cosine basis of one axis (Eq. 21).

    Args:
        size: number of pixels along the axis.

    Returns:
        (size,) float64, radians per pixel.
    """
    return math.pi / size * torch.arange(size, dtype=torch.float64)


def log_decay(height: int, width: int, time: Tensor) -> Tensor:
    """`-lambda t`, the logarithm of the heat kernel of each frequency (Eqs. 21, 23).

    Args:
        height: image height H in pixels.
        width: image width W in pixels.
        time: (...) float64, t, in squared pixels: `sigma_blur^2 / 2`.

    Returns:
        (..., H, W) float64 on the device of `time`, zero at frequency zero.
    """
    squared = frequencies(height)[:, None] ** 2 + frequencies(width) ** 2
    return -squared.to(time.device) * time[..., None, None]


@lru_cache(maxsize=16)
def basis_like(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return cosine_basis(size).to(dtype).to(device)


def to_frequencies(u: Tensor) -> Tensor:
    """`V^T u`, the orthonormal DCT-II of every channel of every image (Eqs. 20, 22).

    Args:
        u: (..., H, W) images of a floating dtype, in any unit.

    Returns:
        (..., H, W) coefficients of the dtype of `u`; the row is the vertical frequency.
    """
    rows, columns = (basis_like(size, u.dtype, u.device) for size in u.shape[-2:])
    return rows @ u @ columns.T


def to_pixels(coefficients: Tensor) -> Tensor:
    """`V y`, the inverse of `to_frequencies`.

    Args:
        coefficients: (..., H, W) of a floating dtype.

    Returns:
        (..., H, W) images.
    """
    like = coefficients.dtype, coefficients.device
    rows, columns = (basis_like(size, *like) for size in coefficients.shape[-2:])
    return rows.T @ coefficients @ columns


def operator(size: int, sigma_blur: Tensor) -> Tensor:
    """The heat kernel of one axis, `C^T diag(exp(-f^2 sigma_blur^2 / 2)) C` (Eq. 23 in 1-D).

    Args:
        size: number of pixels along the axis.
        sigma_blur: (B,) real blur widths in pixels, zero or more.

    Returns:
        (B, size, size) float64 symmetric matrices, on the device of `sigma_blur` if that device has
        float64, and on the CPU otherwise.
    """
    time = sigma_blur.detach().to("cpu", torch.float64) ** 2 / 2
    basis = cosine_basis(size)
    table = basis.T @ (log_decay(size, 1, time).exp() * basis)
    return table if sigma_blur.device.type == "mps" else table.to(sigma_blur.device)


def blur_schedule(K: int, sigma_min: float, sigma_max: float) -> Tensor:
    """Blur widths of the levels 0..K, evenly spaced on a logarithmic axis (App. B.5).

    `sigma_blur[k] = exp(log sigma_min (K-k)/(K-1) + log sigma_max (k-1)/(K-1))` for k = 1..K.
    With a single level it is `sigma_max`.

    Args:
        K: number of levels, at least 1.
        sigma_min: width at level 1, in pixels.
        sigma_max: width at level K, in pixels.

    Returns:
        (K+1,) float64, in pixels; entry 0 is 0, the sharp image.

    Raises:
        ValueError: K is below 1, or not `0 < sigma_min < sigma_max`.
    """
    if K < 1:
        raise ValueError(f"K must be at least 1, not {K}")
    if not 0 < sigma_min < sigma_max:
        raise ValueError(f"needs 0 < sigma_min < sigma_max, not {sigma_min} and {sigma_max}")
    # Counted down from the top, so that a single level is sigma_max.
    log_widths = torch.linspace(math.log(sigma_max), math.log(sigma_min), K, dtype=torch.float64)
    return torch.cat([torch.zeros(1, dtype=torch.float64), log_widths.exp().flip(0)])


class HeatEquation:
    """The forward process F(t_k) of Eqs. 2 and 23 on images of one size.

    The tables are computed in float64 and kept for each device and precision that asks, so it
    works on any device without being moved there.

    Args:
        height: image height H in pixels.
        width: image width W in pixels.
        sigma_blur: (K+1,) blur width of each level in pixels, as `blur_schedule` gives it.
    """

    def __init__(self, height: int, width: int, sigma_blur: Tensor):
        self.height, self.width = height, width
        self.sigma_blur = sigma_blur.detach().to("cpu", torch.float64)
        rows = operator(height, self.sigma_blur)
        columns = rows if width == height else operator(width, self.sigma_blur)
        self._tables = {(torch.device("cpu"), torch.float64): (rows, columns)}

    @property
    def K(self) -> int:
        """Number of levels; level 0 is the sharp image, level K the most blurred one."""
        return len(self.sigma_blur) - 1

    def blur(self, u: Tensor, k: int | Tensor) -> Tensor:
        """F(t_k) u, the image after heat has dissipated until time t_k (Eq. 2, Alg. 3).

        Args:
            u: (B, C, H, W) images of any floating dtype, in any unit.
            k: level 0..K, one int for all images or (B,) integers.

        Returns:
            (B, C, H, W) of the dtype and on the device of `u`. Types below 32 bits are blurred
            in float32.

        Raises:
            ValueError: the images are not of this size, or a level is outside 0..K.
        """
        if u.shape[-2:] != (self.height, self.width):
            raise ValueError(
                f"images are {u.shape[-2]}x{u.shape[-1]}, the heat equation was made for "
                f"{self.height}x{self.width}"
            )
        levels = torch.as_tensor(k)
        # Levels on another device are not read, since that would wait for it.
        if levels.device.type == "cpu" and not ((levels >= 0) & (levels <= self.K)).numpy().all():
            raise ValueError(f"levels must lie in 0..{self.K}, not {levels.tolist()}")
        dtype = u.dtype if u.dtype in (torch.float32, torch.float64) else torch.float32
        rows, columns = self._table(u.device, dtype)
        chosen = levels.to(u.device).expand(len(u)) if isinstance(k, Tensor) else k
        return separable(u.to(dtype), rows[chosen], columns[chosen]).to(u.dtype)

    def _table(self, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        if (device, dtype) not in self._tables:
            rows, columns = self._tables[torch.device("cpu"), torch.float64]
            moved = rows.to(dtype).to(device)
            shared = columns is rows
            self._tables[device, dtype] = (moved, moved if shared else columns.to(dtype).to(device))
        return self._tables[device, dtype]


def separable(u: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """`A u B` for every channel of every image (the separable form of Eq. 23).

    Args:
        u: (B, C, H, W) images.
        rows: (H, H) or (B, H, H), A.
        columns: (W, W) or (B, W, W), B, symmetric.

    Returns:
        (B, C, H, W).
    """
    B, C, H, W = u.shape
    across = u.reshape(B, C * H, W) @ columns
    if rows.ndim == 3:
        rows = rows[:, None]
    return rows @ across.view(B, C, H, W)


def laplacian(u: Tensor) -> Tensor:
    """The five-point Laplacian of Eq. 13, with zero derivative at the border.

    Args:
        u: (B, C, H, W) images of any floating dtype.

    Returns:
        (B, C, H, W), in units of `u` per squared pixel.
    """
    padded = F.pad(u, (1, 1, 1, 1), mode="replicate")
    across = padded[..., 1:-1, 2:] + padded[..., 1:-1, :-2]
    along = padded[..., 2:, 1:-1] + padded[..., :-2, 1:-1]
    return across + along - 4 * u


def finite_differences(u: Tensor, time: float, steps: int) -> Tensor:
    """Explicit Euler steps of `du/dt = laplacian(u)`, the grid-based alternative of Eq. 13.

    Args:
        u: (B, C, H, W) images at time 0.
        time: how long heat dissipates, `sigma_blur^2 / 2`, in squared pixels.
        steps: number of steps; they are stable where `time / steps` is at most 1/4.

    Returns:
        (B, C, H, W) images at the given time.
    """
    for _ in range(steps):
        u = u + time / steps * laplacian(u)
    return u

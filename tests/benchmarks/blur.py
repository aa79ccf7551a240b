"""Times the separable blur against torch-dct on one thread: `python tests/benchmarks/blur.py`.

Both compute Alg. 3 on the same float32 images with one blur level for each image. The ratio is
taken between medians of interleaved runs, so that a drift of the machine's speed cancels.
"""

import statistics
import sys
import time

import torch
import torch_dct

from ihdm.heat import HeatEquation, blur_schedule, frequencies

CASES = [((128, 3, 32, 32), 15), ((32, 3, 256, 256), 5)]


def by_transform(u, sigma_blur):
    """Alg. 3 with torch-dct: transform, decay, transform back."""
    rows, columns = frequencies(u.shape[-2]), frequencies(u.shape[-1])
    squared = (rows[:, None] ** 2 + columns**2).float()
    decay = torch.exp(-squared * (sigma_blur[:, None, None, None] ** 2 / 2))
    return torch_dct.idct_2d(decay * torch_dct.dct_2d(u, norm="ortho"), norm="ortho")


def seconds(function, *arguments):
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def main():
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    met = True
    for shape, bar in CASES:
        u = torch.rand(shape, generator=generator)
        K = 100
        heat = HeatEquation(*shape[-2:], blur_schedule(K, 0.5, shape[-1] / 2))
        k = torch.randint(1, K + 1, shape[:1], generator=generator)
        sigma_blur = heat.sigma_blur[k].float()
        error = (heat.blur(u, k) - by_transform(u, sigma_blur)).abs().max().item()
        ours, theirs = [], []
        for _ in range(15):
            theirs.append(seconds(by_transform, u, sigma_blur))
            ours.append(seconds(heat.blur, u, k))
        ratio = statistics.median(theirs) / statistics.median(ours)
        met &= ratio >= bar
        print(
            f"{'x'.join(map(str, shape)):>14}  separable {1e3 * statistics.median(ours):8.2f} ms"
            f"  torch-dct {1e3 * statistics.median(theirs):8.2f} ms"
            f"  ratio {ratio:5.1f} (at least {bar})  largest difference {error:.1e}"
        )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())

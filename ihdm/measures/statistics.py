"""Statistics that several notebooks need: means, paired comparisons, two causes of variance."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from scipy.stats import t as student
from scipy.stats import wilcoxon
from torch import Tensor

__all__ = [
    "Paired",
    "Shares",
    "contrast",
    "correlation",
    "jackknife",
    "mean_interval",
    "paired",
    "two_way",
]


def contrast(images: Tensor) -> float:
    """The standard deviation within an image, (B, C, H, W), averaged over images, in their unit."""
    return images.flatten(1).std(1).mean().item()


def correlation(first: Tensor, second: Tensor) -> float:
    """Pearson's correlation over all entries of two tensors of the same shape."""
    return torch.corrcoef(torch.stack([first.flatten(), second.flatten()]).double())[0, 1].item()


def mean_interval(values: Tensor) -> tuple[float, float]:
    """The mean of independent values, and half of its 95 % interval by Student's t.

    Args:
        values: (N,), N at least 2.
    """
    x = values.double()
    half = student.ppf(0.975, len(x) - 1) * x.std().item() / len(x) ** 0.5
    return x.mean().item(), float(half)


def jackknife(statistic: Callable[..., float], *values: Tensor) -> float:
    """Half of the 95 % interval of a statistic of N independent things, which are left out in turn.

    `1.96 sqrt((N-1)/N sum_i (s_i - mean s)^2)`, with s_i the statistic without the i-th.

    Args:
        statistic: a function of as many tensors as are given.
        values: (N, ...) each, N at least 2; what belongs together is left out together.
    """
    count = len(values[0])
    without = [statistic(*(torch.cat([v[:i], v[i + 1 :]]) for v in values)) for i in range(count)]
    spread = torch.tensor(without, dtype=torch.float64).var(correction=0)
    return 1.96 * ((count - 1) * spread).sqrt().item()


class Shares(NamedTuple):
    """Shares of the total sum of squares; they add up to one.

    Attributes:
        rows: explained by the row alone.
        columns: explained by the column alone.
        interaction: what is left.
    """

    rows: float
    columns: float
    interaction: float


def two_way(values: Tensor) -> Shares:
    """The two-way analysis of variance without replication.

    `x_ij = mean + row_i + column_j + interaction_ij`, with squares summed over all entries of x.

    Args:
        values: (I, J, ...), a vector for each pair of causes. Independent values would share by
            degrees of freedom: (I-1) / (IJ-1) for rows, (J-1) / (IJ-1) for columns.

    Raises:
        ValueError: all vectors are equal.
    """
    x = values.double().flatten(2)
    x = x - x.mean((0, 1))
    rows, columns = x.mean(1, keepdim=True), x.mean(0, keepdim=True)
    total = x.square().sum()
    if total == 0:
        raise ValueError("all values are equal: there is no variance to explain")
    of_rows = (rows.square().sum() * x.shape[1] / total).item()
    of_columns = (columns.square().sum() * x.shape[0] / total).item()
    return Shares(of_rows, of_columns, ((x - rows - columns).square().sum() / total).item())


class Paired(NamedTuple):
    """A comparison of two values for each of several pairs.

    Attributes:
        first: mean of the first.
        second: mean of the second.
        difference: mean of second minus first.
        half_interval: half of the 95 % interval of the difference, by Student's t.
        p: of Wilcoxon's signed-rank test, two-sided.
    """

    first: float
    second: float
    difference: float
    half_interval: float
    p: float

    def verdict(self, less: str, more: str, neither: str) -> str:
        """One of three sentences: the first is less, it is more, or the interval contains 0.

        Args:
            less: said where the first is smaller than the second.
            more: said where it is larger.
            neither: said where these pairs cannot tell.
        """
        if not abs(self.difference) > self.half_interval:
            return neither
        return less if self.difference > 0 else more


def paired(first: Tensor, second: Tensor) -> Paired:
    """Compares two measures of the same things.

    Args:
        first: (N,), N at least 2.
        second: (N,), in the same order.
    """
    x, y = first.double(), second.double()
    difference, half = mean_interval(y - x)
    p = float(wilcoxon(x.numpy(), y.numpy()).pvalue)
    return Paired(x.mean().item(), y.mean().item(), difference, half, p)

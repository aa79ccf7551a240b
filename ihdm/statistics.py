"""Statistics that several notebooks need: two causes of variance, and paired comparisons."""

from typing import NamedTuple

from scipy.stats import wilcoxon
from torch import Tensor

__all__ = ["Paired", "Shares", "paired", "two_way"]


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
        values: (I, J, ...), a vector for each pair of causes.

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
        half_interval: half the 95 % interval of the difference, normal.
        p: of Wilcoxon's signed-rank test, two-sided.
    """

    first: float
    second: float
    difference: float
    half_interval: float
    p: float

    @property
    def decided(self) -> bool:
        """Whether the interval of the difference leaves out 0."""
        return abs(self.difference) > self.half_interval


def paired(first: Tensor, second: Tensor) -> Paired:
    """Compares two measures of the same things.

    Args:
        first: (N,), N at least 2.
        second: (N,), in the same order.
    """
    x, y = first.double(), second.double()
    half = 1.96 * (y - x).std() / len(x) ** 0.5
    p = float(wilcoxon(x.numpy(), y.numpy()).pvalue)
    return Paired(x.mean().item(), y.mean().item(), (y - x).mean().item(), half.item(), p)

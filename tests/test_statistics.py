import pytest
import torch
from scipy.stats import pearsonr, ttest_1samp, ttest_rel

from ihdm.measures import statistics


def test_shares_of_additive_causes():
    rows, columns = torch.randn(4, 1, 3), torch.randn(1, 5, 3)
    of_rows = statistics.two_way(rows.expand(4, 5, 3))
    assert of_rows.rows == pytest.approx(1)
    both = statistics.two_way(rows + columns)
    assert both.interaction == pytest.approx(0, abs=1e-12)
    assert sum(both) == pytest.approx(1)


def test_shares_by_hand():
    # Effects of +-1 by row, +-2 by column and +-3 by both.
    values = torch.tensor([[1 + 2 + 3, 1 - 2 - 3], [-1 + 2 - 3, -1 - 2 + 3]])[..., None].float()
    assert statistics.two_way(values) == pytest.approx((1 / 14, 4 / 14, 9 / 14))


def test_independent_values_share_by_degrees_of_freedom():
    generator = torch.Generator().manual_seed(0)
    shares = statistics.two_way(torch.randn(6, 11, 5000, generator=generator))
    assert shares == pytest.approx((5 / 65, 10 / 65, 50 / 65), rel=0.05)


def test_equal_values_have_no_variance():
    with pytest.raises(ValueError, match="equal"):
        statistics.two_way(torch.ones(2, 2, 3))


def test_a_paired_comparison_against_the_t_test():
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(200, generator=generator)
    second = first + 0.1 + 0.2 * torch.randn(200, generator=generator)
    compared = statistics.paired(first, second)
    interval = ttest_rel(second.double(), first.double()).confidence_interval()
    assert compared.difference - compared.half_interval == pytest.approx(interval.low, rel=1e-6)
    assert compared.difference + compared.half_interval == pytest.approx(interval.high, rel=1e-6)
    assert compared.p < 1e-6
    said = ("less", "more", "neither")
    assert compared.verdict(*said) == "less"
    assert statistics.paired(second, first).verdict(*said) == "more"
    other = torch.randn(200, generator=generator)
    assert statistics.paired(first, other).verdict(*said) == "neither"


def test_a_mean_and_its_interval():
    values = torch.tensor([1.0, 2.0, 3.0, 6.0])
    mean, half = statistics.mean_interval(values)
    interval = ttest_1samp(values.double(), 0).confidence_interval()
    assert mean == 3
    assert mean + half == pytest.approx(interval.high)


def test_correlation_counts_every_entry():
    first = torch.rand(3, 4, 5)
    assert statistics.correlation(first, 2 - 3 * first) == pytest.approx(-1)
    second = torch.rand(3, 4, 5)
    expected = pearsonr(first.flatten(), second.flatten()).statistic
    assert statistics.correlation(first, second) == pytest.approx(expected)


def test_contrast_is_within_images_and_not_between_them():
    flat = torch.tensor([0.0, 1.0])[:, None, None, None].expand(2, 1, 4, 4)
    assert statistics.contrast(flat) == 0
    halves = torch.tensor([0.0, 1.0]).repeat(8).view(1, 1, 4, 4)
    assert statistics.contrast(halves) == pytest.approx(halves.numpy().std(ddof=1))


def test_the_jackknife_of_a_mean_is_its_standard_error():
    values = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    half = statistics.jackknife(lambda x: x.mean().item(), values)
    assert half == pytest.approx(1.96 * values.mean(1).std().item() / 40**0.5, rel=1e-5)


def test_the_jackknife_leaves_out_together_what_belongs_together():
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(200):
        x = torch.randn(50, generator=generator)
        y = x + 0.5 * torch.randn(50, generator=generator)
        own = statistics.correlation(x, y)
        found.append((own, statistics.jackknife(statistics.correlation, x, y)))
    values, halves = torch.tensor(found).T
    assert halves.mean().item() / 1.96 == pytest.approx(values.std().item(), rel=0.25)

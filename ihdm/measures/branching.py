"""How much a sample still changes if its noise is drawn anew from a level on (Fig. 5b)."""

from collections.abc import Iterable

from ihdm.measures.statistics import mean_interval
from ihdm.model import Model

__all__ = ["spread"]


def spread(
    model: Model, shares: Iterable[float], sequences: int, branches: int
) -> dict[float, tuple[float, float]]:
    """The difference between endings of one sequence, by the level at which it was split.

    The first samples of the model run to a level; from there each goes on with the noise of
    `branches` other samples. Noise of a level that was passed is never used again.

    Args:
        model: the model; K steps are taken for each sequence, and the rest for each branch.
        shares: of K, at which to split.
        sequences: how many samples to split, at least 2.
        branches: endings of each, at least 2.

    Returns:
        share -> the standard deviation of the endings of a sequence, root mean square over pixels,
        averaged over sequences, in units of the pixel range; and half of its 95 % interval.
    """
    levels = {share: model.process.level(share) for share in shares}
    states = model.draw(sequences, levels=set(levels.values()))
    spreads = {}
    for share, k in levels.items():
        others = range(sequences, sequences * (1 + branches))
        start = states[k].repeat_interleave(branches, 0)
        ends = model.draw(others, start=start, k=k)[0].unflatten(0, (sequences, branches))
        own = ends.var(1).flatten(1).mean(1).sqrt()
        spreads[share] = mean_interval(own)
    return spreads

"""One progress bar for long work: live on a terminal, a line every several seconds elsewhere.

A notebook's kernel, a DVC stage and a CI log are not terminals, and there each refresh of an
ordinary bar would become a line of its own.
"""

import sys
from collections.abc import Iterable, Iterator, Sized
from typing import TextIO, TypeVar

from tqdm import tqdm

__all__ = ["bar", "over"]

SECONDS_BETWEEN_LINES = 10.0

Item = TypeVar("Item")


class Lines:
    """A stream for tqdm that turns its carriage returns into lines."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> None:
        text = text.strip("\r\n ")
        if text:
            self._stream.write(text + "\n")

    def flush(self) -> None:
        self._stream.flush()


def bar(total: int, label: str, unit: str = "step", initial: int = 0, shown: bool = True) -> tqdm:
    """A tqdm bar on standard error, in the form that the stream is fit for.

    Args:
        total: number of units of work.
        label: what is being done.
        unit: name of one unit.
        initial: units done before, by a run that this one resumes.
        shown: whether anything is written; of several processes, one should.

    Returns:
        The bar, to be used as a context manager; `set_postfix_str(text, refresh=False)` adds to it.
    """
    if sys.stderr.isatty():
        return tqdm(
            total=total,
            desc=label,
            unit=unit,
            initial=initial,
            dynamic_ncols=True,
            leave=False,
            disable=not shown,
        )
    return tqdm(
        total=total,
        desc=label,
        unit=unit,
        initial=initial,
        file=Lines(sys.stderr),
        mininterval=SECONDS_BETWEEN_LINES,
        maxinterval=float("inf"),
        miniters=1,
        disable=not shown,
        bar_format="{desc}: {n_fmt}/{total_fmt} {unit}s, {elapsed} gone, {remaining} left{postfix}",
    )


def over(values: Iterable[Item], label: str, unit: str, count: int | None = None) -> Iterator[Item]:
    """Goes through values below a bar; a single value gets no bar.

    Args:
        values: the values.
        label: what is being done.
        unit: the name of one value.
        count: how many there are; needed if they have no length.
    """
    if count is None:
        assert isinstance(values, Sized)
        count = len(values)
    if count < 2:
        yield from values
        return
    with bar(count, label, unit) as shown:
        for value in values:
            yield value
            shown.update()

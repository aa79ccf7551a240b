"""The basis of verdicts: trainings that are repeated with several seeds, and limits."""

from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveFloat

from ihdm.settings.base import AtLeastThree, Distinct, Settings, Share
from ihdm.settings.needs import Notebook


class Repetition(Settings):
    """One training: an experiment with some settings changed, as `train.steps: 500`.

    If it is `untrained`, the best linear step takes the place of a trained network.
    """

    of: str
    untrained: bool = False
    changes: dict[str, int | float | str | None] = Field(default_factory=dict)


class Repeated(Settings):
    """The trainings, their seeds, and how many samples of each are measured."""

    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1), Distinct]
    samples: AtLeastThree
    trainings: dict[str, Repetition]


class Claims(Notebook):
    """Limits that no other notebook has."""

    additivity: PositiveFloat
    detailed: Share
    flat: Share
    near_sigma: PositiveFloat
    blank: Share
    brightness: Share
    classes: Share
    levels: Share
    robust: PositiveFloat

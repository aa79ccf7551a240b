"""The settings of the controls of the page, whose images the stage `controls` draws."""

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt

from ihdm.settings.base import AtLeastTwo, Settings
from ihdm.settings.data import Photograph


class Controls(Settings):
    """The choices that a visitor has; the models are those of chapters 9 and 13."""

    photograph: Photograph
    # The browser multiplies matrices of this size while the slider moves.
    photograph_size: Annotated[int, Field(ge=16, le=256)]
    starts: PositiveInt
    delta_max: PositiveFloat
    deltas: AtLeastTwo
    sequences: PositiveInt
    levels: PositiveInt
    branches: AtLeastTwo

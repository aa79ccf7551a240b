"""The base of all sections of params.yaml, constraints that they share, and their digest."""

import hashlib
import json
from itertools import pairwise
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
AtLeastTwo = Annotated[int, Field(ge=2)]
AtLeastThree = Annotated[int, Field(ge=3)]


class Settings(BaseModel):
    """A section of params.yaml: immutable, and with known keys only."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def digest(*sections: Settings) -> str:
    """A short hash of sections, for provenance: 12 hexadecimal digits."""
    text = json.dumps([s.model_dump(mode="json") for s in sections], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _ordered(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] > ends[1]:
        raise ValueError(f"the lower end comes first: {list(ends)}")
    return ends


def _rising(values: tuple[float, ...]) -> tuple[float, ...]:
    if any(a >= b for a, b in pairwise(values)):
        raise ValueError(f"each value has to be larger than the one before: {list(values)}")
    return values


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise ValueError(f"a value is there twice: {list(values)}")
    return values


Ordered = AfterValidator(_ordered)
Rising = AfterValidator(_rising)
Distinct = AfterValidator(_distinct)

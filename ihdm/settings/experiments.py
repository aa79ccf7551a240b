"""The experiments of params.yaml; the names are those of Tables 1 and 2."""

import json
import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
)

from ihdm.settings.base import AtLeastTwo, Fraction, Settings, Share


class InverseHeatProcess(Settings):
    """Table 2, and Eq. 4."""

    kind: Literal["inverse_heat"]
    K: PositiveInt
    sigma_blur_min: PositiveFloat
    sigma_blur_max: PositiveFloat
    sigma: NonNegativeFloat

    @field_validator("sigma_blur_max")
    @classmethod
    def _above_minimum(cls, value: float, info: ValidationInfo) -> float:
        lowest = info.data.get("sigma_blur_min", 0)
        if value <= lowest:
            raise ValueError(f"has to be larger than sigma_blur_min, which is {lowest}")
        return value


class DenoisingProcess(Settings):
    """DDPM, the baseline of the paper."""

    kind: Literal["denoising"]
    K: PositiveInt


class BlurringProcess(Settings):
    """Blurring diffusion."""

    kind: Literal["blurring"]
    K: PositiveInt
    sigma_blur_max: NonNegativeFloat


AnyProcess = Annotated[
    InverseHeatProcess | DenoisingProcess | BlurringProcess, Field(discriminator="kind")
]


class Network(Settings):
    """Table 1; levels count from 0, the full resolution."""

    channels: PositiveInt
    multipliers: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    res_blocks: PositiveInt
    attention_levels: tuple[NonNegativeInt, ...]
    dropout: Fraction
    groups: PositiveInt
    resample: Literal["pool", "conv"]
    parametrization: Literal["published", "linear_gaussian"] = "published"

    @field_validator("channels")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("has to be even, for the cosines and sines of the embedding")
        return value

    @field_validator("attention_levels")
    @classmethod
    def _exist(cls, value: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        if "multipliers" in info.data and value:
            last, level = len(info.data["multipliers"]) - 1, max(value)
            if level > last:
                raise ValueError(f"level {level} does not exist: the levels are 0..{last}")
        return value

    @field_validator("groups")
    @classmethod
    def _grouping(cls, value: int, info: ValidationInfo) -> int:
        channels = info.data.get("channels", 0)
        if channels % value:
            raise ValueError(f"{value} groups do not divide {channels} channels")
        if channels == value:
            raise ValueError(
                f"{value} groups of {channels} channels leave one channel in a group, and the "
                "normalisation removes the embedding of the level; choose fewer"
            )
        return value


class Train(Settings):
    """Alg. 1 and App. B.1; the budget is in steps."""

    # How often to save and how to lay out the work hardly change the result.
    WITHOUT_EFFECT: ClassVar[tuple[str, ...]] = (
        "checkpoint_every",
        "snapshot_every",
        "skips_in_a_row",
        "images_per_pass",
        "activation_checkpointing",
        "channels_last",
        "compile",
    )
    published: str | None = None
    steps: PositiveInt
    batch: PositiveInt
    images_per_pass: PositiveInt | None = None
    activation_checkpointing: bool = False
    channels_last: bool = True
    compile: bool = False
    learning_rate: PositiveFloat
    warmup: NonNegativeInt
    cooldown: NonNegativeInt
    ema: Fraction
    gradient_clip: PositiveFloat
    gamma: Share | None = None
    precision: Literal["auto", "float32", "bfloat16"]
    flips: bool
    log_every: PositiveInt
    checkpoint_every: PositiveInt
    snapshot_every: PositiveInt | None = None
    skips_in_a_row: PositiveInt = 10
    seed: NonNegativeInt

    @field_validator("cooldown")
    @classmethod
    def _within(cls, value: int, info: ValidationInfo) -> int:
        steps, warmup = info.data.get("steps", math.inf), info.data.get("warmup", 0)
        if value + warmup > steps:
            raise ValueError(f"warmup and cooldown together exceed the {steps} steps")
        return value


class Sampling(Settings):
    """Alg. 2 and Table 2; delta belongs to inverse heat dissipation alone."""

    delta: NonNegativeFloat | None = None
    seed: NonNegativeInt


class InceptionFid(Settings):
    """App. B.3: how many samples, and against which images of the data set."""

    samples: AtLeastTwo
    reference: Literal["train", "all"]


class Experiment(Settings):
    """One model: a process, a network, how to train it and how to draw from it."""

    # The sections that decide the result of a training.
    TRAINED: ClassVar[tuple[str, ...]] = ("process", "network", "train")
    process: AnyProcess
    network: Network
    train: Train
    sampling: Sampling
    fid: InceptionFid | None = None

    @field_validator("network")
    @classmethod
    def _has_a_linear_step(cls, value: Network, info: ValidationInfo) -> Network:
        if value.parametrization == "linear_gaussian" and _without_noise(info):
            raise ValueError(
                "parametrization 'linear_gaussian' needs sigma above 0: without noise, the optimal "
                "linear step is to undo the blur, which has no limit"
            )
        return value

    @field_validator("train")
    @classmethod
    def _fits(cls, value: Train, info: ValidationInfo) -> Train:
        network, process = info.data.get("network"), info.data.get("process")
        if value.published and network and network.parametrization != "published":
            raise ValueError("published checkpoints need network.parametrization 'published'")
        heat = isinstance(process, InverseHeatProcess | None)
        if value.gamma is not None and (not heat or _without_noise(info)):
            raise ValueError("gamma belongs to inverse heat dissipation with sigma above 0")
        return value

    @property
    def numbers(self) -> dict[str, Any]:
        """The process and its delta, as `processes.make` takes them."""
        return {**self.process.model_dump(), "delta": self.sampling.delta}

    def changed(self, changes: Mapping[str, Any]) -> "Experiment":
        """The same experiment with other values of process, network or train.

        Args:
            changes: path of a key, as `train.batch`, and its new value.

        Raises:
            ValueError: a key does not exist, or a value is not valid.
        """
        description = self.model_dump(mode="json")
        for path, value in changes.items():
            section, _, key = path.partition(".")
            if section not in self.TRAINED or key not in description[section]:
                raise ValueError(f"cannot change '{path}': there is no such setting")
            description[section][key] = value
        return Experiment.model_validate_json(json.dumps(description))

    def flat(self) -> dict[str, Any]:
        """Every value under the path of its key, as `train.batch`."""
        parts = {name: part for name, part in self.model_dump(mode="json").items() if part}
        return {f"{name}.{key}": v for name, part in parts.items() for key, v in part.items()}


def _without_noise(info: ValidationInfo) -> bool:
    return getattr(info.data.get("process"), "sigma", 1) == 0

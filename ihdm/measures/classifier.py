"""A small network that classifies digits; its last hidden layer is the feature space of `digits`.

Inception's 2,048 features need tens of thousands of images for a covariance. 64 features, trained
on the digits themselves, need a few hundred, and tell digits apart.
`pipeline.digit_features` trains it.
"""

from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from ihdm import weights
from ihdm.data import datasets
from ihdm.project import root

__all__ = ["Classifier", "digest", "file", "load"]

FEATURES = 64


class Classifier(nn.Module):
    """Two convolutions, a layer of 64 features, and the scores of ten digits."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.hidden = nn.Linear(64 * 7 * 7, FEATURES)
        self.scores = nn.Linear(FEATURES, 10)

    def features(self, images: Tensor) -> Tensor:
        """(N, 1, 28, 28) images in [0, 1] -> (N, 64)."""
        return self.hidden(self.convolutions(images))

    def forward(self, images: Tensor) -> Tensor:
        """(N, 1, 28, 28) images in [0, 1] -> (N, 10) scores."""
        return self.scores(F.relu(self.features(images)))


def load() -> Classifier:
    """The classifier of the pipeline.

    Raises:
        ProjectError: its weights are missing or damaged.
    """
    return weights.load(file(), Classifier()).eval()


def file() -> Path:
    """The file of its weights."""
    return root() / "results" / "weights" / "digit_features.safetensors"


def digest() -> str:
    """Which classifier this is: 12 hexadecimal digits of the SHA-256 of its weights.

    FID and KID of two sets of samples compare only if they are by the same classifier; another
    machine trains another one.
    """
    return datasets.sha256(file())[:12]

"""A small network that tells digits apart; its last hidden layer is the feature space of `digits`.

Inception's 2,048 features need tens of thousands of images for a covariance. 64 features, trained
on the digits themselves, need a few hundred, and know what digits differ in.
`python -m ihdm.classifier` is a stage of the pipeline.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import PartialState
from torch import Tensor, nn

from ihdm import checkpoints, datasets, params, progress, seeds
from ihdm.datasets import Images
from ihdm.results import Results
from ihdm.settings import ProjectError

__all__ = ["Classifier", "accuracy", "load", "train"]

FEATURES = 64


class Classifier(nn.Module):
    """Two convolutions, a layer of 64 features, and the scores of ten digits."""

    def __init__(self):
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


def train(images: Images, epochs: int, seed: int, batch: int = 64) -> Classifier:
    """Trains on the training digits, each moved by up to two pixels.

    Args:
        images: a data set of grey digits with labels.
        epochs: passes over the training digits.
        seed: seed of initial weights, order and shifts.
        batch: digits at a time.

    Raises:
        ProjectError: the data set has no labels, or its images are not 28x28 and grey.
    """
    if not images.labels or images.shape != (1, 28, 28):
        raise ProjectError(
            f"features of digits need grey digits of 28x28 pixels with labels, which the data set "
            f"'{images.name}' does not hold"
        )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Classifier()
    device = PartialState().device
    network = network.to(device).train()
    digits = datasets.to_unit(images.train)
    labels = torch.from_numpy(images.labels["train"].astype("int64"))
    steps = epochs * -(-len(digits) // batch)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    with progress.bar(steps, "features of digits") as bar:
        for epoch in range(epochs):
            generator = seeds.generator(seed, seeds.ORDER, epoch)
            padded = F.pad(digits, (2, 2, 2, 2))
            for chosen in torch.randperm(len(digits), generator=generator).split(batch):
                y, x = torch.randint(5, (2,), generator=generator).tolist()
                moved = padded[chosen, :, y : y + 28, x : x + 28].to(device)
                loss = F.cross_entropy(network(moved), labels[chosen].to(device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                bar.update()
    return network.cpu().eval()


@torch.no_grad()
def accuracy(network: Classifier, images: Images, split: str) -> float:
    """Share of a split's digits that are told right."""
    right = network(datasets.to_unit(getattr(images, split))).argmax(1).numpy()
    return float((right == images.labels[split]).mean())


def load() -> Classifier:
    """The classifier of the pipeline.

    Raises:
        ProjectError: it is missing or damaged.
    """
    return checkpoints.load_weights(weights(), Classifier()).eval()


def weights() -> Path:
    return params.root() / "results" / "weights" / "digit_features.safetensors"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ihdm.classifier", description=__doc__)
    parser.parse_args()
    with params.exit_on_error():
        settings = params.load().digit_features
        images = datasets.load(settings.data)
        network = train(images, settings.epochs, settings.seed)
        found = {split: accuracy(network, images, split) for split in ("train", "tune", "report")}
        checkpoints.save_weights(weights(), network)
        Results("digit_features", "results").metrics(accuracy=found)
        print(f"{100 * found['report']:.1f} % of held-out digits are told right")


if __name__ == "__main__":
    main()

"""Trains the classifier behind FID and KID of digits: `python -m ihdm.pipeline.digit_features`."""

import argparse

import torch
import torch.nn.functional as F
from accelerate import PartialState

from ihdm import progress, seeds, settings, weights
from ihdm.data import datasets
from ihdm.data.datasets import SPLITS, Images
from ihdm.measures import classifier
from ihdm.measures.classifier import Classifier
from ihdm.pixels import to_unit
from ihdm.project import ProjectError, exit_on_error
from ihdm.results import Results

__all__ = ["accuracy", "train"]

BATCH = 64


def train(images: Images, epochs: int, seed: int) -> Classifier:
    """Trains on the training digits, each moved by up to two pixels.

    Args:
        images: a data set of grey digits with labels.
        epochs: passes over the training digits.
        seed: seed of initial weights, order and shifts.

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
    digits = to_unit(images.train)
    labels = torch.from_numpy(images.labels["train"].astype("int64"))
    steps = epochs * -(-len(digits) // BATCH)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    with progress.bar(steps, "features of digits") as bar:
        for epoch in range(epochs):
            generator = seeds.generator(seed, seeds.ORDER, epoch)
            padded = F.pad(digits, (2, 2, 2, 2))
            for chosen in torch.randperm(len(digits), generator=generator).split(BATCH):
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
    """Fraction of a split's digits that are classified correctly."""
    right = network(to_unit(getattr(images, split))).argmax(1).numpy()
    return float((right == images.labels[split]).mean())


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ihdm.pipeline.digit_features", description=__doc__
    )
    parser.parse_args()
    with exit_on_error():
        chosen = settings.load().digit_features
        images = datasets.load(chosen.data)
        network = train(images, chosen.epochs, chosen.seed)
        by_split = {split: accuracy(network, images, split) for split in SPLITS}
        weights.save(classifier.file(), network)
        Results("digit_features", "results").metrics(accuracy=by_split)
        print(f"The classifier is {100 * by_split['report']:.1f} % accurate on test digits")


if __name__ == "__main__":
    main()

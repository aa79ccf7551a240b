"""Names of trainings and sample sets: a hash of everything that decides their numbers.

Code enters by its syntax tree, so that comments, docstrings and layout do not count. The text of a
tree leaves out fields that are None or empty, which differ between versions of Python: the name of
a training is the same on Python 3.11 to 3.13.
"""

import ast
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ihdm.data import datasets
from ihdm.data.datasets import Images
from ihdm.pipeline import published
from ihdm.settings import Experiment

__all__ = ["code", "of_samples", "of_training", "short", "syntax"]

PACKAGE = Path(__file__).parent.parent
# The code that decides the numbers.
BOTH = (
    *("seeds", "pixels", "heat", "gaussian", "processes"),
    *("unet", "linear_gaussian", "networks", "precision"),
)
TRAINING = (*BOTH, "batches", "loop")
SAMPLES = (*BOTH, "sampling", "model")
PUBLISHED = ("pipeline/published",)


def of_training(experiment: Experiment, images: Images) -> str:
    """The name of a training.

    Args:
        experiment: the validated description. Left out: its sampling, and settings of training that
            change results only through rounding and dropout.
        images: the prepared data.

    Returns:
        12 hexadecimal digits.

    Raises:
        ProjectError: the experiment names a published checkpoint that is missing.
    """
    described = experiment.model_dump(mode="json", include={"process", "network", "train"})
    for key in experiment.train.WITHOUT_EFFECT:
        del described["train"][key]
    parts = [json.dumps(described, sort_keys=True), images.fingerprint, *code(TRAINING)]
    if experiment.network.parametrization != "published" or experiment.train.gamma is not None:
        parts.append(hashlib.sha256(images.modes.tobytes()).hexdigest())
    if experiment.train.published:
        parts += [datasets.sha256(published.file(experiment)), *code(PUBLISHED)]
    return short(parts)


def of_samples(experiment: Experiment, images: Images, weights: Path) -> str:
    """The name of a set of samples.

    Args:
        experiment: the validated description.
        images: the prepared data, from which the prior draws.
        weights: the file of weights.

    Returns:
        12 hexadecimal digits.
    """
    described = experiment.model_dump(mode="json", include={"process", "network", "sampling"})
    described["precision"] = experiment.train.precision
    parts = [json.dumps(described, sort_keys=True), images.fingerprint, datasets.sha256(weights)]
    return short([*parts, *code(SAMPLES)])


def code(modules: Iterable[str]) -> list[str]:
    """The syntax of modules of the package, named by their paths in it without ending."""
    return [syntax((PACKAGE / f"{module}.py").read_text()) for module in modules]


def short(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def syntax(source: str) -> str:
    """The syntax tree of a source as text, without comments, docstrings and layout."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and ast.get_docstring(node, clean=False) is not None
        ):
            node.body = node.body[1:]
    return text(tree)


def text(node: Any) -> str:
    if isinstance(node, list):
        return f"[{', '.join(map(text, node))}]"
    if not isinstance(node, ast.AST):
        # Not `repr`, which follows the version's table of printable characters.
        return ascii(node)
    fields = [(name, value) for name, value in ast.iter_fields(node) if value not in (None, [])]
    return f"{type(node).__name__}({', '.join(f'{name}={text(value)}' for name, value in fields)})"

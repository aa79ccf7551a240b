"""Compares sections of params.yaml; an invalid section is None here and causes no more problems."""

from collections.abc import Iterator

from ihdm.settings.data import Digits
from ihdm.settings.experiments import AnyProcess, InverseHeatProcess
from ihdm.settings.needs import DensityNotebook, ExperimentsNotebook, Kind
from ihdm.settings.params import Params

NEEDS: dict[Kind, str] = {
    "inverse_heat": "inverse heat dissipation with sigma above 0 and K of at least 2",
    "sigma_zero": "inverse heat dissipation with sigma = 0 and K of at least 2",
    "denoising": "a denoising process with K of at least 2",
    "blurring": "a blurring process with K of at least 2",
}


# Without one of these, an experiment is reported as invalid already.
WHOLE = ("process", "network", "train", "sampling")


def problems(params: Params) -> Iterator[str]:
    """Yields `key: reason` of each value that does not fit other sections."""
    for name, data in params.run.items():
        yield from _of_run(params, name, data)
    yield from _of_delta(params)
    yield from _of_features(params)
    yield from _of_repeated(params)
    for section, notebook in params.notebooks:
        if isinstance(notebook, ExperimentsNotebook):
            yield from _of_experiments(params, f"notebooks.{section}", notebook)
        if notebook:
            for problem in notebook.problems(params):
                yield f"notebooks.{section}.{problem}"


def _of_run(params: Params, name: str, data: str) -> Iterator[str]:
    """Whether an experiment and its data set exist and fit."""
    if name not in params.experiments:
        yield f"run.{name}: there is no experiment of this name under `experiments`"
    if data not in params.data:
        yield f"run.{name}: there is no data set '{data}' under `data`"
    experiment, images = params.experiments.get(name), params.data.get(data)
    if experiment and experiment.network is not None and images:
        halvings = len(experiment.network.multipliers) - 1
        for side in sorted(set(images.shape[1:])):
            if side % 2**halvings:
                yield (
                    f"experiments.{name}.network.multipliers: {halvings} halvings do not "
                    f"divide the side of {side} pixels of '{data}'"
                )


def _of_delta(params: Params) -> Iterator[str]:
    """Whether inverse heat dissipation, and it alone, has a delta."""
    for name, experiment in params.experiments.items():
        process, sampling = experiment.process, experiment.sampling
        if process is not None and sampling is not None:
            key, heat = f"experiments.{name}.sampling.delta", process.kind == "inverse_heat"
            if heat and sampling.delta is None:
                yield f"{key}: is missing"
            if not heat and sampling.delta is not None:
                yield f"{key}: a {process.kind} process has no delta"


def _of_features(params: Params) -> Iterator[str]:
    """Whether the data set of the classifier is in use and has labels."""
    if params.digit_features is not None:
        name = params.digit_features.data
        if params.run and name not in params.run.values():
            yield f"digit_features.data: no experiment that `run` switches on uses '{name}'"
        digits = params.data.get(name)
        if digits and not (isinstance(digits, Digits) and digits.shape[0] == 1):
            yield f"digit_features.data: has to be grey digits with labels, which '{name}' is not"


def _of_repeated(params: Params) -> Iterator[str]:
    """Whether the experiments of repeated trainings exist and their changes are valid."""
    for name, repetition in getattr(params.repeated, "trainings", {}).items():
        key = f"repeated.trainings.{name}"
        experiment = params.experiments.get(repetition.of)
        if repetition.of not in params.experiments:
            yield f"{key}.of: there is no experiment '{repetition.of}' under `experiments`"
        elif experiment and None not in (getattr(experiment, part) for part in WHOLE):
            try:
                experiment.changed(repetition.changes)
            except ValueError as error:
                yield f"{key}.changes: {error}"


def _of_experiments(params: Params, section: str, notebook: ExperimentsNotebook) -> Iterator[str]:
    """Whether the experiments that a notebook names are on, of the right kind and data."""
    named = {key: getattr(notebook, key) for key in notebook.needs}
    for key, name in named.items():
        kind, process = notebook.needs[key], params.process(name)
        if params.run and name not in params.run:
            yield f"{section}.{key}: '{name}' is not switched on in `run`"
        elif process and not _serves(process, kind):
            yield f"{section}.{key}: the notebook needs {NEEDS[kind]}, which '{name}' is not"
        experiment = params.experiments.get(name)
        sampling = experiment.sampling if experiment and kind == "inverse_heat" else None
        if isinstance(notebook, DensityNotebook) and sampling and sampling.delta == 0:
            yield (
                f"experiments.{name}.sampling.delta: has to be above 0, since {section} measures "
                "densities"
            )
    given = {params.run[name]: name for name in named.values() if name in params.run}
    if given and list(given) != [notebook.data]:
        listing = ", ".join(f"'{data}' to '{name}'" for data, name in given.items())
        yield (
            f"{section}.data: has to be the data set of the experiments that the notebook names; "
            f"`run` gives {listing}"
        )


def _serves(process: AnyProcess, kind: Kind) -> bool:
    if isinstance(process, InverseHeatProcess):
        return process.K >= 2 and kind == ("inverse_heat" if process.sigma > 0 else "sigma_zero")
    return process.K >= 2 and kind == process.kind

"""Reads and validates params.yaml.

Every entry point loads its settings here, so that a bad value fails in seconds, with all problems
of the file in one message. `python -m ihdm.params` is the `check` stage of the pipeline.
"""

import argparse
import errno
import hashlib
import json
import math
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ihdm.settings import (
    AnyProcess,
    DataSet,
    Digits,
    InverseHeatProcess,
    Network,
    Params,
    ProjectError,
    Settings,
)

__all__ = ["digest", "exit_on_error", "load", "root"]


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
        if (
            isinstance(raw, dict)
            and part not in raw
            and part in (raw.get("source"), raw.get("kind"))
        ):
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


# What a notebook can need of an experiment that it names.
NEEDS = {
    "inverse_heat": "inverse heat dissipation with sigma above 0 and K of at least 2",
    "sigma_zero": "inverse heat dissipation with sigma = 0 and K of at least 2",
    "denoising": "a denoising process with K of at least 2",
    "blurring": "a blurring process with K of at least 2",
}
ONE = {"experiment": "inverse_heat"}
TWO = {kind: kind for kind in ("inverse_heat", "denoising")}
THREE = TWO | {"blurring": "blurring"}
COMPARED = {
    "heat_equation": ONE,
    "blurring_diffusion": THREE,
    "asymptotics": ONE,
    "psd_duality": THREE,
    "noise_scale": ONE,
    "sigma_zero": ONE | {"sigma_zero": "sigma_zero"},
    "colour_and_shape": ONE,
    "interpolation": TWO,
    "input_gradients": TWO,
    "nearest_neighbours": THREE,
    "fid_tables": THREE,
    "likelihood": THREE,
    "prior_overlap": ONE,
}
# Where a notebook shows samples that 03-samples drew: how many for each of what it counts.
REUSED = (
    ("noise_scale", "samples", 1),
    ("sigma_zero", "samples", 1),
    ("sigma_zero", "trajectories", 1),
    ("interpolation", "pairs", 2),
)


def _part(raw: Any, *keys: Any) -> dict[str, Any]:
    for key in keys:
        raw = raw.get(key) if isinstance(raw, dict) and isinstance(key, str) else None
    return raw if isinstance(raw, dict) else {}


def _valid(kind: Any, value: Any) -> Any:
    try:
        return TypeAdapter(kind).validate_json(json.dumps(value, default=str))
    except ValidationError:
        return None


def _between_sections(raw: dict[str, Any]) -> Iterator[str]:
    """Problems that no section can see alone, found even where other values are wrong."""
    run = _part(raw, "run").items()
    run = {name: data for name, data in run if isinstance(name, str) and isinstance(data, str)}
    for name, data in run.items():
        yield from _of_run(raw, name, data)
    for name in _part(raw, "experiments"):
        kind = _part(raw, "experiments", name, "process").get("kind")
        delta = _part(raw, "experiments", name, "sampling").get("delta")
        key = f"experiments.{name}.sampling.delta"
        if kind == "inverse_heat" and delta is None:
            yield f"{key}: is missing"
        if kind in ("denoising", "blurring") and delta is not None:
            yield f"{key}: a {kind} process has no delta"
    for notebook, compared in COMPARED.items():
        yield from _of_experiments(raw, run, notebook, compared)
    yield from _of_settings(raw, run)


def _of_run(raw: dict[str, Any], name: str, data: str) -> Iterator[str]:
    """Whether an experiment and its data set exist and fit."""
    if name not in _part(raw, "experiments"):
        yield f"run.{name}: there is no experiment of this name under `experiments`"
    if data not in _part(raw, "data"):
        yield f"run.{name}: there is no data set '{data}' under `data`"
    images = _valid(DataSet, _part(raw, "data", data))
    network = _valid(Network, _part(raw, "experiments", name, "network"))
    if images and network:
        halvings = len(network.multipliers) - 1
        for side in sorted(set(images.shape[1:])):
            if side % 2**halvings:
                yield (
                    f"experiments.{name}.network.multipliers: {halvings} halvings do not "
                    f"divide the side of {side} pixels of '{data}'"
                )


def _of_experiments(
    raw: dict[str, Any], run: dict[str, str], notebook: str, compared: dict[str, str]
) -> Iterator[str]:
    """Whether the experiments that a notebook names are on, of the right kind and data."""
    shown = _part(raw, "notebooks", notebook)
    named = {key: shown[key] for key in compared if isinstance(shown.get(key), str)}
    for key, name in named.items():
        where, kind = f"notebooks.{notebook}.{key}", compared[key]
        process = _valid(AnyProcess, _part(raw, "experiments", name, "process"))
        if name not in run:
            yield f"{where}: '{name}' is not switched on in `run`"
        elif process and not _serves(process, kind):
            yield f"{where}: the notebook needs {NEEDS[kind]}, which '{name}' is not"
    given = {run[name]: name for name in named.values() if name in run}
    if given and isinstance(shown.get("data"), str) and list(given) != [shown["data"]]:
        listing = ", ".join(f"'{data}' to '{name}'" for data, name in given.items())
        yield (
            f"notebooks.{notebook}.data: has to be the data set of the experiments that the "
            f"notebook names; `run` gives {listing}"
        )


def _serves(process: AnyProcess, kind: str) -> bool:
    if process.K < 2:
        return False
    if not isinstance(process, InverseHeatProcess):
        return process.kind == kind
    return kind == ("inverse_heat" if process.sigma > 0 else "sigma_zero")


def _of_settings(raw: dict[str, Any], run: dict[str, str]) -> Iterator[str]:
    """Whether the values that a notebook shows exist in what it shows."""
    described = {name: _part(raw, "experiments", name, "process") for name in run}
    levels = {n: p.K + 1 for n, d in described.items() if (p := _valid(AnyProcess, d))}
    samples = _part(raw, "notebooks", "samples")
    frames, drawn, filmed = (samples.get(key) for key in ("frames", "samples", "film_samples"))
    if levels and isinstance(frames, int) and frames > min(levels.values()):
        name = min(levels, key=levels.get)
        yield f"notebooks.samples.frames: '{name}' has only {levels[name]} levels to show"
    if isinstance(drawn, int) and isinstance(filmed, int) and filmed > drawn:
        yield f"notebooks.samples.film_samples: more than the {drawn} samples that are drawn"
    for notebook, key, each in REUSED:
        used = _part(raw, "notebooks", notebook).get(key)
        if isinstance(drawn, int) and isinstance(used, int) and each * used > drawn:
            yield (
                f"notebooks.{notebook}.{key}: needs {each * used} samples, and "
                f"notebooks.samples.samples draws {drawn}"
            )
    yield from _of_measures(raw, run)
    shown = _part(raw, "notebooks", "heat_equation")
    images, digit = _valid(DataSet, _part(raw, "data", shown.get("data"))), shown.get("digit")
    if images and isinstance(digit, int) and digit >= images.splits.train:
        yield f"notebooks.heat_equation.digit: there are {images.splits.train} training images"
    shown = _part(raw, "notebooks", "psd_duality")
    images = _valid(DataSet, _part(raw, "data", shown.get("data")))
    band, size = _valid(tuple[float, float], shown.get("band")), shown.get("photograph_size")
    if images and band and band[0] <= band[1] and isinstance(size, int):
        for name, side in (("photographs", size), (f"'{shown['data']}'", max(images.shape[1:]))):
            inside = [f for n in range(1, side) if band[0] <= (f := math.pi * n / side) <= band[1]]
            if len({math.floor(4 * math.log2(f)) for f in inside}) < 3:
                yield (
                    f"notebooks.psd_duality.band: holds fewer than three quarter-octaves of the "
                    f"frequencies of {name}, too few to fit a power law"
                )
    shown = _part(raw, "notebooks", "sigma_zero")
    pair = [shown.get(key) for key in ("experiment", "sigma_zero")]
    pair = [_valid(InverseHeatProcess, _part(raw, "experiments", e, "process")) for e in pair]
    if all(pair) and len({(p.K, p.sigma_blur_min, p.sigma_blur_max) for p in pair}) > 1:
        yield "notebooks.sigma_zero.sigma_zero: has to have the levels of the other experiment"
    shown = _part(raw, "notebooks", "asymptotics")
    limits = _part(raw, "experiments", shown.get("experiment"), "process")
    process = _valid(InverseHeatProcess, limits)
    counts = _valid(tuple[int, ...], shown.get("K"))
    if process and counts and min(counts) >= 2:
        lowest, highest = process.sigma_blur_min, process.sigma_blur_max
        second = lowest * (highest / lowest) ** (1 / (min(counts) - 1))
        for width in _valid(tuple[float, ...], shown.get("sigma_blur")) or ():
            if not second <= width <= highest:
                yield (
                    f"notebooks.asymptotics.sigma_blur: {width:g} is not a blur between the second "
                    f"of {min(counts)} levels and the last, {second:.3g} and {highest:g}"
                )


def _of_measures(raw: dict[str, Any], run: dict[str, str]) -> Iterator[str]:
    """Whether what is measured in notebooks 7 and 13 to 16 can be."""
    name = _part(raw, "digit_features").get("data")
    digits = _valid(DataSet, _part(raw, "data", name))
    if isinstance(name, str) and run and name not in run.values():
        yield f"digit_features.data: no experiment that `run` switches on uses '{name}'"
    if digits and not (isinstance(digits, Digits) and digits.shape[0] == 1):
        yield f"digit_features.data: has to be grey digits with labels, which '{name}' is not"
    shown = _part(raw, "notebooks", "fid_tables")
    if isinstance(shown.get("data"), str) and isinstance(name, str) and shown["data"] != name:
        yield f"notebooks.fid_tables.data: the features are those of '{name}' (digit_features.data)"
    drawn, fewer = shown.get("samples"), shown.get("samples_per_delta")
    if isinstance(drawn, int) and isinstance(fewer, int) and fewer > drawn:
        yield f"notebooks.fid_tables.samples_per_delta: more than the {drawn} samples of the table"
    if digits and isinstance(drawn, int) and drawn < digits.splits.report:
        yield (
            f"notebooks.fid_tables.samples: has to be at least the {digits.splits.report} digits "
            "for reporting, beside which they stand"
        )
    for notebook in ("likelihood", "prior_overlap"):
        shown = _part(raw, "notebooks", notebook)
        images, count = _valid(DataSet, _part(raw, "data", shown.get("data"))), shown.get("images")
        if images and isinstance(count, int) and count > images.splits.report:
            yield (
                f"notebooks.{notebook}.images: '{shown['data']}' has {images.splits.report} images "
                "for reporting"
            )
        experiment = shown.get("experiment", shown.get("inverse_heat"))
        if _part(raw, "experiments", experiment, "sampling").get("delta") == 0:
            yield (
                f"experiments.{experiment}.sampling.delta: has to be above 0, since "
                f"notebooks.{notebook} measures densities"
            )
    numbers = tuple[float, ...]
    widths, ends = (_valid(numbers, shown.get(key)) for key in ("sigma_blur_max", "between"))
    if widths and ends and not set(ends) <= set(widths):
        yield "notebooks.prior_overlap.between: both have to be among sigma_blur_max"
    shown = _part(raw, "notebooks", "noise_scale")
    factors, slopes = (_valid(numbers, shown.get(key)) for key in ("delta", "slopes"))
    if factors and slopes and not {0, *slopes} <= set(factors):
        yield "notebooks.noise_scale.delta: has to hold 0 and all of slopes"


def digest(*settings: Settings) -> str:
    """A short hash of descriptions, for provenance.

    Args:
        settings: any of the models of `settings`.

    Returns:
        12 hexadecimal digits.
    """
    text = json.dumps([s.model_dump(mode="json") for s in settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Ends a program without a traceback on a `ProjectError`, by its message, and on Ctrl-C.

    So it does where a disk is full.
    """
    try:
        yield
    except ProjectError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f" of {error.filename}" if error.filename else ""
        sys.exit(f"error: the disk{where} is full: make room; the same command goes on")
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

"""Reads and validates params.yaml.

Every program loads its settings here, so that a bad value fails in seconds, with all problems of
the file in one message.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ihdm.project import ProjectError, root
from ihdm.settings import checks
from ihdm.settings.base import Settings
from ihdm.settings.data import DataSet
from ihdm.settings.experiments import Experiment
from ihdm.settings.notebooks import Notebooks
from ihdm.settings.params import Params

Section = TypeVar("Section", bound=Settings)


def load(path: Path | None = None) -> Params:
    """Reads and validates params.yaml.

    Args:
        path: the file; by default that of the project around the working directory.

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
        text = json.dumps(raw, default=str)
    except TypeError as error:
        raise ProjectError(f"{path.name} has a key that is no text; quote it ({error})") from None
    try:
        params = Params.model_validate_json(text)
    except ValidationError as error:
        problems = [f"{_key(e['loc'])}: {_reason(e)}" for e in error.errors()]
        params = _valid_sections(json.loads(text))
    problems += checks.problems(params)
    if problems:
        listing = "\n".join(f"  {problem}" for problem in problems)
        raise ProjectError(f"{path.name} has {len(problems)} problem(s):\n{listing}")
    return params


def _key(location: tuple[int | str, ...]) -> str:
    keys = [str(part) for part in location]
    # pydantic puts the chosen variant of a union into the path; the file has no such key.
    if keys[0] == "data":
        del keys[2:3]
    elif keys[0] == "experiments" and keys[2:3] == ["process"]:
        del keys[3:4]
    return ".".join(keys)


def _reason(error: ErrorDetails) -> str:
    if error["type"] == "missing":
        return "is missing"
    if error["type"] == "extra_forbidden":
        return "is not a known setting"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error" or isinstance(error["input"], dict):
        return message
    return f"{message} (it is {error['input']!r})"


def _valid_sections(raw: dict[str, Any]) -> Params:
    """The sections that are valid by themselves, with None for each other one; `run` is empty."""
    params = _valid_fields(Params, raw)
    run = params.run or {}
    # A block that is no mapping counts as one in which every section is invalid.
    data = _mapping(raw.get("data"), run.values())
    experiments = _mapping(raw.get("experiments"), run)
    return params.model_copy(
        update={
            "run": run,
            "data": {name: _valid(DataSet, value) for name, value in data.items()},
            "experiments": {name: _valid_fields(Experiment, v) for name, v in experiments.items()},
            "notebooks": _valid_fields(Notebooks, raw.get("notebooks")),
        }
    )


def _valid_fields(model: type[Section], raw: Any) -> Section:
    values, fields = _mapping(raw), model.model_fields.items()
    valid = {name: _valid(field.rebuild_annotation(), values.get(name)) for name, field in fields}
    return model.model_construct(**valid)


def _valid(kind: Any, raw: Any) -> Any:
    try:
        return TypeAdapter(kind).validate_json(json.dumps(raw))
    except ValidationError:
        return None


def _mapping(raw: Any, keys: Iterable[str] = ()) -> dict[str, Any]:
    return raw if isinstance(raw, dict) else dict.fromkeys(keys)

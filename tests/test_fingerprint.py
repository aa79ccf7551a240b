import json
import sys

import pytest

from ihdm.data import datasets
from ihdm.pipeline import fingerprint
from ihdm.pipeline.stage_code import named, sources
from ihdm.settings import load
from tests.conftest import REFERENCE, REPOSITORY
from tests.test_training import change


def test_comments_docstrings_and_layout_do_not_count_as_code():
    source = 'def f(x):\n    """One."""\n    return x + 1\n'
    same = '"""Module."""\n\n\ndef f(\n  x,\n):\n    """Two."""\n    # Why.\n    return (x + 1)\n'
    assert fingerprint.syntax(source) == fingerprint.syntax(same)
    assert fingerprint.syntax(source) != fingerprint.syntax(source.replace("+ 1", "+ 2"))
    later = 'async def f():\n    ""\n    return await g()\n'
    assert fingerprint.syntax(later) == fingerprint.syntax(later.replace('    ""\n', ""))


def test_what_looks_alike_is_told_apart():
    sources = ["f()", "f(None)", "f([])", "f(())", "f('')", "{**a}", "{None: a}", "x = 1", "x: 1"]
    sources += [
        "f(*, a=None)".replace("*, ", ""),
        "def f(*, a, b=1): pass",
        "def f(*, a=1, b): pass",
    ]
    assert len({fingerprint.syntax(source) for source in sources}) == len(sources)


def test_syntax_is_the_same_in_every_version_of_python():
    """`syntax.json` holds the hashes of these sources by Python 3.11, 3.12 and 3.13."""
    recorded = json.loads((REFERENCE / "syntax.json").read_text())
    by_version = recorded["versions"]
    assert {"3.11", "3.12", "3.13"} <= by_version.keys()
    here = fingerprint.short([fingerprint.syntax(recorded["source"])])
    for version, digest in by_version.items():
        assert digest == here, f"{version} against {sys.version}"


def test_the_name_of_a_training_sees_what_counts(ready, smoke_settings):
    images = datasets.load("mnist5k")

    def now():
        return fingerprint.of_training(load().experiments["mnist"], images)

    before = now()
    for path, value, counts in (
        ("sampling.delta", 0.5, False),
        ("train.checkpoint_every", 3, False),
        ("train.images_per_pass", 2, False),
        ("train.seed", 9, True),
        ("train.precision", "bfloat16", True),
        ("process.sigma", 0.02, True),
        ("network.dropout", 0.2, True),
    ):
        change(ready, smoke_settings, f"experiments.mnist.{path}", value)
        assert (now() != before) == counts, path


@pytest.mark.parametrize("entry", ["loop", "model"])
def test_the_lists_of_deciding_code_hold_all_that_the_loop_and_the_model_reach(entry):
    modules = sources(REPOSITORY)
    listed = fingerprint.TRAINING if entry == "loop" else fingerprint.SAMPLES
    seen, waiting = set(), {f"ihdm.{entry}"}
    while waiting:
        module = waiting.pop()
        seen.add(module)
        waiting |= set(named(modules[module].read_text(), modules)) - seen
    # Files, messages and descriptions decide no number.
    aside = {"settings", "data", "project", "progress", "weights"}
    reached = {name.removeprefix("ihdm.") for name in seen if "." in name}
    assert {name for name in reached if name.split(".")[0] not in aside} == set(listed)

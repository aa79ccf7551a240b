"""The code that stages depend on, and the stages that an edit of code runs again."""

import re
import shutil

import pytest
from ruamel.yaml import YAML

from ihdm.pipeline import stage_code
from ihdm.pipeline.stage_code import EXEMPT, named, reached, sources
from tests.pipeline import REPOSITORY, dvc, ran

# These make the lists, or come before them, and depend on their sources.
WITHOUT_LIST = {"check", "strip", "code"}


def described():
    stages = YAML(typ="safe", pure=True).load(REPOSITORY / "dvc.yaml")["stages"]
    return {name: stage.get("do", stage) for name, stage in stages.items()}


def entry(command):
    """The notebook or program that a command runs."""
    notebook = re.search(r" run (\S+)", command)
    return notebook[1] if notebook else command.split()[2].removeprefix("ihdm.")


def listed(project, stage):
    name = entry(described()[stage]["cmd"])
    lines = (project / "build" / "code" / f"{name}.txt").read_text().splitlines()
    return {line.split()[0] for line in lines}


def test_every_stage_depends_on_the_list_of_its_code():
    for name, stage in described().items():
        lists = [d for d in stage["deps"] if d.startswith("build/code")]
        own = f"build/code/{entry(stage['cmd'])}.txt"
        assert lists == ([] if name in WITHOUT_LIST else [own])


def test_the_stages_without_a_list_depend_on_the_sources_that_they_reach():
    modules, stages = sources(REPOSITORY), described()
    for name in WITHOUT_LIST:
        program = stages[name]["cmd"].split()[2]
        waiting, seen = {program}, set()
        while waiting:
            module = waiting.pop()
            seen.add(module)
            waiting |= set(named(modules[module].read_text(), modules)) - seen
        if name == "strip":
            # Its other command reads settings, which come into no copy.
            seen = {module for module in seen if not EXEMPT & set(module.split(".")[1:2])}
        deps = [REPOSITORY / path for path in stages[name]["deps"]]
        for module in seen:
            path = modules[module]
            if path.name != "__init__.py" or path.parent.name == "settings":
                assert any(path == d or d in path.parents for d in deps), f"{name}: {module}"


SOURCES = {
    "ihdm": "",
    "ihdm.a": "from ihdm import b\nfrom ihdm.room import c as other\n",
    "ihdm.b": "def f():\n    import ihdm.late\n    start('ihdm.program', 1)\n",
    "ihdm.late": "'''ihdm.a is told of here, and is no program.'''",
    "ihdm.program": "from ihdm.settings import load\nfrom ihdm.room.c import a",
    "ihdm.room": "",
    "ihdm.room.c": "import torch",
    "ihdm.settings": "from ihdm.settings.base import Settings",
    "ihdm.settings.base": "",
    "ihdm.other": "from ihdm import a",
}


def test_a_source_reaches_imports_at_any_place_and_programs_by_name(tmp_path):
    modules = {}
    for name, source in SOURCES.items():
        modules[name] = tmp_path / f"{name}.py"
        modules[name].write_text(source)
    expected = {"ihdm", "ihdm.a", "ihdm.b", "ihdm.late", "ihdm.program", "ihdm.room", "ihdm.room.c"}
    assert reached("from ihdm import a", modules) == sorted(expected)
    assert reached("from ihdm import late", modules) == ["ihdm", "ihdm.late"]
    assert reached("import torch", modules) == []


def test_arrows_that_exist_by_accident_are_gone(finished_source):
    project = finished_source
    trainer = {"ihdm.pipeline.training", "ihdm.loop"}
    for stage in ("samples", "fid-tables", "digit-features"):
        assert not trainer & listed(project, stage)
    assert "ihdm.processes" not in listed(project, "digit-features")
    for stage in ("likelihood", "prior-overlap", "psd-duality"):
        assert "ihdm.measures.claims" not in listed(project, stage)
    assert trainer <= listed(project, "train")
    assert "ihdm.pipeline.stages" in listed(project, "heat-equation")


def test_the_list_of_every_stage_holds_what_is_imported_when_it_runs(finished_source):
    project = finished_source
    traced = {}
    for line in (project.parent / "trace").read_text().splitlines():
        stage, module = line.split()
        traced.setdefault(stage.partition("@")[0], set()).add(module)
    assert traced.keys() - {"none"} == described().keys()
    for stage in described().keys() - WITHOUT_LIST:
        run = {module for module in traced[stage] if module.split(".")[1] not in EXEMPT}
        assert run, stage
        assert run <= listed(project, stage), stage
    # Programs that a stage starts are traced as well as its own.
    assert "ihdm.pipeline.training" in traced["train"]


def edit(project, module, old, new):
    path = project / "ihdm" / module
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def test_an_edited_docstring_runs_no_stage_again(finished):
    edit(finished, "processes.py", "The inverse heat dissipation model", "The model")
    edit(finished, "measures/claims.py", '"""The ledger: each', '"""The list: every')
    edit(finished, "loop.py", "# With several processes, it", "# It")
    assert ran(dvc("repro")) == ["code"]
    edit(finished, "show/videos.py", "GAP = 2", "GAP = 4")
    assert ran(dvc("repro", "code")) == ["code"]
    status = dvc("status").splitlines()
    assert [line for line in status if line.endswith(":") and line[0] != "\t"] == ["page:"]


@pytest.fixture
def lists(finished_source, tmp_path):
    """A copy of the sources with lists of their code, and a function that reads these."""
    for part in ("ihdm", "build"):
        shutil.copytree(finished_source / part, tmp_path / part)

    def read():
        stage_code.write(tmp_path)
        return {path.stem: path.read_text() for path in (tmp_path / "build/code").glob("*.txt")}

    return read


@pytest.mark.parametrize(
    ("module", "old", "new", "entries"),
    [
        ("show/videos.py", "GAP = 2", "GAP = 4", {"show.page", "17-playground", "draw"}),
        (
            "measures/claims.py",
            '"Samples are not copies',
            '"No sample is a copy',
            {"16-claims", "show.page"},
        ),
        (
            "measures/rules.py",
            "below(abs(best - 1)",
            "below(abs(best - 1.0)",
            {"16-claims", "show.page"},
        ),
        (
            "pipeline/training.py",
            "training from the begin",
            "training as from the",
            {"02-training", "pipeline.adopting", "pipeline.repeating"},
        ),
        ("progress.py", "SECONDS_BETWEEN_LINES = 10.0", "SECONDS_BETWEEN_LINES = 9.0", set()),
        ("settings/base.py", "frozen=True", "frozen=False", set()),
    ],
)
def test_an_edit_of_code_changes_the_lists_that_reach_it(
    lists, tmp_path, module, old, new, entries
):
    before = lists()
    edit(tmp_path, module, old, new)
    after = lists()
    assert before.keys() == after.keys()
    changed = {name for name in before if before[name] != after[name]}
    # A program lists itself.
    assert changed - {module.removesuffix(".py").replace("/", ".")} == entries


def test_an_edit_of_the_method_reaches_every_model_and_no_data(lists, tmp_path):
    before = lists()
    edit(
        tmp_path,
        "heat.py",
        "dtype=torch.float64)[:, None]\n",
        "dtype=torch.float64)[:, None] + 0\n",
    )
    after = lists()
    changed = {name for name in before if before[name] != after[name]}
    assert {"01-heat-equation", "02-training", "03-samples", "15-prior-overlap"} <= changed
    assert not {"data.prepare", "pipeline.digit_features", "16-claims"} & changed

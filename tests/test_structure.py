"""The shape of the project: rooms and their order, sizes of files, a wheel that holds all rooms."""

import ast
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from importlib.metadata import distribution, distributions, packages_distributions

import nbformat
import pytest
from packaging.requirements import Requirement
from PIL import Image

from ihdm.pipeline.stage_code import EXEMPT, named, sources
from tests.conftest import copy_sources, portable, read_settings
from tests.pipeline import NOTEBOOKS, REPOSITORY

# A module imports from its own room and from the rooms above it.
ROOMS = [
    {"project", "progress", "pixels"},
    {"settings"},
    {"data"},
    {"seeds", "heat", "gaussian", "processes", "linear_gaussian", "unet", "sampling"},
    {"networks", "precision", "batches", "loop", "losses", "weights", "model"},
    {"figures", "results"},
    {"measures"},
    {"pipeline"},
    {"show", "draw"},
]
METHOD = ROOMS[3] | {"pixels"}


def modules():
    return sources(REPOSITORY)


def room(module):
    (place,) = (i for i, names in enumerate(ROOMS) if module.split(".")[1] in names)
    return place


def imports():
    """The modules of the package that each module imports, at any place in its source."""
    known = modules()
    for module, path in known.items():
        own = {name for name in named(path.read_text(), known) if name != module}
        # A package is imported with each of its modules, and `ihdm` says nothing of its own.
        yield module, {name for name in own if "." in name and not module.startswith(f"{name}.")}


def test_every_module_imports_from_its_own_room_or_one_above():
    for module, needs in imports():
        for other in needs if module != "ihdm" else ():
            assert room(other) <= room(module), f"{module} imports {other}"


def test_imports_go_one_way():
    packages = {module for module, path in modules().items() if path.stem == "__init__"}
    graph = {module: needs - packages for module, needs in imports() if module not in packages}
    while graph:
        leaves = {module for module, needs in graph.items() if not needs & graph.keys()}
        assert leaves, f"a circle among {sorted(graph)}"
        graph = {module: needs for module, needs in graph.items() if module not in leaves}


def test_modules_whose_code_does_not_count_reach_no_other_code():
    for module, needs in imports():
        if module.split(".")[1:2] and module.split(".")[1] in EXEMPT:
            assert {name.split(".")[1] for name in needs} <= EXEMPT, module


def test_the_method_needs_torch_and_numpy_alone():
    program = (
        "import sys, torch, numpy\n"
        "before = set(sys.modules)\n"
        f"import {', '.join(f'ihdm.{name}' for name in sorted(METHOD))}\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(new - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    # Parts of torch and numpy that are loaded when they are first used.
    assert set(done.stdout.split()) <= {"ihdm", "torch", "numpy"}


def test_settings_are_read_without_torch():
    program = "import sys, ihdm.settings; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def imported(source):
    """The names at the top of the modules that a source imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split(".")[0]


# Programs, and what other packages find by name.
NOT_IMPORTED = {
    *("check-jsonschema", "furo", "ipykernel", "jupyterlab", "mypy", "myst-nb", "nbdime"),
    *("nbstripout", "pre-commit", "pytest-xdist", "ruff", "sphinx-mathjax-offline"),
    *("types-psutil", "types-tqdm"),
}


def test_whatever_is_imported_is_declared_and_nothing_else():
    programs = [*modules().values(), *(REPOSITORY / "notebooks" / "page").rglob("*.py")]
    parts = {"pipeline": [path.read_text() for path in programs]}
    for path in NOTEBOOKS:
        cells = nbformat.read(path, as_version=4).cells
        parts["pipeline"] += [cell.source for cell in cells if cell.cell_type == "code"]
    parts["dev"] = [path.read_text() for path in (REPOSITORY / "tests").rglob("*.py")]
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    declared, used, known = set(), set(), packages_distributions()

    def name(requirement):
        return re.sub("[-_.]+", "-", Requirement(requirement).name).lower()

    for part, needs in (("", project["dependencies"]), *project["optional-dependencies"].items()):
        declared |= set(map(name, needs))
        for top in {top for source in parts.get(part, ()) for top in imported(source)}:
            if top not in {*sys.stdlib_module_names, "ihdm", "tests"}:
                needed = {name(each) for each in known[top]} & declared
                assert needed, f"{top} is not declared"
                used |= needed
    assert declared - used - {"ihdm"} == NOT_IMPORTED


def lines(path):
    return len(path.read_text().splitlines())


def test_files_are_short():
    for path in modules().values():
        assert lines(path) <= 300, path
    assert lines(REPOSITORY / "dvc.yaml") < 420
    assert lines(REPOSITORY / "README.md") < 160


def test_files_are_written_whole_by_one_helper():
    """Nothing but `project.replacing` renames files, but for whole folders and named states."""
    renaming = set()
    for module, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in ("replace", "rename"):
                value = node.value
                if isinstance(value, ast.Name) and value.id == "os":
                    renaming.add(module)
    assert renaming == {"ihdm.project", "ihdm.data.prepare", "ihdm.pipeline.checkpoints"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of the project, unpacked elsewhere."""
    folder = tmp_path_factory.mktemp("wheel")
    # A build leaves files behind, which the next one would pack.
    copy_sources(folder / "project", read_settings())
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--wheel-dir", str(folder), str(folder / "project")]
    subprocess.run(command, check=True, capture_output=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_a_wheel_installed_elsewhere_imports_every_room(wheel, tmp_path):
    names = sorted(module for module in modules() if not module.endswith("__main__"))
    program = f"import {', '.join(names)}; print(ihdm.__file__)"
    paths = [str(wheel), sysconfig.get_paths()["purelib"]]
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {paths}; {program}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(wheel / "ihdm" / "__init__.py")


def add_needed(requirements, extras, found):
    """Adds the installed distributions that requirements ask for, with all that these ask for."""
    for need in map(Requirement, requirements):
        if need.marker and not any(need.marker.evaluate({"extra": extra}) for extra in extras):
            continue
        own, known = found.get(need.name, (distribution(need.name), set()))
        new = {"", *need.extras} - known
        found[need.name] = (own, known | new)
        if new:
            add_needed(own.requires or (), new, found)


def test_a_wheel_draws_digits_with_its_base_dependencies_alone(wheel, ready, tmp_path):
    portable("mnist").write(tmp_path / "mnist.safetensors")
    venv.create(tmp_path / "bare")
    (site,) = (tmp_path / "bare").glob("lib/python*/site-packages")
    (own,) = distributions(path=[str(wheel)])
    found = {}
    add_needed(own.requires, {""}, found)
    tops = {path.name: path for path in wheel.iterdir()}
    for needed, _ in found.values():
        names = {file.parts[0] for file in needed.files} - {"..", "__pycache__"}
        tops |= {name: needed.locate_file(name) for name in names}
    for name, path in tops.items():
        (site / name).symlink_to(path)
    command = [tmp_path / "bare/bin/python", "-I", "-c"]
    program = f"import ihdm.draw; ihdm.draw.main({['mnist.safetensors', '--out', 'digits.png']})"
    subprocess.run([*command, program], cwd=tmp_path, check=True)
    with Image.open(tmp_path / "digits.png") as picture:
        assert picture.size == (4 * 114 + 2, 4 * 114 + 2)
    for absent in ("accelerate", "dvc", "ihdm.pipeline.training"):
        assert subprocess.run([*command, f"import {absent}"], cwd=tmp_path, check=False).returncode

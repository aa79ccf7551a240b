"""The notebooks that are lessons: their parts, short cells, and exercises whose solutions run."""

import re

import nbformat
import pytest
from nbclient import NotebookClient

from tests.pipeline import NOTEBOOKS

SOLUTION = re.compile(
    r"<details><summary>Solution</summary>\n\n```python\n(.*?)```.*?</details>", re.DOTALL
)


def read(path):
    return nbformat.read(path, as_version=4)


def prose(path):
    return "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")


LESSONS = [path for path in NOTEBOOKS if "## Exercises" in prose(path)]


def of_each_lesson(test):
    return pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)(test)


def test_the_first_chapters_are_lessons():
    assert [path.stem[:2] for path in LESSONS][:6] == ["00", "01", "02", "03", "04", "05"]


@of_each_lesson
def test_a_lesson_asks_quotes_measures_and_ends_with_exercises(path):
    text = prose(path)
    opening, headings = text.split("\n## ")[0], re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert re.search(r"Prerequisites: .*Reading time: .*minutes", opening)
    assert "**The question.**" in opening
    assert re.search(r"^> .*\((Sec\.|App\.|abstract)", text, re.MULTILINE)
    assert headings[-3:] == ["The measurement", "Three things to take away", "Exercises"]
    assert len(SOLUTION.findall(text)) == text.count("<details>") == 2


@of_each_lesson
def test_cells_of_a_lesson_fit_on_a_screen_and_hold_no_conditional_prose(path):
    for cell in read(path).cells:
        if cell.cell_type == "code":
            assert len(cell.source.splitlines()) <= 15, cell.source
            assert not re.search(r"""\{[^{}\n]* if [^{}\n]* else [^{}\n]*\}["']""", cell.source)
            assert "Markdown(" not in cell.source


def shown(notebook):
    """The tables of a notebook, by its cells, and in which places it has figures.

    Saving a figure moves its axes by fractions of a pixel, so its bytes by hand are others.
    """
    return {
        cell.id: [
            {kind: text for kind, text in output.data.items() if kind != "image/png"}
            for output in cell.outputs
            if "data" in output
        ]
        for cell in notebook.cells
        if cell.cell_type == "code"
    }


@of_each_lesson
def test_a_lesson_by_hand_shows_what_the_pipeline_shows_and_its_solutions_run(path, finished):
    notebook = read(finished / "notebooks" / path.name)
    solutions = SOLUTION.findall(prose(path))
    notebook.cells += [nbformat.v4.new_code_cell(solution) for solution in solutions]
    NotebookClient(notebook, resources={"metadata": {"path": str(finished)}}).execute()
    assert all(cell.outputs for cell in notebook.cells[-len(solutions) :])
    made = finished / "results" / "notebooks"
    default = made / f"{path.stem}-mnist.ipynb"
    expected = shown(read(default if default.exists() else made / path.name))
    found = shown(notebook)
    # At least a figure and the table of measurements.
    assert sum(map(len, found.values())) >= 2
    shared = found.keys() & expected.keys()
    assert {name: found[name] for name in shared} == {name: expected[name] for name in shared}
    assert len(shared) > len(found) / 2

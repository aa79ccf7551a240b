import csv
import json

import pytest
import torch
from matplotlib import pyplot as plt
from PIL import Image

from ihdm import figures
from ihdm.project import ProjectError
from ihdm.results import Results, drawn, filmed, measured, measurements


@pytest.fixture
def record(settings, monkeypatch):
    monkeypatch.setenv("DVC_STAGE", "samples@mnist")
    return Results("03-samples", "results", "mnist", [settings.experiments["mnist"]])


def drawing():
    figures.style()
    return figures.grid(torch.rand(5, 3, 4, 6, generator=torch.Generator().manual_seed(0)), 2)


def test_a_figure_says_where_it_comes_from_and_has_no_date(project, record):
    record.figure(drawing(), "uncurated")
    png = project / "results/figures/03-samples-mnist/uncurated.png"
    pdf = project / "results/pdf/03-samples-mnist/uncurated.pdf"
    source = Image.open(png).text["Source"]
    assert source.startswith(
        "notebook 03-samples; stage samples@mnist; experiment mnist; parameters"
    )
    assert b"Subject (notebook 03-samples" in pdf.read_bytes()
    assert b"CreationDate" not in pdf.read_bytes()
    first = png.read_bytes(), pdf.read_bytes()
    record.figure(drawing(), "uncurated")
    assert (png.read_bytes(), pdf.read_bytes()) == first


def test_numbers_and_tables_come_back(project, record):
    record.metrics(kept={"correlation": 0.5}, spread=2.0)
    record.table([{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}], "loss")
    numbers = json.loads((project / "results/metrics/03-samples-mnist.json").read_text())
    assert numbers == {"kept": {"correlation": 0.5}, "spread": 2.0}
    with (project / "results/metrics/03-samples-mnist/loss.csv").open() as file:
        assert [row["loss"] for row in csv.DictReader(file)] == ["0.5", "0.25"]


def test_a_table_of_measurements_shows_whole_numbers_three_digits_and_intervals():
    rows = [("images", "", 5000, None), ("error", "nats", 0.0123456, 0.00123)]
    rows += [("kept", "", 0.9999457, 6.4e-6), ("of rounding", "%", 3e-11, 2e-12)]
    lines = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in measurements(rows).data.splitlines()
    ]
    assert lines[0] == ["measured", "value", "unit"]
    assert lines[2:] == [
        ["images", "5,000", ""],
        ["error", "0.0123 ± 0.0012", "nats"],
        ["kept", "0.999946 ± 0.000006", ""],
        ["of rounding", "0 ± 0", "%"],
    ]


def test_by_hand_nothing_is_written(project):
    record = Results("03-samples", None, "mnist")
    record.figure(drawing(), "uncurated")
    record.metrics(spread=2.0)
    record.table([{"step": 1}], "loss")
    record.weights(project / "params.yaml", "mnist")
    assert not (project / "results").exists()


def test_a_grid_shows_every_picture_and_strips_leave_gaps():
    pictures = torch.linspace(0, 1, 5)[:, None, None, None].expand(5, 1, 2, 3)
    shown = [axes.images[0].get_array() for axes in figures.grid(pictures, 2).axes if axes.images]
    assert [float(picture.mean()) for picture in shown] == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    figure = figures.strips(
        [[None, pictures[1]], [pictures[2], pictures[3]]], ["a", "b"], ["x", "y"]
    )
    assert [len(axes.images) for axes in figure.axes] == [0, 1, 1, 1]
    assert figure.axes[0].get_ylabel() == "a"
    plt.close("all")


def test_signed_pictures_are_drawn_around_zero():
    signed = figures.Signed(torch.tensor([[[-2.0, 0.0], [1.0, 0.5]]]), linear=0.1, mark=(0, 1))
    blank = figures.Signed(torch.zeros(1, 2, 2))
    diverged = figures.Signed(torch.tensor([[[torch.nan, torch.inf], [1.0, 0.5]]]), linear=0.1)
    figure = figures.strips([[signed, blank, diverged, None]])
    figure.canvas.draw()
    drawn_signed, drawn_blank, _, empty = figure.axes
    assert drawn_signed.images[0].norm(0.0) == pytest.approx(0.5)
    assert drawn_signed.images[0].norm(-2.0) == pytest.approx(0)
    assert drawn_signed.patches[-1].get_xy() == (0.5, -0.5)
    assert drawn_blank.images[0].norm(0.0) == pytest.approx(0.5)
    assert not empty.images


def test_samples_come_back_from_the_prior_to_the_image(project, record):
    states = {level: torch.rand(2, 1, 4, 4) for level in (0, 10, 4)}
    record.samples(states, "mnist")
    back = drawn("mnist")
    assert list(back) == [10, 4, 0]
    assert all(torch.equal(back[level], states[level]) for level in states)
    with pytest.raises(ProjectError, match="dvc repro --force samples@other"):
        drawn("other")


def test_films_come_back_in_half_precision(project, record):
    sequences, shared = torch.rand(2, 3, 2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    levels = torch.tensor([10, 4, 0])
    record.film({"levels": levels, "sequences": sequences, "shared": shared}, "mnist")
    back = filmed("mnist")
    assert back["levels"].tolist() == [10, 4, 0]
    assert torch.equal(back["sequences"], sequences.half().float())
    assert torch.equal(back["shared"], shared.half().float())
    for name, stage in (("other", "samples@other"), ("10-interpolation", "interpolation")):
        with pytest.raises(ProjectError, match=f"dvc repro --force {stage}"):
            filmed(name)


def test_metrics_that_are_missing_or_damaged_are_named(project):
    with pytest.raises(ProjectError, match=r"08-sigma-zero\.json is missing.*run `dvc repro`"):
        measured("08-sigma-zero")
    (project / "results/metrics").mkdir(parents=True)
    (project / "results/metrics/08-sigma-zero.json").write_text("{")
    with pytest.raises(ProjectError, match=r"08-sigma-zero\.json is missing or damaged"):
        measured("08-sigma-zero")

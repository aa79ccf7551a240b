import json

import numpy as np
import pytest
import torch

from ihdm import weights
from ihdm.data import datasets
from ihdm.heat import HeatEquation, blur_schedule
from ihdm.measures import branching, classifier, record
from ihdm.measures.linear import Idle
from ihdm.pipeline import repeating, training
from ihdm.processes import InverseHeat
from ihdm.project import ProjectError
from ihdm.settings import load
from tests.conftest import model_of, plain, write_settings
from tests.pipeline import REPOSITORY


@pytest.fixture
def few(ready, smoke_settings):
    """A smoke project with data, an untrained classifier, and three trainings to repeat."""
    settings = plain(smoke_settings)
    trainings = {
        "linear": {"of": "mnist", "untrained": True},
        "ihdm": {"of": "mnist"},
        "noisier": {"of": "mnist", "changes": {"process.sigma": 0.02}},
        "shorter": {"of": "mnist", "changes": {"train.steps": 5}},
    }
    settings["repeated"] |= {"seeds": [0, 1], "samples": 8, "trainings": trainings}
    write_settings(ready, settings)
    torch.manual_seed(0)
    weights.save(classifier.file(), classifier.Classifier().eval())
    record.file().unlink()
    return ready


def repeat(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["repeating", *arguments])
    repeating.main()


def test_every_training_is_recorded_once_for_each_seed(few, monkeypatch, capsys):
    repeat(monkeypatch, "linear", "ihdm", "--seeds", "0", "1")
    lines = record.lines()
    made = [(line["name"], line["train"]["seed"]) for line in lines]
    assert made == [("linear", 0), ("ihdm", 0), ("ihdm", 1)]
    assert lines[0]["weights"] is None
    assert lines[1]["weights"] != lines[2]["weights"]
    assert lines[1]["statistics"]["kid"] != lines[2]["statistics"]["kid"]
    params = load()
    found = record.trainings(params, datasets.load("mnist5k"), lines)
    assert found["ihdm"] == [line["statistics"] for line in lines[1:]]
    assert found["linear"] == [lines[0]["statistics"]]
    assert found["noisier"] == []
    repeat(monkeypatch, "ihdm")
    assert record.lines() == lines
    assert "ihdm, seed 1: in the record" in capsys.readouterr().out


def test_lines_by_the_classifier_of_another_machine_are_told(few, monkeypatch, capsys):
    record.append({"name": "a", "features": "of another", "data": "", "untrained": False})
    repeat(monkeypatch, "linear")
    told = capsys.readouterr().out
    assert f"other classifiers (of another); that of this machine is {classifier.digest()}" in told
    repeat(monkeypatch, "linear")
    assert "in the record" in capsys.readouterr().out


def test_finished_weights_of_the_same_training_are_used_again(few, monkeypatch):
    path = training.run("mnist").weights
    repeat(monkeypatch, "ihdm", "--seeds", "0")
    assert record.lines()[0]["weights"] == datasets.sha256(path)


def test_lines_of_other_settings_data_or_classifiers_do_not_count(few):
    params, images = load(), datasets.load("mnist5k")
    described, _ = record.described(params, "ihdm")
    line = {
        "data": images.fingerprint,
        "untrained": False,
        "features": "a",
        **described.model_dump(mode="json", include={"process", "network", "train"}),
        "statistics": {"kid": 1.0},
    }
    other_seed = line | {"train": line["train"] | {"seed": 5}, "statistics": {"kid": 2.0}}
    others = [
        line | {"data": "b"},
        line | {"untrained": True, "statistics": {"kid": 3.0}},
        line | {"network": line["network"] | {"channels": 4}},
        line | {"features": "b", "statistics": {"kid": 4.0}},
    ]
    found = record.trainings(params, images, [*others, line, other_seed])
    assert found["ihdm"] == [{"kid": 1.0}, {"kid": 2.0}]
    # Another budget may have another classifier: it is compared with none of these.
    steps = {"train": line["train"] | {"steps": 5}, "features": "b"}
    shorter = line | steps | {"statistics": {"kid": 5.0}}
    found = record.trainings(params, images, [*others, line, other_seed, shorter])
    assert (found["ihdm"], found["shorter"]) == ([{"kid": 1.0}, {"kid": 2.0}], [{"kid": 5.0}])
    # The last line of a training counts.
    again = record.trainings(params, images, [line, line | {"statistics": {"kid": 9.0}}])
    assert again["ihdm"] == [{"kid": 9.0}]
    assert record.trainings(params, images, [])["ihdm"] == []


def test_the_sampling_noise_keeps_its_ratio_to_the_training_noise(few):
    ihdm, noisier = (record.described(load(), name)[0] for name in ("ihdm", "noisier"))
    assert noisier.sampling.delta / ihdm.sampling.delta == pytest.approx(2)


def test_trainings_that_differ_in_sigma_alone_are_found(few):
    images = datasets.load("mnist5k")
    assert list(record.by_sigma(load(), images)) == [0.01, 0.02]


def test_a_damaged_line_and_an_unknown_name_are_told(few, monkeypatch):
    with pytest.raises(SystemExit, match=r"no repeated.trainings.nothing: there are .*linear"):
        repeat(monkeypatch, "nothing")
    record.file().write_text('{"a": 1}\n{"b')
    with pytest.raises(ProjectError, match="line 2, is damaged"):
        record.lines()


@pytest.mark.parametrize(
    ("repetition", "told"),
    [
        ({"of": "nobody"}, "repeated.trainings.a.of: there is no experiment 'nobody'"),
        ({"of": "mnist", "changes": {"train.batches": 1}}, "cannot change 'train.batches'"),
        ({"of": "mnist", "changes": {"process.K": 0}}, "repeated.trainings.a.changes"),
    ],
)
def test_a_training_that_cannot_be_is_told_before_any_work(
    project, smoke_settings, repetition, told
):
    settings = plain(smoke_settings)
    settings["repeated"]["trainings"] = {"a": repetition}
    write_settings(project, settings)
    with pytest.raises(ProjectError, match=told):
        load()


def test_the_committed_record_can_be_read():
    path = REPOSITORY / "data" / "seeds.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert all({"kid", "confidence"} <= line["statistics"].keys() for line in lines)


class Still(Idle):
    """A network that changes nothing and has a device."""

    def __init__(self):
        super().__init__()
        self.register_buffer("place", torch.zeros(()))


def test_branches_of_a_random_walk_differ_by_the_noise_since_the_split():
    process = InverseHeat(HeatEquation(16, 16, blur_schedule(20, 0.5, 8)), 0.01, delta=0.05)
    images = np.zeros((4, 1, 16, 16), np.uint8)
    model = model_of(process, Still(), images=images)
    found = branching.spread(model, (0.9, 0.1), sequences=4, branches=16)
    for share, (spread, half) in found.items():
        # Each step but the last adds noise of scale delta.
        assert spread == pytest.approx(0.05 * (process.level(share) - 1) ** 0.5, rel=0.05)
        assert half < 0.05 * spread

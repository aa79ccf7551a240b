import copy
import json

import numpy as np
import pytest
import torch

from ihdm import weights
from ihdm.data import datasets, prepare
from ihdm.measures import classifier, trials
from ihdm.pipeline import training, tuning
from ihdm.project import ProjectError


@pytest.fixture
def ready(project, settings, monkeypatch):
    """A smoke project with digits, features of an untrained classifier, and few samples."""
    name = settings.experiment("mnist")[1]
    prepare.prepare(name, settings.data[name], project)
    torch.manual_seed(0)
    network = classifier.Classifier().eval()
    weights.save(classifier.file(), network)
    monkeypatch.setattr(tuning, "BOOTSTRAPS", 3)
    return project


def test_a_trial_is_scored_for_every_delta_and_reproduced_by_its_settings(ready, settings):
    changes = {"train.batch": 3, "process.sigma": 0.02}
    found = tuning.trial("mnist", changes, [1.0, 1.5], 8)
    assert [trial["delta"] for trial in found] == [1.0, 1.5]
    assert found[0]["kid"] != found[1]["kid"]
    assert all(np.isfinite(trial["kid"]) and trial["kid_half"] > 0 for trial in found)
    assert found[0]["train"]["batch"] == 3
    again = tuning.trial("mnist", changes, [1.5], 8)[0]
    assert again["kid"] == found[1]["kid"]
    assert len(tuning.trial("mnist_ddpm", {}, [1.0, 1.5], 8)) == 1


def test_the_program_adds_lines_to_the_record(ready, settings, monkeypatch, capsys):
    images = datasets.load(settings.experiment("mnist")[1])
    options = ["--delta", "1", "2", "--samples", "8"]
    monkeypatch.setattr("sys.argv", ["tuning", "mnist", "train.steps=4", *options])
    tuning.main()
    added = trials.recorded(images)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == added
    own = settings.experiments["mnist"]
    assert [trials.differences(trial, own) for trial in added] == 2 * [{"train.steps": 4}]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"train.batches": 3}, "cannot change 'train.batches'"),
        ({"batch": 3}, "cannot change 'batch'"),
        ({"sampling.seed": 3}, "cannot change 'sampling.seed'"),
        ({"train.batch": 0}, "batch"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused_by_name(settings, changes, told):
    with pytest.raises(ValueError, match=told):
        settings.experiments["mnist"].changed(changes)


def test_differences_leave_out_what_repetitions_may_change(settings):
    own = settings.experiments["mnist"]
    other = own.changed({"train.seed": 5, "train.log_every": 1, "network.channels": 16})
    trial = other.model_dump(mode="json")
    assert trials.differences(trial, own) == {"network.channels": 16}
    del trial["network"]["parametrization"]
    assert trials.differences(trial, own) == {
        "network.channels": 16,
        "network.parametrization": None,
    }


def test_a_delta_that_makes_no_sense_is_refused_before_training(ready, monkeypatch):
    monkeypatch.setattr(tuning, "trained", None)
    with pytest.raises(ProjectError, match="must not be negative"):
        tuning.trial("mnist", {}, [-1.0], 8)


def test_a_damaged_record_is_named(ready, settings):
    path = trials.file()
    path.write_text(path.read_text() + '{"experiment": "mn\n')
    images = datasets.load(settings.experiment("mnist")[1])
    with pytest.raises(ProjectError, match=r"tuning\.jsonl, line \d+, is damaged"):
        trials.recorded(images)


def test_a_trial_ends_where_the_pipeline_does(ready, settings):
    experiment, data = settings.experiment("mnist")
    images = datasets.load(data)
    network = tuning.trained(experiment, images).network.network
    finished = weights.load(training.run("mnist").weights, copy.deepcopy(network))
    for ours, theirs in zip(network.parameters(), finished.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def repetitions(experiment, kids):
    """Recorded repetitions with KIDs of our choice."""
    described = experiment.model_dump(mode="json")
    sigma, delta = getattr(experiment.process, "sigma", None), experiment.sampling.delta
    factor = None if delta is None else delta / sigma
    for seed, kid in enumerate(kids):
        train = described["train"] | {"seed": seed}
        yield {**described, "train": train, "delta": factor, "kid": kid}
        if factor is not None:
            yield {**described, "train": train, "delta": factor + 0.5, "kid": 100.0}


def test_repetitions_of_a_setting_are_one_row(settings):
    own = settings.experiments["mnist"].changed({"train.gamma": 0.5})

    def made(kid, delta=1.4, **changes):
        other = own.changed({key.replace("_", ".", 1): v for key, v in changes.items()})
        return {"experiment": "mnist", "delta": delta, "kid": kid, "samples": 9} | other.model_dump(
            mode="json"
        )

    logged = [made(0.3, train_seed=1), made(0.1, train_seed=0), made(0.4, train_gamma=0.0)]
    logged += [made(0.5, delta=1.2), made(9.0, train_batch=2)]
    rows = trials.summary(logged, own, {"train.gamma"})
    assert [(row["train.gamma"], row["delta"], row["kid"]) for row in rows] == [
        (0.5, 1.4, {0: 0.1, 1: 0.3}),
        (0.0, 1.4, {0: 0.4}),
        (0.5, 1.2, {0: 0.5}),
    ]
    assert [row["trainings"] for row in rows] == [2, 1, 1]
    assert rows[0]["mean"] == pytest.approx(0.2)

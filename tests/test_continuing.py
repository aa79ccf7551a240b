import json
import weakref

import pytest
import torch
from accelerate import Accelerator

from ihdm import loop, weights
from ihdm.data import datasets
from ihdm.pipeline import checkpoints, training
from ihdm.project import ProjectError
from ihdm.settings import load
from tests.conftest import plain, untrained, write_settings


@pytest.fixture
def longer(ready, smoke_settings):
    """A finished training, and settings with twice its budget and another learning rate."""
    finished = training.run("mnist")
    settings = plain(smoke_settings)
    settings["experiments"]["mnist"]["train"] |= {"steps": 12, "learning_rate": 1e-3}
    write_settings(ready, settings)
    return finished.weights.parent


def test_a_finished_training_goes_on_with_a_longer_budget(longer, capsys):
    (last,) = checkpoints.states(longer)
    finished = training.run("mnist", before=longer)
    assert f"going on from step 6 of 12, after {longer.name}/{last.name}" in capsys.readouterr().out
    assert finished.weights.parent != longer
    assert finished.origin == f"trained here after {longer.name}/{last.name}"
    earlier = json.loads((longer / "history.json").read_text())
    assert finished.history[: len(earlier)] == earlier
    assert finished.history[-1]["step"] == 12
    experiment, images = load().experiments["mnist"], datasets.load("mnist5k")
    process, state = loop.begin(experiment, images, torch.device("cpu"))
    state.load_state_dict(checkpoints.named_state(longer)[1])
    list(loop.steps(process, state, images.train, experiment.train, Accelerator(cpu=True)))
    ours = weights.load(finished.weights, untrained("mnist"))
    for one, two in zip(ours.parameters(), state.average.parameters(), strict=True):
        assert torch.equal(one, two)


def test_a_chain_of_trainings_names_each_and_its_own_states_come_first(
    longer, smoke_settings, ready, capsys
):
    second = training.run("mnist", before=longer).weights.parent
    settings = plain(smoke_settings)
    settings["experiments"]["mnist"]["train"] |= {"steps": 14, "learning_rate": 1e-3}
    write_settings(ready, settings)
    third = training.run("mnist", before=second).weights.parent
    told = json.loads((third / "continued.json").read_text())
    assert told["state"].startswith(second.name)
    assert told["before"]["state"].startswith(longer.name)
    (third / "final.safetensors").unlink()
    capsys.readouterr()
    training.run("mnist", before=second)
    assert "going on from step 14 of 14, processes" in capsys.readouterr().out


def test_a_state_that_cannot_be_continued_is_named(longer, smoke_settings, ready):
    (last,) = checkpoints.states(longer)
    with pytest.raises(ProjectError, match="nowhere is no state of a training"):
        training.run("mnist", before=ready / "nowhere")
    damaged = last.with_name(last.name.replace("step-00000006", "step-00000007"))
    damaged.write_bytes(last.read_bytes()[:-10])
    with pytest.raises(ProjectError, match=r"step-00000007.* is damaged"):
        training.run("mnist", before=damaged)
    settings = plain(smoke_settings)
    settings["experiments"]["mnist"]["train"]["learning_rate"] = 1e-3
    write_settings(ready, settings)
    with pytest.raises(
        ProjectError, match=r"is of step 6.*mnist\.train\.steps has to be more than that; it is 6"
    ):
        training.run("mnist", before=last)
    settings["experiments"]["mnist"]["train"]["steps"] = 12
    settings["experiments"]["mnist"]["network"]["channels"] *= 2
    write_settings(ready, settings)
    with pytest.raises(ProjectError, match="the state does not fit the network of mnist"):
        training.run("mnist", before=last)


def test_snapshots_hold_the_average_at_their_steps(ready, smoke_settings):
    settings = plain(smoke_settings)
    settings["experiments"]["mnist"]["train"] |= {"snapshot_every": 2, "checkpoint_every": 1}
    write_settings(ready, settings)
    finished = training.run("mnist")
    names = [path.name for path in sorted(finished.weights.parent.glob("ema-*"))]
    assert names == ["ema-00000002.safetensors", "ema-00000004.safetensors"]
    kept = [weights.load(finished.weights.parent / name, untrained("mnist")) for name in names]
    final = weights.load(finished.weights, untrained("mnist"))
    first, *others = [
        torch.cat([p.flatten() for p in network.parameters()]) for network in (*kept, final)
    ]
    assert not any(torch.equal(first, other) for other in others)


def test_a_state_is_freed_before_the_first_step(ready, smoke_settings, monkeypatch):
    training.run("mnist")
    (state_path,) = (ready / "state").glob("mnist-*")
    (state_path / "final.safetensors").unlink()
    read, steps, seen, checked_at = checkpoints.newest_state, loop.steps, [], []

    def watched(folder):
        saved = read(folder)
        # Adam takes its moments from it without a copy.
        copied = (saved["network"].values(), saved["ema"].values())
        seen.extend(weakref.ref(tensor) for values in copied for tensor in values)
        return saved

    def checked(*arguments):
        assert not any(tensor() is not None for tensor in seen)
        checked_at.append(len(seen))
        yield from steps(*arguments)

    monkeypatch.setattr(checkpoints, "newest_state", watched)
    monkeypatch.setattr(loop, "steps", checked)
    training.run("mnist")
    assert checked_at[0] > 10

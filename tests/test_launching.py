import psutil

from ihdm.pipeline import launching
from tests.conftest import write_settings


def test_the_environment_decides_neither_precision_nor_accumulation(monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    joined = launching.accelerator()
    assert joined.mixed_precision == "no"
    assert joined.gradient_accumulation_steps == 1


def test_a_world_of_one_process_still_starts_those_of_the_settings(
    project, smoke_settings, monkeypatch
):
    write_settings(project, smoke_settings | {"machine": {"processes": 2}})
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert launching.wanted() == 2
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert launching.wanted() == 1


def test_a_process_that_ends_during_the_walk_to_the_ancestors_is_no_error(monkeypatch):
    def ended(process):
        raise psutil.NoSuchProcess(1)

    monkeypatch.setattr(psutil.Process, "parents", ended)
    assert not launching.orphaned(1)

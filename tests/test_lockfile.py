"""dvc.lock after DVC was killed in the middle of writing it."""

import pytest
from ruamel.yaml import YAML

from ihdm.pipeline import lockfile
from tests.pipeline import REPOSITORY


@pytest.fixture
def lock(tmp_path):
    (tmp_path / "dvc.lock").write_bytes((REPOSITORY / "dvc.lock").read_bytes())
    return tmp_path / "dvc.lock"


def stages(path):
    return YAML(typ="safe", pure=True).load(path)["stages"]


def test_whole_entries_of_a_lock_that_was_cut_off_are_kept(lock, capsys):
    whole, text = stages(lock), lock.read_text()
    damaged = 0
    for start in range(1000, len(text), len(text) // 40):
        # Right after a key, so that the key has no value.
        cut = text.find(":\n", start) + 1 or start
        lock.write_text(text[:cut])
        damaged += not lockfile.intact(text[:cut])
        before = text[:cut].count("\n    cmd: ")
        lockfile.mend(lock.parent)
        kept = stages(lock)
        # An entry that is cut inside a hash is still one that DVC reads.
        assert before - 1 <= len(kept) <= before
        complete = list(kept)[:-1]
        assert all(kept[name] == whole[name] for name in complete)
    assert damaged > 3
    assert capsys.readouterr().out.count("cut off") == damaged


def test_a_whole_lock_and_none_stay_as_they_are(lock, capsys):
    before = lock.read_bytes()
    lockfile.mend(lock.parent)
    same = lock.read_bytes() == before
    assert same
    lock.write_text("schema: '2.0'\nstages:\n  check:\n    cmd:")
    lockfile.mend(lock.parent)
    assert not lock.exists()
    lockfile.mend(lock.parent)
    assert "0 of its entries are whole" in capsys.readouterr().out

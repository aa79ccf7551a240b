import errno
from contextlib import suppress

import pytest

from ihdm.project import ProjectError, exit_on_error, replacing, root


def test_the_project_is_found_from_a_folder_inside_it(project, monkeypatch):
    monkeypatch.chdir(project / "notebooks")
    assert root() == project
    monkeypatch.chdir(project.parent)
    with pytest.raises(ProjectError, match="run inside the project"):
        root()


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "file"
    with replacing(path) as temporary:
        temporary.write_text("first")
        assert not path.exists()
    assert path.read_text() == "first"
    with suppress(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]


def test_several_processes_write_under_names_of_their_own(tmp_path):
    with replacing(tmp_path / "file") as alone, replacing(tmp_path / "file", shared=True) as own:
        assert alone != own
        alone.touch()
        own.touch()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ProjectError("mend this"), "error: mend this"),
        (OSError(errno.ENOSPC, "full", "big.npy"), "error: the disk of big.npy is full: make room"),
        (OSError(errno.EDQUOT, "full"), "error: the disk is full: make room"),
        (KeyboardInterrupt(), "130"),
    ],
)
def test_a_program_ends_with_one_message(error, status):
    with pytest.raises(SystemExit) as caught, exit_on_error():
        raise error
    assert str(caught.value.code).startswith(status)


def test_other_errors_keep_their_traceback():
    with pytest.raises(OSError, match="no such"), exit_on_error():
        raise OSError(errno.ENOENT, "no such")

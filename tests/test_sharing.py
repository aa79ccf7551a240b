"""The archive for a deposit."""

import os
import tarfile

import pytest
from ruamel.yaml import YAML

from ihdm.pipeline import sharing
from ihdm.project import ProjectError
from tests.pipeline import REPOSITORY, shell

NAME = ["-c", "user.name=a", "-c", "user.email=a@b"]


@pytest.fixture
def project(tmp_path):
    """A repository of four files whose git filter hides outputs, with a page that git ignores."""
    folder = tmp_path / "project"
    (folder / "site" / "images").mkdir(parents=True)
    (folder / "site" / "index.html").write_text("page")
    (folder / "site" / "images" / "a.png").write_bytes(b"image")
    (folder / ".gitignore").write_text("/build/\n/site/\n")
    (folder / ".gitattributes").write_text("*.ipynb filter=strip\n")
    (folder / "CITATION.cff").write_text("version: 1.2.3\n")
    (folder / "notebook.ipynb").write_text("cells\n")
    (folder / "run").write_text("program")
    (folder / "run").chmod(0o700)
    shell("git", "init", "--quiet", cwd=folder)
    shell("git", "config", "filter.strip.clean", "grep -v output", cwd=folder)
    shell("git", "add", "--all", cwd=folder)
    dates = {"GIT_AUTHOR_DATE": "1000000000 +0000", "GIT_COMMITTER_DATE": "1000000000 +0000"}
    commit = ["git", *NAME, "commit", "--quiet", "-m", "all"]
    shell(*commit, cwd=folder, env=os.environ | dates)
    return folder


def test_the_archive_holds_the_commit_and_the_page(project):
    # Git does not see this change, and the archive holds what git has.
    (project / "notebook.ipynb").write_text("cells\noutput\n")
    archive = sharing.pack(project)
    assert archive == project / "build" / "ihdm-1.2.3.tar.gz"
    with tarfile.open(archive) as tar:
        names = [entry.name.removeprefix("ihdm-1.2.3/") for entry in tar]
        tracked = [".gitattributes", ".gitignore", "CITATION.cff", "notebook.ipynb", "run"]
        assert names == [*tracked, "site/images/a.png", "site/index.html"]
        modes = {entry.name.rpartition("/")[2]: entry.mode for entry in tar}
        assert modes.pop("run") == 0o755
        assert set(modes.values()) == {0o644}
        assert {(entry.mtime, entry.uid, entry.gid) for entry in tar} == {(1000000000, 0, 0)}
        assert tar.extractfile("ihdm-1.2.3/notebook.ipynb").read() == b"cells\n"
        assert tar.extractfile("ihdm-1.2.3/site/images/a.png").read() == b"image"
    assert [path.name for path in archive.parent.iterdir()] == [archive.name]


def test_the_same_commit_and_page_give_the_same_bytes(project, tmp_path):
    first = sharing.pack(project).read_bytes()
    clone = tmp_path / "elsewhere"
    shell("git", "clone", "--quiet", str(project), str(clone))
    shell("cp", "-r", str(project / "site"), str(clone))
    (clone / "site" / "index.html").chmod(0o600)
    os.utime(clone / "site" / "index.html", (1, 1))
    same = sharing.pack(clone).read_bytes() == first
    assert same


def test_an_archive_of_what_is_not_committed_is_refused(project):
    for name in ("run", "new"):
        (project / name).write_text("changed")
        with pytest.raises(ProjectError, match=f"commit first: 1 files .* {name}$"):
            sharing.pack(project)
        shell("git", "add", "--all", cwd=project)
        shell("git", *NAME, "commit", "--quiet", "-m", "all", cwd=project)
    sharing.pack(project)


def test_without_a_page_or_a_repository_the_error_says_so(project, tmp_path):
    (project / "site" / "index.html").unlink()
    with pytest.raises(ProjectError, match="make page"):
        sharing.pack(project)
    with pytest.raises(ProjectError, match="git says: .*not a git repository"):
        sharing.pack(tmp_path)


def test_entries_that_a_deposit_needs_are_listed():
    authors = [{"family-names": "A", "orcid": "B"}, {"family-names": "C"}]
    known = {"doi": "D", "repository-code": "R", "date-released": "2026-11-27"}
    assert sharing.missing(known | {"authors": authors}) == ["orcid of each author"]
    assert sharing.missing(known | {"authors": authors[:1]}) == []
    assert len(sharing.missing({})) == 5


def test_versions_agree():
    cited = YAML(typ="safe", pure=True).load(REPOSITORY / "CITATION.cff")
    assert f'\nversion = "{cited["version"]}"\n' in (REPOSITORY / "pyproject.toml").read_text()

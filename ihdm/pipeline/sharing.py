"""One archive of the project for a deposit: `python -m ihdm.pipeline.sharing`, as `make share`.

It holds the files of the last commit, with results and trained weights, and the page. The same
commit and page give the same bytes: names are sorted, and all times are that of the commit.
"""

import gzip
import hashlib
import io
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from ihdm.project import ProjectError, exit_on_error, replacing, root

__all__ = ["missing", "pack"]


def git(project: Path, *arguments: str) -> bytes:
    """The output of git in the project."""
    done = subprocess.run(["git", "-C", project, *arguments], capture_output=True, check=False)
    if done.returncode:
        raise ProjectError(f"git says: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def citation(project: Path) -> dict[str, Any]:
    return YAML(typ="safe", pure=True).load(project / "CITATION.cff")


def missing(cited: dict[str, Any]) -> list[str]:
    """The entries of CITATION.cff that a deposit needs and that are not there."""
    authors = cited.get("authors", [])
    lacking = [key for key in ("doi", "repository-code", "date-released") if not cited.get(key)]
    for key in ("family-names", "orcid"):
        if not authors or not all(author.get(key) for author in authors):
            lacking.append(f"{key} of each author")
    return lacking


def pack(project: Path) -> Path:
    """Writes the archive.

    Args:
        project: the project's folder.

    Returns:
        The archive, `build/ihdm-VERSION.tar.gz`.

    Raises:
        ProjectError: files differ from the last commit, or there is no page.
    """
    # `git status` also lists notebooks that differ only in outputs, which the filter removes.
    changed = git(project, "ls-files", "--others", "--exclude-standard")
    changed += git(project, "diff", "--name-only", "HEAD")
    if names := changed.decode().splitlines():
        raise ProjectError(f"commit first: {len(names)} files differ, such as {names[0]}")
    if not (project / "site" / "index.html").is_file():
        raise ProjectError("there is no page in site/: make page makes it")
    name = f"ihdm-{citation(project)['version']}"
    time = int(git(project, "show", "--no-patch", "--format=%ct", "HEAD"))
    contents = {}
    with tarfile.open(fileobj=io.BytesIO(git(project, "archive", "--format=tar", "HEAD"))) as tar:
        for entry in tar:
            if content := tar.extractfile(entry):
                contents[entry.name] = (content.read(), 0o755 if entry.mode & 0o100 else 0o644)
    for path in (project / "site").rglob("*"):
        if path.is_file():
            contents[path.relative_to(project).as_posix()] = (path.read_bytes(), 0o644)
    archive = project / "build" / f"{name}.tar.gz"
    with (
        replacing(archive) as temporary,
        temporary.open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for path_in_project, (data, mode) in sorted(contents.items()):
            entry = tarfile.TarInfo(f"{name}/{path_in_project}")
            entry.size, entry.mode, entry.mtime = len(data), mode, time
            tar.addfile(entry, io.BytesIO(data))
    return archive


def main() -> None:
    with exit_on_error():
        project = root()
        archive = pack(project)
        content = archive.read_bytes()
        print(f"{archive.relative_to(project)}: {len(content) / 1e6:.1f} MB")
        print(f"SHA-256 {hashlib.sha256(content).hexdigest()}")
        for entry in missing(citation(project)):
            print(f"CITATION.cff still lacks: {entry}")


if __name__ == "__main__":
    main()

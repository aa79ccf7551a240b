"""Mends dvc.lock after a kill: `python -m ihdm.pipeline.lockfile`, which `make` runs first.

DVC writes dvc.lock in place after every stage. If it is killed meanwhile, the file is cut off, and
`dvc repro` stops at it. Its whole entries are kept; the stages of the others run again.
"""

import re
from pathlib import Path

from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from voluptuous import Invalid

from ihdm.project import exit_on_error, replacing, root

__all__ = ["mend"]


def mend(project: Path) -> None:
    """Drops the entries that were cut off, if there are any.

    Args:
        project: the project's folder.
    """
    lock = project / "dvc.lock"
    if not lock.exists() or intact(text := lock.read_text(errors="replace")):
        return
    head, *entries = re.split(r"(?m)^(?=  \S)", text)
    counts = range(len(entries), 0, -1)
    kept = next((n for n in counts if intact(head + "".join(entries[:n]))), 0)
    print(f"dvc.lock was cut off when DVC was killed: {kept} of its entries are whole")
    if kept:
        with replacing(lock) as temporary:
            temporary.write_text(head + "".join(entries[:kept]))
    else:
        lock.unlink()


def intact(text: str) -> bool:
    """Whether DVC would read a lock file of this content."""
    try:
        COMPILED_LOCKFILE_SCHEMA(YAML(typ="safe", pure=True).load(text))
    except (YAMLError, Invalid):
        return False
    return True


def main() -> None:
    with exit_on_error():
        mend(root())


if __name__ == "__main__":
    main()

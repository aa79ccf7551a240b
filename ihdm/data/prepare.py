"""Writes image sets of any size as arrays, in bounded memory.

`python -m ihdm.data.prepare` is the `data` stage of the pipeline: it prepares the sets that `run`
in params.yaml names, and removes others from data/prepared. A set is written to
`data/.NAME.partial`, which DVC ignores, and moved as a whole once it is complete. Its manifest
counts the finished images, so that a killed preparation continues from there.
"""

import argparse
import errno
import io
import json
import os
import shutil
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from ihdm import progress, settings
from ihdm.data import sources
from ihdm.data.datasets import (
    LABELS,
    MODES,
    PREPARED,
    SPLITS,
    Images,
    block_count,
    block_hash,
    load,
)
from ihdm.data.modes import modes_of
from ihdm.data.source import SPARE, Source
from ihdm.pixels import UInt8
from ihdm.project import ProjectError, exit_on_error, replacing, root
from ihdm.settings import DataSet

__all__ = ["prepare"]

# Bytes of images in memory, and between two notes of how far a preparation has come.
BATCH = 2**23
# Unusable images that a message names.
NAMED = 20


def prepare(name: str, described: DataSet, project: Path) -> Images:
    """Writes the arrays of a data set, goes on with writing them, or finds them written.

    Args:
        name: the data set's name in params.yaml.
        described: its description.
        project: the project's folder, in which `data/prepared/NAME` is replaced as a whole.

    Returns:
        The data set, read back from its files.

    Raises:
        ProjectError: the source is missing and was never prepared, holds unusable or too few
            images, or the disk is too small; after a full disk, the next call goes on where this
            one was.
    """
    folder, partial = project / PREPARED / name, project / "data" / f".{name}.partial"
    origin: dict[str, Any] = {"settings": described.model_dump(mode="json")}
    with ExitStack() as stack:
        try:
            parts = stack.enter_context(sources.opened(described, project))
        except ProjectError as error:
            if not _made_from(folder, origin):
                raise
            images = load(name, project)
            print(f"{name}: already prepared; its source is not there now ({error})")
            return images
        spare = parts.pop(SPARE)
        origin["source"] = parts["train"].identity
        if _made_from(folder, origin):
            with suppress(ProjectError):
                images = load(name, project)
                print(f"{name}: already prepared from the same source and settings")
                return images
            print(f"{name}: a prepared array is damaged, preparing it again")
        if not _made_from(partial, origin):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        with _full_disk_told(partial):
            _need_room(name, parts, partial)
            manifest = origin | {"done": {}} | _manifest(partial)
            if "blocks" not in manifest:
                _write(name, parts, spare, partial, manifest)
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    os.rename(partial, folder)
    return load(name, project)


def _manifest(folder: Path) -> dict[str, Any]:
    with suppress(FileNotFoundError, ValueError):
        manifest = json.loads((folder / "manifest.json").read_text())
        if isinstance(manifest, dict):
            return manifest
    return {}


def _save(folder: Path, manifest: dict[str, Any]) -> None:
    with replacing(folder / "manifest.json") as temporary:
        temporary.write_text(json.dumps(manifest, indent=1) + "\n")


def _made_from(folder: Path, origin: dict[str, Any]) -> bool:
    return {key: _manifest(folder).get(key) for key in origin} == origin


@contextmanager
def _full_disk_told(partial: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ProjectError(
            f"no space is left for {partial}: make room and run `dvc repro data`, which goes on "
            "where this preparation was"
        ) from None


def _need_room(name: str, parts: dict[str, Source], partial: Path) -> None:
    """Raises ProjectError if the disk cannot hold the images that are not yet written."""
    wanted = sum(source.count * int(np.prod(source.shape)) for source in parts.values())
    written = sum(path.stat().st_size for path in partial.glob("*.npy"))
    free = shutil.disk_usage(partial).free
    if wanted - written > free:
        raise ProjectError(
            f"'{name}' needs another {(wanted - written) / 1e9:.1f} GB in {partial.parent}, where "
            f"{free / 1e9:.1f} GB are free: make room, or ask for fewer or smaller images in "
            "params.yaml"
        )


def _write(
    name: str, parts: dict[str, Source], spare: Source, partial: Path, manifest: dict[str, Any]
) -> None:
    """Writes and hashes all arrays, continuing after the images that the manifest counts."""
    rejected = []
    for split, source in parts.items():
        rejected += _write_array(name, split, source, partial, manifest)
        if source.labels is not None:
            np.save(partial / f"{split}{LABELS}.npy", source.labels)
    if rejected:
        # The others too, so that one list names all that has to be mended.
        for _, images in _batches(spare, 0, f"{name}, {SPARE}"):
            rejected += [line for line in images if isinstance(line, str)]
        total = spare.count + sum(source.count for source in parts.values())
        listing = "".join(f"\n  {line}" for line in rejected[:NAMED])
        more = f"\n  and {len(rejected) - NAMED} more" if len(rejected) > NAMED else ""
        raise ProjectError(
            f"{len(rejected)} of {total} images of '{name}' cannot be used; remove or replace "
            f"them:{listing}{more}"
        )
    np.save(partial / f"{MODES}.npy", modes_of(partial / "train.npy", name))
    blocks = {}
    for path in sorted(partial.glob("*.npy")):
        indices = range(block_count(path))
        shown = progress.over(indices, f"{name}, hashing {path.stem}", "block")
        blocks[path.stem] = [block_hash(path, i) for i in shown]
    del manifest["done"]
    _save(partial, manifest | {"blocks": blocks})


def _write_array(
    name: str, split: str, source: Source, partial: Path, manifest: dict[str, Any]
) -> list[str]:
    """Writes the images of a source that are not yet written, up to the first unusable one.

    Returns:
        A line for each image that cannot be used.
    """
    path = partial / f"{split}.npy"
    header = _header((source.count, *source.shape))
    done = manifest["done"].get(split, 0) if path.is_file() else 0
    if done:
        print(f"{name}: going on after {done} of {source.count} images to {split}")
    rejected = []
    # Plain writes: on a full disk, one through a memory map would end the process (SIGBUS).
    with (
        path.open("r+b" if done else "wb") as file,
        closing(_batches(source, done, f"{name}, {split}")) as batches,
    ):
        file.write(header)
        file.seek(done * int(np.prod(source.shape)), os.SEEK_CUR)
        for end, images in batches:
            rejected += [line for line in images if isinstance(line, str)]
            if not rejected:
                file.write(np.stack(images).tobytes())
                file.flush()
                os.fsync(file.fileno())
                manifest["done"][split] = end
                _save(partial, manifest)
    return rejected


def _header(shape: tuple[int, ...]) -> bytes:
    """The header of an .npy file of bytes."""
    header = io.BytesIO()
    description = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, description)
    return header.getvalue()


def _batches(source: Source, start: int, label: str) -> Generator[tuple[int, list[Any]]]:
    """Reads the images of a source from `start` on, below a bar.

    Yields:
        The index after a batch, and its images; for one that cannot be used, a line that says so.
    """

    def attempt(i: int) -> UInt8 | str:
        try:
            return source.read(i)
        except Exception as error:  # decoders of damaged files raise almost anything
            return f"{source.name(i)}: {error}"

    step = max(1, BATCH // int(np.prod(source.shape)))
    with ThreadPoolExecutor() as pool, progress.bar(source.count, label, "image", start) as bar:
        for first in range(start, source.count, step):
            end, images = min(first + step, source.count), []
            for image in pool.map(attempt, range(first, end)):
                images.append(image)
                bar.update()
            yield end, images


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ihdm.data.prepare", description=__doc__)
    parser.parse_args()
    with exit_on_error():
        project, params = root(), settings.load()
        names = sorted(set(params.run.values()))
        # DVC leaves the folder as it is, so that a large set is not built again with each edit.
        for path in (project / PREPARED).glob("*"):
            if path.name not in names:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                print(f"{path.name}: removed, since no experiment in `run` uses it")
        for name in names:
            images = prepare(name, params.data[name], project)
            counts = ", ".join(f"{len(getattr(images, split))} to {split}" for split in SPLITS)
            print(f"{name}: {counts}, {'x'.join(map(str, images.shape))}")


if __name__ == "__main__":
    main()

"""Images that the user puts in place: folders of files and LMDBs, read one image at a time."""

import hashlib
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ihdm.data.datasets import SPLITS
from ihdm.data.source import Source, divided
from ihdm.pixels import UInt8
from ihdm.project import ProjectError
from ihdm.settings import Database, Folder, Pictures

__all__ = ["database", "folder", "opened"]


def folder(described: Folder, project: Path) -> dict[str, Source]:
    """The source of each split of a folder of image files; see `sources.opened`."""
    where = project / described.path
    if not where.is_dir():
        raise ProjectError(f"{where} does not exist: put your images there, in any sub-folders")
    paths = sorted(p for p in where.rglob("*") if p.is_file() and not p.name.startswith("."))
    _enough(len(paths), described, where)
    names = [str(path.relative_to(where)) for path in paths]
    sizes = [path.stat().st_size for path in paths]
    source = Source(
        len(paths),
        described.shape,
        lambda i: _fitted(paths[i], described),
        lambda i: names[i],
        hashlib.sha256(json.dumps([names, sizes]).encode()).hexdigest(),
    )
    return divided(source, described, SPLITS)


def _enough(count: int, described: Pictures, where: Path) -> None:
    wanted = sum(getattr(described.splits, split) for split in SPLITS)
    if count < wanted:
        raise ProjectError(
            f"{where} holds {count} images, the splits in params.yaml ask for {wanted}"
        )


@contextmanager
def opened(where: Path) -> Iterator[lmdb.Environment]:
    """An LMDB, open to read; closed afterwards, since a process may open it only once.

    Raises:
        ProjectError: it is missing, damaged or cut short.
    """
    data = where / "data.mdb"
    if not data.is_file():
        raise ProjectError(
            f"{data} does not exist: unpack the archive of the data set so that it is there"
        )
    remedy = "unpack the archive again, or download it again"
    try:
        environment = lmdb.open(str(where), readonly=True, lock=False, readahead=False)
    except lmdb.Error as error:
        raise ProjectError(f"{data} is not an LMDB ({error}): {remedy}") from None
    with environment:
        # A page beyond the end of the file would end the process (SIGBUS) when it is read.
        pages = environment.info()["last_pgno"] + 1
        expected, actual = pages * environment.stat()["psize"], data.stat().st_size
        if actual < expected:
            raise ProjectError(f"{data} is cut short, {actual:,} of {expected:,} bytes: {remedy}")
        try:
            yield environment
        except lmdb.Error as error:
            raise ProjectError(f"{data} is damaged ({error}): {remedy}") from None


def database(described: Database, environment: lmdb.Environment) -> dict[str, Source]:
    """The source of each split of an LMDB of encoded images; see `sources.opened`."""
    where = Path(environment.path())
    with environment.begin() as transaction, transaction.cursor() as cursor:
        keys = list(cursor.iternext(values=False))
    _enough(len(keys), described, where)

    def read(i: int) -> UInt8:
        with environment.begin() as transaction:
            encoded = transaction.get(keys[i])
        return _fitted(io.BytesIO(encoded or b""), described)

    size = (where / "data.mdb").stat().st_size
    source = Source(
        len(keys),
        described.shape,
        read,
        lambda i: keys[i].decode(errors="replace"),
        f"{len(keys)} images, {size} bytes",
    )
    return divided(source, described, SPLITS)


def _fitted(file: Path | io.BytesIO, described: Pictures) -> UInt8:
    """One picture as (C, H, W): upright, transparent pixels white, cropped and resized.

    Raises:
        ValueError: it is no image, is smaller than the size asked for, or its pixels have no fixed
            range.
        Exception: the decoder's own, if the image is damaged.
    """
    try:
        with Image.open(file) as picture:
            picture.load()
            upright = ImageOps.exif_transpose(picture)
    except UnidentifiedImageError:
        raise ValueError("not an image") from None
    if upright.width < described.width or upright.height < described.height:
        raise ValueError(
            f"{upright.width}x{upright.height} is smaller than {described.width}x{described.height}"
        )
    if upright.mode == "F":
        raise ValueError("floating-point pixels have no fixed range")
    if upright.mode.startswith("I"):
        sixteen_bits = np.asarray(upright).astype(np.float64)
        upright = Image.fromarray((sixteen_bits / 257).round().astype(np.uint8))
    if upright.has_transparency_data:
        layer = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    cropped = ImageOps.fit(
        upright.convert("L" if described.channels == 1 else "RGB"),
        (described.width, described.height),
        Image.Resampling.LANCZOS,
    )
    pixels = np.asarray(cropped, dtype=np.uint8)
    return pixels[None] if described.channels == 1 else pixels.transpose(2, 0, 1)

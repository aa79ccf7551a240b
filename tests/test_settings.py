import copy
import re
import subprocess
import sys

import pytest

from ihdm.project import ProjectError
from ihdm.settings import Notebooks, digest, load
from tests.conftest import REPOSITORY, write_settings


def changed(raw, path, value):
    """A copy of the file's content with one key set; a path of keys, joined by dots."""
    copied = copy.deepcopy(raw)
    *parents, last = path.split(".")
    place = copied
    for key in parents:
        place = place[key]
    place[last] = value
    return copied


def message(project, raw):
    write_settings(project, raw)
    with pytest.raises(ProjectError) as caught:
        load()
    return str(caught.value)


def test_the_committed_file_is_valid_and_immutable():
    params = load(REPOSITORY / "params.yaml")
    experiment, data = params.experiment("mnist")
    assert (data, experiment.process.K) == ("mnist", 100)
    with pytest.raises(ValueError, match="frozen"):
        experiment.process.K = 3
    with pytest.raises(TypeError, match="item assignment"):
        params.run["mnist"] = "other"


IMPOSSIBLE = {
    "experiments.mnist.process.K": (0, "greater than or equal to 1|greater than 0"),
    "experiments.mnist.process.sigma": (-0.1, "greater than or equal to 0"),
    "experiments.mnist.process.sigma_blur_max": (0.5, "larger than sigma_blur_min"),
    "experiments.mnist.process.spline": (1, "not a known setting"),
    "experiments.mnist.network.attention_levels": ([3], "level 3 does not exist"),
    "experiments.mnist.network.multipliers": ([1, 1, 1, 1], "do not divide the side of 28"),
    "experiments.mnist.network.groups": (8, "one channel in a group"),
    "experiments.mnist.network.channels": (7, "even"),
    "experiments.mnist.train.steps": ("many", "valid integer.*'many'"),
    "experiments.mnist.train.learning_rate": (float("inf"), "finite"),
    "experiments.mnist.train.ema": (1.0, "less than 1"),
    "experiments.mnist.train.cooldown": (100, "exceed the 6 steps"),
    "experiments.mnist.sampling.delta": (-1, "greater than or equal to 0"),
    "experiments.mnist_ddpm.sampling.delta": (0.1, "a denoising process has no delta"),
    "experiments.mnist_colour.sampling.delta": (None, "is missing"),
    "experiments.mnist_blurring.process.sigma_blur_max": (-1, "greater than or equal to 0"),
    "experiments.mnist_blurring.process.sigma": (0.1, "not a known setting"),
    "data.colour5k.colours.background": ([0.3, 0], "lower end comes first"),
    "data.photos.size": (65, "less than or equal to 64"),
    "data.mnist5k.splits": ({"train": 5000, "tune": 1, "report": 1}, "5002 images"),
    "data.cifar10.splits": ({"train": 1, "tune": 10000, "report": 1}, "10000 to tune and report"),
    "data.lsun128.path": (None, "valid string"),
    "notebooks.ihdm_in_one_page.data": ("colour5k", "has to be square grey images"),
    "notebooks.ihdm_in_one_page.width": (12, "multiple of 8"),
    "notebooks.heat_equation.experiment": ("other", "'other' is not switched on"),
    "notebooks.heat_equation.data": ("mnist", "gives 'mnist5k' to 'mnist'"),
    "notebooks.heat_equation.digit": (64, "there are 64 training images"),
    "notebooks.blurring_diffusion.denoising": ("mnist_blurring", "needs a denoising process"),
    "notebooks.blurring_diffusion.data": ("colour5k", "gives 'mnist5k' to"),
    "notebooks.psd_duality.photographs": (["china", "china"], "there twice"),
    "notebooks.interpolation.shown": (6, "more than the 5 points"),
    "notebooks.input_gradients.published": ("mnist_ddpm", "needs .*which 'mnist_ddpm' is not"),
    "notebooks.input_gradients.end": ([0.05, 0.3], "among levels"),
    "notebooks.noise_scale.slopes": ([0.5, 0.5, 1], "larger than the one before"),
    "notebooks.noise_scale.delta": ([0.5, 1, 1.4], "has to hold 0 and all of slopes"),
    "notebooks.fid_tables.samples": (17, "at most the 16 digits"),
    "notebooks.fid_tables.samples_per_delta": (17, "more than the 16 samples"),
    "notebooks.likelihood.images": (17, "'mnist5k' has 16 images"),
    "notebooks.likelihood.delta_range": ([1, 1], "larger than the one before"),
    "notebooks.prior_overlap.between": ([20, 28], "among sigma_blur_max"),
    "notebooks.sigma_zero.sigma_zero": ("mnist", "sigma = 0 .*which 'mnist' is not"),
    "notebooks.psd_duality.band": ([1.6, 0.05], "lower end comes first"),
    "notebooks.blurring_diffusion.blurring": (["mnist"], "valid string"),
    "notebooks.asymptotics.data": (["mnist5k"], "valid string"),
    "notebooks.asymptotics.sigma_blur": ([0.5, 4], "0.5 is not a blur between the second"),
    "notebooks.asymptotics.K": ([100, 100], "there twice"),
    "notebooks.samples.frames": (6, "'mnist' has only 5 levels"),
    "notebooks.samples.film_samples": (9, "more than the 8 samples"),
    "run.extra": ("mnist5k", "no experiment of this name"),
    "run.mnist": ("nothing", "no data set 'nothing'"),
}


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("mnist_sigma0.network.parametrization", "linear_gaussian", "needs sigma above 0"),
        ("mnist_sigma0.train.gamma", 0.5, "gamma belongs to inverse heat dissipation with sigma"),
        ("mnist_ddpm.train.gamma", 0.5, "gamma belongs to inverse heat dissipation with sigma"),
        ("mnist.train.published", "a.pth", "need network.parametrization 'published'"),
    ],
)
def test_settings_of_one_experiment_have_to_fit(project, smoke_settings, key, value, told):
    text = message(project, changed(smoke_settings, f"experiments.{key}", value))
    section = f"experiments.{key.rpartition('.')[0]}: "
    (line,) = (line for line in text.splitlines() if line.strip().startswith(section))
    assert told in line


@pytest.mark.parametrize("key", IMPOSSIBLE)
def test_an_impossible_value_is_reported_with_its_key(project, smoke_settings, key):
    value, reason = IMPOSSIBLE[key]
    text = message(project, changed(smoke_settings, key, value))
    lines = [line for line in text.splitlines() if line.strip().startswith(f"{key}:")]
    assert len(lines) == 1, text
    assert re.search(reason, lines[0]), text


def test_a_band_has_to_hold_frequencies_of_all_that_is_fitted(project, smoke_settings):
    narrow = changed(smoke_settings, "notebooks.psd_duality.band", [0.05, 0.25])
    assert "three quarter-octaves of the frequencies of 'mnist5k'" in message(project, narrow)


def test_all_problems_are_reported_at_once(project, smoke_settings):
    raw = smoke_settings
    together = [
        "experiments.mnist.process.K",
        "experiments.mnist.process.sigma_blur_max",
        "experiments.mnist.network.multipliers",
        "experiments.mnist.sampling.delta",
        "notebooks.heat_equation.experiment",
    ]
    for key in together:
        raw = changed(raw, key, IMPOSSIBLE[key][0])
    text = message(project, raw)
    assert all(f"  {key}:" in text for key in together), text


def test_problems_of_several_notebooks_and_between_sections_are_reported_at_once(
    project, smoke_settings
):
    raw = smoke_settings
    values = {
        "run.extra": "mnist5k",
        "data.photos.size": 65,
        "experiments.mnist.process.sigma": -0.1,
        "experiments.mnist.network.multipliers": [1, 1, 1, 1],
        "experiments.mnist_ddpm.sampling.delta": 0.0,
        "experiments.mnist_colour.train.ema": 1.0,
        "digit_features.data": "photos",
        "notebooks.training.images_per_level": 1,
        "notebooks.samples.film_samples": 9,
        "notebooks.blurring_diffusion.blurring": "mnist_ddpm",
        "notebooks.noise_scale.delta": [0.5, 1, 1.4],
        "notebooks.noise_scale.samples": 9,
        "notebooks.sigma_zero.sigma_zero": "other",
        "notebooks.interpolation.shown": 6,
        "notebooks.input_gradients.late": 2,
        "notebooks.fid_tables.data": "colour5k",
        "notebooks.likelihood.images": 17,
    }
    for key, value in values.items():
        raw = changed(raw, key, value)
    text = message(project, raw)
    # The features are not those of the notebook's data, which is not that of its experiments.
    expected = sorted([*values, "notebooks.fid_tables.data"])
    assert sorted(re.findall(r"^  ([\w.]+): ", text, re.MULTILINE)) == expected, text
    assert text.startswith(f"params.yaml has {len(expected)} problem(s):"), text


SECTIONS = [
    "run",
    "machine",
    "data",
    "data.mnist5k",
    "data.colour5k",
    "experiments",
    "experiments.mnist",
    "experiments.mnist.process",
    "experiments.mnist.network",
    "experiments.mnist.train",
    "experiments.mnist.sampling",
    "experiments.mnist_ddpm.sampling",
    "digit_features",
    "notebooks",
    *(f"notebooks.{name}" for name in Notebooks.model_fields),
]


@pytest.mark.parametrize("section", SECTIONS)
def test_an_invalid_section_causes_no_problems_of_others(project, smoke_settings, section):
    text = message(project, changed(smoke_settings, section, "wrong"))
    lines = text.splitlines()[1:]
    assert all(re.match(rf"  {section}[.:]", line) for line in lines), text


def test_features_are_those_of_grey_digits_and_densities_need_noise(project, smoke_settings):
    coloured = changed(smoke_settings, "digit_features.data", "colour5k")
    text = message(project, coloured)
    assert "digit_features.data: has to be grey digits" in text
    assert "notebooks.fid_tables.data: the features are those of 'colour5k'" in text
    still = changed(smoke_settings, "experiments.mnist.sampling.delta", 0.0)
    text = message(project, still)
    assert "experiments.mnist.sampling.delta: has to be above 0" in text


def test_the_heat_equation_needs_noise_and_levels_to_show(project, smoke_settings):
    raw = changed(smoke_settings, "experiments.mnist.process.sigma", 0.0)
    assert "notebooks.heat_equation.experiment: " in message(project, raw)


def test_a_date_is_a_wrong_type(project):
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(re.sub(r"steps: \d+", "steps: 2024-01-01", text))
    with pytest.raises(ProjectError, match=r"train\.steps: .*valid integer.*2024-01-01"):
        load()


def test_a_missing_key_is_named(project, smoke_settings):
    raw = copy.deepcopy(smoke_settings)
    del raw["experiments"]["mnist"]["train"]["batch"]
    assert "experiments.mnist.train.batch: is missing" in message(project, raw)


def test_a_file_that_is_no_yaml_or_no_mapping_is_named(project):
    for text in ("run: [", "- 1", "", "run: {mnist: a}\nrun: {mnist: b}"):
        (project / "params.yaml").write_text(text)
        with pytest.raises(ProjectError, match=r"params\.yaml"):
            load()


def test_a_key_that_is_no_text_is_named(project):
    (project / "params.yaml").write_text("run: {2024-01-01: mnist5k}\n")
    with pytest.raises(ProjectError, match=r"params\.yaml has a key that is no text; quote it"):
        load()


def test_numbers_with_exponents_are_numbers(project, smoke_settings):
    text = (project / "params.yaml").read_text()
    text = re.sub(r"learning_rate:\s+[-0-9.e]+", "learning_rate: 1e-3", text)
    (project / "params.yaml").write_text(text)
    assert load().experiments["mnist"].train.learning_rate == 0.001


def test_an_experiment_that_is_off_is_named(settings):
    with pytest.raises(ProjectError, match="'other' is not switched on.*switched on: mnist"):
        settings.experiment("other")


@pytest.mark.parametrize(
    "command",
    [
        ["ihdm.settings"],
        ["ihdm.data.prepare"],
        ["ihdm.pipeline.training", "mnist"],
        ["ihdm.pipeline.digit_features"],
        ["ihdm.pipeline.tuning", "mnist"],
        ["ihdm.pipeline.stages", "run", "03-samples", "--experiment", "mnist"],
    ],
)
def test_every_program_ends_with_one_message(project, smoke_settings, command):
    write_settings(project, changed(smoke_settings, "experiments.mnist.process.K", 0))
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)
    assert done.returncode == 1
    assert "experiments.mnist.process.K" in done.stderr
    assert "Traceback" not in done.stderr


def test_digest_depends_on_every_value(settings):
    experiment = settings.experiments["mnist"]
    other = experiment.sampling.model_copy(update={"delta": 0.5})
    assert digest(experiment.sampling) == digest(experiment.sampling)
    assert digest(experiment.sampling) != digest(other)

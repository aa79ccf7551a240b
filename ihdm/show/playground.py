"""The controls of the notebook `17-playground`. They write nothing."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from ihdm import figures, heat, settings
from ihdm.data import datasets
from ihdm.data.photographs import photograph
from ihdm.measures import spectrum
from ihdm.model import Model
from ihdm.pixels import UInt8, to_unit
from ihdm.processes import InverseHeat
from ihdm.project import ProjectError, root
from ihdm.show import videos
from ihdm.weights import Portable

__all__ = ["drawing", "melted", "melting"]

SIDE = 128  # of the photographs
SCREEN = 280  # pixels of a drawn image on the screen


def melted(image: Tensor, sigma_blur: float, sigma: float) -> Figure:
    """A blurred image, the power spectra of both, and the coefficients that are above the noise.

    Args:
        image: (1, C, H, W) in [0, 1].
        sigma_blur: width of the blur in pixels, above 0.
        sigma: scale of the noise.

    Returns:
        Three panels; in the last, frequency zero is at the top left and white is above the noise.
    """
    H, W = image.shape[-2:]
    blurred = heat.HeatEquation(H, W, torch.tensor([0.0, sigma_blur])).blur(image, 1)
    figure = Figure(figsize=(9, 3), layout="constrained")
    picture, spectra, left = figure.subplots(1, 3)
    figures.image(picture, blurred[0])
    for u, colour in ((image, "0.7"), (blurred, "black")):
        frequency, power = spectrum.radial_psd(u)
        spectra.loglog(frequency[1:], power[1:], color=colour)
    spectra.axhline(sigma**2, color="C1", linestyle="--")
    spectra.set(ylim=(1e-8, None), xlabel="frequency (rad/pixel)", ylabel="PSD")
    above = heat.to_frequencies(blurred.double())[0].square().mean(0) > sigma**2
    figures.image(left, above[None].float())
    left.set_title(f"{above.float().mean():.1%} above the noise")
    return figure


def melting(experiment: str) -> widgets.Widget:
    """Controls for an image, its blur and the noise, above the panels of `melted`.

    Args:
        experiment: the first of its training images are offered beside photographs.

    Raises:
        ProjectError: the experiment is not switched on.
    """
    params, remark = settings.load(), widgets.Label()
    _, data = params.experiment(experiment)
    names = params.notebooks.psd_duality.photographs
    pictures: dict[str, Tensor] = {name: photograph(name, SIDE) for name in names}
    try:
        images = to_unit(images_of(experiment, data)[:3])
        pictures |= {f"{data}, {i}": image[None] for i, image in enumerate(images)}
    except ProjectError as error:
        remark.value = f"Photographs alone: {error}"
    controls = {
        "name": widgets.Dropdown(options=list(pictures), description="image"),
        "sigma_blur": widgets.FloatLogSlider(4, min=-1, max=2, step=0.05, description="sigma_B"),
        "sigma": widgets.FloatLogSlider(0.01, min=-3, max=-0.5, step=0.1, description="sigma"),
    }
    screen = widgets.Image(format="png")

    def show(name: str, sigma_blur: float, sigma: float) -> None:
        screen.value = png(melted(pictures[name], sigma_blur, sigma).savefig)

    follow(controls, show)
    return widgets.VBox([*controls.values(), screen, remark])


def drawing(experiment: str) -> widgets.Widget:
    """Controls for delta, the seed of the noise and the start, and a trained model that draws.

    Args:
        experiment: of inverse heat dissipation. It draws from the results of the pipeline, or else
            from `weights/`, which needs no data. Without both, a label says how to get them.

    Raises:
        ProjectError: the experiment is not switched on.
    """
    settings.load().experiment(experiment)
    path = root() / "results" / "weights" / f"{experiment}.safetensors"
    try:
        model = Model.trained(experiment, path)
    except ProjectError as missing:
        path = portable(experiment)
        try:
            model = Model.from_file(path)
        except ProjectError as error:
            return widgets.Label(
                f"{missing}; {error}. `dvc repro train@{experiment}` makes what is missing."
            )
    if not isinstance(model.process, InverseHeat):
        return widgets.Label(f"{experiment} is not of inverse heat dissipation, and has no delta")
    K, sigma = model.process.K, model.process.sigma
    controls = {
        "delta": widgets.FloatSlider(1.25, min=0, max=2.5, step=0.05, description="delta/sigma"),
        "seed": widgets.IntSlider(0, min=0, max=99, description="seed"),
        "start": widgets.IntSlider(0, min=0, max=99, description="start"),
    }
    screen = widgets.Image(format="png", layout=widgets.Layout(width=f"{SCREEN}px"))
    button, level = widgets.Button(description="draw"), widgets.Label()
    source = widgets.Label(f"The weights are in {path.relative_to(root())}.")

    def show(k: int, u_k: Tensor) -> None:
        level.value = f"level {k} of {K}"
        screen.value = png(Image.fromarray(videos.mosaic(u_k[None].cpu(), 1, SCREEN)[0]).save)

    def begin(delta: float, seed: int, start: int) -> tuple[Model, Tensor]:
        chosen = model.with_delta(delta * sigma)
        u_K = chosen.with_seed(0).starts([start])
        show(K, u_K)
        return chosen.with_seed(seed), u_K

    def draw(delta: float, seed: int, start: int) -> None:
        chosen, u_K = begin(delta, seed, start)
        for step in chosen.steps([start], u_K):
            show(step.k, step.state)

    follow(controls, begin)
    button.on_click(lambda _: draw(**values(controls)))
    return widgets.VBox([*controls.values(), button, level, screen, source])


def portable(experiment: str) -> Path:
    return root() / "weights" / f"{experiment}.safetensors"


def images_of(experiment: str, data: str) -> UInt8:
    """Training images: of the prepared data, or else of the file in `weights/`."""
    try:
        return datasets.load(data).train
    except ProjectError as missing:
        try:
            return Portable.read(portable(experiment)).images
        except ProjectError as error:
            raise ProjectError(f"{missing}; {error}") from None


def values(controls: Mapping[str, widgets.Widget]) -> dict[str, Any]:
    return {name: control.value for name, control in controls.items()}


def follow(controls: Mapping[str, widgets.Widget], show: Callable[..., object]) -> None:
    """Calls `show` with the values of the controls, now and whenever one is moved."""
    for control in controls.values():
        control.observe(lambda _: show(**values(controls)), "value")
    show(**values(controls))


def png(save: Callable[..., None]) -> bytes:
    """A figure or an image as the bytes of a PNG."""
    file = io.BytesIO()
    save(file, format="png")
    return file.getvalue()

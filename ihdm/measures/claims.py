"""The ledger: each claim of the papers with its test, our value, and the verdict of a rule.

A claim names its test and the notebook that measures it; `rules` judges.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from ihdm.measures import rules
from ihdm.measures.rules import Judged, Metrics
from ihdm.settings import Notebooks

__all__ = ["CLAIMS", "NOTEBOOKS", "Claim", "Judged", "ledger"]


class Claim(NamedTuple):
    """A claim of a paper and its test.

    Attributes:
        place: its place in the paper.
        claim: its sentence.
        test: the statistic and its threshold, with thresholds as fields of `s`.
        notebook: the notebook whose metrics it reads.
        judge: (metrics of that notebook, settings of all notebooks) -> the verdict.
    """

    place: str
    claim: str
    test: str
    notebook: str
    judge: Callable[[Metrics, Notebooks], Judged]


CLAIMS = (
    Claim(
        "App. C.3, Fig. 13a",
        "Trained without noise, the model completely fails",
        "spread of samples over that of digits, without and with noise in sampling: "
        "both above {s.sigma_zero.blown_up:g}",
        "08-sigma-zero",
        rules.fails_without_noise,
    ),
    Claim(
        "App. C.3, Fig. 13b",
        "Its input gradients have the opposite sign",
        "share of images with opposite signs next to the pixel, averaged over levels: "
        "above {s.sigma_zero.opposite:.0%}",
        "08-sigma-zero",
        rules.signs_flip,
    ),
    Claim(
        "Sec. 4, Fig. 6",
        "Detail starts increasing particularly after sigma",
        "growth of the power of fine detail with delta, from {s.noise_scale.slopes[0]:g} to "
        "{s.noise_scale.slopes[1]:g} and on to {s.noise_scale.slopes[2]:g} sigma: faster above",
        "07-noise-scale",
        rules.detail_grows,
    ),
    Claim(
        "Sec. 4, Fig. 6",
        "Images degenerate into noise after about 1.3 sigma",
        "power of fine detail over that of digits at {s.noise_scale.slopes[2]:g} sigma: "
        "over {s.noise_scale.degenerate:g}",
        "07-noise-scale",
        rules.noise_sets_in,
    ),
    Claim(
        "Sec. 4, Fig. 6",
        "Without sampling noise the model does nothing but sharpen its start",
        "correlation of the blurred sample with an early state: above {s.claims.sharpens:g}, and "
        "above that with noise",
        "07-noise-scale",
        rules.only_sharpens,
    ),
    Claim(
        "Sec. 3.3",
        "Natural images have a power law with alpha near 2",
        "mean alpha of photographs: within {s.psd_duality.tolerance:g} of 2",
        "06-psd-duality",
        rules.power_law,
    ),
    Claim(
        "Sec. 3.3, Fig. 4",
        "Diffusion approaches the power law from above, heat dissipation from below",
        "spectra of drawn states against the sum of their parts: within "
        "{s.claims.additivity:g} standard deviations",
        "06-psd-duality",
        rules.spectra_add,
    ),
    Claim(
        "Sec. 4, Figs. 7a and 29",
        "The noise decides the shape and the prior state the colour",
        "of the variance of shape, noise above {s.colour_and_shape.noise_share:.0%} and both "
        "together below {s.colour_and_shape.interaction:.0%}; legible samples",
        "09-colour-and-shape",
        rules.colour_and_shape,
    ),
    Claim(
        "Sec. 4",
        "A sample has the average colour of its prior state",
        "correlation of the mean of each channel in both: above {s.claims.brightness:g}",
        "09-colour-and-shape",
        rules.mean_colour_kept,
    ),
    Claim(
        "Sec. 4, Figs. 7b and 26-28",
        "Interpolations are smoother than those of a diffusion model",
        "largest jump and length of {s.interpolation.pairs} paths, paired: both smaller",
        "10-interpolation",
        rules.smoother,
    ),
    Claim(
        "Sec. 4, Fig. 8",
        "Input gradients are circular and local, those of a diffusion model less so",
        "share explained by distance and radius of 90 % of the energy, paired: larger and smaller",
        "11-input-gradients",
        rules.local_gradients,
    ),
    Claim(
        "App. D.4, Figs. 30-32",
        "Samples are not copies of training images",
        "fraction nearer than the nearest 5 % of new digits: not larger, by a test that finds "
        "{s.nearest_neighbours.copies:.0%} of copies; samples not too far",
        "12-nearest-neighbours",
        rules.no_copies,
    ),
    Claim(
        "App. C.1, Fig. 11",
        "The bound is smallest for delta near sigma",
        "delta of the smallest bound: within {s.claims.near_sigma:.0%} of sigma",
        "14-likelihood",
        rules.elbo_near_sigma,
    ),
    Claim(
        "App. C.1, Fig. 11",
        "Samples are best at a larger delta than the bound",
        "interval of the delta of the lowest KID: above the delta of the smallest bound",
        "13-fid-tables",
        rules.optima_in_order,
    ),
    Claim(
        "ours, after App. C.1",
        "The same order holds for normal images with the spectrum of digits and the best steps",
        "delta of the smallest Frechet distance of samples: above the delta of the smallest bound",
        "13-fid-tables",
        rules.optima_of_gaussians,
    ),
    Claim(
        "App. C.2, Fig. 12",
        "L_K does not change much from a blur of three quarters of the image to all of it",
        "its fall from {s.prior_overlap.between[0]:g} to {s.prior_overlap.between[1]:g} pixels: "
        "below {s.claims.flat:.0%}",
        "15-prior-overlap",
        rules.overlap_flattens,
    ),
    Claim(
        "BDM, Sec. 1",
        "Blurring diffusion improves on inverse heat dissipation",
        "difference of KID at each model's best setting, over training seeds: above 0",
        "13-fid-tables",
        rules.blurring_improves,
    ),
)

NOTEBOOKS = sorted({claim.notebook for claim in CLAIMS})


def ledger(metrics: Mapping[str, Metrics], notebooks: Notebooks) -> list[tuple[Claim, Judged]]:
    """Judges every claim.

    Args:
        metrics: the metrics of each of `NOTEBOOKS`.
        notebooks: the section `notebooks` of params.yaml.

    Returns:
        Each claim, its test with the thresholds of params.yaml, and its verdict.
    """
    stated = [claim._replace(test=claim.test.format(s=notebooks)) for claim in CLAIMS]
    return [(claim, claim.judge(metrics[claim.notebook], notebooks)) for claim in stated]

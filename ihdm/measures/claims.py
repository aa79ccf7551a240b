"""The ledger: each claim of the papers with its test, our value, and the verdict of a rule.

A claim names its test and a figure of the chapter that measures it. `rules` judges by the metrics
of that chapter's notebook, `comparisons` by repeated trainings; both use those of `verdicts`.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from ihdm.measures import comparisons, rules
from ihdm.measures.verdicts import Judged, Metrics, Trainings
from ihdm.settings import Notebooks

__all__ = ["CLAIMS", "NOTEBOOKS", "Claim", "Judged", "ledger", "told"]


class Claim(NamedTuple):
    """A claim of a paper and its test.

    Attributes:
        place: its place in the paper.
        claim: its sentence.
        test: the statistic and its threshold, with thresholds as fields of `s`.
        figure: the one that shows it best in the chapter that measures it, as
            executed notebook without ending/name.
        judge: (metrics of that notebook, settings of all notebooks) -> the verdict.
        repeated: whether `judge` takes the statistics of repeated trainings instead of metrics.
    """

    place: str
    claim: str
    test: str
    figure: str
    judge: Callable[..., Judged]
    repeated: bool = False

    @property
    def notebook(self) -> str:
        """The executed notebook of its chapter, without ending."""
        return self.figure.split("/")[0]


# A claim that repeated trainings decide.
repeated = partial(Claim, repeated=True)

CLAIMS = (
    repeated(
        "App. C.3, Fig. 13a",
        "Trained without noise, the model completely fails",
        "contrast of samples over that of digits, with and without sampling noise: above "
        "{s.sigma_zero.blown_up:g} in every training",
        "08-sigma-zero/samples",
        comparisons.fails_without_noise,
    ),
    repeated(
        "App. C.3, Fig. 13b",
        "Its input gradients have the opposite sign",
        "images whose gradient is negative next to the pixel: above "
        "{s.sigma_zero.opposite:.0%} without training noise; with it, "
        "positive in more than {s.sigma_zero.opposite:.0%}",
        "08-sigma-zero/signs",
        comparisons.signs_flip,
    ),
    repeated(
        "ours, after Sec. 4",
        "On one data set, KID changes little between sigma = 0.005 and 0.02",
        "mean KID of sigma = 0.005, 0.01 and 0.02: largest below {s.claims.robust:g} times the "
        "smallest",
        "08-sigma-zero/against-sigma",
        comparisons.robust_to_sigma,
    ),
    repeated(
        "Sec. 3.2",
        "The skip connection u_k + f(u_k) seems to stabilise training",
        "a training without the skip",
        "02-training-{s.blurring_diffusion.inverse_heat}/loss",
        comparisons.skip_stabilises,
    ),
    repeated(
        "Sec. 4, Fig. 5a",
        "A sample keeps the average colour of its start",
        "correlation of the mean of samples with that of their starts: above "
        "{s.claims.brightness:g}",
        "03-samples-{s.blurring_diffusion.inverse_heat}/shared-start",
        comparisons.brightness_kept,
    ),
    repeated(
        "Sec. 4, Fig. 5b",
        "Sequences that split early end further apart than those that split late",
        "standard deviation of the endings: larger for a split at 90 % of the levels than at 10 %",
        "03-samples-{s.blurring_diffusion.inverse_heat}/branch-spread",
        comparisons.early_splits_change_more,
    ),
    repeated(
        "ours",
        "The ten digits are drawn as often as they occur",
        "total variation distance of the classes of samples from those of test digits: below "
        "{s.claims.classes:g}",
        "13-fid-tables/ten-digits",
        comparisons.digits_equally_often,
    ),
    Claim(
        "Sec. 4, Fig. 6",
        "Detail starts increasing particularly after sigma",
        "growth of the power of fine detail with delta, from {s.noise_scale.slopes[0]:g} to "
        "{s.noise_scale.slopes[1]:g} and on to {s.noise_scale.slopes[2]:g} sigma: faster above",
        "07-noise-scale/measures",
        rules.detail_grows,
    ),
    Claim(
        "Sec. 4, Fig. 6",
        "Images start to degenerate into noise after about 1.3 sigma",
        "rise of KID from {s.fid_tables.usual:g} sigma to the largest delta of the sweep: above 0",
        "13-fid-tables/against-delta",
        rules.noise_sets_in,
    ),
    Claim(
        "Sec. 4, Fig. 6",
        "Without sampling noise the model mainly sharpens its start",
        "fine detail (power in the upper half of frequencies): less than at "
        "{s.noise_scale.slopes[1]:g} sigma",
        "07-noise-scale/against-delta",
        rules.only_sharpens,
    ),
    Claim(
        "Sec. 3.3",
        "Natural images have a power law with alpha near 2",
        "mean alpha of photographs: within {s.psd_duality.tolerance:g} of 2",
        "06-psd-duality/power-law",
        rules.power_law,
    ),
    Claim(
        "Sec. 3.3, Fig. 4",
        "Diffusion approaches the power law from above, heat dissipation from below",
        "spectra of drawn states against the sum of their parts: within "
        "{s.claims.additivity:g} standard deviations",
        "06-psd-duality/duality",
        rules.spectra_add,
    ),
    Claim(
        "Sec. 4, Figs. 7a and 29",
        "The noise decides the shape and the prior state the colour",
        "of the variance of shape, noise above {s.colour_and_shape.noise_share:.0%} and both "
        "together below {s.colour_and_shape.interaction:.0%}; legible samples",
        "09-colour-and-shape/causes",
        rules.colour_and_shape,
    ),
    Claim(
        "Sec. 4",
        "Samples in colour keep the average colour of their start",
        "correlation of mean colours, over channels: above {s.claims.brightness:g}",
        "09-colour-and-shape/grid",
        rules.mean_colour_kept,
    ),
    repeated(
        "Sec. 4, Figs. 7b and 26-28",
        "Interpolations are smoother than those of a diffusion model",
        "largest jump and length of 41-point paths: both smaller",
        "10-interpolation/smoothness",
        comparisons.smoother,
    ),
    repeated(
        "Sec. 4, Fig. 8",
        "Input gradients are circular and local, those of a diffusion model less so",
        "fraction of the energy that distance explains: larger; radius of 90 % of it: smaller",
        "11-input-gradients/measures",
        comparisons.local_gradients,
    ),
    Claim(
        "App. D.4, Figs. 30-32",
        "Samples are not copies of training images",
        "fraction nearer than the nearest 5 % of new digits: not larger, by a test that finds "
        "{s.nearest_neighbours.copies:.0%} of copies; samples not too far",
        "12-nearest-neighbours/distances",
        rules.no_copies,
    ),
    Claim(
        "App. C.1, Fig. 11",
        "The bound is smallest for delta near sigma",
        "delta of the smallest bound: nearer to sigma than {s.claims.near_sigma:.0%}",
        "14-likelihood/against-delta",
        rules.elbo_near_sigma,
    ),
    Claim(
        "App. C.1, Fig. 11",
        "Samples are best at a larger delta than the bound",
        "interval of the delta of the lowest KID: above the delta of the smallest bound",
        "13-fid-tables/against-delta",
        rules.optima_in_order,
    ),
    Claim(
        "ours, after App. C.1",
        "The same order holds for Gaussian images with the spectrum of digits and perfect steps",
        "delta of the smallest Frechet distance of samples: above the delta of the smallest bound",
        "13-fid-tables/against-delta",
        rules.optima_of_gaussians,
    ),
    Claim(
        "App. B.4",
        "1.25 sigma works well as a default value of delta",
        "KID at {s.fid_tables.usual:g} sigma over the lowest: below {s.claims.robust:g}",
        "13-fid-tables/against-delta",
        rules.robust_to_delta,
    ),
    Claim(
        "App. C.2, Fig. 12",
        "L_K does not change much from a blur of three quarters of the image to all of it",
        "its fall in nats from {s.prior_overlap.between[0]:g} to {s.prior_overlap.between[1]:g} "
        "pixels: below {s.claims.flat:.0%} of that over the width before",
        "15-prior-overlap/overlap",
        rules.overlap_flattens,
    ),
    repeated(
        "App. B.4",
        "Blurring to half of the width gives better images than to all of it",
        "KID of sigma_blur_max = 14 against 28 pixels: lower",
        "13-fid-tables/kid",
        comparisons.half_width_is_better,
    ),
    repeated(
        "ours, after App. B.4",
        "Twice the levels do not improve samples",
        "KID of 200 levels against 100: lower by at most {s.claims.levels:.0%}",
        "13-fid-tables/kid",
        comparisons.more_levels_do_not_help,
    ),
    repeated(
        "Sec. 4",
        "FIDs are not yet as good as those of diffusion models",
        "KID of DDPM against IHDM: lower",
        "13-fid-tables/kid",
        comparisons.denoising_draws_better,
    ),
    repeated(
        "BDM, Sec. 1",
        "Blurring diffusion improves on inverse heat dissipation",
        "KID of BDM against IHDM: lower",
        "13-fid-tables/kid",
        comparisons.blurring_improves,
    ),
    repeated(
        "BDM, abstract",
        "Blurring diffusion offers the best of both: it draws better than denoising diffusion",
        "KID of BDM against DDPM: lower",
        "13-fid-tables/kid",
        comparisons.blurring_as_good,
    ),
    repeated(
        "ours, after BDM",
        "The blur helps: the same process without blur draws worse",
        "KID of BDM against BDM with sigma_blur_max = 0: lower",
        "13-fid-tables/kid",
        comparisons.blur_helps,
    ),
)

NOTEBOOKS = sorted({claim.notebook for claim in CLAIMS if not claim.repeated})


def ledger(
    metrics: Mapping[str, Metrics], trainings: Trainings, notebooks: Notebooks
) -> list[tuple[Claim, Judged]]:
    """Judges every claim.

    Args:
        metrics: the metrics of each of `NOTEBOOKS`.
        trainings: the statistics of repeated trainings, from `record.trainings`.
        notebooks: the section `notebooks` of params.yaml.

    Returns:
        Each claim, its test with the thresholds of params.yaml, and its verdict.
    """
    return [
        (c, c.judge(trainings if c.repeated else metrics[c.notebook], notebooks))
        for c in stated(notebooks)
    ]


def told(
    judged: Mapping[str, Mapping[str, Any]], notebooks: Notebooks
) -> list[tuple[Claim, Judged]]:
    """The ledger as notebook 16 wrote it.

    Args:
        judged: name of a rule -> the fields of `Judged`.
        notebooks: the section `notebooks` of params.yaml.

    Returns:
        As `ledger`.
    """
    return [(claim, Judged(**judged[claim.judge.__name__])) for claim in stated(notebooks)]


def stated(notebooks: Notebooks) -> list[Claim]:
    every = (c._replace(test=c.test.format(s=notebooks)) for c in CLAIMS)
    return [c._replace(figure=c.figure.format(s=notebooks)) for c in every]

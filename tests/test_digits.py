import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.extra.numpy import arrays
from hypothesis.strategies import floats

from ihdm import weights
from ihdm.measures import classifier, digits
from ihdm.measures.features import features

SHARES = arrays(np.float64, 10, elements=floats(0.01, 1)).map(lambda x: x / x.sum())


@given(SHARES, SHARES)
def test_the_distance_is_the_largest_difference_in_the_probability_of_a_set(p, q):
    assert digits.distance(p, q) == pytest.approx((p - q)[p > q].sum())
    assert digits.distance(p, p) == 0


def test_digits_are_counted_as_the_classifier_names_them(ready):
    torch.manual_seed(0)
    network = classifier.Classifier().eval()
    weights.save(classifier.file(), network)
    images = np.random.default_rng(0).integers(0, 256, (40, 1, 28, 28), dtype=np.uint8)
    with torch.no_grad():
        scores = network(torch.from_numpy(images) / 255)
    found = digits.drawn(images)
    named = scores.argmax(1)
    assert found.shares == pytest.approx([(named == i).float().mean().item() for i in range(10)])
    assert found.confidence == pytest.approx(scores.softmax(1).amax(1).mean().item(), rel=1e-5)
    as_floats = digits.drawn(torch.from_numpy(images) / 255)
    assert as_floats.shares.tolist() == found.shares.tolist()
    of_features = digits.of_features(features(images, "digits"))
    assert of_features.shares.tolist() == found.shares.tolist()
    assert of_features.confidence == pytest.approx(found.confidence, rel=1e-5)

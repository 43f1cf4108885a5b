"""Initialisers: variance, kind of distribution, and errors about settings."""

import numpy as np
import pytest

from minet import MinetError
from minet.core.init import Gaussian, Glorot, He, fans

CONV, LINEAR = (40, 30, 5, 3), (200, 90)


def draw(init, shape=CONV):
    values = init(shape, np.random.default_rng(0))
    assert values.shape == shape and np.isfinite(values).all()
    return values


def kurtosis(values):
    """3 for a normal distribution, 1.8 for a uniform one."""
    return np.mean((values - values.mean()) ** 4) / values.var() ** 2


def test_fans_by_hand():
    assert fans((8, 3, 5, 2)) == (30, 80)
    assert fans((10, 64)) == (64, 10)


@pytest.mark.parametrize("shape", [CONV, LINEAR])
@pytest.mark.parametrize(
    ("init", "std", "shape_of_tails"),
    [
        (Gaussian(), lambda i, o: 0.01, 3),
        (He(), lambda i, o: np.sqrt(2 / i), 3),
        (He(a=-1), lambda i, o: np.sqrt(1 / i), 3),
        (Glorot(), lambda i, o: np.sqrt(2 / (i + o)), 1.8),
        (Glorot(gain=3, uniform=False), lambda i, o: 3 * np.sqrt(2 / (i + o)), 3),
    ],
)
def test_spread(init, std, shape_of_tails, shape):
    values = draw(init, shape)
    expected = std(*fans(shape))
    assert values.std() == pytest.approx(expected, rel=0.03)
    assert abs(values.mean()) < 0.03 * expected
    assert kurtosis(values) == pytest.approx(shape_of_tails, rel=0.08)


def test_glorot_stays_inside_its_bound():
    bound = np.sqrt(6 / (30 * 15 + 40 * 15))
    assert 0.99 * bound < np.abs(draw(Glorot())).max() <= bound


def test_gaussian_mean():
    values = draw(Gaussian(std=0.5, mean=-2))
    assert values.mean() == pytest.approx(-2, abs=0.02) and values.std() == pytest.approx(0.5, rel=0.03)
    assert (draw(Gaussian(std=0, mean=3)) == 3).all()


@pytest.mark.parametrize("init", [Gaussian(), Glorot(), Glorot(uniform=False), He()])
def test_the_same_generator_gives_the_same_values(init):
    np.testing.assert_array_equal(draw(init), draw(init))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gaussian(std=-1), "Gaussian's std must be a finite number of at least 0, got -1"),
        (lambda: Gaussian(std="0.1"), "Gaussian's std .* got '0.1'"),
        (lambda: Gaussian(mean=np.inf), "Gaussian's mean must be a finite number, got inf"),
        (lambda: Glorot(gain=-1), "Glorot's gain"),
        (lambda: Glorot(uniform="no"), "Glorot's uniform must be True or False"),
        (
            lambda: He(a=np.nan),
            "He's a must be a finite number, got nan\n  hint: the default is He\\(a=0.0\\)",
        ),
        (lambda: He(a=True), "He's a"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(MinetError, match=message):
        make()

"""Schedules at points worked out by hand."""

import math

import pytest

from minet.train.optim.schedules import Cosine, Exponential, Polynomial, Step, WarmUp


@pytest.mark.parametrize(
    ("schedule", "points"),
    [
        (Step({2: 0.1, 4: 0.5}), {0: 1, 1.99: 1, 2: 0.1, 3.5: 0.1, 4: 0.05, 100: 0.05}),
        (Exponential(0.5), {0: 1, 0.5: math.sqrt(0.5), 2: 0.25}),
        (Polynomial(10), {0: 1, 2.5: 0.75, 10: 0, 12: 0}),
        (Polynomial(10, power=2, end=0.2), {0: 1, 5: 0.4, 10: 0.2, 11: 0.2}),
        (Cosine(8), {0: 1, 2: 0.5 + math.sqrt(0.125), 4: 0.5, 8: 0, 9: 0}),
        (Cosine(8, end=0.1), {0: 1, 4: 0.55, 8: 0.1, 20: 0.1}),
        (WarmUp(4), {0: 0, 1: 0.25, 4: 1, 5: 1}),
        (WarmUp(4, start=0.5), {0: 0.5, 2: 0.75, 4: 1}),
        (WarmUp(2, then=Step({3: 0.1})), {1: 0.5, 2: 1, 3: 0.1}),  # epoch 3 of the run, 1 after the warm-up
    ],
)
def test_schedules_by_hand(schedule, points):
    for epoch, factor in points.items():
        assert schedule(epoch) == pytest.approx(factor, abs=1e-15), epoch

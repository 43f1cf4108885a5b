"""examples/gem_pool.py: the contract, on the cpu and the emulator; values by hand, its limits, and a net."""

import math
from pathlib import Path

import numpy as np
import pytest
from close import assert_close

from minet import LayerError, Net
from minet.core.files import run_file
from minet.layers import AvgPool, MaxPool
from minet.testing import layer_checks
from minet.train import modelfile

pytestmark = pytest.mark.slow  # its loops and kernels take half a minute to compile

EXAMPLES = Path(__file__).parents[2] / "examples"
GemPool = run_file(EXAMPLES / "gem_pool.py").GemPool

test_conformance = layer_checks(GemPool)
test_conformance_of_its_kernels = layer_checks(GemPool, backend="emu")


def test_a_window_by_hand(run):
    """1, 2 and 3 with power 2: the root of 14/3; below 0 counts as 1e-6, without a slope."""
    x, dy = np.array([1.0, 2, 3, -4, -5]).reshape(1, 1, 5, 1), np.array([1.0, 10]).reshape(1, 1, 2, 1)
    got, y = run(GemPool((1, 3), 3, (0, 1), power=2), x, dy), math.sqrt(5 / 2)
    assert_close(got.y.ravel(), [y, math.sqrt((9 + 2e-12) / 3)], float32=1e-6)
    assert_close(got.dx.ravel(), [1 / y / 2, 2 / y / 2, 10 / math.sqrt(3), 0, 0], 1e-6, 1e-6)
    first = y / 2 * (4 * math.log(2) / 5 - math.log(y))
    second = math.sqrt(3) / 2 * (math.log(3) - math.log(3) / 2)
    assert_close(got.grads.power, [first + 10 * second], 1e-6, 1e-5)


def test_what_counts_as_the_least_has_no_slope(run):
    """Power 1 is the mean: each of two pixels has a slope of 1/2, and one below the least has none."""
    x = np.array([-1.0, 2, 3, 5]).reshape(1, 1, 4, 1)
    got = run(GemPool((1, 2), power=1), x, np.ones((1, 1, 2, 1)))
    assert_close(got.y.ravel(), [1, 4], 1e-6, 1e-6)
    assert_close(got.dx.ravel(), [0, 0.5, 0.5, 0.5], float32=1e-6)


@pytest.mark.parametrize(("power", "twin"), [(1.0, AvgPool), (3000.0, MaxPool)])
def test_it_lies_between_the_mean_and_the_maximum(run, power, twin):
    x = np.random.default_rng(0).uniform(0.1, 2, (2, 7, 6, 3))
    pools = (pool(3, 2, 1, **settings) for pool, settings in ((GemPool, {"power": power}), (twin, {})))
    got, want = (run(pool, x).y for pool in pools)
    assert_close(got, want, 1e-12 if power == 1 else 1e-3, 1e-6 if power == 1 else 1e-3)


@pytest.mark.parametrize("scale", [1e-4, 1e30])
def test_powers_neither_overflow_nor_vanish(run, scale):
    x, dy = np.random.default_rng(0).uniform(1, 2, (1, 4, 4, 2)), np.ones((1, 2, 2, 2))
    far, near = (run(GemPool(2, power=20), factor * x, dy) for factor in (scale, 1.0))
    assert_close(far.y / scale, near.y, float32=1e-5)
    assert_close(far.dx, near.dx, float32=1e-4)


def test_without_a_window_it_pools_the_whole_map(run):
    x = np.random.default_rng(0).uniform(0, 1, (3, 4, 5, 2))
    whole, window = (run(pool, x).y for pool in (GemPool(), GemPool((4, 5))))
    assert whole.shape == (3, 1, 1, 2)
    np.testing.assert_array_equal(whole, window)


@pytest.mark.parametrize("power", [0.5, math.inf, math.nan])
def test_a_power_below_one_is_refused(power):
    with pytest.raises(LayerError, match="power must be a number of at least 1"):
        GemPool(3, power=power)


def test_its_model_learns_its_powers():
    model = modelfile.load(str(EXAMPLES / "gem_digits.py"), width=8, lr=0.1)
    net, solver = Net(model.net(), model.input_shape, 32, model.loss), model.solver()
    train, _ = model.datasets()
    x, labels = np.moveaxis(train.images[:32], 0, -1) / np.float32(16), train.labels[:32]
    losses = [net.train_step(x, labels, solver) for _ in range(60)]
    assert losses[-1] < losses[0] / 2
    powers = [value for name, value in net.params.items() if name.endswith("gem_pool.power")]
    assert len(powers) == 2 and all((value != 3).all() and (value >= 1).all() for value in powers)

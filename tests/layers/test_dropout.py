"""Dropout against a second Philox4x32-10, in Python's integers."""

from binascii import crc32

import numpy as np
import pytest
from close import assert_close
from in_parts import PARTS, STEPS, assert_parts_draw_as_the_whole

from minet import LayerError, MinetError, Net
from minet.layers import Dropout
from minet.testing import layer_checks, run

test_conformance = layer_checks(Dropout)


def philox(key, counter):
    """Salmon et al. 2011, section 3.3, word by word."""
    (k0, k1), (c0, c1, c2, c3) = key, counter
    for _ in range(10):
        high0, low0 = divmod(c0 * 0xD2511F53, 2**32)
        high1, low1 = divmod(c2 * 0xCD9E8D57, 2**32)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return c0, c1, c2, c3


def words(size, step, seed, path="dropout"):
    key, low = (seed, crc32(path.encode())), 2**32 - 1
    blocks = [philox(key, (block, 0, step & low, step >> 32)) for block in range(-(-size // 4))]
    return np.array(blocks, np.uint64).reshape(-1)[:size]


def test_the_oracle_gives_the_published_vector():
    assert philox((0, 0), (0, 0, 0, 0)) == (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 2, 3, 1), (3, 1, 1, 5), (2, 37, 29, 3)])
@pytest.mark.parametrize(("seed", "step"), [(0, 0), (2**32 - 1, 2**40 + 7)])
def test_the_mask_bit_for_bit(run, shape, seed, step):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, *shape))
    out = run(Dropout(0.3), x, dy, seed=seed, step=step)
    mask = (words(x.size, step, seed) >= int(0.3 * 2**32)).reshape(shape)
    np.testing.assert_array_equal(out.state.mask, mask)
    assert_close(out.y, x * mask / 0.7, 1e-15, 3e-7)
    assert_close(out.dx, dy * mask / 0.7, 1e-15, 3e-7)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 20, 30)])
@pytest.mark.parametrize("whole", PARTS)
def test_parts_of_a_batch_drop_what_the_whole_drops(run, whole, shape, step):
    x, dy = np.random.default_rng(0).standard_normal((2, *shape, whole))
    assert_parts_draw_as_the_whole(run, Dropout(0.5), x, dy, step)


def test_a_part_that_its_batch_does_not_have(run):
    for train in (True, False):
        layer, x = Dropout(0.5), np.ones((1, 2, 2, 4))
        if train:
            with pytest.raises(MinetError, match="4 samples from number 9 on are no part of a batch of 12"):
                run(layer, x, part=(9, 12))
        else:  # nothing is drawn, and the batch may be another one
            np.testing.assert_array_equal(run(layer, x, train=False, part=(9, 12)).y, x)


def test_the_mask_does_not_depend_on_the_type():
    x = np.ones((3, 40, 31, 2))
    single, double = run(Dropout(0.5), x.astype(np.float32)), run(Dropout(0.5), x)
    np.testing.assert_array_equal(single.state.mask, double.state.mask)


def test_each_step_seed_and_place_draws_its_own(run):
    x = np.ones((1, 8, 8, 4))
    net = Net([Dropout(0.5), Dropout(0.5)], x.shape[:3], 4)
    net.fprop(x, train=True)
    masks = [layer.s.mask for layer in net.graph.children]
    masks += [
        run(Dropout(0.5), x, seed=seed, step=step).state.mask for seed, step in ((0, 0), (0, 1), (1, 0))
    ]
    assert len({mask.tobytes() for mask in masks}) == 5


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_it_drops_at_the_rate_and_keeps_the_mean(run, rate):
    x = np.ones((4, 50, 50, 10), np.float32)
    y = run(Dropout(rate), x).y
    spread = np.sqrt(rate / (1 - rate) / x.size)
    assert abs((y == 0).mean() - rate) < 5 * spread
    assert abs(y.mean(dtype=float) - 1) < 5 * spread
    assert np.unique(y).tolist() == pytest.approx([0, 1 / (1 - rate)])


def test_evaluation_passes_x_through(run):
    x = np.arange(6.0).reshape(1, 2, 3, 1)
    out = run(Dropout(0.9), x, 2 * x, train=False, beta_dx=0.5, dx0=x)
    np.testing.assert_array_equal(out.y, x)
    np.testing.assert_array_equal(out.dx, 2.5 * x)


def test_rates_at_the_ends(run):
    x = np.ones((1, 10, 10, 1))
    np.testing.assert_array_equal(run(Dropout(0), x).y, x)
    assert Dropout(1 - 2**-53).threshold == 2**32 - 1  # still a 32-bit word


@pytest.mark.parametrize("rate", [1, -0.1, np.nan, "0.5", None, True])
def test_bad_rate(rate):
    with pytest.raises(LayerError, match=r"rate must be a number in \[0, 1\)"):
        Dropout(rate)

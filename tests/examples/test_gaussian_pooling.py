"""The rungs of docs/gaussian-pooling.md: against their definition, each other, and the contract."""

from pathlib import Path

import numpy as np
import pytest
from close import assert_close

from minet import Concat, LayerError, Net, backends, testing
from minet.core.files import run_file
from minet.layers import GaussianPool
from minet.testing import layer_checks

FOLDER = Path(__file__).parents[2] / "examples/gaussian_pooling"
ladder = run_file(FOLDER / "ladder.py")
rung = pytest.mark.parametrize("cls", ladder.RUNGS, ids=lambda cls: cls.__name__)
pytestmark = pytest.mark.skipif(bool(backends.missing("emu")), reason=backends.missing("emu"))
STEP = 1e-5  # px, of central differences in float64: their error is about 1e-10

test_conformance = pytest.mark.sweep(10)(layer_checks(ladder.LanesPool, backend="emu"))


def arrays(layer, shape, batch=4, seed=0):
    rng, out = np.random.default_rng(seed), layer.clone().configure(shape)
    return [rng.standard_normal((*s, batch)).astype("f4") for s in (shape, out, shape, out)]


def matrix(layer, H, W, mean, sigma):
    """Return the weights (P*Q, H*W) of one channel's kernel, window by window, in float64."""
    (R, S), (SY, SX), (PY, PX), _ = layer.window
    _, P, Q = layer.out_shape((1, H, W))
    rows = np.zeros((P, Q, H + 2 * PY, W + 2 * PX))
    inside = np.pad(np.ones((H, W)), ((PY, PY), (PX, PX)))
    r, s = np.mgrid[:R, :S]
    exponent = ((r - (R - 1) / 2 - mean[0]) / sigma[0]) ** 2 + ((s - (S - 1) / 2 - mean[1]) / sigma[1]) ** 2
    for p in range(P):
        for q in range(Q):
            at = np.s_[p * SY : p * SY + R, q * SX : q * SX + S]
            taps = np.exp(-exponent / 2) * (inside[at] if layer.edge == "exact" else 1)
            rows[p, q][at] = taps / taps.sum()
    return rows[..., PY : PY + H, PX : PX + W].reshape(P * Q, H * W)


def oracle(layer, x, dy):
    """Return y, dx, and the slopes of mean and log sigma (2, C, J, 2) by central differences."""
    (C, H, W, N), (K, P, Q, _) = x.shape, dy.shape
    y, dx, slopes = np.zeros(dy.shape), np.zeros(x.shape), np.zeros((2, C, K // C, 2))
    means = np.broadcast_to(layer.mean, (C, K // C, 2)).astype("f4").astype(float)
    logs = np.log(np.broadcast_to(layer.sigma, (C, K // C, 2))).astype("f4").astype(float)
    for c in range(C):
        for j in range(K // C):
            pixels, delta = x[c].reshape(H * W, N).astype(float), dy[j * C + c].reshape(P * Q, N)

            def loss(mean, log_sigma, pixels=pixels, delta=delta):
                return float(((matrix(layer, H, W, mean, np.exp(log_sigma)) @ pixels) * delta).sum())

            weights = matrix(layer, H, W, means[c, j], np.exp(logs[c, j]))
            y[j * C + c] = (weights @ pixels).reshape(P, Q, N)
            dx[c] += (weights.T @ delta).reshape(H, W, N)
            for axis, step in enumerate(STEP * np.eye(2)):
                m, log = means[c, j], logs[c, j]
                slopes[0, c, j, axis] = (loss(m + step, log) - loss(m - step, log)) / (2 * STEP)
                slopes[1, c, j, axis] = (loss(m, log + step) - loss(m, log - step)) / (2 * STEP)
    return y, dx, slopes * bool(layer.learn)


@pytest.mark.slow
@rung
@pytest.mark.parametrize("batch", [3, 4])
def test_a_rung_computes_its_definition(cls, batch):
    """With any beta; an odd batch leaves LanesPool one sample for each thread."""
    for make, shape in cls.examples():
        layer = make()
        x, dy, dx0, y0 = arrays(layer, shape, batch)
        got = testing.run(layer, x, dy, backend="emu", beta_y=0.5, y0=y0, beta_dx=-2.0, dx0=dx0)
        y, dx, slopes = oracle(layer, x, dy)
        assert_close(got.y, y + 0.5 * y0, float32=2e-6, what=repr(layer))
        assert_close(got.dx, dx - 2 * dx0, float32=3e-6, what=repr(layer))
        assert_close(got.grads.mean, slopes[0], float32=1e-5, what=repr(layer))
        assert_close(got.grads.log_sigma, slopes[1], float32=1e-5, what=repr(layer))


@pytest.mark.sweep(2)
@rung
def test_a_rung_agrees_with_gaussian_pool_far_from_the_centre(cls):
    """The mean in a window's corner, where edges have few taps with much weight."""
    layer = cls((5, 4), (2, 1), (4, 3), mean=(1.8, -1.4), sigma=(0.7, 0.5))
    x, dy, *_ = arrays(layer, (2, 6, 5))
    twin = GaussianPool((5, 4), (2, 1), (4, 3), 1, (1.8, -1.4), (0.7, 0.5), layer.learn, edge=layer.edge)
    got, want = (testing.run(pool, x, dy, backend="emu") for pool in (layer, twin))
    for have, expected in ((got.y, want.y), (got.dx, want.dx), (got.grads.mean, want.grads.mean)):
        assert_close(have, expected, float32=1e-5)


def test_rungs_two_and_three_differ_at_edges_alone():
    layers = [cls(3, 1, 1, mean=0.4) for cls in (ladder.SeparablePool, ladder.ExactPool)]
    x, dy, *_ = arrays(layers[0], (2, 6, 5))
    whole, exact = (testing.run(layer, x, dy, backend="emu").y for layer in layers)
    assert_close(exact[:, 1:-1, 1:-1], whole[:, 1:-1, 1:-1], float32=1e-6)
    assert np.abs(exact - whole)[:, [0, -1]].min() > 1e-4


def test_several_kernels_are_as_many_branches():
    means, sigmas = [(0.5, -0.5), (-1, 0), (0, 2)], [(1, 2), (0.7, 0.7), (3, 1)]
    branches = Concat(*(ladder.MarchPool(5, 2, 2, *each) for each in zip(means, sigmas, strict=True)))
    layer = ladder.ManyPool(5, 2, 2, 3, means, sigmas)
    x, dy, *_ = arrays(layer, (2, 7, 6))
    apart, together = (testing.run(pool, x, dy, backend="emu") for pool in (branches, layer))
    assert_close(together.y, apart.y, float32=1e-6)
    assert_close(together.dx, apart.dx, float32=1e-6)
    for name in ("mean", "log_sigma"):
        each = [apart.grads[f"{j}/march_pool.{name}"] for j in range(3)]
        assert_close(together.grads[name], np.concatenate(each, axis=1), float32=1e-5)


def last_bits(cls, order):
    layer = cls(5, 1, 2, sigma=2.0)
    x, dy, *_ = arrays(layer, (1, 9, 8))
    return testing.run(layer, x, dy, backend=backends.get("emu", order=order)).dx.tobytes()


@pytest.mark.slow
@rung
def test_only_atomics_let_the_last_bits_depend_on_the_order(cls):
    """What docs/gaussian-pooling.md says of rungs 1 to 3, and the reason for rung 4."""
    orders = {last_bits(cls, order) for order in ("forward", "reversed", "shuffled")}
    assert (len(orders) > 1) is (cls in (ladder.NaivePool, ladder.SeparablePool, ladder.ExactPool))


@pytest.mark.sweep(2)
@rung
def test_a_net_s_first_layer_needs_no_dx(cls):
    layer = cls(3, 2, 1)
    x, dy, *_ = arrays(layer, (2, 5, 6))
    full = testing.run(layer, x, dy, backend="emu")
    net = Net(layer.clone(), x.shape[:3], 4, backend="emu")
    net.fprop(x)
    net.bprop(dy)
    for name in ("mean", "log_sigma"):
        np.testing.assert_array_equal(net.be.get(net.grads[f"{layer.stem()}.{name}"]), full.grads[name])


def test_gaps_between_windows_are_refused():
    with pytest.raises(LayerError, match="stride 4x2 exceeds the window 3x3"):
        ladder.MarchPool(3, (4, 2))

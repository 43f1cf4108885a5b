"""GaussianPool against its definition: 2-D windows one by one, not factorised; complex-step slopes."""

import numpy as np
import pytest
from close import assert_close
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minet.layers.gaussian_pool import GaussianPool
from minet.testing import run

STEP = 1e-40  # f(z + i*STEP).imag / STEP is the derivative up to rounding: nothing is subtracted


def weights(layer, mean, log_sigma, inside):
    """Weights (R, S) of one window, possibly complex; `inside` marks its pixels in the image."""
    (R, S), precision = layer.window.size, np.exp(-2 * log_sigma)
    r, s = np.mgrid[:R, :S]
    exponent = (
        -((r - (R - 1) / 2 - mean[0]) ** 2 * precision[0] + (s - (S - 1) / 2 - mean[1]) ** 2 * precision[1])
        / 2
    )
    if layer.normalize == "none":
        return np.exp(exponent) * inside
    counted = inside if layer.edge == "exact" else np.ones_like(inside)
    share = np.zeros_like(exponent)
    share[counted] = np.exp(exponent[counted] - exponent[counted].real.max())
    share = share / share.sum()
    return inside * (np.sqrt(share) if layer.normalize == "l2" else share)


def windows(layer, shape):
    """For each output (p, q): which of its window's pixels are in the image, and where they are."""
    (R, S), (sh, sw), (ph, pw) = layer.window[:3]
    _, P, Q = layer.out_shape(shape)
    _, H, W = shape
    for p in range(P):
        for q in range(Q):
            h, w = np.mgrid[p * sh - ph : p * sh - ph + R, q * sw - pw : q * sw - pw + S]
            inside = (h >= 0) & (h < H) & (w >= 0) & (w < W)
            yield p, q, inside, h[inside], w[inside]


def oracle(layer, x, dy, params):
    """y, dx and the gradients by the definition, in float64."""
    C, J = len(x), layer.kernels
    y, dx = np.zeros(dy.shape), np.zeros(x.shape)
    grads = {name: np.zeros(value.shape) for name, value in params.items()}
    for p, q, inside, h, w in windows(layer, x.shape[:3]):
        for c in range(C):
            for j in range(J):
                own = c if layer.per_channel else 0
                mean, log_sigma = params["mean"][own, j], params["log_sigma"][own, j]
                taps = weights(layer, mean, log_sigma, inside)[inside]
                y[j * C + c, p, q] = taps @ x[c, h, w]
                dx[c, h, w] += np.outer(taps, dy[j * C + c, p, q])
                dtaps = x[c, h, w] @ dy[j * C + c, p, q]
                for axis in range(2):
                    step = 1j * STEP * np.eye(2)[axis]
                    for name, moved in (
                        ("mean", (mean + step, log_sigma)),
                        ("log_sigma", (mean, log_sigma + step)),
                    ):
                        slope = weights(layer, *moved, inside)[inside].imag / STEP
                        grads[name][own, j, axis] += slope @ dtaps
    return y, dx, grads


def agrees(run, layer, shape, batch=2, seed=0, spread=1 / 3, single=1e-5):
    """Compare with the oracle; means lie up to about `spread` windows from the centre."""
    rng = np.random.default_rng(seed)
    x, dy = rng.normal(size=(*shape, batch)), rng.normal(size=(*layer.configure(shape), batch))
    sets = shape[0] if layer.per_channel else 1
    params = {
        "mean": rng.normal(size=(sets, layer.kernels, 2)) * np.array(layer.window.size) * spread,
        "log_sigma": rng.uniform(np.log(0.3), 1.5, size=(sets, layer.kernels, 2)),
    }
    got = run(layer, x, dy, params=params)
    params = {name: value.astype(got.y.dtype).astype(float) for name, value in params.items()}
    y, dx, grads = oracle(layer, x, dy, params)
    for name, (have, want) in {
        "y": (got.y, y),
        "dx": (got.dx, dx),
        **{n: (got.grads[n], grads[n]) for n in grads},
    }.items():
        assert_close(have, want, 1e-10, single, what=name)


@st.composite
def cases(draw):
    """A layer and an input shape: windows up to the padded image, any stride, any pad below the window."""
    axes = []
    for _ in range(2):
        size, window = draw(st.integers(1, 8)), draw(st.integers(1, 8))
        least = max(0, (window - size + 1) // 2)
        axes.append(
            (size, window, draw(st.integers(1, 5)), draw(st.integers(least, window - 1)) if window > 1 else 0)
        )
    (H, W), window, stride, pad = zip(*axes, strict=True)
    layer = GaussianPool(
        window,
        stride,
        pad,
        kernels=draw(st.integers(1, 3)),
        per_channel=draw(st.booleans()),
        normalize=draw(st.sampled_from(["sum", "l2", "none"])),
        edge=draw(st.sampled_from(["exact", "zero"])),
    )
    return layer, (draw(st.integers(1, 3)), H, W)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(cases(), st.integers(0, 2**32))
@example((GaussianPool((3, 11), (2, 5), (2, 10), kernels=2), (1, 4, 9)), 0)
def test_any_geometry(case, seed):
    agrees(run, *case, seed=seed)


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("kernels", [1, 2])
def test_blocks_of_a_lone_channel(run, stride, kernels):
    """Few channels are cut into blocks of rows, which leave no gap and count nothing twice."""
    agrees(run, GaussianPool(3, stride, 1, kernels=kernels), (1, 41, 5))


@pytest.mark.parametrize("batch", [1, 16, 37])
def test_batches(run, batch):
    """Rows of n shorter and longer than a SIMD register, and not a multiple of it."""
    agrees(run, GaussianPool(5, 1, 2, kernels=2), (2, 7, 6), batch)


@pytest.mark.parametrize("spread", [1, 4, 30])
@pytest.mark.parametrize("normalize", ["sum", "l2"])
@pytest.mark.parametrize("edge", ["exact", "zero"])
def test_means_outside_the_window(run, spread, normalize, edge):
    layer = GaussianPool((3, 4), (1, 2), (2, 1), kernels=2, normalize=normalize, edge=edge)
    agrees(run, layer, (2, 6, 7), spread=spread, single=1e-4)

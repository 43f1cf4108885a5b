"""GaussianPool against its definition: 2-D windows one by one, not factorised; complex-step slopes."""

import numpy as np
import pytest
from close import assert_close
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from minet import LayerError
from minet.layers.gaussian_pool import GaussianPool
from minet.testing import run

STEP = 1e-40  # f(z + i*STEP).imag / STEP is the derivative up to rounding: nothing is subtracted


def weights(layer, inside, mean, log_sigma, correlation=0.0):
    """Weights (R, S) of one window, possibly complex; `inside` marks its pixels in the image."""
    R, S = inside.shape
    r, s = np.mgrid[:R, :S]
    u = (r - (R - 1) / 2 - mean[0]) / np.exp(log_sigma[0])
    v = (s - (S - 1) / 2 - mean[1]) / np.exp(log_sigma[1])
    exponent = -(u**2 - 2 * correlation * u * v + v**2) / (2 * (1 - correlation**2))
    if layer.normalize == "none":
        return np.exp(exponent) * inside
    counted = inside if layer.edge == "exact" else np.ones_like(inside)
    share = np.zeros_like(exponent)
    share[counted] = np.exp(exponent[counted] - exponent[counted].real.max())
    share = share / share.sum()
    return inside * (np.sqrt(share) if layer.normalize == "l2" else share)


def windows(layer, shape):
    """For each output (p, q): which of its window's pixels are in the image, and where they are."""
    _, P, Q = layer.out_shape(shape)
    _, H, W = shape
    size, stride, pad, dilation = layer.window[:4] if layer.window else ((H, W), (1, 1), (0, 0), (1, 1))
    for p in range(P):
        for q in range(Q):
            taps = (k * stride[i] - pad[i] + np.arange(size[i]) * dilation[i] for i, k in enumerate((p, q)))
            h, w = np.meshgrid(*taps, indexing="ij")
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
                values = {name: value[own, j] for name, value in params.items()}
                taps = weights(layer, inside, **values)[inside]
                y[j * C + c, p, q] = taps @ x[c, h, w]
                dx[c, h, w] += np.outer(taps, dy[j * C + c, p, q])
                dtaps = x[c, h, w] @ dy[j * C + c, p, q]
                for name, value in values.items():
                    for at in np.ndindex(value.shape):
                        step = np.zeros(value.shape, complex)
                        step[at] = 1j * STEP
                        slope = weights(layer, inside, **values | {name: value + step})[inside].imag / STEP
                        grads[name][(own, j, *at)] += slope @ dtaps
    return y, dx, grads


def agrees(run, layer, shape, batch=2, seed=0, spread=1 / 3, single=1e-5):
    """Compare with the oracle; means lie up to about `spread` windows from the centre."""
    rng = np.random.default_rng(seed)
    x, dy = rng.normal(size=(*shape, batch)), rng.normal(size=(*layer.configure(shape), batch))
    sets = shape[0] if layer.per_channel else 1
    size = np.array(layer.window.size if layer.window else shape[1:])
    params = {
        "mean": rng.normal(size=(sets, layer.kernels, 2)) * size * spread,
        "log_sigma": rng.uniform(np.log(0.3), 1.5, size=(sets, layer.kernels, 2)),
    }
    if layer.shape == "full":
        params["correlation"] = rng.uniform(-0.9, 0.9, size=(sets, layer.kernels))
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
    """A layer and an input shape: windows up to the padded image, any stride, any pads below the window."""
    axes = []
    for _ in range(2):
        size, dilation = draw(st.integers(1, 8)), draw(st.sampled_from([1, 1, 2, 3]))
        window = draw(st.integers(1, 8 if dilation == 1 else 3))
        span = dilation * (window - 1) + 1
        before = draw(st.integers(0, span - 1))
        after = draw(st.integers(min(span - 1, max(0, span - size - before)), span - 1))
        axes.append((size, window, draw(st.integers(1, 5)), (before, after), dilation))
    (H, W), window, stride, pad, dilation = zip(*axes, strict=True)
    layer = GaussianPool(
        window,
        stride,
        pad,
        kernels=draw(st.integers(1, 3)),
        per_channel=draw(st.booleans()),
        normalize=draw(st.sampled_from(["sum", "l2", "none"])),
        edge=draw(st.sampled_from(["exact", "zero"])),
        dilation=dilation,
        ceil=draw(st.booleans()),
        shape=draw(st.sampled_from(["diagonal", "full"])),
    )
    shape = (draw(st.integers(1, 3)), H, W)
    try:
        layer.configure(shape)
    except LayerError as error:  # a spread window may straddle a small image
        assume("only padding" not in error.message and "does not fit" not in error.message)
        raise
    return layer, shape


@pytest.mark.slow
@settings(max_examples=100, deadline=None, derandomize=True)
@given(cases(), st.integers(0, 2**32))
@example((GaussianPool((3, 11), (2, 5), (2, 10), kernels=2), (1, 4, 9)), 0)
def test_any_geometry(case, seed):
    agrees(run, *case, seed=seed)


@pytest.mark.sweep(3)
@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("kernels", [1, 2])
def test_blocks_of_a_lone_channel(run, stride, kernels):
    """Few channels are cut into blocks of rows, which leave no gap and count nothing twice."""
    agrees(run, GaussianPool(3, stride, 1, kernels=kernels), (1, 41, 5))


@pytest.mark.parametrize("batch", [1, 16, 37])
def test_batches(run, batch):
    """Rows of n shorter and longer than a SIMD register, and not a multiple of it."""
    agrees(run, GaussianPool(5, 1, 2, kernels=2), (2, 7, 6), batch)


@pytest.mark.sweep(3)
@pytest.mark.parametrize("spread", [1, 4, 30])
@pytest.mark.parametrize("normalize", ["sum", "l2"])
@pytest.mark.parametrize("edge", ["exact", "zero"])
def test_means_outside_the_window(run, spread, normalize, edge):
    layer = GaussianPool((3, 4), (1, 2), (2, 1), kernels=2, normalize=normalize, edge=edge)
    agrees(run, layer, (2, 6, 7), spread=spread, single=1e-4)


LONG = [
    GaussianPool((1, 41), (1, 16), kernels=2),
    GaussianPool((41, 1), (16, 1), ((40, 0), (0, 0)), kernels=2, normalize="peak"),  # causal
    GaussianPool((17, 2), (1, 2), (16, 1), kernels=5),  # more kernels than a pass takes at once
    GaussianPool((2, 3), 1, 1, kernels=9, per_channel=False),  # more than a march takes
    GaussianPool((3, 2), (2, 3), (3, 2), dilation=(2, 3), kernels=2, edge="zero"),
    GaussianPool((2, 3), 4, 2, dilation=(6, 3), ceil=True),  # a stride and a dilation with a common factor
]


@pytest.mark.sweep(4)
@pytest.mark.parametrize("layer", LONG, ids=repr)
@pytest.mark.parametrize("batch", [1, 4])
def test_long_and_spread_windows(run, layer, batch):
    """On a GPU a pass along each axis, in the order that makes less work."""
    shape = (2, 43, 9) if layer.window.size[0] > layer.window.size[1] else (2, 9, 43)
    agrees(run, layer, shape, batch, single=1e-4)


@pytest.mark.parametrize("shape", ["diagonal", "full"])
@pytest.mark.parametrize("per_channel", [True, False])
def test_readouts_of_the_whole_map(run, shape, per_channel):
    agrees(
        run, GaussianPool(None, kernels=5, shape=shape, per_channel=per_channel), (3, 6, 7), 4, single=1e-4
    )


@pytest.mark.sweep(5)
@pytest.mark.parametrize("kernels", [1, 5])
@pytest.mark.parametrize("normalize", ["sum", "l2", "none"])
@pytest.mark.parametrize("edge", ["exact", "zero"])
def test_tilted_gaussians(run, kernels, normalize, edge):
    layer = GaussianPool((4, 3), (2, 1), (3, 1), kernels, normalize=normalize, edge=edge, shape="full")
    agrees(run, layer, (2, 6, 7), 2, single=1e-4)


def test_without_correlation_the_full_shape_is_the_diagonal_one(run):
    x = np.random.default_rng(0).normal(size=(2, 7, 6, 4))
    layers = [GaussianPool(3, 2, 1, kernels=3, shape=shape) for shape in ("diagonal", "full")]
    dy = np.random.default_rng(1).normal(size=(6, 4, 3, 4))
    diagonal, full = (run(layer, x, dy) for layer in layers)
    for name in ("y", "dx"):
        assert_close(getattr(full, name), getattr(diagonal, name), float32=1e-5, what=name)
    for name in ("mean", "log_sigma"):
        assert_close(full.grads[name], diagonal.grads[name], float32=1e-4, what=name)


def test_a_tilted_gaussian_by_hand(run):
    """With s = 1 and rho = 0.5 the exponent is -(u^2 - uv + v^2) / 1.5."""
    x = np.zeros((1, 3, 3, 1))
    x[0, 0, 0] = x[0, 0, 1] = 1  # u and v are -1 -1, and -1 0
    layer = GaussianPool(3, sigma=1.0, shape="full", correlation=0.5, normalize="peak")
    assert_close(run(layer, x).y, np.full((1, 1, 1, 1), 2 * np.exp(-2 / 3)))
    x[0, 0, 0], x[0, 0, 2] = 0, 1  # -1 0, and -1 1
    assert_close(run(layer, x).y, np.full((1, 1, 1, 1), np.exp(-2 / 3) + np.exp(-2)))


def test_a_far_tilted_gaussian_keeps_its_digits(run):
    """Numbers cancel far from the mean: about 5e-6 would be lost in float32."""
    layer = GaussianPool(5, 2, 2, mean=(12.0, -12.0), sigma=0.5, shape="full", correlation=0.8)
    x = np.random.default_rng(2).uniform(0.5, 1, (1, 8, 9, 4))
    params = {name: param.init for name, param in layer.params((1, 8, 9)).items()}
    params = {
        name: np.broadcast_to(value, (1, *value.shape[-2:]))
        for name, value in params.items()
        if name != "correlation"
    }
    y, _, _ = oracle(
        layer, x, np.zeros((*layer.out_shape(x.shape[:3]), 4)), params | {"correlation": np.full((1, 1), 0.8)}
    )
    assert_close(run(layer, x).y, y, float32=1e-6)

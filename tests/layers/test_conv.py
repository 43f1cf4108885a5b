"""Conv against values worked out by hand, SciPy's correlation, and loops over windows in float64."""

import numpy as np
import pytest
from close import assert_close
from scipy.signal import correlate2d

import minet.loops.conv.conv
from minet import LayerError, Net
from minet.backends.cpu import CPU
from minet.layers import Conv
from minet.testing import layer_checks, run

test_conformance = pytest.mark.sweep(64)(layer_checks(Conv))


def windows(x, y, size, stride, pad, dilation):
    """Every tap of every window that lies in the image: output (p, q), tap (r, s), input (h, w)."""
    for p, q, r, s in np.ndindex(*y.shape[1:3], *size):
        h = p * stride[0] - pad[0] + r * dilation[0]
        w = q * stride[1] - pad[1] + s * dilation[1]
        if 0 <= h < x.shape[1] and 0 <= w < x.shape[2]:
            yield p, q, r, s, h, w


def oracle(x, dy, weight, geometry):
    """y without bias, dx and dw, tap by tap."""
    y, dx, dw = np.zeros(dy.shape), np.zeros(x.shape), np.zeros(weight.shape)
    for p, q, r, s, h, w in windows(x, dy, *geometry[:4]):
        y[:, p, q] += weight[:, :, r, s] @ x[:, h, w]
        dx[:, h, w] += weight[:, :, r, s].T @ dy[:, p, q]
        dw[:, :, r, s] += dy[:, p, q] @ x[:, h, w].T
    return y, dx, dw


def test_by_hand(run):
    x = np.arange(1.0, 10).reshape(1, 3, 3, 1)
    dy = np.array([[1.0, 10], [100, 1000]]).reshape(1, 2, 2, 1)
    out = run(Conv(1, 2), x, dy, params={"w": np.array([[[[1, 2], [3, 4]]]]), "b": [0.5]})
    # The window is not flipped: 1*1 + 2*2 + 4*3 + 5*4 = 37 at the top left.
    np.testing.assert_array_equal(out.y[0, :, :, 0], [[37.5, 47.5], [67.5, 77.5]])
    np.testing.assert_array_equal(out.dx[0, :, :, 0], [[1, 12, 20], [103, 1234, 2040], [300, 3400, 4000]])
    np.testing.assert_array_equal(out.grads.w[0, 0], [[5421, 6532], [8754, 9865]])
    np.testing.assert_array_equal(out.grads.b, [1111])


def test_padding_is_zeros_and_dilation_spreads_the_taps(run):
    x = np.arange(1.0, 6).reshape(1, 1, 5, 1)
    w = np.array([1.0, 10, 100]).reshape(1, 1, 1, 3)
    out = run(Conv(1, (1, 3), pad=(0, 2), dilation=(1, 2)), x, params={"w": w})
    np.testing.assert_array_equal(out.y.ravel(), [310, 420, 531, 42, 53])


def test_pads_of_each_side_by_hand(run):
    x = np.arange(1.0, 5).reshape(1, 2, 2, 1)
    w = np.array([[1.0, 10], [100, 1000]]).reshape(1, 1, 2, 2)
    out = run(Conv(1, 2, pad=((1, 0), (0, 2))), x, params={"w": w})
    np.testing.assert_array_equal(out.y[0, ..., 0], [[2100, 200, 0], [4321, 402, 0]])
    # Of the window's one pixel more than the pad has on both sides, "same" puts the last behind the image.
    out = run(Conv(1, 2, pad="same"), x, params={"w": w})
    np.testing.assert_array_equal(out.y[0, ..., 0], [[4321, 402], [43, 4]])


def in_torch(x, w, b, dy, geometry, groups=1):
    """y, dx, dw and db by PyTorch's conv2d in float64; `geometry` is a Window."""
    torch = pytest.importorskip("torch")
    values = [torch.tensor(np.ascontiguousarray(a)) for a in (x.transpose(3, 0, 1, 2), w, b)]
    images, weights, biases = (value.requires_grad_() for value in values)
    (top, left), (below, right) = geometry.pad, geometry.behind
    padded = torch.nn.functional.pad(images, (left, right, top, below))
    y = torch.nn.functional.conv2d(padded, weights, biases, geometry.stride, 0, geometry.dilation, groups)
    y.backward(torch.tensor(np.ascontiguousarray(dy.transpose(3, 0, 1, 2))))
    images_first = (y.detach(), images.grad)
    return *(a.numpy().transpose(1, 2, 3, 0) for a in images_first), weights.grad.numpy(), biases.grad.numpy()


def compare_with_torch(layer, shape, backend, beta=0.0, seed=6):
    """Compare y and all gradients with PyTorch's, at a beta."""
    draw, groups = np.random.default_rng(seed), layer.groups
    out_shape = (*layer.out_shape(shape[:3]), shape[3])
    w = draw.standard_normal((layer.maps, shape[0] // groups, *layer.window.size))
    x, y0, dy = (draw.standard_normal(size) for size in (shape, out_shape, out_shape))
    b, dx0 = draw.standard_normal(layer.maps), draw.standard_normal(shape)
    y, dx, dw, db = in_torch(x, w, b, dy, layer.window, groups)
    params = {"w": w, "b": b} if layer.bias else {"w": w}
    dtype, tol = ("float64", 1e-11) if backend == "cpu" else ("float32", 2e-5)
    firsts = {"y0": y0, "dx0": dx0} if beta else {}  # at beta 0 the destinations of `run` hold NaN
    where = {"dtype": dtype, "backend": backend, "beta_y": beta, "beta_dx": beta}
    out = run(layer, x, dy, params=params, **where, **firsts)
    y -= 0 if layer.bias else b[:, None, None, None]
    np.testing.assert_allclose(out.y, beta * y0 + y, rtol=tol, atol=10 * tol)
    np.testing.assert_allclose(out.dx, beta * dx0 + dx, rtol=tol, atol=10 * tol)
    np.testing.assert_allclose(out.grads.w, dw, rtol=tol, atol=50 * tol)
    if layer.bias:
        np.testing.assert_allclose(out.grads.b, db, rtol=tol, atol=50 * tol)


@pytest.mark.sweep(4)
@pytest.mark.parametrize("beta", [0.0, -0.5])
@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        ({"window": 3, "pad": ((2, 0), (0, 1))}, (3, 5, 6, 3)),
        ({"window": (2, 3), "pad": ((0, 3), (4, 0)), "stride": (1, 2)}, (3, 4, 5, 4)),
        ({"window": 3, "pad": ((5, 0), (0, 6)), "stride": 2}, (2, 3, 3, 2)),  # windows of padding alone
        ({"window": (4, 3), "pad": "same", "dilation": (1, 2)}, (3, 5, 6, 1)),  # one flat row
        ({"window": (3, 2), "pad": "same"}, (40, 4, 6, 16)),  # rows
        ({"window": 3, "pad": ((0, 1), (1, 0))}, (48, 5, 7, 16)),  # in pairs
        ({"window": 1, "pad": ((0, 0), (0, 1))}, (3, 3, 4, 2)),  # not all pixels in one row
    ],
    ids=str,
)
def test_pads_of_each_side_against_torch(settings, shape, beta, backend):
    compare_with_torch(Conv(33, **settings), shape, backend, beta)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize(
    ("window", "dilation", "equal"), [(3, 1, 1), ((2, 5), 1, ((0, 1), (2, 2))), (4, 3, ((4, 5), (4, 5)))]
)
def test_same_is_pytorchs_same(window, dilation, equal):
    torch = pytest.importorskip("torch")
    layer, numbers = (Conv(2, window, pad=pad, dilation=dilation) for pad in ("same", equal))
    assert layer.out_shape((3, 4, 9)) == (2, 4, 9)
    x, w = np.random.default_rng(7).standard_normal((3, 4, 9, 1)), np.zeros((2, 3, *layer.window.size))
    w[:] = np.arange(w.size).reshape(w.shape)
    y = run(layer, x, params={"w": w}).y
    np.testing.assert_array_equal(y, run(numbers, x, params={"w": w}).y)
    images = torch.tensor(x.transpose(3, 0, 1, 2).copy())
    theirs = torch.nn.functional.conv2d(images, torch.tensor(w), padding="same", dilation=dilation)
    np.testing.assert_allclose(y[..., 0], theirs[0], rtol=1e-12, atol=1e-11)


def test_scipy(run):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 6, 7, 1)), rng.standard_normal((3, 2, 3, 2))
    out = run(Conv(3, (3, 2), pad=(2, 1), bias=False), x, params={"w": w})
    padded = np.pad(x[..., 0], ((0, 0), (2, 2), (1, 1)))
    for k in range(3):
        expected = sum(correlate2d(padded[c], w[k, c], mode="valid") for c in range(2))
        assert_close(out.y[k, ..., 0], expected)


def test_what_is_not_finite_stays_in_its_windows(run):
    """In y those that hold it, in dx those of its delta; padding is no number to multiply with."""
    x, dy = np.ones((2, 5, 6, 4)), np.ones((3, 5, 6, 4))
    x[1, 0, 2, 3], x[0, 4, 5, 1], dy[2, 3, 3, 0] = np.nan, np.inf, np.nan
    out = run(Conv(3, 3, pad=1, init=1.0), x, dy)
    y, dx = np.ones(dy.shape, bool), np.ones(x.shape, bool)
    y[:, :2, 1:4, 3] = y[:, 3:, 4:, 1] = dx[:, 2:5, 2:5, 0] = False
    np.testing.assert_array_equal(np.isfinite(out.y), y)
    assert (out.y[:, 3:, 4:, 1] == np.inf).all()
    np.testing.assert_array_equal(np.isfinite(out.dx), dx)
    np.testing.assert_array_equal(np.isnan(out.grads.b), [False, False, True])
    assert np.isnan(out.grads.w[:, 1, 1, 1]).all() and np.isinf(out.grads.w[:2, 0, 1, 1]).all()
    assert np.isnan(out.grads.w[2]).all()


@pytest.mark.slow
def test_long_sums_keep_float32s_digits(run):
    """Of 300,000 terms, of which one running sum in float32 would lose 1e-3."""
    x = np.full((1, 300, 100, 10), 0.1)
    out = run(Conv(2, 1, init=1.0), x, np.ones((2, 300, 100, 10)))
    np.testing.assert_allclose(out.grads.w.ravel(), float(out.y.dtype.type(0.1)) * x.size, rtol=1e-5)
    np.testing.assert_array_equal(out.grads.b, x.size)


@pytest.mark.parametrize(
    "settings",
    [
        {"window": 3, "pad": 1},
        {"window": 5, "pad": 2},
        {"window": 3, "stride": 2, "pad": (1, 0)},
        {"window": (2, 1), "stride": (3, 4)},  # rows and columns between windows are skipped
        {"window": 1},
        {"window": 1, "stride": 2},
        {"window": 1, "pad": 1},
        {"window": (3, 2), "dilation": (2, 3), "pad": (1, 2)},
        {"window": 3, "dilation": 2, "stride": (1, 3), "pad": 3},
        {"window": (7, 1), "pad": (0, 3)},  # one output row, columns of padding only
    ],
    ids=str,
)
def test_oracle(settings, backend):
    layer = Conv(4, **settings)
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((3, 7, 9, 5)), rng.standard_normal((4, 3, *layer.window.size))
    b = np.arange(4.0)
    shape = (*layer.out_shape((3, 7, 9)), 5)
    dy, y0, dx0 = rng.standard_normal(shape), rng.standard_normal(shape), rng.standard_normal(x.shape)
    y, dx, dw = oracle(x, dy, w, layer.window)
    y += b[:, None, None, None]
    for dtype, tol in (("float64", 1e-12), ("float32", 2e-5)):
        if dtype == "float64" and backend != "cpu":
            continue
        for beta in (0.0, 1.0, -0.5):
            # At beta 0 the destinations of `run` hold NaN.
            firsts = {"y0": y0, "dx0": dx0} if beta else {}
            where = {"dtype": dtype, "backend": backend, "beta_y": beta, "beta_dx": beta}
            out = run(layer, x, dy, params={"w": w, "b": b}, **where, **firsts)
            np.testing.assert_allclose(out.y, beta * y0 + y, rtol=tol, atol=10 * tol)
            np.testing.assert_allclose(out.dx, beta * dx0 + dx, rtol=tol, atol=10 * tol)
            np.testing.assert_allclose(out.grads.w, dw, rtol=tol, atol=50 * tol)
            np.testing.assert_allclose(out.grads.b, dy.sum((1, 2, 3)), rtol=tol, atol=10 * tol)


@pytest.mark.parametrize("seed", range(30))
def test_any_geometry(seed):
    """Every path that a size may take: rows, one flat row, matrix products; whole and partial tiles."""
    draw = np.random.default_rng(seed)
    size, dilation = draw.integers(1, 5, 2), draw.integers(1, 3, 2)
    stride = draw.integers(1, 4, 2) if seed % 2 else np.ones(2, int)
    pad, reach = draw.integers(0, size), dilation * (size - 1) + 1
    C, K, N = (int(draw.choice(sizes)) for sizes in ([1, 3, 17, 40], [1, 8, 9, 33, 70], [1, 2, 3, 16, 33]))
    H, W = (int(n) for n in np.maximum(draw.integers(1, 12, 2), reach - 2 * pad))
    layer = Conv(K, *(tuple(map(int, pair)) for pair in (size, stride, pad, dilation)), bias=False)
    x, w = draw.standard_normal((C, H, W, N)), draw.standard_normal((K, C, *layer.window.size))
    dy = draw.standard_normal((*layer.out_shape((C, H, W)), N))
    y, dx, dw = oracle(x, dy, w, layer.window)
    out = run(layer, x, dy, params={"w": w})
    for got, expected in ((out.y, y), (out.dx, dx), (out.grads.w, dw)):
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 5])
def test_a_sample_does_not_depend_on_the_batch(batch):
    x = np.random.default_rng(2).standard_normal((2, 5, 6, 8))
    layer = Conv(3, 3, stride=2, pad=1)
    whole = run(layer, x)
    np.testing.assert_allclose(run(layer, x[..., :batch]).y, whole.y[..., :batch], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("batch", [1, 33, 130])
@pytest.mark.parametrize("geometry", [(3, 1, 1, 1), (3, 2, 0, 1), ((2, 3), 1, (1, 2), 2), (1, 1, 0, 1)])
def test_sizes_beyond_every_block(geometry, batch):
    layer = Conv(70, *geometry)
    rng = np.random.default_rng(3)
    x = rng.standard_normal((90, 4, 5, batch))
    dy = rng.standard_normal((*layer.out_shape((90, 4, 5)), batch))
    w, b = rng.standard_normal((70, 90, *layer.window.size)), rng.standard_normal(70)
    out = run(layer, x, dy, params={"w": w, "b": b}, beta_dx=0.5, dx0=x)
    y, dx, dw = oracle(x, dy, w, layer.window)
    np.testing.assert_allclose(out.y, y + b[:, None, None, None], rtol=1e-11, atol=1e-10)
    np.testing.assert_allclose(out.dx, 0.5 * x + dx, rtol=1e-11, atol=1e-10)
    np.testing.assert_allclose(out.grads.w, dw, rtol=1e-11, atol=1e-10)


def test_a_first_layer_computes_no_dx(monkeypatch):
    monkeypatch.setattr(minet.loops.conv.conv, "conv_dx", None)
    net = Net(Conv(2, 3), (3, 4, 5), 2)
    x, dx = np.ones((2, 3, 4, 5, 2), np.float32)
    net.fprop(x)
    net.bprop(net.dy)
    with pytest.raises(TypeError):
        net.graph.bprop(x, net.dy, dx)


def test_the_cpu_needs_no_scratch():
    layer = Conv(8, 3)
    layer.be = CPU()
    assert not layer.state((3, 64, 64), (8, 62, 62))


def test_parameters():
    params = Conv(8, (3, 2)).params((5, 9, 9))
    assert params["w"].shape == (8, 5, 3, 2) and params["w"].decay
    assert params["b"].shape == (8,) and not params["b"].decay
    assert list(Conv(8, 3, bias=False).params((5, 9, 9))) == ["w"]
    net = Net([Conv(64, 5)], (32, 5, 5), 1)
    assert net.params["0/conv.w"].std() == pytest.approx((2 / (32 * 25)) ** 0.5, rel=0.02)  # He
    assert not net.params["0/conv.b"].any()
    assert (Net([Conv(2, 1, init=0.5)], (3, 2, 2), 1).params["0/conv.w"] == 0.5).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"maps": 0}, "maps must be a whole number of at least 1, got 0"),
        ({"maps": 2.5}, "maps must be a whole number of at least 1, got 2.5"),
        ({"maps": True}, "maps must be"),
        ({"window": 0}, "window must be"),
        ({"window": (3, 3, 3)}, "window must be"),
        ({"stride": 0}, "stride must be"),
        ({"pad": -1}, "pad must be"),
        ({"pad": ((1, 2), (0, -1))}, "pad must be"),
        ({"pad": "full"}, "pad must be"),
        ({"pad": "same", "stride": 2}, 'pad="same" needs a stride of 1, got 2x2'),
        ({"dilation": "2"}, "dilation must be"),
        ({"groups": 0}, "groups must be a whole number of at least 1, got 0"),
        ({"groups": 1.5}, "groups must be a whole number of at least 1, got 1.5"),
        ({"bias": "no"}, "bias must be True or False, got 'no'"),
    ],
    ids=str,
)
def test_bad_settings(settings, message):
    with pytest.raises(LayerError, match=message):
        Conv(**{"maps": 2, "window": 3} | settings)


def test_a_window_that_does_not_fit():
    with pytest.raises(LayerError, match=r"window 3x3 spread by dilation 2 does not fit W=4 with pad 0"):
        Conv(2, 3, dilation=(1, 2)).configure((1, 4, 4))

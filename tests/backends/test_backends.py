"""The backends' arithmetic, compared with plain NumPy and loops."""

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minet import Layer, LayerError, backends
from minet.backends import gpu, launcher
from minet.core.window import Window
from minet.layers import all_layers
from minet.testing.harness import Case, Rig

BETAS = (0.0, 1.0, -0.5)
KINDS = [
    ("cpu", "float32"),
    ("cpu", "float64"),
    ("emu", "float32"),
    pytest.param(("cuda", "float32"), marks=pytest.mark.gpu),
]
EXACT = [("cpu", "float64"), *KINDS[2:]]  # for sums of whole numbers, which float32 does not round


def backend(kind):
    name, dtype = kind
    if why := backends.missing(name):
        pytest.skip(why)
    return backends.get(name, dtype)


def label(kind):
    return "-".join(kind)


@pytest.fixture(params=KINDS, ids=label)
def be(request):
    return backend(request.param)


def numbers(shape, dtype, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def close(got, expected, dtype, terms=1):
    tol = 1e-5 if np.dtype(dtype) == np.float32 else 1e-12
    np.testing.assert_allclose(got, expected, rtol=tol, atol=tol * (10 + terms**0.5))


def own(be, values):
    """A copy of the values in native memory."""
    return be.array(np.array(values, be.dtype))


# -- memory -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("be", KINDS[:3], ids=label, indirect=True)
def test_arrays_of_the_host(be):
    for array in (be.empty((3, 5)), be.zeros((1,)), be.empty((2, 7), "int8")):
        assert array.ctypes.data % 64 == 0 and array.flags.c_contiguous
    x = be.array([[1, 2], [3, 4]])
    assert be.array(x) is x and be.get(x) is x
    assert be.array(x.T).flags.c_contiguous


def test_arrays(be):
    assert be.zeros((3, 5)).dtype == be.dtype and not be.get(be.zeros((3, 5))).any()
    assert be.empty((2,), "int8").dtype == np.int8
    x = be.array([[1, 2], [3, 4]])
    assert x.dtype == be.dtype and be.get(x).tolist() == [[1, 2], [3, 4]]
    be.copy(np.array([[5, 6], [7, 8]]), x)
    assert be.get(x).tolist() == [[5, 6], [7, 8]]
    be.copy(x, y := be.zeros((2, 2)))
    assert be.get(y).tolist() == [[5, 6], [7, 8]]
    be.fill(x, 2.5)
    assert (be.get(x) == 2.5).all()


@pytest.mark.parametrize("place", [0, 13, 19])
def test_finite(be, place):
    x = np.zeros((4, 5))
    assert be.sum_is_finite(own(be, x))
    for bad in (np.nan, np.inf, -np.inf):
        x.flat[place] = bad
        assert not be.sum_is_finite(own(be, x))


# -- matrices ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("sliced", [False, True])
@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("alpha", [1.0, 0.5, -2.0])
@pytest.mark.parametrize("trans", ["nn", "nt", "tn", "tt"])
def test_gemm(be, trans, alpha, beta, sliced):
    # The last two exceed any block of the kernels, with a remainder in every direction.
    sizes = (5, 17, 4), (1, 9, 3), (6, 1, 2), (3, 4, 1), (8, 32, 16), (70, 300, 1100), (70, 140, 1300)
    for m, n, k in sizes:
        a = numbers((m, k) if trans[0] == "n" else (k, m), be.dtype)
        b = numbers((k, n) if trans[1] == "n" else (n, k), be.dtype, 1)
        before = numbers((m, n), be.dtype, 2) if beta else np.full((m, n), np.nan, be.dtype)
        around = np.full((m, n + 5), 77, be.dtype)
        around[:, 2 : n + 2] = before
        canvas = own(be, around if sliced else before)
        given = own(be, a), own(be, b)
        be.gemm(*given, canvas[:, 2 : n + 2] if sliced else canvas, alpha, beta, trans)
        op_a, op_b = a.T if trans[0] == "t" else a, b.T if trans[1] == "t" else b
        expected = alpha * (op_a.astype(float) @ op_b)
        out = be.get(canvas)
        if sliced:
            assert (out[:, :2] == 77).all() and (out[:, n + 2 :] == 77).all()
            out = out[:, 2 : n + 2]
        close(out, expected + beta * before.astype(float) if beta else expected, be.dtype, k)
        assert (be.get(given[0]) == a).all() and (be.get(given[1]) == b).all()


def test_gemm_takes_column_slices(be):
    a, b = numbers((4, 9), be.dtype), numbers((6, 11), be.dtype, 1)
    x, y = own(be, a), own(be, b)
    be.gemm(x[:, 1:7], y[:, 3:8], out := be.zeros((4, 5)))
    close(be.get(out), a[:, 1:7].astype(float) @ b[:, 3:8], be.dtype)
    be.gemm(x[:, 2:7], y[:, 3:8], wide := be.zeros((4, 6)), trans="nt")
    close(be.get(wide), a[:, 2:7].astype(float) @ b[:, 3:8].T, be.dtype)


@pytest.mark.parametrize("trans", ["nn", "nt"])
def test_gemm_gives_the_same_bits_on_one_thread(trans):
    be = backends.get("cpu")
    a, b = numbers((70, 3000), np.float32), numbers((3000, 200), np.float32, 1)
    b = b if trans == "nn" else np.ascontiguousarray(b.T)
    be.gemm(a, b, many := be.empty((70, 200)), trans=trans)
    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        be.gemm(a, b, one := be.empty((70, 200)), trans=trans)
    finally:
        numba.set_num_threads(threads)
    np.testing.assert_array_equal(one, many)


def test_gemm_propagates_nan(be):
    a = be.array([[1.0, np.nan]])
    be.gemm(a, be.zeros((2, 3)), out := be.zeros((1, 3)))
    assert np.isnan(be.get(out)).all()


@pytest.mark.parametrize("alpha", [1.0, -2.0])
@pytest.mark.parametrize("beta", BETAS)
def test_axpby(be, alpha, beta):
    x = numbers((2, 3, 101), be.dtype)
    y = numbers(x.shape, be.dtype, 1) if beta else np.full(x.shape, np.nan, be.dtype)
    expected = alpha * x.astype(float) + (beta * y.astype(float) if beta else 0)
    into, out = own(be, x), own(be, y)
    be.axpby(alpha, into, beta, out)
    close(be.get(out), expected, be.dtype)
    assert (be.get(into) == x).all()


@pytest.mark.parametrize("length", [1, 17, 301])
@pytest.mark.parametrize("beta", BETAS)
def test_sum_rows(be, beta, length):
    a = numbers((5, length + 23), be.dtype)
    out = numbers((5,), be.dtype, 1) if beta else np.full((5,), np.nan, be.dtype)
    part = slice(3, 3 + length)
    expected = a[:, part].astype(float).sum(1) + (beta * out.astype(float) if beta else 0)
    be.sum_rows(own(be, a)[:, part], out := own(be, out), beta)
    close(be.get(out), expected, be.dtype, length)


def test_sum_rows_keeps_the_digits_of_float32(be):
    a = np.full((2, 300_000), 0.1, np.float32)  # one running sum in float32 would be off by 1e-3
    be.sum_rows(own(be, a), out := be.zeros((2,)), 0.0)
    np.testing.assert_allclose(be.get(out), a.astype(float).sum(1), rtol=1e-6)


@pytest.mark.parametrize("length", [2 * gpu.CHUNK - 1, 2 * gpu.CHUNK, 3 * gpu.CHUNK + 1])
def test_sum_rows_in_shares_takes_each_term_once(be, length):
    a = np.zeros((3, length + 2))
    a[:, 1:-1] = np.arange(length) % 7
    a[:, [0, -1]] = np.nan  # next to the rows
    be.sum_rows(own(be, a)[:, 1:-1], out := own(be, [1, 2, 3]), beta=2.0)
    assert be.get(out).tolist() == (2 * np.array([1, 2, 3]) + a[0, 1:-1].sum()).tolist()


def test_add_bias(be):
    y = own(be, np.ones((3, 308)))
    be.add_bias(y[:, 2:307], be.array([10, 20, 30]))
    assert be.get(y).tolist() == [[1, 1] + 305 * [1 + b] + [1] for b in (10, 20, 30)]


# -- a step of the solver ---------------------------------------------------------------------------


@pytest.mark.parametrize("bounds", [None, (None, 0.1), (-0.2, None), (-0.2, 0.1)])
@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_step(be, nesterov, bounds):
    w, g, v = numbers((3, 3, 101), be.dtype)
    g[::7] = np.nan
    held = [own(be, a) for a in (w, g, v)]
    be.sgd_step(*held, lr=0.1, momentum=0.9, decay=0.01, nesterov=nesterov, bounds=bounds)
    slope = g + 0.01 * w.astype(float)
    velocity = 0.9 * v + slope
    low, high = bounds or (None, None)
    value = w - 0.1 * (slope + 0.9 * velocity if nesterov else velocity)
    expected = np.clip(value, -np.inf if low is None else low, np.inf if high is None else high)
    assert np.isnan(expected[::7]).all()  # a bound must not hide a NaN
    for array, wanted in zip(held, (expected, g, velocity), strict=True):
        close(be.get(array), wanted, be.dtype)


# -- windows ----------------------------------------------------------------------------------------


@st.composite
def geometries(draw):
    """An image shape (C, H, W, N), and size, stride, pad and dilation of a window that fits."""
    pair = lambda low, high: st.tuples(st.integers(low, high), st.integers(low, high))  # noqa: E731
    size, stride, pad, dilation = draw(pair(1, 4)), draw(pair(1, 4)), draw(pair(0, 3)), draw(pair(1, 3))
    h, w = (
        draw(st.integers(max(1, d * (r - 1) + 1 - 2 * p), 11))
        for r, p, d in zip(size, pad, dilation, strict=True)
    )
    return (draw(st.integers(1, 2)), h, w, draw(st.integers(1, 3))), (size, stride, pad, dilation)


def unrolled(x, geometry):
    """The im2col of a whole image, (C, R, S, P, Q, N), by slicing the padded image."""
    (R, S), (u, v), (i, j), (d, e) = geometry
    padded = np.pad(x, ((0, 0), (i, i), (j, j), (0, 0)))
    P, Q = (padded.shape[1] - d * (R - 1) - 1) // u + 1, (padded.shape[2] - e * (S - 1) - 1) // v + 1
    col = np.empty((len(x), R, S, P, Q, x.shape[3]), x.dtype)
    for r, s in np.ndindex(R, S):
        col[:, r, s] = padded[:, d * r : d * r + u * (P - 1) + 1 : u, e * s : e * s + v * (Q - 1) + 1 : v]
    return col


def row_ranges(P, step):
    return [(p, min(p + step, P)) for p in range(0, P, step)]


def few(kind):
    """Few examples, as the emulator compiles each geometry."""
    examples = 80 if kind == ("cpu", "float64") else 8
    return settings(deadline=None, max_examples=examples, database=None, derandomize=True)


@pytest.mark.parametrize("kind", EXACT, ids=label)
def test_im2col(kind):
    be = backend(kind)

    @few(kind)
    @given(geometries(), st.integers(1, 9))
    def unrolls(case, step):
        shape, geometry = case
        x = 1 + np.arange(np.prod(shape)).reshape(shape)
        expected = unrolled(x, geometry)
        for p0, p1 in row_ranges(expected.shape[3], step):
            part = expected[:, :, :, p0:p1].reshape(np.prod(expected.shape[:3]), -1)
            col = own(be, np.full(part.shape, np.nan))
            be.im2col(own(be, x), col, Window(*geometry), (p0, p1))
            np.testing.assert_array_equal(be.get(col), part)

    unrolls()


@pytest.mark.parametrize("kind", EXACT, ids=label)
def test_col2im_is_the_transpose_and_beta_applies_to_each_row_once(kind):
    be = backend(kind)

    @few(kind)
    @given(geometries(), st.integers(1, 9), st.sampled_from(BETAS))
    def adds(case, step, beta):
        shape, geometry = case
        source = unrolled(1 + np.arange(np.prod(shape)).reshape(shape), geometry)  # where col is from
        col = 1.0 + np.arange(source.size).reshape(source.shape)
        taken = np.bincount(source.ravel(), weights=col.ravel(), minlength=1 + np.prod(shape))[1:]
        dx0 = np.arange(np.prod(shape), dtype=float).reshape(shape) if beta else np.full(shape, np.nan)
        dx = own(be, dx0)
        for p0, p1 in row_ranges(source.shape[3], step):
            part = col[:, :, :, p0:p1].reshape(np.prod(source.shape[:3]), -1)
            be.col2im(own(be, part), dx, Window(*geometry), (p0, p1), beta)
        taken = taken.reshape(shape)
        np.testing.assert_array_equal(be.get(dx), taken + beta * dx0 if beta else taken)

    adds()


@pytest.mark.parametrize("step", [1, 2, 4])
@pytest.mark.parametrize(
    "geometry",
    [
        ((3, 3), (1, 1), (1, 1), (1, 1)),
        ((3, 2), (2, 1), (2, 3), (2, 3)),  # dilated: rows of dx between the taps
        ((2, 3), (3, 4), (0, 1), (1, 1)),  # rows and columns between windows
        ((4, 1), (2, 2), (3, 0), (1, 1)),
    ],
    ids=str,
)
def test_windows_in_blocks_of_rows(be, geometry, step):
    x = numbers((2, 9, 8, 37), be.dtype)
    columns = unrolled(x, geometry)
    dx = own(be, np.full_like(x, np.nan))
    for p0, p1 in row_ranges(columns.shape[3], step):
        part = columns[:, :, :, p0:p1].reshape(np.prod(columns.shape[:3]), -1)
        col = be.empty(part.shape)
        be.im2col(own(be, x), col, Window(*geometry), (p0, p1))
        np.testing.assert_array_equal(be.get(col), part)
        be.col2im(col, dx, Window(*geometry), (p0, p1), 0.0)
    # Each element comes back once for every window that holds it.
    held = unrolled(1 + np.arange(x.size).reshape(x.shape), geometry).ravel()
    times = np.bincount(held, minlength=1 + x.size)[1:].reshape(x.shape)
    close(be.get(dx), times * x.astype(float), be.dtype)


# -- layers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("be", KINDS[:2], ids=label, indirect=True)
def test_a_layer_without_code(be):
    with pytest.raises(LayerError, match="Layer has no fprop_cpu and does not override fprop"):
        be.run(Layer(), "fprop", None, None)


@pytest.mark.parametrize("cls", all_layers())
def test_indices_of_64_bits_change_no_bit(cls, gpu_backend, monkeypatch):
    case = Case(*next(iter(cls.examples())), 3, gpu_backend)
    narrow = [Rig(case).both(train) for train in (True, False)]
    monkeypatch.setattr(launcher, "WIDE", 1)  # every array counts as one of 2**30 elements
    wide = [Rig(case).both(train) for train in (True, False)]
    for one, other in zip(narrow, wide, strict=True):
        for name, value in one.items():
            np.testing.assert_array_equal(other[name], value)

"""The cpu backend's arithmetic against plain NumPy and loops."""

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minet import Layer, LayerError, backends

BETAS = (0.0, 1.0, -0.5)


@pytest.fixture(params=["float32", "float64"])
def be(request):
    return backends.get("cpu", request.param)


def numbers(shape, dtype, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def close(got, expected, dtype, terms=1):
    tol = 1e-5 if np.dtype(dtype) == np.float32 else 1e-12
    np.testing.assert_allclose(got, expected, rtol=tol, atol=tol * (10 + terms**0.5))


# -- memory -----------------------------------------------------------------------------------------


def test_arrays(be):
    for array in (be.empty((3, 5)), be.zeros((1,)), be.empty((2, 7), "int8")):
        assert array.ctypes.data % 64 == 0 and array.flags.c_contiguous
    assert be.zeros((3, 5)).dtype == be.dtype and not be.zeros((3, 5)).any()
    assert be.empty((2,), "int8").dtype == np.int8
    x = be.array([[1, 2], [3, 4]])
    assert x.dtype == be.dtype and be.array(x) is x and be.get(x) is x
    assert be.array(x.T).flags.c_contiguous
    be.copy(np.array([[5, 6], [7, 8]]), x)
    assert x.tolist() == [[5, 6], [7, 8]]
    be.fill(x, 2.5)
    assert (x == 2.5).all()


def test_finite(be):
    x = be.zeros((4, 5))
    assert be.finite(x)
    for bad in (np.nan, np.inf, -np.inf):
        x[2, 3] = bad
        assert not be.finite(x)


# -- matrices ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("sliced", [False, True])
@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("alpha", [1.0, 0.5, -2.0])
@pytest.mark.parametrize("trans", ["nn", "nt", "tn", "tt"])
def test_gemm(be, trans, alpha, beta, sliced):
    # The last two are larger than any block of the kernels, with a rest in every direction.
    sizes = (5, 17, 4), (1, 9, 3), (6, 1, 2), (3, 4, 1), (8, 32, 16), (70, 300, 1100), (70, 140, 1300)
    for m, n, k in sizes:
        a = numbers((m, k) if trans[0] == "n" else (k, m), be.dtype)
        b = numbers((k, n) if trans[1] == "n" else (n, k), be.dtype, 1)
        before = numbers((m, n), be.dtype, 2) if beta else np.full((m, n), np.nan, be.dtype)
        canvas = be.empty((m, n + 5) if sliced else (m, n))
        canvas.fill(77)
        out = canvas[:, 2 : n + 2] if sliced else canvas
        out[...] = before
        given = a.copy(), b.copy()
        be.gemm(a, b, out, alpha, beta, trans)
        op_a, op_b = a.T if trans[0] == "t" else a, b.T if trans[1] == "t" else b
        expected = alpha * (op_a.astype(float) @ op_b)
        close(out, expected + beta * before.astype(float) if beta else expected, be.dtype, k)
        assert (a == given[0]).all() and (b == given[1]).all()
        if sliced:
            assert (canvas[:, :2] == 77).all() and (canvas[:, n + 2 :] == 77).all()


def test_gemm_takes_column_slices(be):
    a, b = numbers((4, 9), be.dtype), numbers((6, 11), be.dtype, 1)
    out = be.zeros((4, 5))
    be.gemm(a[:, 1:7], b[:, 3:8], out)
    close(out, a[:, 1:7].astype(float) @ b[:, 3:8], be.dtype)
    be.gemm(a[:, 2:7], b[:, 3:8], wide := be.zeros((4, 6)), trans="nt")
    close(wide, a[:, 2:7].astype(float) @ b[:, 3:8].T, be.dtype)


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


def test_gemm_passes_nan_of_its_factors_on(be):
    a = be.array([[1.0, np.nan]])
    be.gemm(a, be.zeros((2, 3)), out := be.zeros((1, 3)))
    assert np.isnan(out).all()


@pytest.mark.parametrize("alpha", [1.0, -2.0])
@pytest.mark.parametrize("beta", BETAS)
def test_axpby(be, alpha, beta):
    x = numbers((2, 3, 4), be.dtype)
    y = numbers((2, 3, 4), be.dtype, 1) if beta else np.full((2, 3, 4), np.nan, be.dtype)
    expected = alpha * x.astype(float) + (beta * y.astype(float) if beta else 0)
    kept = x.copy()
    be.axpby(alpha, x, beta, y)
    close(y, expected, be.dtype)
    assert (x == kept).all()


@pytest.mark.parametrize("beta", BETAS)
def test_sum_rows(be, beta):
    a = numbers((5, 40), be.dtype)[:, 3:20]
    out = numbers((5,), be.dtype, 1) if beta else np.full((5,), np.nan, be.dtype)
    expected = a.astype(float).sum(1) + (beta * out.astype(float) if beta else 0)
    be.sum_rows(a, out, beta)
    close(out, expected, be.dtype)


def test_sum_rows_keeps_float32s_digits():
    a = np.full((2, 300_000), 0.1, np.float32)  # one running sum in float32 would be off by 1e-3
    backends.get("cpu").sum_rows(a, out := np.empty(2, np.float32))
    np.testing.assert_allclose(out, 0.1 * 300_000, rtol=1e-6)


def test_add_bias(be):
    y = be.zeros((3, 8))
    y[...] = 1
    be.add_bias(y[:, 2:7], be.array([10, 20, 30]))
    assert y.tolist() == [[1, 1] + 5 * [1 + b] + [1] for b in (10, 20, 30)]


# -- windows ----------------------------------------------------------------------------------------


@st.composite
def geometries(draw):
    """Image (C, H, W, N), and size, stride, pad and dilation of a window that fits."""
    pair = lambda low, high: st.tuples(st.integers(low, high), st.integers(low, high))  # noqa: E731
    size, stride, pad, dilation = draw(pair(1, 4)), draw(pair(1, 4)), draw(pair(0, 3)), draw(pair(1, 3))
    h, w = (
        draw(st.integers(max(1, d * (r - 1) + 1 - 2 * p), 11))
        for r, p, d in zip(size, pad, dilation, strict=True)
    )
    return (draw(st.integers(1, 2)), h, w, draw(st.integers(1, 3))), (size, stride, pad, dilation)


def unrolled(x, geometry):
    """im2col of a whole image by slicing the padded one: (C, R, S, P, Q, N)."""
    (R, S), (u, v), (i, j), (d, e) = geometry
    padded = np.pad(x, ((0, 0), (i, i), (j, j), (0, 0)))
    P, Q = (padded.shape[1] - d * (R - 1) - 1) // u + 1, (padded.shape[2] - e * (S - 1) - 1) // v + 1
    col = np.empty((len(x), R, S, P, Q, x.shape[3]), x.dtype)
    for r, s in np.ndindex(R, S):
        col[:, r, s] = padded[:, d * r : d * r + u * (P - 1) + 1 : u, e * s : e * s + v * (Q - 1) + 1 : v]
    return col


def row_ranges(P, step):
    return [(p, min(p + step, P)) for p in range(0, P, step)]


@settings(deadline=None, max_examples=80, database=None, derandomize=True)
@given(geometries(), st.integers(1, 9))
def test_im2col(case, step):
    shape, geometry = case
    be = backends.get("cpu", "float64")
    x = 1 + np.arange(np.prod(shape), dtype=float).reshape(shape)
    expected = unrolled(x, geometry)
    for p0, p1 in row_ranges(expected.shape[3], step):
        part = expected[:, :, :, p0:p1].reshape(np.prod(expected.shape[:3]), -1)
        col = np.full(part.shape, np.nan)
        be.im2col(x, col, geometry, (p0, p1))
        np.testing.assert_array_equal(col, part)


@settings(deadline=None, max_examples=80, database=None, derandomize=True)
@given(geometries(), st.integers(1, 9), st.sampled_from(BETAS))
def test_col2im_is_the_transpose_and_beta_meets_each_row_once(case, step, beta):
    shape, geometry = case
    be = backends.get("cpu", "float64")
    source = unrolled(1 + np.arange(np.prod(shape), dtype=int).reshape(shape), geometry)  # where col is from
    col = 1.0 + np.arange(source.size).reshape(source.shape)
    taken = np.bincount(source.ravel(), weights=col.ravel(), minlength=1 + np.prod(shape))[1:].reshape(shape)
    dx0 = np.arange(np.prod(shape), dtype=float).reshape(shape) if beta else np.full(shape, np.nan)
    dx = dx0.copy()
    for p0, p1 in row_ranges(source.shape[3], step):
        part = np.ascontiguousarray(col[:, :, :, p0:p1]).reshape(np.prod(source.shape[:3]), -1)
        be.col2im(part, dx, geometry, (p0, p1), beta)
    np.testing.assert_array_equal(dx, taken + beta * dx0 if beta else taken)


def test_windows_in_float32():
    x, geometry = numbers((2, 5, 6, 3), np.float32), ((3, 3), (1, 1), (1, 1), (1, 1))
    be = backends.get("cpu")
    col = np.empty((18, 5 * 6 * 3), np.float32)
    be.im2col(x, col, geometry, (0, 5))
    np.testing.assert_array_equal(col, unrolled(x, geometry).reshape(col.shape))
    dx = np.full(x.shape, np.nan, np.float32)
    be.col2im(col, dx, geometry, (0, 5), 0.0)
    inner = dx[:, 1:-1, 1:-1]  # where nine windows meet
    np.testing.assert_allclose(inner, 9 * x[:, 1:-1, 1:-1], rtol=1e-6)


# -- layers -----------------------------------------------------------------------------------------


def test_a_layer_without_code(be):
    with pytest.raises(LayerError, match="Layer has no fprop_cpu, and overrides no fprop"):
        be.run(Layer(), "fprop", None, None)

"""The backends' arithmetic, compared with plain NumPy and loops."""

import numba
import numpy as np
import pytest
from of_solvers import net_of
from slow import slow

from minet import Layer, LayerError, backends
from minet.backends import gpu, launcher
from minet.layers import all_layers
from minet.loops import arithmetic
from minet.testing.harness import Case, Rig

BETAS = (0.0, 1.0, -0.5)
KINDS = [
    ("cpu", "float32"),
    ("cpu", "float64"),
    ("emu", "float32"),
    pytest.param(("cuda", "float32"), marks=pytest.mark.gpu),
]


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


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_large_copy_takes_several_cores_where_it_can(dtype, monkeypatch):
    be, size, calls = backends.get("cpu", dtype), 1 << 20, []
    copy = arithmetic.copy
    monkeypatch.setattr(arithmetic, "copy", lambda *args: calls.append(1) or copy(*args))
    x, y = own(be, numbers((size,), dtype)), be.empty((size,))
    other = numbers((size,), "float32" if dtype == "float64" else "float64")
    be.copy(x, y)
    assert (y == x).all() and len(calls) == 1
    for src in (other, x[::-1], np.float64(3)):
        be.copy(src, y)
        assert (y == src.astype(dtype)).all() and len(calls) == 1
    both = own(be, numbers((size + 1,), dtype))
    kept = both.copy()
    be.copy(both[:-1], both[1:])
    assert (both[1:] == kept[:-1]).all() and len(calls) == 1


@pytest.mark.parametrize("place", [0, 13, 19])
def test_finite(be, place):
    x = np.zeros((4, 5))
    assert be.sum_is_finite(own(be, x))
    for bad in (np.nan, np.inf, -np.inf):
        x.flat[place] = bad
        assert not be.sum_is_finite(own(be, x))


# -- matrices ---------------------------------------------------------------------------------------


@pytest.mark.sweep(6)
@pytest.mark.parametrize("sliced", [False, True])
@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("alpha", [1.0, slow(0.5), slow(-2.0)])
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
def test_a_step_of_sgd(be, nesterov, bounds):
    w, g, v = numbers((3, 3, 101), be.dtype)
    g[::7] = np.nan
    net = net_of(be, w, grads=[g], bounds=bounds)
    velocity = be.zeros(net.memory.flat_params.shape)
    held = [net.slots[0].value, net.slots[0].grad, net.slots[0].place(velocity)]
    be.copy(v, held[2])
    flat = {"w": net.memory.flat_params, "g": net.memory.flat_grads, "v": velocity}
    step = be.solver_step("sgd", net.slots, flat, net.memory.verdict)
    step(lr=0.1, momentum=0.9, decay=0.01, nesterov=nesterov)
    slope = g + 0.01 * w.astype(float)
    velocity = 0.9 * v + slope
    low, high = bounds or (None, None)
    value = w - 0.1 * (slope + 0.9 * velocity if nesterov else velocity)
    expected = np.clip(value, -np.inf if low is None else low, np.inf if high is None else high)
    assert np.isnan(expected[::7]).all()  # a bound must not hide a NaN
    for array, wanted in zip(held, (expected, g, velocity), strict=True):
        close(be.get(array), wanted, be.dtype)


# -- layers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("be", KINDS[:2], ids=label, indirect=True)
def test_a_layer_without_code(be):
    with pytest.raises(LayerError, match="Layer has no fprop_cpu and does not override fprop"):
        be.run(Layer(), "fprop", None, None)


@pytest.mark.slow
@pytest.mark.parametrize("cls", all_layers())
def test_indices_of_64_bits_change_no_bit(cls, gpu_backend, monkeypatch):
    case = Case(*next(iter(cls.examples())), 3, gpu_backend)
    narrow = [Rig(case).both(train) for train in (True, False)]
    monkeypatch.setattr(launcher, "WIDE", 1)  # every array counts as one of 2**30 elements
    wide = [Rig(case).both(train) for train in (True, False)]
    for one, other in zip(narrow, wide, strict=True):
        for name, value in one.items():
            np.testing.assert_array_equal(other[name], value)

"""GaussianPool's march down the columns on a GPU: the tables of its windows."""

import numpy as np
import pytest
from close import assert_close

from minet import Net, backends, testing
from minet.backends.emulator import static_shared
from minet.layers import GaussianPool
from minet.layers import gaussian_pool_gpu as gpu


def values(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.sweep(3)
@pytest.mark.parametrize(
    "layer",
    [
        *(make() for make, _ in GaussianPool.examples()),
        GaussianPool(9, stride=2, pad=8, kernels=3),
        GaussianPool((5, 12), stride=(3, 1), pad=(4, 2), kernels=4),
        GaussianPool(3, stride=2, pad=((2, 0), (1, 2)), ceil=True),
    ],
    ids=repr,
)
def test_a_blocks_tables_are_as_large_as_the_kernels_declare_them(layer):
    """What `constants` takes their size to be decides whether they fit into a card's shared memory."""
    be = backends.get("emu")
    given = layer.given.get("mean", np.zeros(2))
    x = values(0, len(given) if given.ndim == 3 else 3, 12, 13, 2)
    Net(layer := layer.clone(), x.shape[:3], 2, backend=be)
    layer.fprop(be.array(x), y := be.zeros((*layer.bound_shapes[1], 2)))
    layer.bprop(be.array(x), y, be.zeros(x.shape))
    if gpu.plan(layer).apart:
        assert layer.s.tables.size == layer.kernels * gpu.plan(layer).table() * (
            len(x) if layer.per_channel else 1
        )
        return
    (module,) = {m._name for (text, _), m in be._functions.items() if "gaussian_pool_bprop" in text}
    sums, tables = 4 * 32, 4 * layer.kernels * gpu.plan(layer).table()
    assert static_shared(module, "gaussian_pool_bprop") == sums + (tables if layer.learn else tables // 3)


@pytest.mark.parametrize(("rows", "apart"), [(1, False), (2, True)])
def test_tables_apart_compute_the_same(gpu_backend, rows, apart):
    """Of the higher window 7 kernels' tables exceed what a block may hold; of the lower they just fit."""
    layer = GaussianPool((rows, 15), 1, (rows - 1, 14), kernels=7)
    x, dy = (
        values(i, *shape, 4).astype("f4") for i, shape in enumerate([(1, 5, 6), layer.out_shape((1, 5, 6))])
    )
    got, expected = (testing.run(layer, x, dy, backend=name) for name in (gpu_backend, "cpu"))
    assert ("tables" in got.state) is apart
    for name in ("y", "dx"):
        assert_close(getattr(got, name), getattr(expected, name), what=name)
    for name in ("mean", "log_sigma"):
        assert_close(got.grads[name], expected.grads[name], float32=1e-4, what=name)

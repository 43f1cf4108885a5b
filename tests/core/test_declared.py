"""What layers declare for all backends, and for those with CUDA kernels only."""

import pytest

from minet import LayerError, Net, State, backends
from minet.core.declared import all_states
from minet.layers import BatchNorm, Conv, GaussianPool, Identity, PReLU


class Twice(Identity):
    def state(self, in_shape, out_shape):
        return {"sums": State((2,))}

    def state_gpu(self, in_shape, out_shape):
        return {"sums": State((3,))}


def names(layer, backend):
    net = Net(layer, (3, 6, 6), 2, backend=backend)
    return {name for _, name, _ in all_states(net.graph, net.shapes)}


@pytest.mark.parametrize(
    ("make", "more"),
    [(lambda: PReLU(), {"came", "sums"}), (lambda: BatchNorm(), {"came", "slopes", "sums"}),
     (lambda: Conv(2, 3), {"db_parts", "parts", "wt"}), (lambda: GaussianPool(3), {"parts"}),
     (lambda: Identity(), set())],
)  # fmt: skip
def test_what_only_kernels_need_is_allocated_for_them_only(make, more, gpu_backend):
    assert names(make(), gpu_backend) == names(make(), "cpu") | more
    assert not names(make(), "cpu") & more


def test_a_name_declared_twice_is_refused():
    if why := backends.missing("emu"):
        pytest.skip(why)
    Net(Twice(), (1, 2, 2), 1)
    with pytest.raises(LayerError, match=r"Twice.*\n  state_gpu\(\) declares 'sums' a second time"):
        Net(Twice(), (1, 2, 2), 1, backend="emu")

"""BatchNorm over ranks: what each has, put together, is what one process has of the whole batch."""

from itertools import pairwise
from threading import Barrier, Thread

import numpy as np
import pytest

from minet import LayerError, Net
from minet.layers import BatchNorm
from minet.parallel.batch_norm import synchronise

SHAPE = (3, 5, 2)


class Meeting:
    """Threads that stand for ranks, and tell each other numbers."""

    def __init__(self, size):
        self.barrier, self.rows = Barrier(size, timeout=60), [None] * size

    def rank(self, number):
        return Told(self, number)


class Told:
    def __init__(self, meeting, number):
        self.meeting, self.number = meeting, number

    def numbers(self, values, what):
        self.meeting.rows[self.number] = np.array(values, np.float64)
        self.meeting.barrier.wait()
        every = np.stack(self.meeting.rows)
        self.meeting.barrier.wait()
        return every


def steps(net, x, dy, found):
    """Two training steps; what they give, and the layer's statistics."""
    layer, dx = net.graph.layers[0], net.be.empty(x.shape)
    for _ in range(2):
        y = net.fprop(x, train=True)
        net.bprop(dy, dx=dx)
    values = [y, dx, *net.grads.values(), layer.s.running_mean, layer.s.running_var]
    found.append([np.array(net.be.get(array)) for array in values])


def by_ranks(shares, x, dy, backend, dtype):
    """What each rank gives, of samples from one of `shares` to the next."""
    meeting, gives = Meeting(len(shares) - 1), [[] for _ in shares[1:]]
    nets = []
    for number, (begin, end) in enumerate(pairwise(shares)):
        net = Net([BatchNorm()], SHAPE, end - begin, backend=backend, dtype=dtype)
        synchronise(net, meeting.rank(number))
        nets.append((net, np.ascontiguousarray(x[..., begin:end]), np.ascontiguousarray(dy[..., begin:end])))
    threads = [Thread(target=steps, args=(*net, gives[n])) for n, net in enumerate(nets)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[0] for found in gives]


@pytest.mark.parametrize("shares", [(0, 4, 8), (0, 1, 8), (0, 3, 4, 8)])
def test_it_is_that_of_the_whole_batch(place, shares):
    backend, dtype = place
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal((*SHAPE, 8)).astype(dtype) for _ in "xy")
    x += 10
    whole = []
    steps(Net([BatchNorm()], SHAPE, 8, backend=backend, dtype=dtype), x, dy, whole)
    y, dx, dgamma, dshift, *running = whole[0]
    ranks = by_ranks(shares, x, dy, backend, dtype)
    within = {"rtol": 0, "atol": 1e-12 if dtype == "float64" else 2e-5}
    np.testing.assert_allclose(np.concatenate([found[0] for found in ranks], axis=-1), y, **within)
    np.testing.assert_allclose(np.concatenate([found[1] for found in ranks], axis=-1), dx, **within)
    np.testing.assert_allclose(sum(found[2] for found in ranks), dgamma, **within)
    np.testing.assert_allclose(sum(found[3] for found in ranks), dshift, **within)
    for found in ranks:
        for own, one in zip(found[4:], running, strict=True):
            np.testing.assert_allclose(own, one, rtol=1e-12 if dtype == "float64" else 1e-6)
        assert all((a == b).all() for a, b in zip(found[4:], ranks[0][4:], strict=True))


def test_what_is_not_finite_in_one_share_shows_in_all(backend):
    x, dy = np.ones((2, *SHAPE, 4), "float32")
    x[1, 0, 0, 3] = np.inf
    first, second = by_ranks((0, 2, 4), x, dy, backend, "float32")
    for y, *_, mean, var in (first, second):
        assert np.isnan(y[1]).all() and np.isfinite(y[[0, 2]]).all()
        assert np.isfinite(mean).all() and np.isfinite(var).all()


def test_one_value_of_all_ranks_is_refused(backend):
    net = Net([BatchNorm()], (3, 1, 1), 1, backend=backend, dtype="float32")
    synchronise(net, Meeting(1).rank(0))
    with pytest.raises(LayerError, match="a single value in training"):
        net.fprop(np.ones((3, 1, 1, 1), "float32"), train=True)

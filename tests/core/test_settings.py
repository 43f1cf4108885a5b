"""Settings and shapes as NumPy's numbers are the numbers that they are, whatever their type."""

import numpy as np
import pytest

from minet import SGD, Gaussian, MinetError, Net, Param, SoftmaxCrossEntropy, State
from minet.backends.cpu import CPU
from minet.core.settings import plain
from minet.layers import LRN, BatchNorm, Conv, Dropout, Linear, MaxPool
from minet.train.optim.schedules import Cosine, Step


def shape(*sizes, dtype="uint8"):
    return tuple(np.array(sizes, dtype))


def test_plain_numbers():
    for value in (np.uint8(200), np.float16(0.5), np.bool_(True), 3, 0.1, None, "a"):
        assert plain(value) == value and type(plain(value)).__module__ == "builtins"


def test_small_integers_in_a_shape_do_not_wrap_around():
    assert Net([Linear(2)], shape(3, 32, 32), 2).params["0/linear.w"].shape == (2, 3072)
    assert Net([Conv(4, 3, pad=1)], shape(3, 32, 32), 2).output_shape == (4, 32, 32)
    window, pad = np.uint8(101), np.uint8(50)
    assert Net([MaxPool(window, stride=np.int8(1), pad=pad)], shape(1, 200, 200), 1).output_shape == (
        1,
        200,
        200,
    )
    assert Net([Conv(np.int8(127), 1)], (2, 200, 200), 1).output_shape == (127, 200, 200)
    net = Net([Linear(2)], shape(3, 32, 32), np.uint8(200))
    assert net.batch == 200 and net.input_shape == (3, 32, 32) and net.y.shape == (2, 1, 1, 200)


def test_small_integers_in_a_declaration():
    assert Param(shape(200, 200)).shape == (200, 200) == State(shape(200, 200)).shape
    assert type(Param(shape(200, 200)).shape[0]) is int and type(Param((1,), lr=np.float16(0.5)).lr) is float


def test_half_precision_settings():
    assert Dropout(np.float16(0.5)).threshold == 1 << 31
    settings = [Dropout(np.float16(0.5)), BatchNorm(np.float16(0.5)), LRN(np.int8(3), np.float16(0.5))]
    losses = []
    for solver in (
        SGD(np.float16(0.125), momentum=np.float16(0.5), schedule=Step({np.int8(0): np.float16(0.5)})),
        SGD(0.125, momentum=0.5, schedule=Step({0: 0.5})),
    ):
        layers = [*[layer.clone() for layer in settings], Linear(2, init=Gaussian(np.float16(0.5)))]
        net = Net(layers, (2, 3, 3), 4, SoftmaxCrossEntropy(), seed=np.uint8(1))
        x = np.random.default_rng(0).standard_normal((2, 3, 3, 4))
        losses.append([net.train_step(x, np.array([0, 1, 1, 0], np.uint8), solver) for _ in range(3)])
    assert losses[0] == losses[1]
    assert type(Cosine(np.int8(100)).epochs) is int and Cosine(np.int8(100))(50) == pytest.approx(0.5)


def test_a_net_that_does_not_fit_into_memory_is_refused_before_it_is_allocated(monkeypatch):
    monkeypatch.setattr(CPU, "free_memory", lambda self: 16 << 30)  # which not every system says
    with pytest.raises(MinetError, match=r"out of device memory: at batch 1 the net needs .* MiB"):
        Net([BatchNorm()], shape(200, 400000, 400000, dtype="int32"), 1)

"""Net: binding, memory, steps, predictions, and what goes wrong."""

from __future__ import annotations

import re
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest
from zoo import Centre, Noise, Tallest, Toy

from minet import Concat, Layer, LayerError, MinetError, Net, Param, Sequential, State, Sum, update
from minet.core import rng
from minet.core.finite import NotFiniteError
from minet.core.loss import MeanSquaredError, SoftmaxCrossEntropy
from minet.data import Dataset
from minet.layers import (
    LRN,
    AvgPool,
    BatchNorm,
    Conv,
    Dropout,
    GaussianPool,
    Identity,
    Linear,
    MaxPool,
    PReLU,
    ReLU,
    StochasticPool,
)
from minet.train.evaluation import evaluate
from minet.train.optim import SGD

SHAPE = (2, 3, 4)


class Total(Layer):
    """``y_k = w_k . x + b_k`` over all of a sample, in plain NumPy."""

    def __init__(self, units=3):
        self.units = units

    def out_shape(self, in_shape):
        return self.units, 1, 1

    def params(self, in_shape):
        def first(shape, rng):
            return rng.normal(size=shape)

        return {
            "w": Param((self.units, int(np.prod(in_shape))), first),
            "b": Param((self.units,), decay=False),
        }

    def fprop_cpu(self, x, y, beta, train):
        update(y, (self.p.w @ x.reshape(-1, x.shape[-1]) + self.p.b[:, None]).reshape(y.shape), beta)

    def bprop_cpu(self, x, dy, dx, beta):
        flat, error = x.reshape(-1, x.shape[-1]), dy.reshape(self.units, -1)
        self.g.w += error @ flat.T
        self.g.b += error.sum(axis=1)
        if dx is not None:
            update(dx, (self.p.w.T @ error).reshape(dx.shape), beta)


def numbers(*shape):
    return np.sin(np.arange(1.0, 1 + np.prod(shape))).reshape(shape)


def small(batch=5, **options):
    graph = [Toy(), Sum(Identity(), [Centre(), Toy()]), Total(3)]
    return Net(graph, SHAPE, batch, SoftmaxCrossEntropy(), **options)


def data(batch=5):
    return numbers(*SHAPE, batch).astype("float32"), np.arange(batch) % 3


# -- after binding ----------------------------------------------------------------------------------


def test_paths_of_parameters_and_persistent_state():
    net = small()
    names = ["0/toy.a", "1/1/1/toy.a", "2/total.w", "2/total.b"]
    assert list(net.params) == list(net.grads) == [slot.path for slot in net.slots] == names
    assert list(net.persistent) == ["1/1/0/centre.mean"]
    assert net.output_shape == (3, 1, 1) and net.y.shape == (3, 1, 1, 5)


def test_a_layer_by_its_path():
    net = small()
    for layer in net.graph.walk():
        assert net[layer.path] is net[layer.full_path] is layer
    assert net[""] is net.graph and type(net["1/1/0"]) is Centre
    assert Net(Toy(), SHAPE, 1)["toy"].stem() == "toy"


@pytest.mark.parametrize("kind", [KeyError, MinetError])
def test_a_wrong_path_lists_near_ones(kind):
    net = small()
    with pytest.raises(kind, match=r"^there is no '1/1/9/toy'\n  hint: near it: 1/1/1/toy$"):
        net["1/1/9/toy"]
    with pytest.raises(kind, match=r"^there is no 7\n  hint: there are: sequential, 0, 0/toy, 1, "):
        net[7]
    for arrays in (net.params, net.grads):
        with pytest.raises(kind, match=r"^there is no '1/1/toy.a'\n  hint: near it: 1/1/1/toy\.a, 0/toy\.a"):
            arrays["1/1/toy.a"]
        with pytest.raises(kind, match=r"there is no 'a'\n  hint: near it: .*2/total\.w"):
            arrays["a"]
        assert "1/1/toy.a" not in arrays and arrays.get("1/1/toy.a") is None
    with pytest.raises(kind, match=r"hint: near it: 1/1/0/centre\.mean$"):
        net.persistent["centre.mean"]


def test_a_net_prints_its_summary():
    net = small()
    assert str(net) == f"{net}" == net.summary()


def test_the_root_may_be_a_lone_layer():
    net = Net(Toy(), SHAPE, 1)
    assert list(net.params) == ["toy.a"]


def test_params_are_views_that_the_layers_see():
    net = small()
    net.params["0/toy.a"][...] = 2
    (toy, *_) = net.graph.children
    np.testing.assert_array_equal(toy.p.a.ravel(), [2, 2])
    for slot in net.slots:
        assert np.shares_memory(slot.value, net.memory.flat_params) and np.shares_memory(
            slot.grad, net.flat_grads
        )
        assert slot.value.ctypes.data % 64 == slot.grad.ctypes.data % 64 == 0
        assert slot.value.dtype == np.float32 and slot.value.shape == slot.grad.shape == slot.param.shape


def test_initial_values():
    class Firsts(Toy):
        def params(self, in_shape):
            return {
                "constant": Param((2, 3), 0.5),
                "array": Param((2, 3), np.arange(6).reshape(2, 3)),
                "row": Param((2, 3), [1, 2, 3]),
                "drawn": Param((2, 3), lambda shape, rng: rng.normal(size=shape)),
            }

    params = Net([Identity(), Firsts()], SHAPE, 1, seed=7).params
    first = {path.removeprefix("1/firsts."): value for path, value in params.items()}
    np.testing.assert_array_equal(first["constant"], np.full((2, 3), 0.5))
    np.testing.assert_array_equal(first["array"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(first["row"], [[1, 2, 3], [1, 2, 3]])
    drawn = rng.generator(7, "1/firsts.drawn").normal(size=(2, 3))
    np.testing.assert_array_equal(first["drawn"], drawn.astype("float32"))


def test_an_initial_value_that_does_not_fit():
    class Wrong(Toy):
        def params(self, in_shape):
            return {"a": Param((2, 3), np.zeros((3, 2)))}

    layer = Wrong()
    with pytest.raises(LayerError, match=r"initial a of shape \(3, 2\) does not fit \(2, 3\)"):
        Net(layer, SHAPE, 1)
    assert not layer.bound


def test_initial_values_depend_on_seed_and_path_alone():
    def w(graph, seed=0):
        return Net(graph, SHAPE, 3, seed=seed).params

    one = w([Toy(), Total()])["1/total.w"]
    np.testing.assert_array_equal(w([Identity(), Total()])["1/total.w"], one)
    assert (w([Toy(), Total()], 1)["1/total.w"] != one).all()
    assert (w([Toy(), Toy(), Total()])["2/total.w"] != one).all()
    assert type(Net(Toy(), SHAPE, 1, seed=np.int64(3)).seed) is int


def test_same_seed_same_bits():
    x, labels = data()
    runs = []
    for _ in range(2):
        net = Net([Toy(), Noise(), Centre(), Total()], SHAPE, 5, SoftmaxCrossEntropy(), seed=3)
        solver = SGD(0.1, momentum=0.9)
        losses = [net.train_step(x, labels, solver) for _ in range(3)]
        runs.append((losses, net.memory.flat_params.tobytes(), net.persistent["2/centre.mean"].tobytes()))
    assert runs[0] == runs[1]
    assert len(set(runs[0][0])) == 3


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, "7", None, True])
def test_seed_out_of_range(seed):
    layer = Toy()
    with pytest.raises(MinetError, match=r"seed must be a whole number in 0 \.\. 4294967295, got"):
        Net(layer, SHAPE, 1, seed=seed)
    assert not layer.bound


@pytest.mark.parametrize("batch", [0, -3, 2.0, "8", None, True])
def test_an_invalid_batch(batch):
    layer = Toy()
    message = re.escape(f"batch must be a whole number of at least 1, got {batch!r}")
    with pytest.raises(MinetError, match=message):
        Net(layer, SHAPE, batch)
    assert not layer.bound
    net = Net(layer, SHAPE, np.int64(2))
    with pytest.raises(MinetError, match=message):
        net.resize(batch)
    assert net.batch == 2 and type(net.batch) is int
    net.fprop(np.zeros((*SHAPE, 2)))


@pytest.mark.parametrize("shape", [5, (3, 4), (2, 3, 4, 5), (2, 3, 0), (2, 3, 4.0)])
def test_an_invalid_input_shape(shape):
    with pytest.raises(LayerError, match=r"input shape must be three positive whole numbers"):
        Net(Toy(), shape, 1)


def test_an_invalid_graph():
    with pytest.raises(LayerError, match=r"Sequential takes layers, got None"):
        Net(None, SHAPE, 1)
    with pytest.raises(LayerError, match=r"takes layers, got <class 'zoo.Toy'>\n  hint: use Toy\(\)"):
        Net(Toy, SHAPE, 1)
    with pytest.raises(LayerError, match=r"Sequential needs at least one layer"):
        Net([], SHAPE, 1)
    assert len(Net((Toy() for _ in range(2)), SHAPE, 1).slots) == 2


def test_backend_and_dtype():
    with pytest.raises(MinetError, match=r"there is no backend 'tpu'\n  hint: the backends are: .*cpu"):
        Net(Toy(), SHAPE, 1, backend="tpu")
    with pytest.raises(MinetError, match=r"dtype must be float32 or float64, got 'float16'"):
        Net(Toy(), SHAPE, 1, dtype="float16")
    net = Net([Toy(), Centre()], SHAPE, 2, dtype="float64")
    x = numbers(*SHAPE, 2)
    y = net.fprop(x)
    np.testing.assert_array_equal(y, net.params["0/toy.a"] * np.tanh(x))
    assert {y.dtype, net.dy.dtype, net.persistent["1/centre.mean"].dtype} == {np.dtype("float64")}


def test_a_parameter_and_persistent_state_with_the_same_name():
    class Both(Centre):
        def params(self, in_shape):
            return {"mean": Param((2,))}

    with pytest.raises(LayerError, match=r"'mean' names both a parameter and persistent state"):
        Net(Both(), SHAPE, 1)


def test_state_has_the_declared_types_shapes_and_initial_values():
    class Stateful(Toy):
        def state(self, in_shape, out_shape):
            return {
                "where": State((3,), "int32", init=7),
                "mask": State(in_shape, "bool", init=True),
                "small": State((), "uint8", per_sample=False, init=9),
                "half": State((2,), "float16"),
                "count": State((1,), "int64", persistent=True, init=5),
                "gathered": State((2, 2), persistent=True, per_sample=False, init=0.5),
            }

    layer = Stateful()
    net = Net(layer, SHAPE, 5)
    seen = {name: (a.shape, str(a.dtype), np.unique(a).tolist()) for name, a in layer.s.items()}
    assert seen == {
        "where": ((3, 5), "int32", [7]),
        "mask": ((2, 3, 4, 5), "bool", [True]),
        "small": ((), "uint8", [9]),
        "half": ((2, 5), "float16", [0]),
        "count": ((1,), "int64", [5]),
        "gathered": ((2, 2), "float32", [0.5]),
    }
    assert list(net.persistent) == ["stateful.count", "stateful.gathered"]


# -- resize -----------------------------------------------------------------------------------------


def test_resize_keeps_what_was_learned():
    net = small()
    x, labels = data()
    net.train_step(x, labels, SGD(0.1))
    params = {path: value.copy() for path, value in net.params.items()}
    mean = net.persistent["1/1/0/centre.mean"]
    kept, before = mean.copy(), net.fprop(x).copy()
    net.resize(2)
    assert net.persistent["1/1/0/centre.mean"] is mean and net.y.shape == (3, 1, 1, 2)
    np.testing.assert_array_equal(mean, kept)
    for path, value in net.params.items():
        np.testing.assert_array_equal(value, params[path])
    np.testing.assert_allclose(net.fprop(x[..., :2]), before[..., :2], rtol=1e-6)
    net.resize(7)
    x, labels = data(7)
    assert np.isfinite(net.train_step(x, labels, SGD(0.1)))


def test_the_batch_size_is_changed_by_resize_alone():
    net = small(batch=4)
    with pytest.raises(
        MinetError, match=r"^setting net.batch would not change its memory\n  hint: net\.resize\(64\)$"
    ):
        net.batch = 64
    assert net.batch == 4 and net.predict(numbers(9, *SHAPE)).shape == (9, 3)


def test_on_bind_sees_the_new_memory():
    class Watcher(Toy):
        shapes = ()

        def state(self, in_shape, out_shape):
            return {"seen": State((1,))}

        def on_bind(self):
            self.shapes = (*self.shapes, self.s.seen.shape, self.p.a.shape)

    layer = Watcher()
    net = Net(Sequential(layer), SHAPE, 5)
    net.resize(3)
    assert layer.shapes == ((1, 5), (2, 1, 1, 1), (1, 3), (2, 1, 1, 1))


# -- fprop and bprop --------------------------------------------------------------------------------


def test_a_wrong_x_reports_the_order_of_axes():
    net = small()
    with pytest.raises(LayerError) as caught:
        net.fprop(np.zeros((5, *SHAPE)))
    assert str(caught.value).startswith(
        "the net takes x of shape (C, H, W, N) = (2, 3, 4, 5), got (5, 2, 3, 4)"
    )
    assert "transpose(1, 2, 3, 0)" in str(caught.value)
    with pytest.raises(LayerError, match=r"got \(2, 3, 4, 6\)"):
        net.fprop(np.zeros((*SHAPE, 6)))
    with pytest.raises(LayerError, match=r"got \(\)"):
        net.fprop(None)


def test_any_array_of_the_right_shape_will_do():
    net = small()
    x = np.arange(2 * 3 * 4 * 5).reshape(5, *SHAPE).transpose(1, 2, 3, 0)
    y = net.fprop(x).copy()
    np.testing.assert_array_equal(net.fprop(x.astype("float32", order="C")), y)
    np.testing.assert_array_equal(net.fprop(x.tolist()), y)


def test_bprop_sets_gradients_and_dx():
    net = Net([Toy(), Centre(), Total()], SHAPE, 4, dtype="float64")
    x, dy = numbers(*SHAPE, 4), numbers(3, 1, 1, 4)
    dx = np.full(x.shape, np.nan)
    for _ in range(2):
        net.fprop(x, train=True)
        net.bprop(dy, dx)
        gradients = {path: grad.copy() for path, grad in net.grads.items()}

    def loss():
        return float((net.fprop(x, train=True) * dy).sum())

    for array, gradient in [(x, dx), *((net.params[path], gradients[path]) for path in net.params)]:
        flat = array.reshape(-1)
        home, ends = flat[1], []
        for flat[1] in (home + 1e-6, home - 1e-6):
            ends.append(loss())
        flat[1] = home
        np.testing.assert_allclose(gradient.reshape(-1)[1], (ends[0] - ends[1]) / 2e-6, rtol=1e-6)


def test_bprop_needs_an_fprop_and_arrays_that_fit():
    net = small()
    dy = np.zeros((3, 1, 1, 5))
    with pytest.raises(MinetError, match=r"bprop was called before fprop"):
        net.bprop(dy)
    net.fprop(data()[0])
    with pytest.raises(MinetError, match=r"dy must be \(3, 1, 1, 5\) of float32, got \(5, 3\)"):
        net.bprop(np.zeros((5, 3)))
    with pytest.raises(
        MinetError, match=r"dx must be \(2, 3, 4, 5\) of float32, got \(2, 3, 4, 5\) of float64"
    ):
        net.bprop(dy, np.zeros((*SHAPE, 5)))
    with pytest.raises(MinetError, match=r"dx must be C-contiguous"):
        net.bprop(dy, np.zeros((5, *SHAPE), "float32").transpose(1, 2, 3, 0))
    net.resize(3)
    with pytest.raises(MinetError, match=r"bprop was called before fprop"):
        net.bprop(np.zeros((3, 1, 1, 3)))


# -- predict ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 4, 5, 11])
def test_predict_in_order_whatever_the_remainder(count):
    net = small(batch=4)
    images = numbers(count, *SHAPE)
    out = net.predict(images)
    assert out.shape == (count, 3) and out.dtype == np.float32
    net.resize(1)
    for i in range(count):
        alone = net.fprop(images[i][..., None])
        np.testing.assert_allclose(out[i], alone.ravel(), rtol=1e-5, atol=1e-6)


def test_predict_gives_maps_in_nchw():
    net = Net(Toy(), SHAPE, 4)
    images = numbers(6, *SHAPE)
    np.testing.assert_allclose(net.predict(images), 0.7 * np.tanh(images), rtol=1e-6)
    np.testing.assert_array_equal(net.predict(images.tolist()), net.predict(images))


@pytest.mark.parametrize("graph", [Total(3), Toy()], ids=["scores", "maps"])
def test_predict_takes_a_single_image(graph):
    net = Net(graph, SHAPE, 4)
    images = numbers(2, *SHAPE)
    out = net.predict(images[1])
    assert out.shape == ((3,) if isinstance(graph, Total) else SHAPE)
    np.testing.assert_array_equal(out, net.predict(images)[1])


@pytest.mark.parametrize("shape", [(2, 4, 3), (5, 2, 4, 3), (*SHAPE, 5), (5, 24)])
def test_predict_refuses_other_shapes(shape):
    with pytest.raises(LayerError, match=r"predict takes images \(M, C, H, W\) = \('M', 2, 3, 4\), got"):
        small().predict(np.zeros(shape))


@pytest.mark.parametrize(
    ("images", "dtype"),
    [(1j, "complex128"), (None, "object"), ("a", "<U1"), (np.datetime64("2020"), "datetime64")],
)
def test_what_is_no_real_number_is_refused(images, dtype):
    net, hint = small(batch=2), r".*\n  hint: give a floating type"
    with pytest.raises(LayerError, match=f"^predict takes images of real numbers, got {dtype}{hint}"):
        net.predict(np.full((3, *SHAPE), images))
    with pytest.raises(LayerError, match=f"^the net takes x of real numbers, got {dtype}{hint}"):
        net.fprop(np.full((*SHAPE, 2), images))
    with pytest.raises(LayerError, match=f"^the net takes x of real numbers, got {dtype}{hint}"):
        net.train_step(np.full((*SHAPE, 2), images), [0, 1], SGD(0.1))


def test_another_thread_waits_while_a_net_computes():
    seen = []

    class Looks(Toy):
        def fprop_cpu(self, x, y, beta, train):
            seen.append(other.submit(is_free).result())
            super().fprop_cpu(x, y, beta, train)

    def is_free():
        if got := net.lock.acquire(blocking=False):
            net.lock.release()
        return got

    net = Net(Looks(), SHAPE, 5, MeanSquaredError())
    with ThreadPoolExecutor(1) as other:
        net.predict(numbers(7, *SHAPE))
        net.train_step(numbers(*SHAPE, 5), numbers(*SHAPE, 5), SGD(0.1))
        evaluate(net, Dataset(numbers(5, *SHAPE), numbers(5, *SHAPE)))
        assert seen == [False] * 4 and other.submit(is_free).result()


# -- train_step -------------------------------------------------------------------------------------


def test_the_loss_falls_and_the_clock_advances():
    net = small()
    x, labels = data()
    solver = SGD(0.2, momentum=0.9)
    losses = [net.train_step(x, labels, solver) for _ in range(20)]
    assert type(losses[0]) is float and losses[-1] < 0.5 * losses[0]
    assert net.clock.step == 20


def test_a_step_is_training_and_a_prediction_is_not():
    net = Net([Centre(), Total()], SHAPE, 5, SoftmaxCrossEntropy())
    x, labels = data()
    mean = net.persistent["0/centre.mean"]
    net.fprop(x)
    net.predict(x.transpose(3, 0, 1, 2))
    assert (mean == 0).all()
    net.train_step(x, labels, SGD(0.1))
    np.testing.assert_allclose(mean, 0.1 * x.mean(axis=(1, 2, 3), keepdims=True), rtol=1e-5)


def test_a_step_by_hand():
    net = Net(Total(2), (1, 1, 2), 1, MeanSquaredError(), dtype="float64")
    net.params["total.w"][...] = [[1, 2], [3, 4]]
    x, target = np.array([1.0, -1]).reshape(1, 1, 2, 1), np.array([1.0, 0]).reshape(2, 1, 1, 1)
    loss = net.train_step(x, target, SGD(0.5))
    assert loss == (4 + 1) / 2  # y = (-1, -1), less (1, 0)
    error = np.array([-2.0, -1])  # the loss's slope: 2 * (y - target) / 2
    np.testing.assert_allclose(net.params["total.w"], [[1, 2], [3, 4]] - 0.5 * np.outer(error, [1, -1]))
    np.testing.assert_allclose(net.params["total.b"], -0.5 * error)


def test_no_loss_or_labels_that_do_not_fit():
    x, labels = data()
    with pytest.raises(MinetError, match=r"no loss to train with\n  hint: Net\(\.\.\., loss="):
        Net(Toy(), SHAPE, 5).train_step(x, labels, SGD(0.1))
    net = small()
    for wrong in (labels[:4], labels + 1, labels - 2, labels * 1.0, np.eye(5)):
        with pytest.raises(MinetError, match="label"):
            net.train_step(x, wrong, SGD(0.1))
    with pytest.raises(MinetError, match=r"takes a solver such as SGD\(0.01\), got <class .*SGD'>"):
        net.train_step(x, labels, SGD)
    assert net.clock.step == 0


def test_labels_may_be_a_list():
    x, labels = data()
    assert small().train_step(x, labels.tolist(), SGD(0.1)) == small().train_step(x, labels, SGD(0.1))


class Breaks(Identity):
    """NaN in y, or in dx, from a given step on."""

    def __init__(self, forward, at=0):
        self.forward, self.at = forward, at

    def fprop(self, x, y, beta=0.0, train=True):
        super().fprop(x, y, beta, train)
        if self.forward and self.clock.step >= self.at:
            y[0, 0, 0, 0] = np.nan

    def bprop(self, x, dy, dx, beta=0.0):
        if dx is not None:
            super().bprop(x, dy, dx, beta)
            dx[0, 0, 0, 0] = np.nan if not self.forward and self.clock.step >= self.at else 0.0


def unharmed(net, x, labels, match):
    """Two good steps, then one that must fail and change nothing."""
    solver = SGD(0.1, momentum=0.9)
    for _ in range(2):
        net.train_step(x, labels, solver)
    before = {path: value.copy() for path, value in (net.params | net.persistent).items()}
    velocity = {path: value.copy() for path, value in solver.velocity.items()}
    for _ in range(2):
        with pytest.raises(NotFiniteError, match=match) as caught:
            net.train_step(x, labels, solver)
        for path, value in (net.params | net.persistent).items():
            np.testing.assert_array_equal(value, before[path])
            assert np.isfinite(value).all()
        for path, value in solver.velocity.items():
            np.testing.assert_array_equal(value, velocity[path])
        assert net.clock.step == 2
    assert "fprop" not in vars(net.graph.children[0])
    return str(caught.value)


def test_a_nan_names_the_layer_and_harms_nothing():
    graph = [Toy(), Centre(), Sum(Identity(), [Breaks(True, at=2), Centre()]), Centre(), Total()]
    net = Net(graph, SHAPE, 5, SoftmaxCrossEntropy())
    text = unharmed(net, *data(), "the loss is nan at step 2")
    assert "the first output that is not finite comes from 2/1/0:Breaks (" in text
    assert "hint: lower the learning rate" in text


def test_a_nan_gradient_names_the_parameter():
    net = Net([Toy(), Centre(), Breaks(False, at=2), Total()], SHAPE, 5, SoftmaxCrossEntropy())
    text = unharmed(net, *data(), "the gradient of 0/toy.a is not finite at step 2")
    assert re.search(r": it comes from bprop of 2:Breaks \(.*\): dx\[0, 0, 0, 0\], where x is -?\d", text)
    assert "hint: lower the learning rate, or check what its bprop does there" in text
    assert "bprop" not in vars(net.graph.children[0])


def test_a_nan_gradient_of_the_loss_is_told():
    class Broken(MeanSquaredError):
        def loss_cpu(self, y, labels, dy=None):
            if dy is not None:
                dy[...] = np.nan
            return 1.0

    net = Net([Toy(), Total()], SHAPE, 5, Broken())
    with pytest.raises(NotFiniteError, match="at step 0: the gradient that the loss gives is not finite"):
        net.train_step(data()[0], np.zeros((*net.output_shape, 5)), SGD(0.1))


def test_nan_in_data_is_distinguished_from_nan_in_parameters():
    net = small()
    x, labels = data()
    net.train_step(x, labels, SGD(0.1))
    kept = net.persistent["1/1/0/centre.mean"].copy()
    bad = x.copy()
    bad[1, 2, 3, 4] = np.nan
    with pytest.raises(NotFiniteError, match=r"the loss is nan at step 1: the data is not finite"):
        net.train_step(bad, labels, SGD(0.1))
    np.testing.assert_array_equal(net.persistent["1/1/0/centre.mean"], kept)
    net.params["2/total.b"][1] = np.nan
    with pytest.raises(NotFiniteError, match=r"the parameter 2/total.b is not finite"):
        net.train_step(x, labels, SGD(0.1))


def test_a_loss_that_is_not_finite_by_itself():
    class Broken(MeanSquaredError):
        def loss_cpu(self, y, labels, dy=None):
            return float("inf")

    net = Net(Toy(), SHAPE, 5, Broken())
    with pytest.raises(NotFiniteError, match=r"the loss is inf at step 0: every layer's output is finite"):
        net.train_step(data()[0], numbers(*SHAPE, 5), SGD(0.1))


# -- memory and the summary -------------------------------------------------------------------------


def test_steps_allocate_nothing_that_stays():
    net = Net([Toy(), Centre(), Sum(Identity(), [Toy(), Toy()]), Total()], SHAPE, 64, SoftmaxCrossEntropy())
    x, labels = data(64)
    solver = SGD(0.01, momentum=0.9)

    def traced(steps):
        for _ in range(steps):
            net.train_step(x, labels, solver)
        return tracemalloc.get_traced_memory()[0]

    traced(3)
    tracemalloc.start()
    try:
        first = traced(5)
        grown = traced(30) - first
    finally:
        tracemalloc.stop()
    assert grown < 2048 < net.graph.s.y0.nbytes


def test_a_steady_step_allocates_nothing_of_an_activations_size():
    """Neither in NumPy nor in a kernel: tracemalloc sees both."""
    block = Concat([Conv(8, 1), PReLU()], [GaussianPool(3, stride=1, pad=1, kernels=2)])
    graph = [
        Conv(32, 5, pad=2),
        ReLU(),
        block,
        LRN(),
        MaxPool(2),
        BatchNorm(),
        StochasticPool(3),
        Dropout(0.5),
    ]
    net = Net([*graph, AvgPool(2), Linear(10)], (3, 32, 32), 64, SoftmaxCrossEntropy())
    x, labels, solver = numbers(3, 32, 32, 64) % 1, np.arange(64) % 10, SGD(1e-3, momentum=0.9)
    x = net.be.array(x)

    def peak():
        tracemalloc.start()
        try:
            net.train_step(x, labels, solver)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    net.train_step(x, labels, solver)
    # Per thread, GaussianPool's bprop takes a map for each of two kernels, and a row.
    maps = 3 * numba.get_num_threads() * net.graph.s.y0[0].nbytes
    assert peak() < maps + 0.1 * net.graph.s.y0.nbytes
    relu, shape = net.graph.layers[1], net.graph.s.y1.shape
    fprop, relu.fprop = relu.fprop, lambda *args: (np.empty(shape, np.float32), fprop(*args))
    assert peak() > net.graph.s.y1.nbytes, "an allocation would be seen"


def test_nbytes_counts_all():
    net = Net(Sequential(Centre(), Tallest(), Toy()), (2, 3, 4), 16)
    y = 4 * 2 * 1 * 4 * 16
    expected = {
        "x": 4 * 2 * 3 * 4 * 16,
        "y and dy": 2 * y,
        "parameters and gradients": 2 * 64,
        "the mean, and its copy": 2 * 64,
        "activations": 4 * 2 * 3 * 4 * 16 + y,
        "deltas": 4 * 2 * 3 * 4 * 16 + y,
        "rows": y,
    }
    assert net.nbytes == sum(expected.values())


def test_summary():
    first = Toy()
    graph = [first, Concat(Identity(), [first.twin(), Tallest()][:1]), Total(units=300)]
    net = Net(graph, SHAPE, 5)
    lines = net.summary().splitlines()
    assert lines[0].split() == ["path", "layer", "output", "(C,", "H,", "W)", "writes", "parameters"]
    assert set(lines[1]) == {"-", " "}
    assert [line.split() for line in lines[2:6]] == [
        ["0", "Toy()", "2x3x4", "2"],
        ["1/0", "Identity()", "2x3x4", "y[0:2]", "0"],
        ["1/1/0", "Toy()", "2x3x4", "y[2:4]", "shared"],
        ["2", "Total(units=300)", "300x1x1", "14,700"],
    ]
    assert lines[6] == ""
    assert lines[7] == "14,702 parameters, input 2x3x4, batch 5, float32, 0.1 MiB on cpu"
    assert len({len(line) for line in lines[:6]}) == 1


def test_summary_shows_the_memory_of_training():
    net = Net([Conv(4, 3, pad=1), Total()], (3, 64, 64), 64, SoftmaxCrossEntropy())
    kept = net.memory.flat_params.nbytes  # the solver's velocities; the input counts among the net's own
    assert net.peak_nbytes == net.nbytes + kept + net.be.own_memory
    (last,) = (line for line in net.summary().splitlines() if "while training" in line)
    assert f"{net.nbytes / 2**20:.1f} MiB on cpu, {net.peak_nbytes / 2**20:.1f} MiB while training" in last

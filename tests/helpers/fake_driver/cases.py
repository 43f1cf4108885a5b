"""The cases that test_cuda.py and test_cublas.py run on the doubles, each in its own process.

``python -m fake_driver.cases NAME`` runs one of its functions; a failed assertion ends in a traceback.
"""

from __future__ import annotations

import ctypes
import gc
import os
import shutil
import sys
import sysconfig
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from minet import Layer, LayerError, MinetError, Net, Sequential, backends
from minet.backends import cublas, cuda_toolkit, nvidia
from minet.core.finite import NotFiniteError
from minet.core.loss import BinaryCrossEntropy, Huber, SoftmaxCrossEntropy
from minet.layers import (
    AvgPool,
    BatchNorm,
    Conv,
    Dropout,
    GaussianPool,
    Linear,
    MaxPool,
    PReLU,
    ReLU,
    StochasticPool,
)
from minet.testing import check_layer
from minet.train.optim import SGD, Adam, AdamW


class Astray(Layer):
    """Its kernel (astray.cu) writes far beyond y."""

    def out_shape(self, in_shape: Any) -> Any:
        return in_shape

    def fprop_cpu(self, x: Any, y: Any, beta: float, train: bool) -> None:
        y[...] = x

    def bprop_cpu(self, x: Any, dy: Any, dx: Any, beta: float) -> None:
        dx[...] = dy


class Offered:
    """Another library's array in GPU memory, of which only the interface is known."""

    def __init__(self, array: Any, **changed: Any) -> None:
        self.array = array
        self.__cuda_array_interface__ = array.__cuda_array_interface__ | changed


def error_of(call: Callable[[], Any], kind: type[Exception] = MinetError) -> str:
    """The message of the error that a call must raise."""
    try:
        call()
    except kind as error:
        return str(error)
    raise AssertionError(f"no {kind.__name__}")


def calls() -> list[str]:
    """The driver's calls so far; DOUBLE_LOG must be set."""
    return Path(os.environ["DOUBLE_LOG"]).read_text().split()


def holds(text: str, *parts: str) -> None:
    for part in parts:
        assert part in text, f"{part!r} is not in:\n{text}"


def values(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# -- layers and nets -------------------------------------------------------------------------------------


def conformance() -> None:
    """Layers of every kind pass the kit, including its parity check against the cpu."""
    makers = {
        "a kernel alone": (ReLU, (3, 7, 6)),
        "a state that persists, and sums": (BatchNorm, (3, 7, 6)),
        "an index of bytes": (lambda: MaxPool(3, stride=2, pad=1), (3, 7, 6)),
        "random draws": (lambda: StochasticPool((4, 2), stride=(1, 3), pad=(2, 1)), (2, 5, 8)),
        "products that read images": (lambda: Conv(4, 3, pad=1), (3, 7, 6)),
        "a product alone": (lambda: Linear(5), (3, 2, 4)),
        "two kernels, and working memory": (lambda: GaussianPool(3, stride=1, pad=1, kernels=2), (2, 7, 6)),
    }
    for what, (make, shape) in makers.items():
        report = check_layer(make, shape, backend="cuda")
        assert report.ok, f"{what}:\n{report}"
        ran = {check.name for check in report.checks if check.status == "PASS"}
        assert "parity_cuda" in ran and len(ran) > 10, f"{what}:\n{report}"


def graph() -> list[Layer]:
    return [
        Conv(6, 3, pad=1),
        BatchNorm(),
        PReLU(),
        GaussianPool(3, 2, 1, kernels=2),
        Dropout(0.2),
        Linear(5),
    ]


def training() -> None:
    """Losses and parameters follow the cpu's, step by step."""
    x, labels = values(3, 8, 8, 10), np.arange(10) % 5
    losses = {}
    nets = {}
    for name in ("cpu", "cuda"):
        net = nets[name] = Net(graph(), (3, 8, 8), 10, SoftmaxCrossEntropy(), backend=name, seed=3)
        solver = SGD(0.05, momentum=0.9, weight_decay=1e-3)
        losses[name] = [net.train_step(x, labels, solver) for _ in range(8)]
    np.testing.assert_allclose(losses["cuda"], losses["cpu"], rtol=1e-4)
    assert losses["cuda"][-1] < 0.7 * losses["cuda"][0], losses
    for path, value in nets["cpu"].params.items():
        np.testing.assert_allclose(
            nets["cuda"].be.get(nets["cuda"].params[path]), value, rtol=1e-3, atol=1e-5
        )
    assert "on cuda" in nets["cuda"].summary()
    images = values(7, 3, 8, 8, seed=1)
    np.testing.assert_allclose(
        nets["cuda"].predict(images), nets["cpu"].predict(images), rtol=1e-3, atol=1e-4
    )


def synchronous_training() -> None:
    """With sync=True each launch is waited for, and the results are the same."""
    x, labels = values(3, 8, 8, 4), np.arange(4)
    losses = []
    for sync in (False, True):
        net = Net(graph(), (3, 8, 8), 4, SoftmaxCrossEntropy(), backend=backends.get("cuda", sync=sync))
        before = len(calls())
        losses.append(net.train_step(x, labels, SGD(0.1)))
        made = calls()[before:]
        launched, waited = made.count("cuLaunchKernel"), made.count("cuCtxSynchronize")
        assert launched > 10 and (waited > launched if sync else waited == 0), (launched, waited)
    assert losses[0] == losses[1], losses


SOLVERS = (lambda: SGD(0.05, momentum=0.9), lambda: AdamW(0.01), lambda: Adam(0.01, clip_norm=0.5))


def stepped(
    be: Any, steps: int, wait: bool = True, make: Callable[[], Any] = SOLVERS[0]
) -> tuple[Net, list[float], np.ndarray]:
    """A net after some steps, their losses, and all that it and its solver have learned as words."""
    net, solver = Net(graph(), (3, 8, 8), 10, SoftmaxCrossEntropy(), backend=be, seed=3), make()
    solver.schedule = lambda epoch: 1 / (1 + epoch)  # the rate changes with each step
    started = []
    for i in range(steps):
        solver.epoch = i
        started.append(net.start_step(values(3, 8, 8, 10, seed=i), (np.arange(10) + i) % 5, solver))
        if wait:
            started[-1].loss()
        if i == 6:
            net.predict(values(4, 3, 8, 8))  # a test in between changes nothing
    losses = [step.loss() for step in started]
    arrays = [*net.params.values(), *net.persistent.values(), *solver.state(net).values()]
    return net, losses, np.concatenate([net.be.get(array).ravel().view(np.uint32) for array in arrays])


def launches(call: Callable[[], Any]) -> tuple[int, int]:
    """How many kernels and how many graphs a call launches."""
    before = len(calls())
    call()
    made = calls()[before:]
    return made.count("cuLaunchKernel"), made.count("cuGraphLaunch")


def captured() -> None:
    """A step is captured after two alike, and replays give the bits of plain launches, drop-out and all."""
    for make in SOLVERS[1:]:
        _, expected, bits = stepped(backends.get("cuda", sync=True), 6, make=make)
        net, losses, found = stepped(backends.get("cuda"), 6, False, make)
        assert net.steps.captured and losses == expected, (losses, expected)
        np.testing.assert_array_equal(found, bits)
    plain, expected, bits = stepped(backends.get("cuda", sync=True), 12)
    assert not plain.steps.captured and "--sync" in plain.steps.why, plain.steps.why
    for wait in (True, False):
        net, losses, found = stepped(backends.get("cuda"), 12, wait)
        assert net.steps.captured and not net.steps.why, net.steps.why
        assert losses == expected, (losses, expected)
        np.testing.assert_array_equal(found, bits)
    x, labels = values(3, 8, 8, 10), np.arange(10) % 5
    for solver, own in zip([make() for make in SOLVERS], (1, 1, 3), strict=True):  # launches of the update
        net = Net(graph(), (3, 8, 8), 10, SoftmaxCrossEntropy(), backend="cuda")
        made = [launches(lambda net=net, own=solver: net.train_step(x, labels, own)) for _ in range(5)]
        assert [graphs for _, graphs in made] == [0, 0, 1, 1, 1], made
        assert made[0][0] > 15 and [kernels for kernels, _ in made[3:]] == [own, own], made
    # The bias of the conv has 2 x 8 partial sums: as many bytes as the labels, whose memory they take next.
    wide = Net([Conv(2, 1), AvgPool(), Linear(5)], (1, 32, 64), 16, SoftmaxCrossEntropy(), backend="cuda")
    for _ in range(3):
        wide.train_step(values(1, 32, 64, 16), np.arange(16) % 5, SGD(0.05))
    assert wide.steps.captured, wide.steps.why
    # Replays write to nobody else's memory, whatever is allocated meanwhile.
    sizes = [1, 10, 40, 80, 20]
    mine = [net.be.array(values(size, seed=i)) for i, size in enumerate(sizes * 4)]
    net.train_step(x, labels, solver)
    for i, array in enumerate(mine):
        np.testing.assert_array_equal(net.be.get(array), values(sizes[i % 5], seed=i))


def labels_of_every_form() -> None:
    """A captured step takes each batch's labels, however many are ignored; other forms are launched."""
    shape, draw = (4, 3, 5, 10), np.random.default_rng(0)
    numbers = [np.where(draw.uniform(size=shape[1:]) < i / 12, -1, i % 4) for i in range(12)]
    shares = [each / each.sum(axis=0) for each in draw.uniform(0.1, 1, (12, *shape)).astype(np.float32)]
    mixed = [*numbers[:6], *shares[6:9], *numbers[9:]]
    forms = {
        "maps": (SoftmaxCrossEntropy(), numbers),
        "a Dataset's maps": (SoftmaxCrossEntropy(0.1, (1, 2, 0, 3)), [each[np.newaxis] for each in numbers]),
        "probabilities": (SoftmaxCrossEntropy(), shares),
        "now this, now that": (SoftmaxCrossEntropy(weights=(1, 2, 0, 3)), mixed),
        "yes or no": (BinaryCrossEntropy(), shares),
        "numbers": (Huber(0.5), shares),
    }

    def run(be: Any, loss: Any, labels: list[Any]) -> tuple[Net, list[float]]:
        net, solver = Net([PReLU(), Conv(4, 1)], (3, 3, 5), 10, loss, backend=be, seed=3), SGD(0.1)
        x = (values(3, 3, 5, 10, seed=i) for i in range(len(labels)))
        return net, [net.train_step(batch, each, solver) for batch, each in zip(x, labels, strict=True)]

    for what, (loss, labels) in forms.items():
        plain, expected = run(backends.get("cuda", sync=True), loss, labels)
        net, losses = run(backends.get("cuda"), loss, labels)
        assert net.steps.captured and losses == expected, (what, net.steps.why, losses, expected)
        for path, value in net.params.items():
            np.testing.assert_array_equal(net.be.get(value), plain.be.get(plain.params[path]), what)
        np.testing.assert_allclose(run("cpu", loss, labels)[1], expected, rtol=1e-4, err_msg=what)


def not_captured() -> None:
    """What the host must do again is launched each time, and the net says why."""

    class Toggles(ReLU):
        scale = 1.0

        def bprop_gpu(self, x: Any, dy: Any, dx: Any, beta: float) -> None:
            self.be.axpby(1.0 + self.clock.now % 2, dy, beta, dx)

    class Reads(ReLU):
        def bprop_gpu(self, x: Any, dy: Any, dx: Any, beta: float) -> None:
            self.be.axpby(float(np.sign(self.be.get(dy).size)), dy, beta, dx)

    class ReadsStep(ReLU):
        def bprop_gpu(self, x: Any, dy: Any, dx: Any, beta: float) -> None:
            self.be.axpby(1.0 if self.clock.step < 1000 else 0.5, dy, beta, dx)

    class Counts(ReLU):
        calls = 0

        def bprop_gpu(self, x: Any, dy: Any, dx: Any, beta: float) -> None:
            self.calls += 1
            self.be.axpby(1.0, dy, beta, dx)

    class OwnStream(ReLU):
        def bprop_gpu(self, x: Any, dy: Any, dx: Any, beta: float) -> None:
            dx.set(np.zeros(dx.shape, np.float32))  # in the default stream, behind the backend's back

    class OwnLoss(SoftmaxCrossEntropy):
        def loss_gpu(self, y: Any, labels: Any, dy: Any = None) -> Any:
            return float(self.be.get(super().loss_gpu(y, labels, dy)).sum())

    def why(layer: Layer, loss: Any = SoftmaxCrossEntropy) -> str:
        net, solver = Net([layer, Linear(5)], (3, 4, 4), 10, loss(), backend="cuda"), SGD(0.1)
        for i in range(6):
            assert np.isfinite(net.train_step(values(3, 4, 4, 10, seed=i), np.arange(10) % 5, solver))
        assert not net.steps.captured
        return net.steps.why

    graph = lambda layer: Sequential(PReLU(), layer)  # noqa: E731
    holds(why(graph(Toggles())), "different kernels or arguments")
    holds(why(graph(Reads())), "0/1:Reads", "reads an array on the host")
    holds(why(graph(ReadsStep())), "clock.step")
    holds(why(graph(Counts())), "0/1:Counts", "calls", "has changed")
    holds(why(graph(OwnStream())), "legacy stream")
    holds(why(ReLU(), OwnLoss), "OwnLoss", "reads an array on the host")


def changed_settings() -> None:
    """After a change of a layer's settings, or of the batch size, nothing stale is replayed."""

    def run(be: Any) -> tuple[list[float], list[bool]]:
        drop = Dropout(0.2)
        net = Net([PReLU(), drop, Linear(5)], (3, 4, 4), 10, SoftmaxCrossEntropy(), backend=be)
        losses, captured, solver = [], [], SGD(0.1, momentum=0.5)
        for i in range(16):
            if i == 6:
                drop.rate, drop.threshold, drop.scale = 0.7, int(0.7 * 2**32), 1 / 0.3
            if i == 12:
                net.resize(5)
            if i == 14:
                solver.momentum = 0.9
            x = values(3, 4, 4, net.batch, seed=i)
            losses.append(net.train_step(x, np.arange(net.batch) % 5, solver))
            captured.append(net.steps.captured)
        return losses, captured

    expected, _ = run(backends.get("cuda", sync=True))
    losses, captured = run(backends.get("cuda"))
    assert losses == expected, (losses, expected)
    assert captured[5] and not captured[6] and captured[11] and not captured[12] and captured[15], captured


def parts_of_batches() -> None:
    """A captured step draws for its part of a batch; a step of another part is launched."""

    def run(be: Any) -> tuple[list[float], list[bool]]:
        layers = [PReLU(), StochasticPool(2), Dropout(0.2), Linear(5)]
        net = Net(layers, (3, 4, 4), 8, SoftmaxCrossEntropy(), backend=be)
        losses, captured, solver = [], [], SGD(0.1)
        for i in range(14):
            net.clock.part = (3, 22) if i == 7 else None if i == 9 else (8, 22)
            losses.append(net.train_step(values(3, 4, 4, 8), np.arange(8) % 5, solver))
            captured.append(net.steps.captured)
        return losses, captured

    expected, _ = run(backends.get("cuda", sync=True))
    losses, captured = run(backends.get("cuda"))
    assert losses == expected and all(captured[6:]), (losses, expected, captured)
    np.testing.assert_allclose(run("cpu")[0], expected, rtol=1e-4)


def refused_steps() -> None:
    """A step that is not finite, and the one queued behind it, change nothing; the error names the step."""
    for first in (1, 6):  # launched one by one, and captured
        for kind, make in (("x", SOLVERS[2]), ("x", SOLVERS[0]), ("w", SOLVERS[0])):
            net = Net(
                [BatchNorm(), PReLU(), Dropout(0.1), Linear(5)], (3, 4, 4), 10, SoftmaxCrossEntropy(), "cuda"
            )
            solver, labels = make(), np.arange(10) % 5
            for i in range(first):
                net.train_step(values(3, 4, 4, 10, seed=i), labels, solver)
            arrays = {**net.params, **net.persistent, **solver.state(net)}
            before = {path: net.be.get(array) for path, array in arrays.items()}
            bad = values(3, 4, 4, 10, seed=9)
            if kind == "x":
                bad[1, 2, 2, 5] = np.inf
            else:
                kept = net.be.get(net.params["3/linear.w"])
                net.be.copy(kept * np.float32(3e38), net.params["3/linear.w"])
                before["3/linear.w"] = kept * np.float32(3e38)
            one = net.start_step(bad, labels, solver)
            two = net.start_step(values(3, 4, 4, 10, seed=10), labels, solver)
            assert net.clock.now == first + 2
            found = error_of(one.loss, NotFiniteError)
            holds(found, f"at step {first}")
            if kind == "x":
                holds(found, "the data is not finite, first in sample 5")
            assert error_of(two.loss, NotFiniteError) == found
            assert net.clock.now == first and not net.steps.waiting
            for path, array in {**arrays, **solver.state(net)}.items():
                np.testing.assert_array_equal(net.be.get(array), before[path], path)
            if kind == "x":  # and training goes on
                assert np.isfinite(net.train_step(values(3, 4, 4, 10, seed=11), labels, solver))
    # Whatever else uses the net reads the verdict too.
    net.be.copy(kept, net.params["3/linear.w"])
    bad[...] = np.nan
    net.start_step(bad, labels, solver)
    holds(error_of(lambda: net.fprop(values(3, 4, 4, 10)), NotFiniteError), f"at step {first}")
    net.fprop(values(3, 4, 4, 10))


def own_solver() -> None:
    """A solver that does not know of verdicts is called only after the step was found to be finite."""

    class Plain:
        def update(self, net: Net) -> None:
            for slot in net.slots:
                net.be.axpby(-0.1, slot.grad, 1.0, slot.value)

    net, x = Net([PReLU(), Linear(5)], (3, 4, 4), 10, SoftmaxCrossEntropy(), "cuda"), values(3, 4, 4, 10)
    for _ in range(5):
        net.train_step(x, np.arange(10) % 5, Plain())
    before = [net.be.get(value) for value in net.params.values()]
    x[0, 0, 0, 0] = np.nan
    error_of(lambda: net.start_step(x, np.arange(10) % 5, Plain()), NotFiniteError)
    for value, kept in zip(net.params.values(), before, strict=True):
        np.testing.assert_array_equal(net.be.get(value), kept)


def other_streams() -> None:
    """An array of another stream is waited for on the device; page-locked memory is not reused too early."""
    import pycuda.driver as drv

    be = backends.get("cuda")
    theirs, host = drv.Stream(1), drv.pagelocked_empty((1 << 15,), np.float32)  # 1: not blocking
    host[:] = 7
    array = be.zeros((1 << 15,))
    be.wait()
    drv.memcpy_htod_async(be.address(array), host, theirs)  # runs late
    waited = calls().count("cuCtxSynchronize")
    mine = be.duplicate(be.array(Offered(array, stream=theirs.handle)))
    assert calls().count("cuCtxSynchronize") == waited
    assert (be.get(mine) == 7).all()
    arrays, made = [be.empty((1 << 15,)) for _ in range(7)], len(calls())
    for i, to in enumerate(arrays):
        be.copy(np.full(1 << 15, i, np.float32), to)
    assert [be.get(to)[0] for to in arrays] == [0, 1, 2, 3, 4, 5, 6]
    assert calls()[made:].count("cuMemcpyDtoDAsync_v2") == 6  # from places that a second stream has filled
    for size in range(20, 28):  # more sizes than are kept
        for i in range(3):
            host = np.full(1000 * size, i, np.float32)
            to = be.array(host)
            host[:] = -1
            assert (be.get(to) == i).all()


def modules() -> None:
    """A second net reloads no module and starts no second cuBLAS handle."""
    for count in range(2):
        before = len(calls()) if count else 0
        Net([ReLU(), Linear(3)], (2, 2, 2), 2, backend="cuda").fprop(values(2, 2, 2, 2))
    assert "cuLaunchKernel" in calls()[before:] and "cuModuleLoadData" not in calls()[before:]
    assert calls().count("cuModuleLoadData") == 2  # relu.cu, and arithmetic.cu for the bias
    assert cublas.library("cublas").double_handles() == 1


# -- arrays ----------------------------------------------------------------------------------------------


def memory() -> None:
    """empty, zeros, array, get, copy and fill work on all types and on slices."""
    be = backends.get("cuda")
    assert np.isnan(be.get(be.empty((3,)))).all()  # the double's fresh memory: empty does not clear it
    for dtype in ("float32", "float64", "uint8", "bool", "int16", "int32", "int64"):
        for value in (0, 1) if dtype == "bool" else (0, 1, 77):
            array = be.empty((2, 3), dtype)
            be.fill(array, value)
            got = be.get(array)
            assert got.dtype == dtype and (got == value).all(), (dtype, value, got)
    odd = be.empty((4,))
    be.fill(odd, np.nan)
    assert np.isnan(be.get(odd)).all() and not be.sum_is_finite(odd)
    assert be.sum_is_finite(be.zeros((5, 3)))

    host = values(4, 5, 6)
    native = be.array(host)
    assert be.array(native) is native and native.flags.c_contiguous
    np.testing.assert_array_equal(be.get(native[1:3]), host[1:3])
    np.testing.assert_array_equal(be.get(native[:, 1:3, 2:5]), host[:, 1:3, 2:5])
    np.testing.assert_array_equal(be.get(be.array(native[:, 1:3])), host[:, 1:3])
    np.testing.assert_array_equal(be.get(be.array(host.T)), host.T)
    np.testing.assert_array_equal(be.get(be.array([[1, 2]], "int32")), [[1, 2]])
    be.copy(host[:2] * 2, native[2:])
    be.copy(native[2:], native[:2])
    np.testing.assert_array_equal(be.get(native), np.concatenate([host[:2] * 2] * 2))
    be.copy(np.float64(3), native)
    assert (be.get(native) == 3).all()
    be.copy(be.array([1, 2, 3], "int32"), odd[:3])
    np.testing.assert_array_equal(be.get(odd)[:3], [1, 2, 3])
    holds(error_of(lambda: be.fill(native[:, 1:3], 0)), "C-contiguous")
    assert be.get(host) is host
    holds(error_of(lambda: be.address(host)), "host memory", "ndarray")
    holds(error_of(lambda: backends.get("cuda", "float64")), "float32")


def shelf() -> None:
    """Memory needed at each step is not allocated by the driver each time, and is never lent twice."""
    be = backends.get("cuda")
    for _ in range(2):  # from the second one of its size on, it is brought to the card ahead
        be.array(values(100, 100, 100))
    before = calls().count("cuMemAlloc_v2")
    for _ in range(5):
        be.array(values(100, 100, 100))
    assert calls().count("cuMemAlloc_v2") == before
    one, two = be.array(values(10, seed=1)), be.array(values(10, seed=2))
    np.testing.assert_array_equal(be.get(one), values(10, seed=1))
    part = two[3:]
    del two
    three = be.array(values(10, seed=3))  # not in memory that a slice still uses
    np.testing.assert_array_equal(be.get(part), values(10, seed=2)[3:])
    np.testing.assert_array_equal(be.get(three), values(10, seed=3))
    held = be.free_memory()
    one = part = three = None
    assert be.free_memory() > held


def offered() -> None:
    """Anything with a __cuda_array_interface__ is used in place, and kept alive."""
    be = backends.get("cuda")
    theirs = be.array(values(2, 3, 3, 4))
    offer = Offered(theirs)
    array = be.array(offer)
    assert be.address(array) == be.address(theirs) == be.address(offer)
    assert array.__cuda_array_interface__["data"][0] == be.address(theirs)
    alive = weakref.ref(offer)
    part = array[1:]
    del offer, array
    gc.collect()
    assert alive() is not None
    np.testing.assert_array_equal(be.get(part), be.get(theirs)[1:])
    del part
    gc.collect()
    assert alive() is None

    net = Net([ReLU(), Linear(2)], (2, 3, 3), 4, backend=be)
    expected = be.get(net.fprop(values(2, 3, 3, 4)))
    y = net.fprop(Offered(theirs), train=True)
    assert not be.overlap(net.x, theirs)  # a net keeps a copy: theirs may change before bprop
    np.testing.assert_array_equal(be.get(y), expected)
    net.bprop(Offered(be.array(np.ones(net.y.shape, np.float32))))
    holds(error_of(lambda: net.fprop(Offered(theirs[:, :2])), LayerError), "(2, 3, 3, 4)", "(2, 2, 3, 4)")

    # What does not fit is copied.
    for other, wanted in (
        (Offered(theirs[:, 1:]), be.get(theirs)[:, 1:]),
        (Offered(be.array(np.arange(6), "int32")), np.arange(6)),
        (Offered(be.zeros((0, 3))), np.zeros((0, 3))),
    ):
        copied = be.array(other)
        np.testing.assert_array_equal(be.get(copied), wanted)
        assert copied.dtype == np.float32 and copied.flags.c_contiguous
    holds(error_of(lambda: be.array(Offered(theirs, mask=theirs))), "masked")
    made = len(calls())
    be.array(Offered(theirs, stream=1))
    assert not calls()[made:]


def empty_arrays() -> None:
    """Arrays without elements work in every operation; so does a net without state."""
    be = backends.get("cuda")
    for array in (be.zeros((0,)), be.empty((3, 0, 2)), be.array(np.zeros((0, 4)))):
        be.fill(array, 1)
        be.copy(array, array)
        assert be.sum_is_finite(array) and be.get(array).shape == array.shape
        assert be.array(array) is array
    nothing = be.empty((0,), "uint8")
    assert nothing[0:0].view(np.float32).reshape((0,)).dtype == np.float32
    assert nothing.reshape(1, -1).shape == (1, 0)
    be.axpby(1.0, be.zeros((0,)), 0.0, be.zeros((0,)))
    net = Net([ReLU()], (1, 2, 2), 1, backend=be)
    assert net.memory.flat_params.size == 0 and not net.persistent
    y = be.get(net.fprop(-np.ones((1, 2, 2, 1), np.float32)))
    assert (y == 0).all()


def slices() -> None:
    """Kernels and products write to a slice, and nowhere else."""
    be = backends.get("cuda")
    canvas, x = be.array(np.full((6, 2, 2, 3), 9.0)), values(2, 2, 2, 3)
    net = Net([ReLU()], (2, 2, 2), 3, backend=be)
    net.graph.fprop(be.array(x), canvas[1:3], 0.0, False)
    expected = np.full((6, 2, 2, 3), 9.0, np.float32)
    expected[1:3] = np.maximum(x, 0)
    np.testing.assert_array_equal(be.get(canvas), expected)
    a, b, out = values(4, 5), values(5, 6), np.full((8, 9), 7, np.float32)
    wide = be.array(out)
    be.gemm(be.array(a), be.array(b), wide[2:6, 3:9], alpha=2, beta=0.5)
    out[2:6, 3:9] = 2 * a @ b + 3.5
    np.testing.assert_allclose(be.get(wide), out, rtol=1e-5)
    total = be.zeros((4,))
    be.sum_rows(wide[2:6, 3:9], total)
    np.testing.assert_allclose(be.get(total), out[2:6, 3:9].sum(axis=1), rtol=1e-5)


# -- faults and running out of memory ---------------------------------------------------------------------


def astray(sync: bool) -> Net:
    be = backends.get("cuda", sync=sync)
    return Net(Sequential(ReLU(), Sequential(Astray(), ReLU())), (1, 2, 2), 2, backend=be)


def fault_reported_at_once() -> None:
    """With sync=True a fault is reported with its kernel and its layer."""
    net = astray(sync=True)
    found = error_of(lambda: net.fprop(np.ones((1, 2, 2, 2))), LayerError)
    holds(found, "1/0:Astray", "astray_fprop failed", "illegal memory access", "--backend emu")


def fault_reported_late() -> None:
    """Without sync it surfaces at another call, which is not blamed, and not at launches before that."""
    net = astray(sync=False)
    found = error_of(lambda: net.be.get(net.fprop(np.ones((1, 2, 2, 2)))))
    holds(found, "launched earlier", "illegal memory access", "--sync")
    assert "astray" not in found.lower(), found
    calls = {
        "gemm": lambda: net.be.gemm(net.be.zeros((2, 2)), net.be.zeros((2, 2)), net.be.zeros((2, 2))),
        "empty": lambda: net.be.empty((2 << 20,)),
        "wait": net.be.wait,
        "free_memory": net.be.free_memory,
    }
    for name, call in calls.items():
        holds(f"{name}: {error_of(call)}", "launched earlier", "--sync")


def product_after_fault() -> None:
    """cuBLAS is not blamed for a kernel's fault either."""
    be = backends.get("cuda")
    a = be.array(values(2, 2))
    be.gemm(a, a, be.empty((2, 2)))
    net, out = astray(sync=False), be.empty((2, 2))
    error_of(lambda: net.be.get(net.fprop(np.ones((1, 2, 2, 2)))))
    holds(error_of(lambda: be.gemm(a, a, out)), "launched earlier", "it only showed up in a matrix product")


def too_many_threads() -> None:
    """A launch that the device refuses names its kernel even without sync, and the device still works."""
    be = backends.get("cuda")
    x, y = be.array(values(1000)), be.zeros((1000,))
    found = error_of(lambda: be.axpby(1.0, x, 0.0, y))
    holds(found, "axpby failed", "too many resources", "__launch_bounds__")
    assert "launched earlier" not in found
    be.axpby(1.0, x[:8], 0.0, y[:8])
    np.testing.assert_array_equal(be.get(y[:8]), values(1000)[:8])


def out_of_memory() -> None:
    """If a net does not fit, the error names its needs, the layer, and a batch that does fit."""
    big = lambda: [Conv(4, 3, pad=1), ReLU(), MaxPool(2), Linear(3)]  # noqa: E731
    before = len(calls())
    found = error_of(lambda: Net(big(), (2, 16, 16), 5000, SoftmaxCrossEntropy(), backend="cuda"), LayerError)
    holds(found, "out of device memory", "at batch 5000", "MiB", "Sequential (", "this layer needs the most")
    assert "cuMemAlloc_v2" not in calls()[before:]
    batch = int(found.partition("a batch of ")[2].split()[0])
    assert 10 < batch < 5000
    error_of(lambda: Net(big(), (2, 16, 16), batch + 1, SoftmaxCrossEntropy(), backend="cuda"), LayerError)
    net = Net(big(), (2, 16, 16), batch, SoftmaxCrossEntropy(), backend="cuda")
    x = values(2, 16, 16, batch)
    solver = SGD(0.1)
    for _ in range(2):
        assert np.isfinite(net.train_step(x, np.arange(batch) % 3, solver))

    # A net that grows too large raises the same error, and stays as it was.
    holds(error_of(lambda: net.resize(2 * batch), LayerError), "out of device memory", "Sequential (")
    net.fprop(x)
    net.resize(batch // 2)
    net.resize(batch)
    net.fprop(x)
    holds(error_of(lambda: Net([Linear(2)], (2, 2000, 2000), 1, backend="cuda")), "not even a batch of 1")


def out_of_memory_later() -> None:
    """For any other array that does not fit, the error shows what was requested and what is free."""
    be = backends.get("cuda")
    kept = be.array(values(1 << 20))
    holds(
        error_of(lambda: be.zeros((2, 1 << 20))),
        "out of device memory: 8.0 MiB requested, 4.0 MiB of 8.0 MiB free",
    )
    del kept
    be.zeros((3, 1 << 19))  # memory kept on the shelf is freed for it


# -- what is missing -------------------------------------------------------------------------------------


def _unusable(*parts: str, loads_pycuda: bool = False) -> None:
    reason = backends.missing("cuda")
    holds(reason, parts[0])
    assert "\n" not in reason and "hint" not in reason
    found = error_of(lambda: backends.get("cuda"))
    holds(found, *parts, "hint: ")
    assert backends.get("auto").name == "cpu"
    assert loads_pycuda or not any(name.startswith("pycuda") for name in sys.modules)


def usable() -> None:
    assert backends.missing("cuda") == "" and backends.get("auto").name == "cuda"
    assert backends.get("auto", "float64").name == "cpu"


def no_device() -> None:
    _unusable("no CUDA-capable device")


def mismatched_driver() -> None:
    _unusable("driver does not work", "unsupported display driver")


def old_driver() -> None:
    _unusable("too old", "CUDA 12.4", "13.0", loads_pycuda=True)


def driver_without_calls() -> None:
    """PyCUDA was built for a newer driver."""
    _unusable("PyCUDA does not load", "undefined symbol: cu", "CUDA 13.0", loads_pycuda=True)


def no_pycuda() -> None:
    cuda_toolkit.find_spec = lambda name: None  # type: ignore[assignment]
    _unusable("PyCUDA is not installed", "pip install 'minet-layers[cuda]'")


def no_nvcc() -> None:
    nvidia.nvcc = lambda: ""
    _unusable("nvcc, which compiles the kernels, was not found", "CUDA toolkit", loads_pycuda=True)


def no_cublas() -> None:
    """Without cuBLAS kernels still run, a product reports what is missing, and auto takes the cpu."""
    cublas.NAMES["cublas"] = ("libnothing.so",)
    be = backends.get("cuda")
    be.axpby(1.0, be.zeros((2,)), 0.0, be.zeros((2,)))
    a = be.zeros((2, 2))
    holds(error_of(lambda: be.gemm(a, a, a)), "libcublas was not found", "pip install nvidia-cublas")
    holds(cublas.missing(), "libcublas was not found", "pip install nvidia-cublas")
    assert backends.get("auto").name == "cpu"


def no_scikit_cuda() -> None:
    cublas.find_spec = lambda name: None  # type: ignore[assignment]
    holds(cublas.missing(), "scikit-cuda", "not installed: pip install scikit-cuda")
    a = backends.get("cuda").zeros((2, 2))
    holds(error_of(lambda: backends.get("cuda").gemm(a, a, a)), "scikit-cuda", "pip install scikit-cuda")


def kernels() -> None:
    """Compile two kernels, or take them from the cache."""
    be = backends.get("cuda")
    x, y = be.array(values(300)), be.zeros((300,))
    be.axpby(2.0, x, 0.0, y)
    be.sum_rows(be.zeros((3, 5)), be.zeros((3,)))
    np.testing.assert_array_equal(be.get(y), 2 * values(300))


# -- cuBLAS ----------------------------------------------------------------------------------------------


def products() -> None:
    """All transposes work, on rows a stride apart, with every kind of beta."""
    be = backends.get("cuda")
    rng = np.random.default_rng(5)
    for trans in ("nn", "nt", "tn", "tt"):
        for m, k, n in ((3, 4, 5), (1, 1, 1), (1, 4, 1), (4, 1, 3), (7, 2, 1)):
            a = rng.standard_normal((k, m) if trans[0] == "t" else (m, k)).astype(np.float32)
            b = rng.standard_normal((n, k) if trans[1] == "t" else (k, n)).astype(np.float32)
            product = (a.T if trans[0] == "t" else a) @ (b.T if trans[1] == "t" else b)
            for apart in (0, 3):  # columns next to the matrix, which must not change
                for alpha, beta in ((1.0, 0.0), (-0.5, 1.0), (2.0, 0.5)):
                    wide = [np.pad(x, ((0, 0), (apart, apart)), constant_values=50) for x in (a, b)]
                    out = np.pad(np.full((m, n), 2, np.float32), ((0, 0), (apart, apart)), constant_values=60)
                    if beta == 0:
                        out[:, apart : apart + n] = np.nan
                    native = [be.array(x) for x in (*wide, out)]
                    columns = [x[:, apart : x.shape[1] - apart] for x in native]
                    be.gemm(*columns, alpha=alpha, beta=beta, trans=trans)
                    expected = out.copy()
                    expected[:, apart : apart + n] = alpha * product + (2 * beta if beta else 0)
                    np.testing.assert_allclose(be.get(native[2]), expected, rtol=2e-5, atol=1e-6)
    nothing = be.zeros((0, 3))
    be.gemm(nothing, be.zeros((3, 2)), be.zeros((0, 2)))
    holds(
        error_of(lambda: be.gemm(be.zeros((2, 3)), be.zeros((2, 3)), be.zeros((2, 3)))), "(2, 3) and (2, 3)"
    )
    wrong = be.zeros((2, 2), "float64")
    holds(error_of(lambda: be.gemm(wrong, wrong, wrong)), "float32", "float64")
    column = be.zeros((2, 2, 2))[:, :, 0]
    holds(error_of(lambda: be.gemm(column, column, be.zeros((2, 2)))), "contiguous rows", "strides (16, 8)")


def tf32() -> None:
    """Only a backend that asks for it rounds; the others are not affected."""
    a, b = values(6, 50), values(50, 6, seed=1)
    error = []
    for option in (False, True, False):
        be = backends.get("cuda", tf32=option)
        out = be.empty((6, 6))
        be.gemm(be.array(a), be.array(b), out)
        error.append(float(np.abs(be.get(out) - a.astype(np.float64) @ b).max()))
    assert error[0] == error[2] < 1e-5 < 1e-3 < error[1] < 0.1, error


def patched() -> None:
    """skcuda.cublas loads without opening a handle, and all patches are undone afterwards."""
    own = sys.modules["pkg_resources"] = type(sys)("pkg_resources")
    usual = ctypes.cdll.LoadLibrary
    assert cublas.version() == (13, 0)
    backends.get("cuda")  # cuBLAS needs a context
    module = cublas.load()
    assert module is cublas.load() and module.__name__ == "skcuda.cublas"
    assert cublas.library("cublas").double_handles() == 0
    assert sys.modules["pkg_resources"] is own and ctypes.cdll.LoadLibrary == usual
    assert module._libcublas is cublas.library("cublas") and module._cublas_version >= 13000
    assert "skcuda.misc" not in sys.modules  # broken with NumPy 2


def from_wheels() -> None:
    """The libraries are found where NVIDIA's wheels put them."""
    site, lib = Path(os.environ["CASE_FOLDER"]), Path(os.environ["LD_LIBRARY_PATH"].split(":")[0])
    wheels = {
        "cublas": site / "nvidia" / "cublas" / "lib",
        "cudart": site / "nvidia" / "cuda_runtime" / "lib",
    }
    for name, folder in wheels.items():
        folder.mkdir(parents=True)
        file = cublas.NAMES[name][0]
        shutil.copy(lib / file, folder / file.replace(".so.13", ".so.12"))
        cublas.NAMES[name] = (file.replace(".so.13", ".so.12"),)
    sysconfig.get_path = lambda name: str(site)  # type: ignore[assignment]
    assert all(cublas.library(name)._name.startswith(str(site)) for name in wheels)
    products()


if __name__ == "__main__":
    globals()[sys.argv[1]]()

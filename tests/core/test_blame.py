"""Mistakes in a layer's code and declarations become errors that name the place."""

import io
import re
import signal
import sys

import numpy as np
import pytest
from rich.console import Console
from zoo import Toy

from minet import SGD, LayerError, MeanSquaredError, MinetError, Net, Param, State
from minet.core.blame import interrupted_in
from minet.core.naming import caller, defined
from minet.layers import PReLU, ReLU
from minet.testing import check_layer, run

HERE = "test_blame.py"


def line() -> int:
    """The line of the caller."""
    return sys._getframe(1).f_lineno


def test_an_exception_in_a_layer_names_its_place():
    class Clumsy(Toy):
        def fprop_cpu(self, x, y, beta, train):
            y[...] = x[:, :1, :1].reshape(3)

    net, here = Net([Toy(), Clumsy()], (2, 3, 4), 2), line()
    with pytest.raises(LayerError, match="reshape") as caught:
        net.fprop(np.zeros((2, 3, 4, 2)))
    first, second, hint = str(caught.value).splitlines()
    assert first.startswith("1:Clumsy (") and first.endswith(f"{HERE}:{here})")
    assert f"fprop_cpu raised ValueError at tests/core/{HERE}:{here - 2}: " in second
    assert "--debug" in hint and isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("method", ["bprop_cpu", "params", "state", "out_shape", "on_bind"])
def test_the_method_that_raises_is_named(method):
    def fail(self, *args):
        raise RuntimeError("of its own")

    fail.__code__ = fail.__code__.replace(co_name=method)
    clumsy = type("Clumsy", (Toy,), {method: fail})
    with pytest.raises(
        LayerError, match=rf"1:Clumsy .*\n  {method} raised RuntimeError at tests/core/{HERE}:\d+: of"
    ):
        net = Net([Toy(), clumsy()], (2, 3, 4), 2)
        net.bprop(net.fprop(np.zeros((2, 3, 4, 2)), train=True))


def wrong(method):
    def short(self):
        """Take nothing."""

    short.__qualname__ = f"Clumsy.{method}"  # as in a class of the user's
    short.__code__ = short.__code__.replace(co_name=method, co_qualname=f"Clumsy.{method}")
    return type("Clumsy", (Toy,), {method: short}), short.__code__.co_firstlineno


@pytest.mark.parametrize(
    "method", ["fprop_cpu", "bprop_cpu", "fprop", "bprop", "params", "state", "out_shape"]
)
def test_a_method_with_a_wrong_signature_is_placed_where_it_is_written(method):
    clumsy, at = wrong(method)
    place = rf"{method} raised TypeError at tests/core/{HERE}:{at}: Clumsy\.{method}\(\) takes 1 positional"
    with pytest.raises(LayerError, match=rf"1:Clumsy .*\n  {place}"):
        net = Net([Toy(), clumsy()], (2, 3, 4), 2)
        net.bprop(net.fprop(np.zeros((2, 3, 4, 2)), train=True))
    report = check_layer(clumsy, (2, 3, 4))
    assert f"TypeError at tests/core/{HERE}:{at}: Clumsy.{method}() takes" in str(report).replace(
        " raised", ""
    )
    assert "out_shape accepts" not in report.full()


def test_a_loss_with_a_wrong_signature_is_placed_too():
    class Off(MeanSquaredError):
        def loss_cpu(self, y, labels):
            return 0.0

    net = Net(Toy(), (2, 1, 1), 2, loss=Off())
    found = rf"Off .*\n  loss_cpu raised TypeError at tests/core/{HERE}:{line() - 4}: .*takes 3 positional"
    with pytest.raises(LayerError, match=found):
        net.train_step(np.ones((2, 1, 1, 2)), np.ones((2, 1, 1, 2)), SGD(0.1))


def test_a_type_error_within_a_method_stays_at_its_line():
    class Clumsy(Toy):
        def fprop_cpu(self, x, y, beta, train):
            self.slope()

    net = Net(Clumsy(), (2, 3, 4), 2)
    with pytest.raises(LayerError, match=rf"fprop_cpu raised TypeError at tests/core/{HERE}:{line() - 3}: "):
        net.fprop(np.zeros((2, 3, 4, 2)))


class Leaves(Toy):
    def fprop_cpu(self, x, y, beta, train):
        sys.exit()


def test_an_exit_is_a_mistake_like_any_other():
    found = rf"Leaves .*\n  fprop_cpu raised SystemExit at tests/core/{HERE}:{line() - 4}\n  hint"
    with pytest.raises(LayerError, match=found):
        Net(Leaves(), (2, 3, 4), 2).fprop(np.zeros((2, 3, 4, 2)))

    class Off(MeanSquaredError):
        def loss_cpu(self, y, labels, dy=None):
            raise SystemExit(0)

    x = np.ones((2, 1, 1, 2))
    with pytest.raises(LayerError, match=r"Off .*\n  loss_cpu raised SystemExit at .*: 0\n"):
        Net(Toy(), (2, 1, 1), 2, loss=Off()).train_step(x, x, SGD(0.1))

    failed = check_layer(Leaves, (2, 3, 4)).failed
    assert failed and failed[0].detail.startswith("SystemExit at tests/core/")


def test_an_exit_by_a_signal_is_none():
    class Interrupted(Toy):
        def fprop_cpu(self, x, y, beta, train):
            signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
    try:
        with pytest.raises(SystemExit, match="143"):
            Net(Interrupted(), (2, 3, 4), 2).fprop(np.zeros((2, 3, 4, 2)))
        with pytest.raises(SystemExit, match="143"):
            check_layer(Interrupted, (2, 3, 4))
    finally:
        signal.signal(signal.SIGTERM, before)


def test_an_exit_because_nobody_reads_what_is_printed_is_none(tmp_path, monkeypatch):
    class Unread(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    class Prints(Toy):
        def fprop_cpu(self, x, y, beta, train):
            Console(file=Unread()).print("compiling kernels")

    with open(tmp_path / "out", "w") as out:  # which rich turns to /dev/null
        monkeypatch.setattr(sys, "stdout", out)
        with pytest.raises(SystemExit, match="1"):
            Net(Prints(), (2, 3, 4), 2).fprop(np.zeros((2, 3, 4, 2)))


@pytest.mark.parametrize("cls", [Toy, ReLU])
def test_an_interrupt_names_the_line_in_a_layer_of_ones_own_alone(cls):
    class Stopped(cls):
        def fprop_cpu(self, x, y, beta, train):
            raise KeyboardInterrupt

    Stopped.__module__ = cls.__module__
    with pytest.raises(KeyboardInterrupt) as caught:
        run(Stopped(), np.ones((2, 3, 4, 1)))
    said = rf" at .*test_blame\.py:{Stopped.fprop_cpu.__code__.co_firstlineno + 1}, in fprop_cpu of Stopped"
    assert re.fullmatch(said if cls is Toy else "", interrupted_in(caught.value))


def test_run_names_the_layer_too():
    class Clumsy(Toy):
        def bprop_cpu(self, x, dy, dx, beta):
            raise KeyError("nothing")

    x = np.zeros((2, 3, 4, 2))
    with pytest.raises(LayerError, match=r"Clumsy .*\n  bprop_cpu raised KeyError"):
        run([Clumsy()], x, x)


@pytest.mark.parametrize(
    ("returned", "found"),
    [
        (None, r"params\(\) must return a dict, got None"),
        ({"w": (3,)}, r"params\(\) must return Params, got \(3,\) for 'w'"),
        ({3: Param((3,))}, r"params\(\) has the invalid name 3"),
        ({"items": Param((3,))}, r"params\(\) has the invalid name 'items'"),
        ({"w": Param((-3,))}, r"params\(\) gives 'w' the invalid shape \(-3,\)"),
        (
            {"w": Param(3)},
            r"params\(\) gives 'w' the invalid shape 3\n.*use a tuple .*, such as \(3,\)",
        ),
        ({"w": Param((3,), bounds=(2, 1))}, r"params\(\) gives 'w' the bounds \(2, 1\)"),
        ({"w": Param((3,), bounds=0.5)}, r"params\(\) gives 'w' the bounds 0.5\n  hint: use \(low, high\)"),
        ({"w": Param((3,), bounds=(0,))}, r"params\(\) gives 'w' the bounds \(0,\)"),
        ({"w": Param((3,), bounds=("a", 1))}, r"params\(\) gives 'w' the bounds \('a', 1\)"),
        ({"w": Param((3,), bounds=(np.nan, 1))}, r"params\(\) gives 'w' the bounds \(nan, 1\)"),
        ({"w": Param((3,), lr=None)}, r"params\(\) gives 'w' the lr None, not a number"),
        ({"w": Param((3,), lr=np.nan)}, r"params\(\) gives 'w' the lr nan, not a number"),
        ({"w": Param((3,), decay="no")}, r"params\(\) gives 'w' the decay 'no'\n  hint: use True or False"),
        ({"w": Param((3,), init="he")}, r"initial w 'he' does not fit \(3,\)"),
        ({"w": Param((3,), init=np.nan)}, "initial w is not finite"),
        ({"w": Param((3,), init=[1, 2])}, r"initial w of shape \(2,\) does not fit \(3,\)"),
    ],
)
def test_nonsense_from_params(returned, found):
    odd = type("Odd", (Toy,), {"params": lambda self, in_shape: returned})()
    with pytest.raises(LayerError, match=rf"Odd .*\n  {found}"):
        Net(odd, (2, 3, 4), 2)


@pytest.mark.parametrize(
    ("returned", "found"),
    [
        ([], r"state\(\) must return a dict, got \[\]"),
        ({"m": 3}, r"state\(\) must return States, got 3 for 'm'"),
        ({"m": State((2, 1.5))}, r"state\(\) gives 'm' the invalid shape \(2, 1.5\)"),
        ({"m": State((2,), "uint7")}, r"state\(\) gives 'm' the invalid dtype 'uint7'"),
        ({"m": State((2,), init="x")}, r"state\(\) gives 'm' the initial value 'x' of a floating type"),
        ({"m": State((2,), init=None)}, r"state\(\) gives 'm' the initial value None of a floating type"),
        ({"m": State((2,), init=np.ones(3))}, r"state\(\) gives 'm' the initial value array"),
        ({"m": State((2,), "int8", init=300)}, r"state\(\) gives 'm' the initial value 300 of int8"),
        ({"m": State((2,), "object")}, r"state\(\) gives 'm' the invalid dtype 'object'"),
    ],
)
def test_nonsense_from_state(returned, found):
    odd = type("Odd", (Toy,), {"state": lambda self, in_shape, out_shape: returned})()
    with pytest.raises(LayerError, match=rf"Odd .*\n  {found}"):
        Net(odd, (2, 3, 4), 2)


def test_an_array_that_the_net_owns_cannot_be_replaced():
    net = Net(PReLU(), (2, 3, 4), 2)
    layer = net.graph
    with pytest.raises(TypeError, match=r"'a' is an array that the net owns: write into it"):
        layer.g.a = np.zeros(2)
    with pytest.raises(TypeError, match="write into it"):
        net.params["prelu.a"] = np.zeros(2)
    with pytest.raises(TypeError, match=r"slot\.value is an array that the net owns: write into it"):
        net.slots[0].value = net.slots[0].value - 0.1 * net.slots[0].grad
    net.slots[0].grad *= 0
    layer.g.a += 1
    layer.g["a"] *= 2
    layer.p.a[...] = 3
    assert net.grads["prelu.a"].tolist() == [2, 2] and net.params["prelu.a"].tolist() == [3, 3]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda to, of: to.update(of), "'prelu.a' is an array that the net owns: write into it"),
        (lambda to, of: to.update({}, **of), "write into it"),
        (lambda to, of: to.__ior__(of), "write into it"),
        (lambda to, of: to.pop("prelu.a"), "these are arrays that the net owns: none can be taken out"),
        (lambda to, of: to.popitem(), "none can be taken out"),
        (lambda to, of: to.clear(), "none can be taken out"),
        (lambda to, of: to.__delitem__("prelu.a"), "none can be taken out"),
    ],
)
def test_nor_by_a_method_of_dict(change, found):
    net, other = (Net(PReLU(), (2, 3, 4), 2) for _ in range(2))
    before = net.params["prelu.a"]
    with pytest.raises(TypeError, match=found):
        change(net.params, other.params)
    assert net.params["prelu.a"] is before is net.params.setdefault("prelu.a", 0)
    net.params.update(net.params)
    assert dict(net.params | other.params) == dict(other.params)


def test_a_layer_without_settings_takes_none():
    for make in (lambda: ReLU(0.1), lambda: ReLU(slope=3)):
        with pytest.raises(
            LayerError, match=rf"ReLU \(tests/core/{HERE}:\d+\)\n  ReLU takes no settings, got"
        ):
            make()


def test_what_a_parameter_may_say_of_its_training():
    for fine in (
        {"lr": False},
        {"lr": np.float32(2)},
        {"lr": -1.0},
        {"decay": 0},
        {"bounds": [0, None]},
        {"bounds": (0, np.inf)},
    ):
        layer = type(
            "Fine", (Toy,), {"params": lambda self, in_shape, fine=fine: {"a": Param((1, 1, 1, 1), **fine)}}
        )()
        Net(layer, (2, 3, 4), 2)


@pytest.mark.parametrize("name", ["p", "g", "s", "path", "train", "key"])
def test_a_setting_that_the_net_would_overwrite(name):
    layer = Toy()
    setattr(layer, name, 3)
    with pytest.raises(LayerError, match=f"self.{name} is reserved for the net"):
        Net(layer, (2, 3, 4), 2)


@pytest.mark.parametrize("name", ["params", "state", "out_shape", "fprop", "stem", "clone", "on_bind"])
def test_a_setting_that_hides_a_method(name):
    layer = Toy()
    method = getattr(layer, name)
    setattr(layer, name, [3])
    found = rf"Toy .*\n  self\.{name} hides a method that the net calls\n  hint: rename the attribute"
    with pytest.raises(LayerError, match=found):
        Net([Toy(), layer], (2, 3, 4), 2)
    setattr(layer, name, method)
    Net([Toy(), layer], (2, 3, 4), 2)


def test_the_kit_points_to_the_line_of_a_class():
    class Wrong(Toy):
        def out_shape(self, in_shape):
            raise self.error("never")

    report = check_layer(Wrong, (2, 3, 4))
    assert all(f"Wrong (tests/core/{HERE}:{line() - 5})" in check.detail for check in report.failed[:2])
    assert caller(sys._getframe(), Toy)[1] == line() and defined(int) == ("", 0)


@pytest.mark.parametrize(
    ("args", "found"),
    [
        ((ReLU(), (2, 3, 4)), "make is ReLU"),
        ((lambda: 5, (2, 3, 4)), r"make\(\) returned 5"),
        ((ReLU, (3, 4)), r"cannot be checked on \(3, 4\)"),
        ((ReLU, (3, 4, 0)), r"cannot be checked on \(3, 4, 0\)"),
    ],
)
def test_what_cannot_be_checked(args, found):
    with pytest.raises(MinetError, match=found):
        check_layer(*args)
    with pytest.raises(MinetError, match="batch 0"):
        check_layer(ReLU, (2, 3, 4), batch=0)
    with pytest.raises(MinetError, match="there is no backend 'abacus'"):
        check_layer(ReLU, (2, 3, 4), backend="abacus")


def test_an_invalid_loss_or_solver():
    from minet import SoftmaxCrossEntropy

    with pytest.raises(MinetError, match=r"loss must be a Loss such as SoftmaxCrossEntropy\(\), got <class"):
        Net(PReLU(), (2, 1, 1), 2, loss=SoftmaxCrossEntropy)
    net = Net(PReLU(), (2, 1, 1), 2, loss=SoftmaxCrossEntropy())
    with pytest.raises(MinetError, match=r"takes a solver such as SGD\(0.01\), got 0.1"):
        net.train_step(np.zeros((2, 1, 1, 2)), np.zeros(2, int), 0.1)


def test_numpy_types_are_accepted():
    assert Net(PReLU(), (2, 1, 1), 2, dtype=np.float64).be.dtype == np.float64
    assert run(PReLU(), np.ones((2, 1, 1, 2)), dtype=np.float32).y.dtype == np.float32

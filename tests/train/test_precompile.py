"""Compiling ahead of the first step changes only where and when a net's kernels are compiled."""

import importlib.util
import io
import os

import numpy as np
import pytest
from rich.console import Console

from minet import Layer, MinetError, Net
from minet.backends.host_fallback import HostWarning
from minet.core.loss import SoftmaxCrossEntropy
from minet.data import Dataset
from minet.layers import BatchNorm, Linear, PReLU, ReLU
from minet.loops import adam, clip
from minet.train import modelfile
from minet.train.optim import SGD, Adam
from minet.train.precompile import called, compiling, loaded, precompile

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="compiling ahead needs fork")

KERNELS = """
from numba import njit

@njit(cache=True)
def triple(x, y):
    for i in range(x.size):
        y[i] = 3 * x[i]

@njit(cache=True)
def untriple(dy, dx):
    for i in range(dy.size):
        dx[i] = dy[i] * 3.0

@njit(cache=True)
def total(x):
    return x.sum()

@njit(cache=True)
def wrong(x):
    return x.no_such_thing

@njit(cache=True)
def gather(images, order, moves, inside, holes, gain, most, mean, std, x):
    x[:] = 0

@njit
def kept_nowhere(x):
    return x + 1
"""


@pytest.fixture
def kernels(tmp_path):
    """A function that loads the kernels above as if this process had never called them."""
    file = tmp_path / "kernels.py"
    file.write_text(KERNELS)
    step(net_of())  # compiles minet's own

    def load():
        spec = importlib.util.spec_from_file_location("kernels", file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def net_of(*layers, backend="cpu"):
    return Net([Linear(3), *layers], (2, 1, 1), 4, loss=SoftmaxCrossEntropy(), backend=backend)


def step(net, solver=None):
    x = np.arange(8, dtype=np.float32).reshape(2, 1, 1, 4)
    return net.train_step(x, np.array([0, 1, 2, 0]), solver or SGD(0.1))


class Triple(Layer):
    """y = 3 x, with the kernels passed to it."""

    def __init__(self, kernels, before=lambda kernels, x: None):
        super().__init__()
        self.kernels, self.before = kernels, before

    def out_shape(self, in_shape):
        return in_shape

    def fprop_cpu(self, x, y, beta, train):
        self.before(self.kernels, x)
        self.kernels.triple(x.reshape(-1), y.reshape(-1))

    def bprop_cpu(self, x, dy, dx, beta):
        if dx is not None:
            self.kernels.untriple(dy.reshape(-1), dx.reshape(-1))


def names(found):
    return [dispatcher.py_func.__name__ for dispatcher, _ in found]


def test_what_a_step_calls_is_compiled_by_other_processes_and_found_in_the_cache(kernels):
    module, output = kernels(), io.StringIO()
    assert precompile(net_of(Triple(module)), console=Console(file=output)) == 2
    assert output.getvalue() == "  compiling kernels (once per machine)\n"
    assert not module.triple.signatures and not module.untriple.signatures  # not in this one
    loss = step(net_of(Triple(module)))
    assert [sum(kernel.stats.cache_hits.values()) for kernel in (module.triple, module.untriple)] == [1, 1]

    again = kernels()
    assert precompile(net_of(Triple(again)), console=Console(file=output)) == 0
    assert again.triple.signatures and again.untriple.signatures  # loaded, as the step would
    assert output.getvalue().count("\n") == 1
    assert step(net_of(Triple(again))) == loss


@pytest.mark.slow
def test_on_a_terminal_a_bar_names_the_kernels(kernels):
    output = io.StringIO()
    assert precompile(net_of(Triple(kernels())), console=Console(file=output, force_terminal=True, width=100))
    assert "2/2" in output.getvalue() and "triple" in output.getvalue()


def test_the_net_is_unchanged(kernels):
    nets = [net_of(Triple(kernels()), BatchNorm()) for _ in range(2)]
    precompile(nets[0])
    assert nets[0].clock.step == 0
    losses = [[step(net) for _ in range(3)] for net in nets]
    assert losses[0] == losses[1]
    for before, after in ((nets[0].params, nets[1].params), (nets[0].persistent, nets[1].persistent)):
        assert before.keys() == after.keys()
        assert all(np.array_equal(before[name], after[name]) for name in before)


def test_running_statistics_are_put_back():
    net = net_of(BatchNorm())
    for array in net.persistent.values():
        array += 5
    before = {name: array.copy() for name, array in net.persistent.items()}
    called(net, train=True)
    assert before and all(np.array_equal(array, net.persistent[name]) for name, array in before.items())


def test_evaluation_needs_no_bprop(kernels):
    module = kernels()
    assert names(called(net_of(Triple(module)), train=False)) == ["triple"]
    assert names(called(net_of(Triple(module)), train=True)) == ["triple", "untriple"]


def test_a_batch_of_the_data_needs_a_kernel_too(kernels, monkeypatch):
    module = kernels()
    monkeypatch.setattr("minet.loops.gather.gather", module.gather)
    data = Dataset(np.zeros((4, 2, 1, 1), np.uint8), [0, 1, 2, 0])
    assert names(called(net_of(Triple(module)), data)) == ["gather", "triple", "untriple"]


def test_a_function_whose_result_is_needed_ends_the_search_but_not_the_run(kernels):
    module = kernels()
    net = net_of(Triple(module, lambda kernels, x: kernels.total(x) + 1))
    assert names(called(net, train=True))[-1] == "total"
    assert np.isfinite(step(net))


def test_a_function_that_is_not_cached_runs(kernels):
    module, seen = kernels(), []
    net = net_of(Triple(module, lambda kernels, x: seen.append(kernels.kept_nowhere(1))))
    assert "triple" in names(called(net, train=True))
    assert set(seen) == {2}


def test_what_does_not_compile_fails_in_the_step(kernels):
    net = net_of(Triple(kernels(), lambda kernels, x: kernels.wrong(x)))
    assert precompile(net) == 2
    with pytest.raises(Exception, match="no_such_thing"):
        step(net)


def test_without_new_processes_the_step_compiles(kernels, monkeypatch):
    def fork():
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", fork)
    net = net_of(Triple(kernels()))
    assert precompile(net) == 0
    assert np.isfinite(step(net))


def test_an_interrupt_leaves_no_process_behind(kernels, monkeypatch):
    found, children, fork = called(net_of(Triple(kernels())), train=True), [], os.fork

    def recording():
        children.append(fork())
        return children[-1]

    monkeypatch.setattr(os, "fork", recording)
    with pytest.raises(KeyboardInterrupt), compiling(found, 2):
        raise KeyboardInterrupt
    assert len(children) == 2
    for child in children:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


# -- on a GPU and its emulator --------------------------------------------------------------------------


DATA = Dataset(np.zeros((4, 2, 1, 1), np.uint8), [0, 1, 2, 0])


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A function that lists the compiled kernels; there are none yet."""
    monkeypatch.setenv("MINET_CACHE", str(tmp_path / "kernels"))
    return lambda: sorted(file.name for file in (tmp_path / "kernels").iterdir())


@pytest.mark.slow
def test_what_a_step_loads_on_a_gpu_is_compiled_side_by_side(gpu_backend, cache):
    nets = [net_of(PReLU(), BatchNorm(), backend=gpu_backend) for _ in range(2)]
    output = io.StringIO()
    assert precompile(nets[0], DATA, console=Console(file=output)) == len(loaded(nets[0], DATA)) > 5
    assert output.getvalue() == "  compiling kernels (once per machine)\n"
    made = cache()
    losses = [[step(net) for _ in range(3)] for net in nets]
    assert losses[0] == losses[1]
    for path, array in nets[0].persistent.items():
        assert np.array_equal(nets[0].be.get(array), nets[1].be.get(nets[1].persistent[path]))
    assert cache() == made  # the steps compiled nothing
    assert precompile(net_of(PReLU(), BatchNorm(), backend=gpu_backend), DATA) == 0


@pytest.mark.slow
def test_the_update_of_the_run_is_compiled(gpu_backend, cache):
    net = net_of(PReLU(), backend=gpu_backend)
    solver = Adam(0.1, clip_norm=1.0)
    solver.bind(net)  # as in a run that is resumed
    before = net.be.get(net.params["1/prelu.a"]).copy()
    assert {"adam", "clip", "step"} <= set(loaded(net, DATA, solver=solver).values())
    assert "sgd" not in loaded(net, DATA, solver=solver).values()
    assert precompile(net, DATA, solver=solver) > 5
    assert np.array_equal(before, net.be.get(net.params["1/prelu.a"])) and solver.updates == 0
    made = cache()
    step(net, solver)
    assert cache() == made and solver.updates == 1


def test_the_update_of_the_run_is_rehearsed(monkeypatch):
    taken = []
    monkeypatch.setattr(adam, "adam_block", lambda *args: taken.append("adam_block"))
    monkeypatch.setattr(clip, "squares", lambda *args: taken.append("squares"))
    called(net_of(PReLU()), DATA, solver=Adam(clip_norm=1.0))
    assert taken == ["squares"] * 3 + ["adam_block"] * 3  # for each parameter


def test_evaluation_on_a_gpu_needs_neither_bprop_nor_an_update(gpu_backend, cache):
    net = net_of(PReLU(), backend=gpu_backend)
    stems = set(loaded(net, DATA, train=False).values())
    assert "prelu" in stems and not {"sgd", "step", "softmax_cross_entropy"} & stems


@pytest.mark.slow
def test_a_layer_on_the_host_is_still_announced_by_the_step(kernels, cache):
    net = net_of(Triple(kernels()), backend="emu")
    assert loaded(net, DATA)
    with pytest.warns(HostWarning, match="Triple|triple"):
        step(net)


@pytest.mark.slow
def test_a_kernel_that_does_not_compile_is_left_to_the_step(cache, monkeypatch):
    net = net_of(PReLU(), ReLU(), backend="emu")
    recipe = net.be.recipe

    def broken(code, constants):
        compiler, options, text, *suffixes = recipe(code, constants)
        return compiler, options, text + "\n#error no" * (code.path.stem == "relu"), *suffixes

    monkeypatch.setattr(net.be, "recipe", broken)
    found = loaded(net, DATA)
    assert 0 < precompile(net, DATA) < len(found)
    with pytest.raises(MinetError, match="#error no"):
        step(net)


# -- elsewhere ------------------------------------------------------------------------------------------


def test_an_unknown_backend_compiles_for_itself():
    model = modelfile.load("digits")
    net = Net(model.net(), model.input_shape, 4, backend="cpu")
    net.be.name = "other"
    assert precompile(net) == 0

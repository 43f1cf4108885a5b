"""What a GPU and its emulator have in common, tested on the emulator: which kernel runs, and on what."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from minet import SGD, LayerError, MinetError, Net, Sequential, SoftmaxCrossEntropy, backends
from minet.backends import kernel_cache, launcher
from minet.backends.host_fallback import HostWarning
from minet.cli.main import app
from minet.core.files import run_file
from minet.layers import LRN, BatchNorm, Dropout, GaussianPool, Identity, Linear, MaxPool, PReLU, ReLU
from minet.testing import check_layer, run, run_check

needs_gxx = pytest.mark.skipif(bool(backends.missing("emu")), reason=f"no g++: {backends.missing('emu')}")
HERE = Path(__file__).parent / "cuda"
own = run_file(HERE / "own.py")  # layers with kernels next to them


def numbers(*shape):
    return np.sin(np.arange(1.0, 1 + np.prod(shape), dtype=np.float32)).reshape(shape)


def net(*layers, backend="emu", shape=(2, 3, 4), batch=5, **options):
    return Net(Sequential(*layers), shape, batch, backend=backend, **options)


def minet(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


# -- a kernel's parameters ------------------------------------------------------------------------------


@needs_gxx
def test_a_kernel_gets_its_arguments_by_name():
    layer = own.Facts(3)
    made = net(layer, seed=7)
    made.clock.step = 11
    x = numbers(2, 3, 4, 5)
    y = made.fprop(x, train=True)
    (C, H, W), (K, P, Q) = (2, 3, 4), (1, 3, 2)
    expected = [C, H, W, K, P, Q, 5, 0.5, 1, 11, 3, layer.p.a[0], x[1, 2, 3, 4]]
    layer.fprop(made.x, y, 0.5, True)
    np.testing.assert_array_equal(layer.s.facts, np.array(expected, np.float32))
    np.testing.assert_array_equal(layer.s.words, np.array(layer.key, np.uint32))
    dy, dx = numbers(1, 3, 2, 5), np.zeros_like(x)
    made.bprop(dy, dx)
    np.testing.assert_array_equal(layer.g.a, [6.0, 6.0])
    np.testing.assert_array_equal(dx, np.full_like(x, dy[0, 0, 0, 0]))
    made.bprop(dy)  # dx is a null pointer, but the gradient is still computed
    np.testing.assert_array_equal(layer.g.a, [6.0, 6.0])


DRAWS = """
#include "philox.cuh"
extern "C" __global__ void draws_fprop(const float *x, float *y, unsigned key0, unsigned key1, long long step,
                                       TAKEN int N, int C, int H, int W, float beta) {
    FOR_ALL(i, C * H * W * N) put(y + i, uniform(word(key0, key1, step, AT)), beta);
}
extern "C" __global__ void draws_bprop(const float *dy, float *dx, int C, int H, int W, int N, float beta) {
    FOR_ALL(i, C * H * W * N) put(dx + i, 0, beta);
}
"""


@needs_gxx
def test_a_kernel_that_draws_must_ask_for_its_part_of_a_batch(tmp_path):
    declared = "class Draws(Layer):\n    def out_shape(self, in_shape):\n        return in_shape\n"
    (tmp_path / "draws.py").write_text(f"from minet import Layer\n\n{declared}")
    taken = {"": "i", "int first, int whole,": "in_whole(i, N, first, whole)"}
    taken |= {"int whole, int first,": "(long long)(i / N) * whole + first + i % N"}
    whole, there = [], {"x": np.zeros((2, 3, 4, 5), np.float32), "backend": "emu", "part": (4, 9)}
    for arguments, at in taken.items():
        (tmp_path / "draws.cu").write_text(DRAWS.replace("TAKEN", arguments).replace("AT", at))
        layer = run_file(tmp_path / "draws.py").Draws
        whole.append(run(layer(), np.zeros((2, 3, 4, 9), np.float32), backend="emu").y)
        if arguments:
            np.testing.assert_array_equal(run(layer(), **there).y, whole[0][..., 4:])
            continue
        with pytest.raises(LayerError, match=r"draws\.cu:\d+: draws_fprop draws by .*\n  hint: take int"):
            run(layer(), **there)
    assert (whole[0] == whole[1]).all() and (whole[0] == whole[2]).all() and np.unique(whole[0]).size > 200


@needs_gxx
@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "WrongType",
            "expects int *x, found an array of float32\n  hint: declare x with the layer's type",
        ),
        ("WrongState", "expects float *row, found an array of int32\n  hint: declare row with"),
        (
            "NotThere",
            "asks for 'q', which does not exist\n  hint: available: C, H, W, K, P, Q, N, key0, key1, step",
        ),
        (
            "ArrayAsNumber",
            "expects a number for x, found an array\n  hint: declare it as a pointer: const float *x",
        ),
        ("NumberAsArray", "expects int *N, found 5\n  hint: declare N with"),
    ],
)
def test_a_wrong_signature_is_reported_with_what_was_expected_and_found(name, message):
    made = net(getattr(own, name)())
    with pytest.raises(LayerError) as caught:
        made.fprop(numbers(2, 3, 4, 5))
    stem = getattr(own, name).stem()
    text = str(caught.value)
    assert text.startswith(f"0:{name} (tests/backends/test_gpu.py:"), text
    assert re.search(rf"cuda/{stem}\.cu:\d: {stem}_fprop\(.*\) ", text) and message in text


@needs_gxx
def test_a_wrong_signature_ends_a_check():
    """Like a kernel that does not compile, it is a mistake, not a verdict on the layer."""
    with pytest.raises(launcher.KernelError, match=r"expects int \*x, found an array of float32"):
        run_check("poison", own.WrongType, (2, 3, 4), backend="emu")


@needs_gxx
def test_a_number_that_does_not_fit_its_type_is_reported():
    be = backends.get("emu")
    be.call(HERE / "typed.cu", "typed", {}, {"n": 2**31 - 1, "x": None}, 1)
    for n in (2**31, -(2**31) - 1, float("inf"), float("nan")):
        with pytest.raises(MinetError, match=r"typed\(int n, float \*x\) takes int n, but \S+ does not fit"):
            be.call(HERE / "typed.cu", "typed", {}, {"n": n, "x": None}, 1)


@needs_gxx
def test_a_kernel_that_is_not_in_the_file():
    with pytest.raises(
        MinetError, match=r'typed\.cu has no kernel other\n  hint: extern "C" __global__ void other'
    ):
        backends.get("emu").call(HERE / "typed.cu", "other", {}, {}, 1)
    made = net(own.Facts(3))
    with pytest.raises(LayerError, match=r"0:Facts .*\n  \S*facts\.cu has no kernel other"):
        made.be.launch(made.graph.layers[0], "other", 1, x=made.y)
    made = net(own.Plain())
    with pytest.raises(
        LayerError, match=r"0:Plain .*\n  has no kernel file for other\n  hint: write plain\.cu"
    ):
        made.be.launch(made.graph.layers[0], "other", 1, x=made.y)


@needs_gxx
@pytest.mark.parametrize("batch", [4, 6])
def test_several_samples_are_read_at_once_if_the_images_allow_it(batch):
    """At an odd address, or if N is not a multiple, each is read by itself, with the same result."""
    made = net(MaxPool(2), batch=batch)
    be, layer = made.be, made.graph.layers[0]
    x = be.array(numbers(2, 3, 4, batch))
    apart = be.empty((x.size + 1,))[1:].reshape(x.shape)
    apart[...] = x
    assert [be.lanes(4, x), be.lanes(4, x, None, apart)] == ([4, 1] if batch == 4 else [1, 1])
    kept = layer.constants()
    layer.constants = lambda: kept  # must not be changed
    taken = []
    load = be.load
    be.load = lambda code, constants: taken.append(constants["LANES"]) or load(code, constants)
    results = []
    for image in (x, apart):
        made.graph.fprop(image, made.y, 0.0, True)
        results.append((made.y.copy(), layer.s.argmax.copy()))
    assert taken == ([4, 1] if batch == 4 else [1]) and kept["LANES"] == 4
    for got, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(got, expected)


@needs_gxx
@pytest.mark.parametrize("make", [ReLU, PReLU, Identity, BatchNorm, lambda: LRN(3), lambda: Dropout(0.5)])
@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_four_samples_at_once_or_one_by_one_give_the_same(make, beta):
    """At odd addresses each is read by itself, y and dx too; only sums may end in other bits."""
    results = []
    for start in (0, 1):
        made = net(make(), batch=4)
        layer, x = made.graph.layers[0], numbers(2, 3, 4, 4)
        images = [made.be.empty((x.size + start,))[start:].reshape(x.shape) for _ in range(4)]
        for image, values in zip(images, (x, x[::-1], x + 1, x - 1), strict=True):
            image[...] = values
        x, dy, y, dx = images
        assert made.be.lanes(4, x) == made.be.lanes(4, dx) == (1 if start else 4)
        layer.fprop(x, y, beta, True)
        layer.bprop(x, dy, dx, beta)
        in_place = dy.copy() if not start else made.be.empty((x.size + 1,))[1:].reshape(x.shape)
        in_place[...] = dy
        if layer.in_place:
            layer.bprop(x, in_place, in_place, 0.0)
        results.append([y, dx, in_place, *(grad / 2 for grad in layer.g.values())])
    for got, expected in zip(*results, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)
        assert isinstance(layer, BatchNorm) or got.ndim == 1 or np.array_equal(got, expected)


@needs_gxx
def test_a_row_that_its_threads_cannot_count_is_refused(monkeypatch):
    made = net(MaxPool(2))
    monkeypatch.setattr(launcher, "LONGEST", 20)
    with pytest.raises(
        LayerError, match=r"0:MaxPool .*\n  rows of 4 x 5 numbers are too long\n  hint: use a smaller batch"
    ):
        made.fprop(numbers(2, 3, 4, 5))


# -- which code of a class runs -------------------------------------------------------------------------


@needs_gxx
def test_a_subclass_runs_the_kernel_of_its_base_unless_it_computes_something_else():
    be = backends.get("emu")
    assert be.how(own.Doubled, "fprop") == ("kernel", "doubled_fprop")
    assert be.how(own.StillDoubled, "fprop") == ("kernel", "doubled_fprop")
    assert be.how(own.Tripled, "fprop") == ("host", None) and be.how(own.Tripled, "bprop")[0] == "kernel"
    assert be.how(own.ByMethod, "fprop")[0] == "method"
    assert be.how(own.Plain, "fprop") == ("host", None)
    native = [own.Doubled, own.StillDoubled, own.ByMethod, own.Tripled, own.Plain]
    assert [be.native(cls()) for cls in native] == [True, True, True, False, False]
    x = numbers(2, 3, 4, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for cls in (own.Doubled, own.StillDoubled, own.ByMethod):
            np.testing.assert_array_equal(net(cls()).fprop(x), 2 * x)
    with pytest.warns(HostWarning, match="^0:Tripled"):
        np.testing.assert_array_equal(net(own.Tripled()).fprop(x), 3 * x)


IN_TWO_FILES = """
from minet import Layer, update

class Doubled(Layer):
    def out_shape(self, in_shape):
        return in_shape

    def fprop_cpu(self, x, y, beta, train):
        update(y, 2 * x, beta)

    def bprop_cpu(self, x, dy, dx, beta):
        if dx is not None:
            update(dx, 2 * dy, beta)

    def bprop_gpu(self, x, dy, dx, beta):
        if dx is not None:
            self.be.launch(self, "doubled_back", dx.size, x=x, dy=dy, dx=dx, beta=beta, constants={"BY": 2})
"""


@needs_gxx
def test_a_layers_kernels_may_be_in_several_files_with_constants_for_one_launch(tmp_path):
    (tmp_path / "doubled.py").write_text(IN_TWO_FILES)
    fprop, bprop = (HERE / "doubled.cu").read_text().split("\n\nextern")[1:]
    bprop = bprop.replace("doubled_bprop", "doubled_back").replace("2 *", "BY *")
    for name, text in (("doubled", fprop), ("doubled_more", bprop)):
        (tmp_path / f"{name}.cu").write_text(f'#include "minet.cuh"\nextern{text}\n')
    cls = run_file(tmp_path / "doubled.py").Doubled
    assert check_layer(cls, (2, 3, 4), backend="emu").ok
    (tmp_path / "doubled_more.cu").rename(tmp_path / "more.cu")
    with pytest.raises(LayerError, match=r"doubled\.cu has no kernel doubled_back"):
        run(cls(), numbers(2, 3, 4, 5), numbers(2, 3, 4, 5), backend="emu")


# -- layers without a kernel ----------------------------------------------------------------------------


@needs_gxx
def test_a_layer_without_a_kernel_computes_on_the_host_with_one_warning():
    x, dy = numbers(2, 3, 4, 5), numbers(2, 3, 4, 5)[::-1].copy()
    results = []
    for backend in ("cpu", "emu"):
        made = net(own.Doubled(), own.Plain(), own.Plain(), backend=backend)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(2):
                y, dx = np.array(made.fprop(x, train=True)), np.zeros_like(x)
                made.bprop(dy, dx)
        warned = [str(one.message) for one in caught]
        state = {path: np.array(value) for path, value in made.persistent.items()}
        kept = {f"{layer.path}.last": np.array(layer.s.last) for layer in made.graph.layers[1:]}
        results.append({"y": y, "dx": dx, **made.grads, **state, **kept})
        if backend == "emu":
            assert [one.category for one in caught] == [HostWarning] * 2
            for n, text in enumerate(warned, 1):
                expected = (
                    rf"^{n}:Plain \(tests/backends/test_gpu\.py:\d+\) has no kernel: it computes on the host"
                )
                assert re.match(expected, text)
            assert all(layer.be is made.be for layer in made.graph.walk())
        else:
            assert not warned
    for name, value in results[0].items():
        np.testing.assert_allclose(results[1][name], value, rtol=1e-6, err_msg=name)
    assert results[0]["1/plain.seen"] == results[1]["1/plain.seen"] == 2


@needs_gxx
def test_strict_refuses_a_layer_without_a_kernel():
    made = net(own.Doubled(), own.Plain(), backend=backends.get("emu", strict=True))
    with pytest.raises(
        LayerError, match=r"^1:Plain .*\n  has no kernel, and --strict forbids computing it on the host"
    ) as caught:
        made.fprop(numbers(2, 3, 4, 5))
    assert "hint: write plain.cu next to its file" in str(caught.value)
    with pytest.raises(LayerError, match="has no kernel, and --strict"):
        check_layer(own.Plain, (2, 3, 4), backend=backends.get("emu", strict=True))
    assert (
        run_check("shape", own.Doubled, (2, 3, 4), backend=backends.get("emu", strict=True)).status == "PASS"
    )


@needs_gxx
def test_a_summary_marks_what_computes_on_the_host():
    text = net(own.Doubled(), own.Plain()).summary()
    assert re.search(r"\n0 +Doubled\(\) +2x3x4", text) and re.search(r"\n1 +Plain\(\) \* +2x3x4", text)
    assert "\n* no kernel: runs on the host; its arrays leave emu and come back at each call\n" in text
    assert "*" not in net(own.Doubled()).summary() and "*" not in net(own.Plain(), backend="cpu").summary()


# -- training, large arrays -----------------------------------------------------------------------------


@pytest.mark.slow
@needs_gxx
def test_a_training_step_follows_the_cpu():
    losses = {}
    for backend in ("cpu", "emu"):
        layers = [GaussianPool(3, stride=2, kernels=2), ReLU(), MaxPool(2), Linear(3)]
        made = net(*layers, backend=backend, shape=(2, 7, 6), loss=SoftmaxCrossEntropy())
        solver, labels = SGD(0.5, momentum=0.9, weight_decay=1e-3), np.arange(5) % 3
        losses[backend] = [made.train_step(numbers(2, 7, 6, 5), labels, solver) for _ in range(3)]
    np.testing.assert_allclose(losses["emu"], losses["cpu"], rtol=1e-4)
    assert losses["cpu"][2] < losses["cpu"][0]


@pytest.mark.slow
@needs_gxx
def test_counting_in_64_bits_changes_nothing(monkeypatch):
    emulator, loaded = type(backends.get("emu")), []
    load = emulator.load

    def noting(self, code, constants):
        loaded.append(constants)
        return load(self, code, constants)

    layers = [(ReLU, (3, 4, 5)), (lambda: GaussianPool(3, stride=2, pad=1, kernels=2), (2, 6, 5))]
    for make, shape in layers:
        x = numbers(*shape, 3)
        dy = run(make(), x).y
        narrow = run(make(), x, dy, backend="emu")
        loaded.clear()
        with monkeypatch.context() as patch:
            patch.setattr(launcher, "WIDE", 1)
            patch.setattr(emulator, "load", noting)
            wide = run(make(), x, dy, backend="emu")
        assert loaded and all(constants["WIDE"] == 1 for constants in loaded)
        np.testing.assert_array_equal(wide.y, narrow.y)
        np.testing.assert_array_equal(wide.dx, narrow.dx)
        for name, grad in narrow.grads.items():
            np.testing.assert_array_equal(wide.grads[name], grad)


# -- on the command line --------------------------------------------------------------------------------


def test_without_a_compiler_there_is_one_message(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    result = minet("check", "relu", "--backend", "emu")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "error: the emulator compiles kernels with g++, which is not on PATH\n"
    assert "SKIP  parity_emu     the emulator compiles kernels with g++" in minet("check", "relu").stdout
    code = "import minet; minet.Net(minet.layers.ReLU(), (1, 2, 3), 4)"
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=HERE.parents[1], check=True)


@needs_gxx
def test_a_kernel_that_does_not_compile_ends_a_check_with_one_message():
    result = minet("check", f"{HERE}/own.py:NoCode", "--backend", "emu")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: g++ cannot compile a kernel:\n")
    assert re.search(r"cuda/no_code\.cu:3:\d+: error: ", result.stderr)
    with pytest.raises(kernel_cache.CompileError):
        run_check("parity_emu", own.NoCode, (2, 3, 4))


@needs_gxx
@pytest.mark.filterwarnings("default::minet.backends.host_fallback.HostWarning")
def test_a_warning_is_one_line_and_strict_is_an_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    toy = (HERE.parents[1] / "helpers/toy.py").read_text()
    assert "Dropout" in toy
    layer = "class Plain(own.Plain):\n    pass\n"
    toy = toy.replace("\ninput_shape", f"\nimport own\n\n\n{layer}\n\ninput_shape", 1)
    toy = re.sub(r"\bReLU\(\)|PReLU\(\)", "Plain()", toy)
    assert "Plain()," in toy
    Path("model.py").write_text(toy)
    monkeypatch.syspath_prepend(str(HERE))
    options = ("--set", "limit=32", "--epochs", 1, "--backend", "emu")
    result = minet("train", "model.py", *options)
    assert result.exit_code == 0, result.output
    [warning] = result.stderr.splitlines()
    assert re.match(r"warning: \d:Plain \(model\.py:\d+\) has no kernel: it computes on the host", warning)
    assert "parameters on emu, batch 32" in result.stdout
    assert "on digits test (" in minet("eval", "model.py", "--backend", "emu", "--sync").stdout
    assert re.search(r"Plain\(\) \* ", minet("summary", "model.py", "--backend", "emu").stdout)
    for command in ("train", "eval"):
        result = minet(command, "model.py", *(options if command == "train" else options[-2:]), "--strict")
        assert result.exit_code == 2 and "Traceback" not in result.output
        assert re.match(r"error: \d:Plain \(model\.py:\d+\)\n  has no kernel, and --strict", result.stderr)
    result = minet("check", f"{HERE}/own.py:Plain", "--backend", "emu", "--strict")
    assert result.exit_code == 2 and result.stderr.startswith("error: Plain (")

"""The whole kit on the kernels of every layer and container, on the emulator and, if present, on a GPU."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from minet import Net, backends, layers
from minet.core.containers import Container
from minet.data import Batches
from minet.testing import check_layer, run, run_check
from minet.testing.examples import examples
from minet.train import modelfile
from minet.train.optim import SGD

CONTAINERS = [cls for cls in Container.__subclasses__() if cls.__module__.startswith("minet.")]
EXAMPLES = [  # of a layer the first: its own tests have them all
    pytest.param(make, in_shape, id=f"{make()!r}{in_shape}".replace(" ", ""))
    for cls in [*layers.all_layers(), *CONTAINERS]
    for make, in_shape in list(examples(cls))[: None if cls in CONTAINERS else 1]
]
BACKENDS = ["emu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture(params=BACKENDS)
def backend(request):
    if why := backends.missing(request.param):
        pytest.skip(why)
    return request.param


@pytest.mark.sweep(3)
@pytest.mark.parametrize(("make", "in_shape"), EXAMPLES)
def test_the_kit(backend, make, in_shape):
    net = Net(make(), in_shape, 2, backend=backend)
    assert all(net.be.native(layer) for layer in net.graph.walk()), "a layer computes on the host"
    report = check_layer(make, in_shape, backend=backend)
    assert report.ok, str(report)
    skipped = {check.name for check in report.checks if check.status == "SKIP"}
    expected = {"gradient", "gradient_eval", "draws", "float32", "numpy_version", "thread_order"}
    assert skipped <= expected | {"parity_cuda", "parity_emu"} - {f"parity_{backend}"}


@pytest.mark.sweep(5)
@pytest.mark.parametrize(
    ("layer", "in_shape", "batch"),
    [
        # More samples than a warp, more columns than a tile, more rows than a band.
        (layers.GaussianPool(11, 2, 5, kernels=3), (2, 45, 40), 5),
        (layers.GaussianPool(3, 2, 1), (3, 9, 7), 33),
        (layers.GaussianPool(15, 1, 7, kernels=3, normalize="none", mean=1.0, sigma=3.0), (1, 18, 17), 2),
        (layers.GaussianPool((3, 5), (4, 7), (1, 2), kernels=2, per_channel=False), (3, 33, 50), 3),
        (layers.GaussianPool((3, 5), (4, 7), (2, 4), kernels=2, mean=(-4.0, 5.0), sigma=1.5), (2, 33, 50), 2),
        # Several samples at once; tables too large for shared memory.
        (layers.GaussianPool(11, 2, 5, kernels=3), (2, 45, 40), 6),
        (layers.GaussianPool((3, 2), (2, 1), (1, 0)), (2, 11, 9), 68),
        (layers.GaussianPool(5, (3, 7), 4, edge="zero", per_channel=False, kernels=2), (3, 31, 50), 4),
        (layers.GaussianPool((31, 30), 1, (30, 20), kernels=2), (2, 14, 13), 2),
        (layers.MaxPool((3, 4), (2, 3), (1, 2)), (3, 13, 12), 36),
        (layers.AvgPool(3, (2, 3), 2), (2, 40, 19), 36),
        (layers.AvgPool((12, 5), (1, 2), (5, 4)), (2, 20, 11), 5),
        (layers.StochasticPool((3, 2), (2, 1), (1, 1)), (3, 13, 12), 36),
        (layers.PReLU(), (2, 40, 40), 7),
        (layers.BatchNorm(), (2, 40, 40), 7),
        (layers.Conv(7, 3, stride=2, pad=1), (5, 17, 15), 33),
        (layers.StochasticPool(3, 2, 1), (3, 13, 12), 35),
        (layers.LRN(), (19, 5, 7), 33),
        (layers.Dropout(0.4), (5, 11, 13), 37),
    ],
    ids=lambda value: repr(value) if hasattr(value, "where") else "",
)
def test_shapes_beyond_one_block(backend, layer, in_shape, batch):
    draw = np.random.Generator(np.random.Philox(key=3))
    x = draw.standard_normal((*in_shape, batch)).astype(np.float32)
    dy = draw.standard_normal((*layer.clone().configure(in_shape), batch)).astype(np.float32)
    here, there = run(layer, x, dy, step=4), run(layer, x, dy, step=4, backend=backend)
    pairs = {"y": (here.y, there.y), "dx": (here.dx, there.dx)}
    pairs |= {name: (here.grads[name], there.grads[name]) for name in here.grads}
    for name, (expected, got) in pairs.items():
        largest = np.abs(expected).max()
        np.testing.assert_allclose(got, expected, rtol=0, atol=2e-5 * largest, err_msg=name)
        assert largest > 0 or name == "dx"
    for name in set(here.state) & set(there.state):
        if here.state[name].dtype.kind in "iu":  # picks and masks: bit for bit
            np.testing.assert_array_equal(there.state[name], here.state[name], err_msg=name)


@pytest.mark.parametrize(
    "layer",
    [
        layers.GaussianPool(3, 2, 1, kernels=2),
        layers.MaxPool(3, 2, 1),
        layers.AvgPool(3, 2, 1),
        layers.StochasticPool(3, 2, 1),
    ],
    ids=repr,
)
def test_several_samples_at_once(backend, layer):
    """With four samples, a thread takes two or four at once."""
    for name in ("poison", "beta_y", "beta_dx", "slices", "need_dx", "evaluation", "thread_order"):
        check = run_check(name, layer.clone, (2, 7, 6), batch=4, backend=backend)
        assert check.status == "PASS" or (name == "thread_order" and backend != "emu"), str(check)


@pytest.mark.slow
def test_the_demo_follows_the_cpu(backend):
    model = modelfile.load("digits")
    losses = {}
    for name in ("cpu", backend):
        net = Net(model.net(), model.input_shape, model.batch, model.loss, name, seed=0)
        solver, (data, _) = SGD(0.05, momentum=0.9, weight_decay=5e-4), model.datasets()
        batches = Batches(data, model.batch, seed=0).epoch(0)
        losses[name] = [net.train_step(*next(batches), solver) for _ in range(5)]
        assert len(set(losses[name])) == 5
    np.testing.assert_allclose(losses[backend], losses["cpu"], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("cls", layers.all_layers(), ids=lambda cls: cls.__name__)
def test_under_sanitizers(cls):
    if why := backends.missing("emu"):
        pytest.skip(why)
    command = [sys.executable, "-m", "minet", "check", cls.stem(), "--backend", "emu", "--sanitize"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert " 0 failed" in done.stdout and "PASS  parity_emu" in done.stdout

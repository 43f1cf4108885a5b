"""examples/smooth_max.py: the contract, on the cpu and the emulator; by hand, an oracle, a net; its page."""

import math
import re
from pathlib import Path

import numpy as np
import pages
import pytest
from close import assert_close

from minet import Net
from minet.core.files import run_file
from minet.layers import AvgPool, MaxPool
from minet.testing import layer_checks
from minet.train import modelfile

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SmoothMax = run_file(EXAMPLES / "smooth_max.py").SmoothMax

test_conformance = pytest.mark.slow(layer_checks(SmoothMax))
test_conformance_of_its_kernels = pytest.mark.slow(layer_checks(SmoothMax, backend="emu"))


@pytest.mark.slow
def test_by_hand(run):
    """Of 0 and log 3 the powers are 1 and 3: their mean is 2, their weights are 1/4 and 3/4."""
    x = np.array([[0, math.log(3)], [0, 0]]).reshape(2, 1, 2, 1)
    out = run(SmoothMax((1, 2)), x, np.array([1.0, 4]).reshape(2, 1, 1, 1), params={"a": 1})
    assert_close(out.y.ravel(), [math.log(2), 0], float32=1e-6)
    assert_close(out.dx.ravel(), [0.25, 0.75, 2, 2], float32=1e-6)
    assert_close(out.grads.a, [0.75 * math.log(3) - math.log(2), 0], float32=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("a", "twin"), [(1e-4, AvgPool), (3000.0, MaxPool)])
def test_it_lies_between_the_mean_and_the_maximum(run, a, twin):
    x = np.random.default_rng(0).uniform(-1, 1, (2, 7, 6, 3))
    soft, hard = (run(pool, x).y for pool in (SmoothMax(3, 2, 1, sharpness=a), twin(3, 2, 1)))
    assert_close(soft, hard, 1e-3, 2e-2)


@pytest.mark.slow
@pytest.mark.parametrize("a", [0.5, 5.0])
def test_against_plain_loops(run, a):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 7, 6, 3)), rng.standard_normal((2, 4, 3, 3))
    y, dx, da = np.empty(dy.shape), np.zeros(x.shape), np.zeros(2)
    for c, p, q, n in np.ndindex(y.shape):
        rows = slice(max(2 * p - 1, 0), 2 * p + 2), slice(max(2 * q - 1, 0), 2 * q + 2)
        part = (c, *rows, n)
        powers = np.exp(a * x[part])
        weights = powers / powers.sum()
        y[c, p, q, n] = math.log(powers.mean()) / a
        dx[part] += dy[c, p, q, n] * weights
        da[c] += dy[c, p, q, n] * ((weights * x[part]).sum() - y[c, p, q, n]) / a
    out = run(SmoothMax(3, stride=2, pad=1, sharpness=a), x, dy)
    assert_close(out.y, y, 1e-12, 1e-5)
    assert_close(out.dx, dx, 1e-12, 1e-5)
    assert_close(out.grads.a, da, 1e-10, 1e-4)


def test_its_twin_in_pytorch_computes_the_same():
    torch = pytest.importorskip("torch")
    net = Net(SmoothMax((3, 2), (2, 1), (1, 1)), (2, 7, 6), 3, dtype="float64")
    x = np.random.default_rng(0).standard_normal((2, 7, 6, 3))
    y = net.graph.in_torch(
        torch.from_numpy(x.transpose(3, 0, 1, 2)), torch.from_numpy(net.params["smooth_max.a"])
    )
    assert_close(y.numpy().transpose(1, 2, 3, 0), net.fprop(x), 1e-12)


@pytest.mark.slow
def test_its_net_learns():
    model = modelfile.load(EXAMPLES / "smooth_max_net.py")
    net = Net(model.net(), model.input_shape, model.batch, model.loss)
    assert net.graph.children[2].configure((16, 8, 8)) == (4 * 16, 8, 8)
    train, _ = model.datasets()
    x = np.ascontiguousarray(train.images[: model.batch].transpose(1, 2, 3, 0), np.float32)
    labels, solver = train.labels[: model.batch], model.solver()
    losses = [net.train_step(x / x.max(), labels, solver) for _ in range(60)]
    assert losses[-1] < 0.3 * losses[0]


def test_the_page_arrives_at_these_files():
    """What docs/custom-layers.md writes, step by step, is in the end what is in examples/."""
    files = {}
    for block in pages.blocks((ROOT / "docs/custom-layers.md").read_text()):
        if block.title.endswith(", at the end"):
            files[block.title.removesuffix(", at the end")] += block.code
        elif block.title:
            files[block.title] = block.code
        elif "sed -i" in block.code:
            for old, new in re.findall(r"s/([^/]+)/([^/]+)/", block.code):
                files["smooth_max.py"] = files["smooth_max.py"].replace(old, new)
    del files["test_smooth_max.py"], files["slices.py"]  # tried where the page itself is
    assert files == {name: (EXAMPLES / name).read_text() for name in files}
    assert sorted(files) == sorted(path.name for path in EXAMPLES.glob("smooth_max*"))

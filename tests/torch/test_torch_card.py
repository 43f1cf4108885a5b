"""Modules on a card: minet's kernels on PyTorch's tensors.

Without a card, the same code runs on `OnHost`, whose card is host memory and whose kernels the emulator's.
"""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[torch]'")

from on_host import FORMS  # noqa: E402

import minet.torch  # noqa: E402
from minet import Concat, Layer, MinetError, Sum, layers, update  # noqa: E402
from minet.backends.host_fallback import HostWarning  # noqa: E402
from minet.layers import (  # noqa: E402
    BatchNorm,
    Conv,
    Dropout,
    GaussianPool,
    Identity,
    Linear,
    MaxPool,
    PReLU,
    StochasticPool,
)  # fmt: skip
from minet.torch import card, ops  # noqa: E402

SHAPE = (3, 6, 5)


def everything():
    """Layers of every kind: with draws, running statistics, bounds, branches, products."""
    pools = Concat(GaussianPool(3, 2, 1, kernels=2), StochasticPool(3, 2, 1), MaxPool(3, 2, 1))
    more = Sum(Identity(), [Conv(16, 1)])
    return [Conv(4, 3, pad=1), BatchNorm(), PReLU(), Dropout(0.3), pools, more, Linear(5)]


def results(module, x, dy, form):
    """y, dx and all gradients and buffers, on the host."""
    torch.manual_seed(3)
    x = form(x.clone()).requires_grad_()
    y = module(x)
    y.backward(dy.to(y.device))
    found = [y, x.grad, *(p.grad for p in module.parameters()), *module.buffers()]
    return [t.detach().cpu() for t in found if t is not None]


@pytest.mark.sweep(2)
@pytest.mark.parametrize("layout", [None, "chwn"])
@pytest.mark.parametrize("form", FORMS)
def test_a_graph_computes_what_it_computes_on_the_cpu(device, form, layout, monkeypatch):
    x, dy = torch.randn(7, *SHAPE), torch.randn(7, 5, 1, 1)
    module, there = (minet.torch.module(everything(), SHAPE, layout=layout) for _ in range(2))
    there.load_state_dict(module.state_dict())
    got = results(there.to(device), x.to(device), dy, FORMS[form])
    monkeypatch.undo()  # what comes now computes on the cpu
    for a, b in zip(got, results(module, x, dy, FORMS[form]), strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=2e-4)


EXAMPLES = [
    pytest.param(make, in_shape, id=f"{make()!r}{in_shape}".replace(" ", ""))
    for cls in layers.all_layers()
    for make, in_shape in cls.examples()
]


@pytest.mark.gpu
@pytest.mark.parametrize(("make", "in_shape"), EXAMPLES)
def test_every_layer_computes_what_it_computes_on_the_cpu(make, in_shape):
    if not torch.cuda.is_available():
        pytest.skip("torch.cuda.is_available() is False")
    module, x = minet.torch.module(make(), in_shape), torch.randn(4, *in_shape)
    dy = torch.randn_like(module(x))
    there = copy.deepcopy(module).cuda()  # with the running statistics of that call
    got = results(there, x.cuda(), dy, FORMS["nchw"])
    for a, b in zip(got, results(module, x, dy, FORMS["nchw"]), strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max()) + 1e-6)


def test_arrays_of_any_form(be):
    a = be.array(np.arange(12, dtype="float32").reshape(3, 4))
    assert isinstance(a, card.CardArray) and be.is_native(a) and be.array(a) is a
    assert np.array_equal(be.get(a[1:, ::2]), [[4, 6], [8, 10]])
    be.copy(np.array([[1, 2], [3, 4]]), a[:2, :2])
    be.fill(a[2:], 9)
    assert np.array_equal(be.get(a), [[1, 2, 2, 3], [3, 4, 6, 7], [9, 9, 9, 9]])
    be.fill(a[:, 3:], 0)
    assert np.array_equal(be.get(a)[:, 3], [0, 0, 0])
    b = be.zeros((3, 4))
    be.copy(a, b)
    assert np.array_equal(be.get(b), be.get(a)) and not be.overlap(a, b) and be.overlap(a, a[1:])
    words = be.array(np.arange(3), "uint32")
    be.copy(words, other := be.empty((3,), "uint32"))
    assert be.get(other).tolist() == [0, 1, 2] and be.get(be.zeros((0, 3))).shape == (0, 3)


@pytest.mark.parametrize("trans", ["nn", "tn", "nt", "tt"])
@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_products(be, trans, beta):
    draw = np.random.default_rng(0)
    a, b = draw.standard_normal((3, 4), "float32"), draw.standard_normal((4, 5), "float32")
    out = draw.standard_normal((3, 7), "float32") if beta else np.full((3, 7), np.nan, "float32")
    given = (v.T.copy() if t == "t" else v for v, t in zip((a, b), trans, strict=True))
    there = be.array(out)
    be.gemm(*map(be.array, given), there[:, 1:6], alpha=2.0, beta=beta, trans=trans)
    expected = 2 * a @ b + (beta * out[:, 1:6] if beta else 0)
    np.testing.assert_allclose(be.get(there)[:, 1:6], expected, rtol=1e-5, atol=1e-6)


def test_host_code_cannot_read_an_array(be):
    a = be.zeros((2, 3))
    for use in (
        lambda: a + 1, lambda: a[0, 0], lambda: a.fill(1), lambda: float(a[0]), lambda: np.sum(a),
        lambda: a.sum(), lambda: [*a], lambda: np.concatenate([a, a]), lambda: a[[0, 1]], lambda: a.take(0),
        lambda: a.flatten(), lambda: a[:, ::2].reshape(-1), lambda: a[np.zeros((2, 3), bool)],
        lambda: copy.copy(a), lambda: copy.deepcopy(a), lambda: pickle.dumps(a), lambda: a.flat,
        lambda: a.argsort(), lambda: a.nonzero(), lambda: a.put([0], 1), lambda: a.cumsum(), lambda: 0 in a,
        lambda: a.round(), lambda: a.clip(0, 1), lambda: a.var(), lambda: a.compress([1]),
        lambda: np.from_dlpack(a),
    ):  # fmt: skip
        with pytest.raises((MinetError, TypeError)):
            use()
    with pytest.raises(MinetError, match="used by host code"):
        a[0] = 1
    assert repr(a).startswith("CardArray((2, 3), float32, at 0x")
    with pytest.raises(MinetError, match="given ndarray in host memory"):
        be.address(np.zeros(3))


class Halved(Layer):
    """A layer without a kernel."""

    def out_shape(self, in_shape):
        return in_shape

    def fprop_cpu(self, x, y, beta, train):
        update(y, x / 2, beta)

    def bprop_cpu(self, x, dy, dx, beta):
        update(dx, dy / 2, beta)


def test_a_layer_without_a_kernel_computes_on_the_host_and_says_so(device):
    x = torch.randn(2, *SHAPE, device=device, requires_grad=True)
    with pytest.warns(HostWarning, match="Halved.*computes on the host"):
        y = minet.torch.module(Halved())(x)
    assert torch.equal(y, x / 2)


def test_arrays_are_let_go_of_after_a_call(device):
    """They would keep a card's memory."""
    module = minet.torch.module(everything(), SHAPE)
    module.to(device)(torch.randn(2, *SHAPE, device=device))
    [[program]] = module._spec._idle.values()
    assert not any(layer.p or layer.g or layer.s for layer in program.graph.walk())


def test_the_layer_reads_and_sets_what_is_on_the_card(device):
    pool = minet.torch.GaussianPool(3, in_shape=SHAPE).to(device)
    pool.layer.sigma = 1.5
    assert torch.allclose(pool.log_sigma.exp(), torch.full((), 1.5, device=device))
    assert pool.layer.sigma == pytest.approx(1.5)


def needs_card():
    if not torch.cuda.is_available():
        pytest.skip("torch.cuda.is_available() is False")


@pytest.mark.gpu
def test_it_computes_in_the_current_stream():
    """A long wait in another stream would show if nothing waited for it."""
    needs_card()
    pool, x = minet.torch.GaussianPool(3, in_shape=SHAPE).cuda(), torch.randn(8, *SHAPE, device="cuda")
    expected = pool(x)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        big = torch.randn(4096, 4096, device="cuda")
        for _ in range(20):
            big = big @ big / 64
        late = x + 0 * big[0, 0].nan_to_num(0, 0, 0)
        y = pool(late)
    stream.synchronize()
    assert torch.equal(y, expected)


@pytest.mark.gpu
def test_cuda_graphs_capture_it():
    needs_card()
    torch.manual_seed(0)
    module = minet.torch.module(
        [Conv(8, 3, pad=1), BatchNorm(), PReLU(), GaussianPool(3, 2, 1, kernels=2)], SHAPE
    )
    module = module.cuda()
    x = torch.randn(8, *SHAPE, device="cuda")
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            module(x).sum().backward()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    for p in module.parameters():
        p.grad = None
    with torch.cuda.graph(graph):
        y = module(x)
        y.square().sum().backward()
    other = torch.randn_like(x)
    x.copy_(other)
    for p in module.parameters():
        p.grad.zero_()
    graph.replay()
    fresh = copy.deepcopy(module)
    for p in fresh.parameters():
        p.grad = None
    wanted = fresh(other)
    wanted.square().sum().backward()
    assert torch.equal(y, wanted)
    for p, q in zip(module.parameters(), fresh.parameters(), strict=True):
        assert torch.allclose(p.grad, q.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_it_compiles_without_a_break(mode):
    needs_card()
    module = minet.torch.module([Conv(8, 3, pad=1), PReLU(), GaussianPool(3, 2, 1)], SHAPE).cuda()
    x = torch.randn(8, *SHAPE, device="cuda", requires_grad=True)
    whole = torch.compile(lambda x: module(x).relu().sum(), fullgraph=True, mode=mode)
    for _ in range(4):
        loss = whole(x)
        loss.backward()
    assert torch.allclose(loss, module(x).relu().sum(), rtol=1e-5)


@pytest.mark.gpu
def test_its_operators_pass_the_checks_of_pytorch():
    needs_card()
    module = minet.torch.module([Conv(4, 3), PReLU(), GaussianPool(3)], SHAPE).cuda()
    x = torch.randn(3, *SHAPE, device="cuda", requires_grad=True)
    params, running = module._arrays()
    torch.library.opcheck(ops.fprop, (x, params, running, None, True, "nchw", module._spec.handle))


@pytest.mark.gpu
def test_all_its_memory_is_pytorchs():
    """After a first call, which loads kernels, the card's free memory is the same but for PyTorch's cache."""
    needs_card()
    module = minet.torch.module(everything(), SHAPE).cuda()
    x = torch.randn(64, *SHAPE, device="cuda")
    module(x).sum().backward()
    torch.cuda.synchronize()
    before = torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved()
    for _ in range(3):
        module(x).sum().backward()
    torch.cuda.synchronize()
    assert torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() == before


@pytest.mark.gpu
def test_a_call_leaves_nothing_behind():
    needs_card()
    module = minet.torch.module(everything(), SHAPE).cuda()
    x = torch.randn(64, *SHAPE, device="cuda")
    with torch.no_grad():
        module(x)
        before = torch.cuda.memory_allocated()
        module(x)
        assert torch.cuda.memory_allocated() == before


@pytest.mark.gpu
def test_a_thread_that_has_used_no_card_before():
    needs_card()
    pool, x = minet.torch.GaussianPool(3, in_shape=SHAPE).cuda(), torch.randn(4, *SHAPE, device="cuda")
    expected = pool(x)
    with ThreadPoolExecutor(1) as threads:
        assert torch.equal(threads.submit(pool, x).result(), expected)


@pytest.mark.gpu
def test_autocast_computes_in_float32():
    needs_card()
    pool, x = minet.torch.GaussianPool(3, in_shape=SHAPE).cuda(), torch.randn(4, *SHAPE, device="cuda")
    with torch.autocast("cuda", torch.float16):
        assert pool(x.half()).dtype == torch.float32

"""minet's layers as modules of PyTorch, used in every way that PyTorch's own are."""

import copy
import gc
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[torch]'")

from torch._dynamo.backends.common import aot_autograd  # noqa: E402
from torch.autograd import forward_ad  # noqa: E402
from torch.nn.parameter import is_lazy  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

import minet.torch  # noqa: E402
from minet import Concat, Layer, MinetError, Net, Param, Sequential, State, Sum, update  # noqa: E402
from minet.backends import get  # noqa: E402
from minet.layers import (  # noqa: E402
    BatchNorm,
    Conv,
    Dropout,
    Elementwise,
    GaussianPool,
    Identity,
    Linear,
    MaxPool,
    PReLU,
    StochasticPool,
    all_layers,
)  # fmt: skip
from minet.torch import layout as layouts  # noqa: E402
from minet.torch.program import borrowed  # noqa: E402
from minet.torch.spec import MOST, Spec, spec_of  # noqa: E402

SHAPE = (3, 6, 5)


def graph():
    """Layers of every kind: with draws, running statistics, bounds, branches, state of their own."""
    pools = Concat(GaussianPool(3, 2, 1, kernels=2), StochasticPool(3, 2, 1), MaxPool(3, 2, 1))
    return [
        Conv(4, 3, pad=1),
        BatchNorm(),
        PReLU(),
        Dropout(0.3),
        pools,
        Sum(Identity(), [Conv(16, 1)]),
        Linear(5),
    ]


@pytest.fixture
def x():
    return torch.randn(7, *SHAPE, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def module():
    torch.manual_seed(0)
    return minet.torch.module(graph(), SHAPE)


def results(module, x, use=None):
    """y, dx and all gradients of one step, from the same draws."""
    torch.manual_seed(5)
    x = x.detach().requires_grad_()
    module.zero_grad()
    y = (module if use is None else use)(x)
    y.square().sum().backward()
    return [y.detach().clone(), x.grad.clone(), *(p.grad.clone() for p in module.parameters())]


def same(ours, theirs):
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


# -- what it computes ------------------------------------------------------------------------------------


def test_it_computes_what_a_net_does(module, x):
    module.eval()
    net = Net(graph(), SHAPE, 7)
    for path, value in {**net.params, **net.persistent}.items():
        place, _, name = path.rpartition("/")[0], *path.rpartition("/")[2].partition(".")[1:]
        value[...] = module.state_dict()[f"{place.replace('/', '.')}.{name}"].numpy()
    y, dx = net.fprop(x.numpy().transpose(1, 2, 3, 0)).copy(), np.empty((*SHAPE, 7), np.float32)
    net.bprop(2 * y, dx)
    ours, our_dx, *grads = results(module, x)
    assert np.array_equal(ours.numpy().transpose(1, 2, 3, 0), y)
    assert np.array_equal(our_dx.numpy().transpose(1, 2, 3, 0), dx)
    assert all(np.array_equal(a.numpy(), b) for a, b in zip(grads, net.grads.values(), strict=True))


@pytest.mark.parametrize("cls", [*all_layers(), Sequential, Concat, Sum], ids=lambda cls: cls.__name__)
def test_each_layer_is_ready_made(cls):
    made = getattr(minet.torch, cls.__name__)
    assert issubclass(made, torch.nn.Module) and made is getattr(minet.torch, cls.__name__)
    assert cls.__name__ in dir(minet.torch) and cls.__doc__.split("\n")[0] in made.__doc__


def test_ready_made_ones_take_the_layers_settings(x):
    pool = minet.torch.GaussianPool(3, stride=1, pad=1, kernels=2, layout="chwn")
    assert repr(pool) == "GaussianPool(3, stride=1, pad=1, kernels=2)" and pool.layout == "chwn"
    assert pool(x).shape == (7, 6, 6, 5)
    swish = minet.torch.Elementwise("x * sigmoid(b * x)", b=1.0)
    assert torch.allclose(swish(x), x * torch.sigmoid(x), atol=1e-6)
    both = minet.torch.Sequential(Conv(4, 1), [PReLU()])
    assert both(x).shape == (7, 4, 6, 5) and list(both.state_dict()) == ["0.w", "0.b", "1.0.a"]
    with pytest.raises(AttributeError, match="MaxPol"):
        minet.torch.MaxPol


def test_running_statistics_follow_the_batches_as_pytorchs_do(x):
    ours, theirs = minet.torch.BatchNorm(), torch.nn.BatchNorm2d(3)
    for _ in range(3):
        assert torch.allclose(ours(x), theirs(x), atol=1e-5)
    assert torch.allclose(ours.running_var, theirs.running_var)
    assert torch.allclose(ours.running_mean, theirs.running_mean)
    before = ours.running_var.clone()
    assert torch.allclose(ours.eval()(x), theirs.eval()(x), atol=1e-5)
    assert torch.equal(ours.running_var, before)


def test_twins_share_their_parameters(x):
    conv = Conv(3, 3, pad=1)
    module = minet.torch.module([conv, PReLU(), conv.twin()], SHAPE)
    assert list(module.state_dict()) == ["0.w", "0.b", "1.a"]
    w, b, a = module.parameters()
    y = module(x)
    y.square().sum().backward()
    grads = [p.grad.clone() for p in (w, b, a)]
    module.zero_grad()
    F = torch.nn.functional
    plain = F.conv2d(F.prelu(F.conv2d(x, w, b, padding=1), a), w, b, padding=1)
    plain.square().sum().backward()
    assert torch.allclose(y, plain, atol=1e-5)
    assert all(torch.allclose(p.grad, g, rtol=1e-4, atol=1e-3) for p, g in zip((w, b, a), grads, strict=True))


# -- parameters ------------------------------------------------------------------------------------------


def test_parameters_are_where_minet_computes(module, x):
    layer = module.layer.layers[4].layers[0]
    layer.sigma = 0.9
    assert torch.allclose(module.state_dict()["4.0.log_sigma"].exp(), torch.tensor(0.9))
    module.state_dict()["4.0.mean"].fill_(0.5)
    assert (layer.mean == 0.5).all()


def test_what_a_step_moves_out_of_bounds_is_back_at_the_next_call(x):
    pool = minet.torch.GaussianPool(3, stride=1, pad=1, in_shape=SHAPE)
    solver = torch.optim.SGD(pool.parameters(), lr=1.0)
    pool.log_sigma.grad = torch.full_like(pool.log_sigma, 100.0)
    solver.step()
    y = pool(pool(x))  # clipped twice in one graph
    assert torch.allclose(pool.log_sigma.exp(), torch.tensor(0.3))
    y.sum().backward()


def test_what_a_layer_does_not_learn_needs_no_gradient(x):
    pool = minet.torch.GaussianPool(3, in_shape=SHAPE, learn={"mean"})
    assert pool.mean.requires_grad and not pool.log_sigma.requires_grad
    pool(x).square().sum().backward()
    assert pool.mean.grad is not None and pool.log_sigma.grad is None


def test_first_values_follow_the_seed():
    torch.manual_seed(0)
    first, second = (minet.torch.Conv(3, 3, in_shape=SHAPE).w for _ in range(2))
    torch.manual_seed(0)
    assert torch.equal(first, minet.torch.Conv(3, 3, in_shape=SHAPE).w) and not torch.equal(first, second)


def test_a_module_without_draws_leaves_the_generator_alone(x):
    pool = minet.torch.GaussianPool(3, in_shape=SHAPE)
    before = torch.get_rng_state()
    pool(x)
    assert torch.equal(torch.get_rng_state(), before)


def test_saved_and_loaded(module, x, tmp_path):
    torch.save(module.state_dict(), tmp_path / "state.pt")
    for other in (minet.torch.module(graph(), SHAPE), minet.torch.module(graph())):  # one without shapes yet
        other.load_state_dict(torch.load(tmp_path / "state.pt"))
        assert same(results(other, x), results(module, x))
        module.load_state_dict(torch.load(tmp_path / "state.pt"))
    torch.save(module, tmp_path / "module.pt")
    assert same(results(torch.load(tmp_path / "module.pt", weights_only=False), x), results(module, x))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
@pytest.mark.parametrize("in_shape", [None, SHAPE])
def test_copies_are_modules_of_their_own(copied, in_shape, x):
    module = minet.torch.module(graph(), in_shape)
    other = copied(module)
    if in_shape:
        assert same(results(other, x), results(module, x))
    other(x)
    module(x)
    with torch.no_grad():
        other.get_parameter("0.w").zero_()
    assert module.get_parameter("0.w").abs().sum() > 0


def test_lazy_until_the_first_input(x):
    module = minet.torch.module(graph())
    assert is_lazy(module.get_parameter("0.w")) and is_lazy(module.get_buffer("1.running_var"))
    module.double()
    assert module(x.double()).dtype == torch.float64
    assert module.get_parameter("0.w").shape == (4, 3, 3, 3)


# -- layouts ---------------------------------------------------------------------------------------------


def chwn(x):
    return x.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2)


FORMS = {
    "nchw": lambda x: x,
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "chwn": chwn,
    "sliced": lambda x: torch.cat([x, x], 1)[:, :3],
    "strided": lambda x: x.repeat_interleave(2, 3)[..., ::2],
}


@pytest.mark.parametrize("form", FORMS)
def test_any_layout_gives_the_same(module, x, form):
    given = FORMS[form](x)
    before = given.clone()
    assert same(results(module, given), results(module, x)) and torch.equal(given, before)


def test_the_output_lies_as_the_input_or_as_asked(x):
    pool = minet.torch.GaussianPool(3, stride=1, pad=1, kernels=2)
    last = x.contiguous(memory_format=torch.channels_last)
    assert pool(x).is_contiguous() and pool(chwn(x)).is_contiguous()
    assert pool(last).is_contiguous(memory_format=torch.channels_last)
    pool.layout = "chwn"
    assert layouts.lies(pool(x)) and torch.equal(pool(x), pool(last))


def test_a_chain_in_minets_layout_copies_nothing(x, monkeypatch):
    chain = torch.nn.Sequential(
        minet.torch.Conv(4, 3, layout="chwn"),
        minet.torch.PReLU(layout="chwn"),
        minet.torch.MaxPool(2, layout="chwn"),
    )
    expected = chain(x)
    for name in ("lay", "lift"):
        monkeypatch.setattr(layouts, name, None)
    given = chwn(x).requires_grad_()
    y = chain(given)
    y.backward(chwn(torch.ones_like(y)))
    assert torch.equal(y, expected) and layouts.lies(given.grad)


# -- PyTorch's ways of using modules ---------------------------------------------------------------------


def test_used_several_times_in_one_graph(x):
    pool = minet.torch.GaussianPool(3, 1, 1, in_shape=SHAPE, dtype=torch.float64)
    drop = minet.torch.Dropout(0.5, in_shape=SHAPE)

    def several(x):
        torch.manual_seed(0)
        return pool(drop(pool(x))) * drop(x)

    assert torch.autograd.gradcheck(several, (x.double().requires_grad_(),), fast_mode=True)


def test_draws_differ_from_call_to_call(x):
    drop = minet.torch.Dropout(0.5)
    assert not torch.equal(drop(x), drop(x))
    drop.eval()
    assert torch.equal(drop(x), x)


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpoint_draws_the_same_again(module, x, reentrant):
    plain = results(module, x)
    assert same(results(module, x, lambda x: checkpoint(module, x, use_reentrant=reentrant)), plain)


def test_without_gradients(module, x):
    module.eval()
    y = module(x)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert torch.equal(module(x), y) and not module(x).requires_grad
    assert y.requires_grad


@pytest.mark.parametrize("train", [True, False])
def test_compiled_without_a_break(module, x, train):
    module.train(train)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    other = copy.deepcopy(module)
    assert same(results(module, x, compiled), results(other, x))
    assert torch.equal(module.get_buffer("1.running_var"), other.get_buffer("1.running_var"))
    for batch in (2, 3, 4):
        assert same(results(module, x[:batch], compiled), results(other, x[:batch]))


def test_compiled_before_the_first_input(x):
    pool = minet.torch.GaussianPool(3, kernels=2)
    compiled = torch.compile(pool, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x), pool(x))
    pool.log_sigma.data.fill_(-9.0)
    compiled(x)
    assert torch.allclose(pool.log_sigma.exp(), torch.tensor(0.3))


def test_a_compiled_graph_outlives_its_module(x):
    def loss(x):
        module = minet.torch.GaussianPool(3, in_shape=SHAPE)
        return torch.compile(module, backend="aot_eager")(x).sum()

    x.requires_grad_()
    y = loss(x)
    torch.compiler.reset()
    gc.collect()
    y.backward()
    assert x.grad.abs().sum() > 0


@pytest.mark.slow  # compiles C++
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inductor's own
def test_compiled_by_inductor(module, x):
    module.eval()

    def plain(x):
        return module(torch.relu(x) * 2).tanh()

    compiled = torch.compile(plain, fullgraph=True)
    ours, theirs = (
        results(module, x, compiled),
        results(module, x, lambda x: module(torch.relu(x) * 2).tanh()),
    )
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(ours, theirs, strict=True))


def test_autocast_computes_in_float32(module, x):
    module.eval()
    half = x.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        given = half.clone().requires_grad_()
        y = module(given)
    assert y.dtype == torch.float32 and torch.equal(y, module(half.float()))
    y.sum().backward()
    assert given.grad.dtype == torch.bfloat16


def test_autocast_at_the_first_input(x):
    module = minet.torch.PReLU()
    with torch.autocast("cpu", torch.bfloat16):
        assert module(x.bfloat16()).dtype == torch.float32
    with pytest.raises(MinetError, match=r"computes in float32 or float64, got torch\.bfloat16"):
        minet.torch.PReLU()(x.bfloat16())


def test_what_a_compiler_keeps_on_disk_is_of_one_module_alone():
    """PyTorch's caches know a module by its handle."""
    show = "import minet.torch; print(minet.torch.MaxPool(2)._spec.handle)"
    handles = {subprocess.run([sys.executable, "-c", show], capture_output=True).stdout for _ in range(2)}
    assert len(handles) == 2 and all(handle.startswith(b"MaxPool#") for handle in handles)


def test_what_draws_is_left_out_of_a_compilers_cuda_graphs(x):
    """A graph would replay the number that it was captured with."""
    seen = []

    def look(graph, inputs):
        seen.extend(node.target for node in graph.graph.nodes if "minet" in str(node.target))
        boxed = partial(lambda taken: graph.forward(*taken))
        boxed._boxed_call = True
        return boxed

    backend = aot_autograd(fw_compiler=look, bw_compiler=look)
    module = minet.torch.module([PReLU(), Dropout(0.5)], SHAPE)
    for train in (True, False):
        module.train(train)
        torch.compile(module, fullgraph=True, backend=backend)(x.requires_grad_()).sum().backward()
    drawn, plain = seen[:2], seen[2:]
    assert [str(op) for op in seen] == [
        "minet.fprop_drawn.default", "minet.bprop_drawn.default", "minet.fprop.default", "minet.bprop.default"
    ]  # fmt: skip
    if hasattr(torch.Tag, "cudagraph_unsafe"):
        assert all(torch.Tag.cudagraph_unsafe in op.tags for op in drawn)
        assert not any(torch.Tag.cudagraph_unsafe in op.tags for op in plain)


def test_what_was_kept_gets_no_gradient_of_zeros(x):
    made = []
    pool = minet.torch.MaxPool(2, in_shape=SHAPE)
    y = pool(x.requires_grad_())
    with OnlyZeros(made):
        y.sum().backward()
    assert not made


class OnlyZeros(TorchDispatchMode):
    """Notes tensors of bytes that are made."""

    def __init__(self, made):
        super().__init__()
        self.made = made

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor) and found.dtype == torch.uint8:
            self.made.append(function)
        return found


def test_replicas_for_several_devices(x):
    module = minet.torch.module(graph(), SHAPE)
    replica = module._replicate_for_data_parallel()
    assert replica is not module and replica._parameters.keys() == module._parameters.keys()
    with pytest.raises(RuntimeError, match="uninitialized"):
        minet.torch.PReLU()._replicate_for_data_parallel()


def test_what_was_frozen_before_the_first_input_stays_so(x):
    trained = minet.torch.PReLU(in_shape=SHAPE)
    module = minet.torch.PReLU()
    module.load_state_dict(trained.state_dict())
    module.requires_grad_(False)
    module(x)
    assert not module.a.requires_grad


def test_pytorchs_default_device_draws_nothing(x):
    """Draws are the host's: on a card each would be waited for, and a module on "meta" has none."""
    with torch.device("meta"):
        there = minet.torch.PReLU(in_shape=SHAPE)
    assert there.a.is_meta
    drop = minet.torch.Dropout(0.5, in_shape=SHAPE)
    torch.manual_seed(1)
    expected = drop(x)
    torch.manual_seed(1)
    with torch.device("meta"):
        assert torch.equal(drop(x), expected)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # PyTorch's own
def test_forward_mode_derivatives_are_refused(x):
    pool = minet.torch.MaxPool(2, in_shape=SHAPE)
    with forward_ad.dual_level(), pytest.raises(MinetError, match="no forward-mode derivative"):
        pool(forward_ad.make_dual(x, x))
    with pytest.raises(MinetError, match="no forward-mode derivative"):
        torch.func.jvp(pool, (x,), (x,))


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.filterwarnings(
    "ignore:.isinstance.treespec, LeafSpec.* is deprecated:FutureWarning"
)  # PyTorch's
def test_exported_programs_compute_the_same(module, x, strict):
    module.eval().requires_grad_(False)
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(module, (x,), dynamic_shapes=({0: batch},), strict=strict)
    for N in (7, 3):
        assert torch.equal(program.module()(x[:N]), module(x[:N]))
    pool = minet.torch.GaussianPool(3, in_shape=SHAPE)
    pool.log_sigma.data.fill_(-9.0)
    assert torch.equal(torch.export.export(pool, (x,), strict=strict).module()(x), pool(x))


def test_what_is_exported_knows_its_module_in_one_process_alone():
    with pytest.raises(MinetError, match="PReLU#0 is gone") as refused:
        spec_of("PReLU#0")
    assert "what is exported or traced in the same process" in refused.value.hint


def test_transforms_of_torch_func_are_refused(x):
    pool = minet.torch.GaussianPool(3, in_shape=SHAPE)
    params = dict(pool.named_parameters())

    def loss(params):
        return torch.func.functional_call(pool, params, (x,)).sum()

    for use in (
        lambda: torch.func.vjp(pool, x),
        lambda: torch.func.vmap(lambda one: pool(one[None]))(x),
        lambda: torch.func.grad(loss)(params),
    ):
        with pytest.raises(MinetError, match=r"GaussianPool .*\n.*cannot be transformed by torch.func"):
            use()


def test_what_is_constant_for_a_transform_computes_as_always(x):
    pool = minet.torch.GaussianPool(3, in_shape=SHAPE)
    slope = torch.func.grad(lambda w: (pool(x) * w).sum())(torch.tensor(1.0))
    assert torch.equal(slope, pool(x).sum())


def test_for_torch_fx_it_is_a_leaf(x):
    net = torch.nn.Sequential(minet.torch.PReLU(in_shape=SHAPE), torch.nn.ReLU())
    with pytest.raises(MinetError, match=r"PReLU .*\n.*torch.fx does not look into") as refused:
        torch.fx.symbolic_trace(net)
    assert "is_leaf_module" in refused.value.hint

    class Tracer(torch.fx.Tracer):
        def is_leaf_module(self, m, name):
            return isinstance(m, minet.torch.Module) or super().is_leaf_module(m, name)

    assert torch.equal(torch.fx.GraphModule(net, Tracer().trace(net))(x), net(x))


def test_bounds_do_not_change_a_callers_own_tensors(x):
    pool = minet.torch.GaussianPool(3, in_shape=SHAPE)
    pool.log_sigma.data.fill_(-9.0)
    least = pool(x)
    given = {"mean": pool.mean.detach().clone(), "log_sigma": torch.full_like(pool.log_sigma, -9.0)}
    assert torch.equal(torch.func.functional_call(pool, given, (x,)), least)
    assert (given["log_sigma"] == -9).all()


def test_a_parametrised_parameter_is_bounded_too(x):
    class Lower(torch.nn.Module):
        def forward(self, value):
            return value - 20

    pool = minet.torch.GaussianPool(3, in_shape=SHAPE)
    pool.log_sigma.data.fill_(-9.0)
    least = pool(x)
    torch.nn.utils.parametrize.register_parametrization(pool, "log_sigma", Lower())
    assert torch.equal(pool(x), least)


def test_the_layer_of_a_module_in_half_precision(x):
    module = minet.torch.PReLU(in_shape=SHAPE).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        assert module(x).dtype == torch.float32
    with pytest.raises(MinetError, match=r"bound to float32 or float64, not to torch\.bfloat16"):
        _ = module.layer


def test_memory_that_runs_out_is_pytorchs_error(x, monkeypatch):
    """Users look for a batch that fits by catching it."""

    def out(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(PReLU, "fprop_cpu", out)
    with pytest.raises(torch.OutOfMemoryError):
        minet.torch.PReLU(in_shape=SHAPE)(x)


def test_threads_use_one_module_at_once(module, x):
    module.eval()
    batches = [x * i for i in range(8)]
    expected = [module(b).detach() for b in batches]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda b: module(b).detach(), batches))
    assert same(found, expected)


def test_calls_take_turns_with_their_memory():
    cpu = get("cpu")
    with borrowed(cpu, 1000) as first, borrowed(cpu, 1000) as second:
        assert not np.may_share_memory(first, second)
    with borrowed(cpu, 100) as third:
        assert np.may_share_memory(third, first) or np.may_share_memory(third, second)


def test_on_the_meta_device(module, x):
    assert module.to("meta")(x.to("meta")).shape == (7, 5, 1, 1)
    with torch.device("meta"):
        fresh = minet.torch.module(graph())
        assert fresh(x.to("meta")).is_meta
    fresh.load_state_dict(module.to_empty(device="cpu").state_dict(), assign=True)
    assert not any(p.is_meta for p in fresh.parameters())


@pytest.mark.parametrize(
    "layer", [PReLU(), BatchNorm(), StochasticPool(3, 2, 1), GaussianPool(3, kernels=2)], ids=repr
)
def test_cuda_kernels_on_the_emulator(layer, x, gpu_backend):
    if gpu_backend == "cuda":
        pytest.skip("test_torch_card.py is about cards")
    theirs = minet.torch.module(layer.clone(), SHAPE)
    ours = minet.torch.module(layer.clone(), SHAPE, backend="emu")
    for a, b in zip(results(ours, x), results(theirs, x), strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=2e-4)


# -- what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (lambda x: x[0].transpose(1, 2), r"images \(N, C, H, W\)"),
        (lambda x: x[0], r"images \(N, C, H, W\).*\(3, 6, 5\)"),
        (lambda x: x.double(), r"parameters are torch.float32, got a tensor of torch.float64"),
        (lambda x: x.half(), r"float32 or float64, got torch.float16"),
        (lambda x: (x * 9).int(), r"got torch.int32"),
        (lambda x: x.to_sparse(), r"dense tensors, got torch.sparse_coo"),
        (lambda x: x.numpy(), r"takes a tensor \(N, C, H, W\), got ndarray"),
        (lambda x: x[:, :2], r"Conv.*input \(2, 6, 5\)\n.*its w is \(4, 3, 3, 3\), but .* \(4, 2, 3, 3\)"),
        (lambda x: x[..., :4], r"Linear.*\n.*its w is"),
        (lambda x: x.to("meta"), r"parameters are on cpu, got a tensor on meta"),
    ],
)
def test_an_input_that_does_not_fit(module, x, given, what):
    with pytest.raises(MinetError, match=what) as refused:
        module(given(x))
    assert "test_torch_modules.py" in str(refused.value) and refused.value.hint


def test_a_first_input_that_is_no_tensor():
    for given, kind in ((np.zeros((2, *SHAPE), np.float32), "ndarray"), ([1.0], "list"), (None, "NoneType")):
        with pytest.raises(MinetError, match=f"takes a tensor .* got {kind}"):
            minet.torch.PReLU()(given)
    assert minet.torch.PReLU(in_shape=[*SHAPE]).a.shape == (3,)
    with pytest.raises(MinetError, match="three positive whole numbers"):
        minet.torch.PReLU(in_shape=5)


def test_a_refused_first_input_leaves_a_module_without_shapes(x):
    module = minet.torch.Conv(4, 9)
    with pytest.raises(MinetError, match="window 9x9 does not fit"):
        module(x)
    assert is_lazy(module.w) and module(torch.randn(2, 3, 9, 9)).shape == (2, 4, 1, 1)


@pytest.mark.parametrize(
    ("backend", "device", "dtype", "what"),
    [
        ("emu", "cuda:0", torch.float32, "computes on the cpu, as backend='emu', got a tensor on cuda:0"),
        ("cpu", "cuda:0", torch.float32, "computes on the cpu, as backend='cpu', got a tensor on cuda:0"),
        ("auto", "xpu:0", torch.float32, "computes on the cpu or a CUDA device, got a tensor on xpu:0"),
        ("auto", "cuda:0", torch.float64, "computes in float32, got torch.float64"),
    ],
)
def test_a_device_that_it_does_not_compute_on(backend, device, dtype, what):
    x = SimpleNamespace(dim=lambda: 4, device=torch.device(device), dtype=dtype, layout=torch.strided)
    with pytest.raises(MinetError, match=what):
        Spec(PReLU(), backend).check(x, [])


def test_images_of_many_sizes_one_after_another():
    pool = minet.torch.MaxPool(2)
    for size in range(2, MOST + 5):
        assert pool(torch.ones(1, 1, size, 2)).shape == (1, 1, size // 2, 1)
    assert len(pool._spec._idle) == MOST
    assert pool(torch.ones(3, 5, 8, 8)).shape == (3, 5, 4, 4)  # nor have its channels to be the first ones


def test_what_a_call_needs_is_freed_with_its_graph(x):
    module = minet.torch.GaussianPool(3, in_shape=SHAPE)
    y = module(x.requires_grad_())
    handle = module._spec.handle
    del module
    y.sum().backward()  # the graph has what it needs
    del y
    gc.collect()
    with pytest.raises(MinetError, match="is gone"):
        spec_of(handle)


class ForThree(Layer):
    """Scale each channel; it can say what it declares only of images with three."""

    def out_shape(self, in_shape):
        return in_shape

    def params(self, in_shape):
        return {name: Param((1,), 2.0) for name in ("red", "green", "blue")[: {3: 3}[in_shape[0]]]}

    def state(self, in_shape, out_shape):
        return {"seen": State((), "int64", per_sample=False, persistent=True)}

    def fprop_cpu(self, x, y, beta, train):
        self.s.seen += train
        update(y, x * np.stack([*self.p.values()])[:, :, None, None], beta)

    def bprop_cpu(self, x, dy, dx, beta):
        for grad, product in zip(self.g.values(), dy * x, strict=True):
            grad += product.sum()
        if dx is not None:
            update(dx, dy * np.stack([*self.p.values()])[:, :, None, None], beta)


def test_a_layer_of_ones_own(x):
    module = minet.torch.module([ForThree(), PReLU()])
    assert list(module.state_dict()) == ["1.a"]
    y = module(x)
    y.sum().backward()
    assert list(module.state_dict()) == ["0.red", "0.green", "0.blue", "0.seen", "1.a"]
    assert torch.allclose(y, torch.nn.functional.prelu(2 * x, module.get_parameter("1.a")))
    module(x)
    assert module.get_buffer("0.seen") == 2 and module.get_buffer("0.seen").dtype == torch.int64
    loaded = minet.torch.module([ForThree(), PReLU()], SHAPE)
    loaded.load_state_dict(module.state_dict())
    assert torch.equal(loaded(x), module(x))


class Changing(ForThree):
    """Its names depend on the shape."""

    def params(self, in_shape):
        return {f"of{in_shape[0]}": Param((1,))}


def test_names_that_depend_on_the_shape(x):
    with pytest.raises(MinetError, match="names of its parameters depend on the input's shape"):
        minet.torch.module(Changing())(x)


def test_layers_that_cannot_be_modules():
    net = Net([MaxPool(2)], SHAPE, 2)
    with pytest.raises(MinetError, match="bound in a net already"):
        minet.torch.module(net.graph)
    with pytest.raises(MinetError, match="takes a layer of minet"):
        minet.torch.module(torch.nn.ReLU())
    with pytest.raises(MinetError, match="'train' is a name that"):
        minet.torch.module(Elementwise("x * train", train=1.0))
    with pytest.raises(MinetError, match="'layer' is a name that"):
        minet.torch.module(Elementwise("x * layer", layer=1.0))
    with pytest.raises(MinetError, match="layout must be"):
        minet.torch.PReLU(layout="hwcn")
    with pytest.raises(MinetError, match="backend is one of auto, cpu, emu"):
        minet.torch.PReLU(backend="tpu")
    with pytest.raises(MinetError, match="no parameters before its first input"):
        minet.torch.PReLU().layer
    with pytest.raises(MinetError, match="part of a module"):
        minet.torch.module([PReLU()], SHAPE).get_submodule("0")(None)

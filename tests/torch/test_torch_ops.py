"""Every layer as an operator: gradients against differences, and PyTorch's own checks of operators."""

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[torch]'")

import minet.torch  # noqa: E402
from minet import Concat, MinetError, Sequential, Sum  # noqa: E402
from minet.layers import all_layers  # noqa: E402
from minet.testing.examples import examples  # noqa: E402
from minet.testing.harness import values  # noqa: E402
from minet.torch.ops import bprop, fprop  # noqa: E402

CLASSES = [*all_layers(), Sequential, Concat, Sum]
EXAMPLES = [
    pytest.param(make, shape, id=f"{cls.__name__}{i}")
    for cls in CLASSES
    for i, (make, shape) in enumerate(examples(cls))
]
FIRST = [pytest.param(*next(iter(examples(cls))), id=cls.__name__) for cls in CLASSES]


def images(shape, batch=2, name="x", dtype=torch.float64):
    """Images (N, C, H, W) without ties, none near 0."""
    return torch.from_numpy(values((batch, *shape), name)).to(dtype)


def module_of(make, shape):
    """A module in float64 whose parameters are away from their bounds and from symmetry."""
    module = minet.torch.module(make(), shape, dtype=torch.float64)
    with torch.no_grad():
        for name, param in module.named_parameters():
            param += 0.1 + 0.05 * torch.from_numpy(values(tuple(param.shape), name))
    return module


@pytest.mark.sweep(16)
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(("make", "shape"), EXAMPLES)
def test_gradients_agree_with_differences(make, shape, train):
    module = module_of(make, shape).train(train)
    names, params = zip(*module.named_parameters(), strict=True) if list(module.parameters()) else ((), ())

    def compute(x, *params):
        torch.manual_seed(3)  # for the same draws each time
        return torch.func.functional_call(module, dict(zip(names, params, strict=True)), (x,))

    assert torch.autograd.gradcheck(compute, (images(shape).requires_grad_(), *params), fast_mode=True)


def operands(make, shape, train, form="nchw"):
    module = module_of(make, shape)
    params, running = module._arrays()
    return (
        images(shape).requires_grad_(),
        params,
        running,
        torch.tensor(7),
        train,
        form,
        module._spec.handle,
        module,
    )


@pytest.mark.sweep(8)
@pytest.mark.parametrize(("make", "shape"), EXAMPLES)
def test_pytorch_finds_no_fault_with_the_operator(make, shape):
    *args, _module = operands(make, shape, train=True)
    torch.library.opcheck(fprop, tuple(args))


@pytest.mark.sweep(6)
@pytest.mark.parametrize(("make", "shape"), FIRST)
def test_nor_in_evaluation_nor_with_that_of_the_gradient(make, shape):
    *args, _module = operands(make, shape, train=False, form="chwn")
    torch.library.opcheck(fprop, tuple(args))
    _, params, _, draw, train, form, handle = args
    with torch.no_grad():
        y, kept, _ = fprop(*args)
        params = [param.detach() for param in params]
        dy = images(tuple(y.shape[1:]), name="dy")
        torch.library.opcheck(
            bprop, (None, dy, params, draw, kept, list(shape), True, train, form, handle),
            test_utils=("test_schema", "test_faketensor"),
        )  # fmt: skip


def test_a_gradient_is_not_differentiated_again():
    module = minet.torch.GaussianPool(3, in_shape=(2, 4, 4))
    x = torch.randn(2, 2, 4, 4, requires_grad=True)
    (dx,) = torch.autograd.grad(module(x).square().sum(), x, create_graph=True)
    with pytest.raises(MinetError, match="a layer of minet computed cannot be differentiated again"):
        dx.sum().backward()


def test_only_what_is_wanted_gets_a_gradient():
    module = minet.torch.Conv(2, 3, in_shape=(2, 4, 4))
    module.w.requires_grad_(False)
    x = torch.randn(3, 2, 4, 4)
    module(x).sum().backward()
    assert module.w.grad is None and module.b.grad is not None and x.grad is None


@pytest.mark.parametrize("shape", [(3, 6, 5), (1, 4, 4)])
@pytest.mark.parametrize("batch", [0, 1, 2, 17])
def test_any_batch_size(shape, batch):
    module = minet.torch.module(
        [minet.layers.GaussianPool(3, 2, 1, kernels=2), minet.layers.Linear(3)], shape
    )
    x = torch.randn(17, *shape)[:batch].requires_grad_()
    y = module(x)
    y.sum().backward()
    assert y.shape == (batch, 3, 1, 1) and x.grad.shape == x.shape
    for one in range(batch):
        assert torch.allclose(module(x[one : one + 1]), y[one : one + 1], atol=1e-6)

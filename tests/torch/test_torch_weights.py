"""Weights from PyTorch and nets made of PyTorch's layers."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[torch]'")

import minet.torch  # noqa: E402
from minet import Concat, MinetError, Net, Sum  # noqa: E402
from minet.layers import (  # noqa: E402
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
    all_layers,
)  # fmt: skip
from minet.testing.harness import values  # noqa: E402

BOTH = (
    "AvgPool",
    "BatchNorm",
    "Conv",
    "Dropout",
    "Identity",
    "LRN",
    "Linear",
    "MaxPool",
    "PReLU",
    "ReLU",
    "Softmax",
)
UNLIKE = ("count_pad=True, ceil", "ceil=True, count_pad", "dilation")  # AvgPools that PyTorch has not
EXAMPLES = [
    pytest.param(make, shape, id=f"{cls.__name__}{i}")
    for cls in all_layers()
    if cls.__name__ in BOTH
    for i, (make, shape) in enumerate(cls.examples())
]
SHAPE = (3, 9, 8)


def moved(net):
    """The net, with parameters and statistics away from their first values."""
    for path, value in {**net.params, **net.persistent}.items():
        value += 0.5 + 0.1 * values(value.shape, path)
    return net


def graph():
    branches = Concat([Conv(4, 1), PReLU()], Identity(), Sum(Conv(3, 1), Conv(3, 3, pad="same")))
    return [
        Conv(6, 3, pad=((1, 0), (2, 1))),
        BatchNorm(),
        ReLU(),
        branches,
        MaxPool(3, 2),
        LRN(),
        Dropout(0.2),
        Linear(4),
    ]


@pytest.fixture
def net():
    return moved(Net(graph(), SHAPE, 5))


@pytest.fixture
def x():
    return torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("make", "shape"), EXAMPLES)
def test_pytorchs_layer_computes_the_same(make, shape):
    net = moved(Net(make(), shape, 3))
    if isinstance(net.graph, AvgPool) and any(word in repr(net.graph) for word in UNLIKE):
        with pytest.raises(MinetError, match="PyTorch has no layer for AvgPool"):
            minet.torch.to_torch(net)
        return
    module, x = minet.torch.to_torch(net).eval(), values((3, *shape), "x").astype(np.float32)
    expected = net.predict(x).reshape(3, *net.output_shape)
    with torch.no_grad():
        assert np.allclose(module(torch.from_numpy(x)).numpy(), expected, rtol=1e-4, atol=1e-5)
    assert all(
        type(part).__module__.startswith(("torch.", "minet.torch.convert")) for part in module.modules()
    )


def test_a_whole_net_computes_the_same_as_minets_module(net, x):
    theirs, ours = minet.torch.to_torch(net).eval(), minet.torch.module(graph(), SHAPE).eval()
    minet.torch.load(ours, theirs.state_dict())
    assert torch.allclose(theirs(x), ours(x), rtol=1e-3, atol=1e-4)


def test_running_statistics_go_on_alike(x):
    net = moved(Net([Conv(4, 3), BatchNorm(momentum=0.7)], SHAPE, 5))
    theirs, ours = minet.torch.to_torch(net), minet.torch.module([Conv(4, 3), BatchNorm(momentum=0.7)], SHAPE)
    minet.torch.load(ours, theirs.state_dict())
    for _ in range(2):
        assert torch.allclose(theirs(x), ours(x), rtol=1e-3, atol=1e-4)
    for name in ("1.running_mean", "1.running_var"):
        assert torch.allclose(theirs.get_buffer(name), ours.get_buffer(name), rtol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_there_and_back(dtype):
    net = moved(Net(graph(), SHAPE, 5, dtype=dtype))
    module, other = minet.torch.to_torch(net), Net(graph(), SHAPE, 5, dtype=dtype, seed=1)
    minet.torch.load(other, module.state_dict())
    for path, value in {**net.params, **net.persistent}.items():
        assert np.array_equal({**other.params, **other.persistent}[path], value), path
    module.get_submodule("0").weight.data.zero_()  # a copy: the net's own stay
    assert net.params["0/conv.w"].all()


def test_minets_own_names_are_read_too(net):
    module = minet.torch.module(graph(), SHAPE)
    minet.torch.load(net, module.state_dict())
    assert np.array_equal(net.params["3/0/1/prelu.a"], module.get_parameter("3.0.1.a").detach())
    assert np.array_equal(net.persistent["1/batch_norm.running_var"], module.get_buffer("1.running_var"))


def test_names_of_another_network():
    net = Net([[Conv(4, 3), ReLU()], Linear(2)], (3, 5, 5), 2)
    state = {
        "features.0.weight": torch.randn(4, 3, 3, 3), "features.0.bias": torch.randn(4),
        "classifier.weight": torch.randn(2, 36, 1, 1), "classifier.bias": torch.randn(2),
        "bn.num_batches_tracked": torch.tensor(3),
    }  # fmt: skip
    minet.torch.load(net, state, names={"0/0": "features.0", "1/linear": "classifier"})
    assert np.array_equal(net.params["0/0/conv.w"], state["features.0.weight"])
    assert np.array_equal(net.params["1/linear.w"], state["classifier.weight"][:, :, 0, 0])


def test_twins_stay_twins(x):
    conv = Conv(3, 3, pad=1)
    net = Net([conv, ReLU(), conv.twin()], SHAPE, 5)
    module = minet.torch.to_torch(net)
    assert module.get_submodule("0").weight is module.get_submodule("2").weight
    assert len(list(module.parameters())) == 2
    state = module.state_dict()
    assert np.allclose(module(x).detach(), net.predict(x.numpy()), rtol=1e-4, atol=1e-5)
    minet.torch.load(net, {key: state[key] + 1 for key in ("0.weight", "0.bias")})
    assert np.array_equal(net.params["0/conv.w"], state["0.weight"] + 1)


def test_all_faults_are_listed_and_nothing_is_read(net):
    before = {path: value.copy() for path, value in net.params.items()}
    state = minet.torch.to_torch(Net(graph(), SHAPE, 5, seed=9)).state_dict()
    del state["0.bias"]
    state |= {"1.weight": torch.zeros(5), "head.w": torch.zeros(1)}
    with pytest.raises(MinetError) as refused:
        minet.torch.load(net, state, names={"12": "tail"})
    for fault in (
        "no layer '12'",
        "no 0.bias for 0/conv.b",
        r"1.weight is (5,), 1/batch_norm.gamma is (6,)",
        "takes head.w",
    ):
        assert fault in str(refused.value)
    assert all(np.array_equal(net.params[path], value) for path, value in before.items())


def test_what_pytorch_has_not_is_listed():
    net = Net([Conv(2, 1), GaussianPool(3), Concat(Identity(), AvgPool(2, 1, dilation=2, pad=1))], SHAPE, 2)
    with pytest.raises(MinetError, match=r"no layer for 1:GaussianPool\(3\), 2/1:AvgPool\(2, 1, dilation=2"):
        minet.torch.to_torch(net)
    with pytest.raises(MinetError, match="expected a Net or a Module"):
        minet.torch.load(torch.nn.ReLU(), {})

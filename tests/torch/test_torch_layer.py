"""minet.torch.Layer: a torch module in a minet net, with minet's contract, memory, seeds and checkpoints."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from minet import SGD, Concat, MinetError, Net, SoftmaxCrossEntropy, backends  # noqa: E402
from minet.cli.main import app  # noqa: E402
from minet.layers import Conv, PReLU  # noqa: E402
from minet.testing import check_layer, layer_checks, run  # noqa: E402
from minet.torch import Layer  # noqa: E402

test_conformance = pytest.mark.sweep(12)(layer_checks(Layer))
DRAW = np.random.Generator(np.random.Philox(key=5))


def images(*shape):
    return DRAW.standard_normal(shape).astype(np.float32)


def outer(x):
    """(C, H, W, N) as a tensor (N, C, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(x.transpose(3, 0, 1, 2)))


def inner(x):
    """(N, C, H, W) as an array (C, H, W, N)."""
    return x.detach().numpy().transpose(1, 2, 3, 0)


def test_values_by_hand():
    conv = nn.Conv2d(1, 1, 1)
    with torch.no_grad():
        conv.weight.fill_(3.0)
        conv.bias.fill_(-1.0)
    x = np.array([[[[1.0, 2.0]]]], np.float32)  # two samples of one pixel
    got = run(Layer(conv), x, np.array([[[[1.0, 10.0]]]], np.float32), beta_y=2.0, y0=np.ones((1, 1, 1, 2)),
              beta_dx=1.0, dx0=np.full((1, 1, 1, 2), 0.5))  # fmt: skip
    assert got.y.ravel().tolist() == [2 + 3 - 1, 2 + 6 - 1]
    assert got.dx.ravel().tolist() == [3.5, 30.5]
    assert got.grads["weight"].ravel().tolist() == [1 * 1 + 2 * 10] and got.grads["bias"].tolist() == [11]


@pytest.mark.parametrize("train", [True, False])
def test_it_computes_what_the_module_computes(train):
    torch.manual_seed(3)
    module = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.GELU())
    module(torch.randn(4, 3, 7, 6))  # statistics of their own
    x, dy = images(3, 7, 6, 5), images(4, 3, 2, 5)
    got = run(Layer(module), x, dy, train=train)
    own = copy.deepcopy(module).train(train)
    x_own = outer(x).requires_grad_()
    y = own(x_own)
    y.backward(outer(dy))
    np.testing.assert_allclose(got.y, inner(y), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got.dx, inner(x_own.grad), rtol=1e-5, atol=1e-6)
    for name, p in own.named_parameters():
        np.testing.assert_allclose(got.grads[f"_{name.replace('.', '_')}"], p.grad, rtol=1e-4, atol=1e-5)
    for name in ("running_mean", "running_var"):
        np.testing.assert_allclose(got.state[f"_1_{name}"], getattr(own[1], name), rtol=1e-6)
    assert got.state["_1_num_batches_tracked"].tolist() == [2 if train else 1]


def test_training_in_a_net_is_training_in_torch():
    module = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(12, 4)
    )
    x, labels = images(2, 4, 4, 6), np.array([0, 1, 2, 3, 1, 2])
    layer = Layer(module)
    net = Net(layer, (2, 4, 4), 6, loss=SoftmaxCrossEntropy())
    solver, theirs = SGD(0.1, momentum=0.9), torch.optim.SGD(module.parameters(), 0.1, momentum=0.9)
    for _ in range(5):
        loss = net.train_step(x, labels, solver)
        theirs.zero_grad()
        expected = nn.functional.cross_entropy(module(outer(x)), torch.from_numpy(labels))
        expected.backward()
        theirs.step()
        assert loss == pytest.approx(expected.item(), rel=1e-4)
    for name, value in module.state_dict().items():
        np.testing.assert_allclose(layer.module.state_dict()[name], value, rtol=1e-3, atol=1e-4)
    x_new = images(6, 2, 4, 4)
    module.eval()
    np.testing.assert_allclose(
        net.predict(x_new), module(torch.from_numpy(x_new)).detach(), rtol=1e-3, atol=1e-3
    )


def test_parameters_and_buffers_share_memory_with_the_net():
    given = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))
    net = Net(layer := Layer(given), (2, 4, 4), 3)
    own = layer.module
    assert own is not given and isinstance(own[0].weight, nn.Parameter)
    before = given[0].weight.clone()
    net.params["layer._0_weight"][...] = 0.25
    assert bool((own[0].weight == 0.25).all()) and torch.equal(given[0].weight, before)
    with torch.no_grad():
        own[1].bias.fill_(7)
    assert (net.params["layer._1_bias"] == 7).all()
    net.fprop(images(2, 4, 4, 3), train=True)
    np.testing.assert_array_equal(net.persistent["layer._1_running_mean"], own[1].running_mean)
    assert int(own[1].num_batches_tracked) == 1 and own.training
    net.fprop(images(2, 4, 4, 3), train=False)
    assert int(own[1].num_batches_tracked) == 1 and not own.training
    net.resize(2)
    net.fprop(images(2, 4, 4, 2))
    assert (net.params["layer._0_weight"] == 0.25).all() and bool((own[0].weight == 0.25).all())


def test_a_module_keeps_its_values_and_a_function_draws_from_the_nets_seed():
    given = nn.Conv2d(2, 3, 1)
    for seed in (0, 1):
        np.testing.assert_array_equal(
            Net(Layer(given), (2, 4, 4), 3, seed=seed).params["layer.weight"], given.weight.detach()
        )
    made = [
        Net(Layer(lambda: nn.Conv2d(2, 3, 1)), (2, 4, 4), 3, seed=s).params["layer.weight"] for s in (0, 0, 1)
    ]
    np.testing.assert_array_equal(made[0], made[1])
    assert (made[0] != made[2]).all()


def test_draws_depend_on_seed_layer_and_step_alone():
    def net(seed=0):
        return Net([Layer(nn.Dropout(0.5)), Layer(nn.Dropout(0.5))], (2, 8, 8), 3, seed=seed)

    x = np.ones((2, 8, 8, 3), np.float32)
    torch.manual_seed(1)
    expected = torch.rand(4)
    torch.manual_seed(1)
    first = net()
    y = first.fprop(x, train=True).copy()
    assert torch.equal(torch.rand(4), expected)  # torch's own draws go on as they would
    np.testing.assert_array_equal(net().fprop(x, train=True), y)
    assert (net(seed=1).fprop(x, train=True) != y).any()
    assert 0.1 < (y != 0).mean() < 0.4  # two masks, not one twice
    first.clock.step = 1
    assert (first.fprop(x, train=True) != y).any()
    first.clock.step = 0
    parts = []
    for first.clock.part in ((0, 6), (3, 6), (0, 9)):
        parts.append(first.fprop(x, train=True).copy())
        np.testing.assert_array_equal(first.fprop(x, train=True), parts[-1])
    assert len({part.tobytes() for part in (y, *parts)}) == 4  # a mask for each part of a batch
    np.testing.assert_array_equal(first.fprop(x, train=False), x)


def test_checkpoints_keep_parameters_and_buffers(tmp_path):
    def net(seed):
        torch.manual_seed(seed)
        return Net([Layer(nn.BatchNorm2d(2)), Layer(nn.Conv2d(2, 3, 2))], (2, 4, 4), 3)

    one, other = net(0), net(1)
    one.fprop(images(2, 4, 4, 3), train=True)
    one.save(tmp_path / "net.safetensors")
    other.load(tmp_path / "net.safetensors")
    x = images(2, 4, 4, 3)
    np.testing.assert_array_equal(one.fprop(x), other.fprop(x))
    assert int(other["0"].module.num_batches_tracked) == 1
    assert other.persistent["0/layer.running_var"].tolist() != [1, 1]


def test_copies_are_their_own_and_twins_share():
    net = Net(Layer(nn.Sequential(nn.Conv2d(2, 2, 1), nn.Dropout(0.2))), (2, 4, 4), 3, seed=3)
    net.params["layer._0_bias"][...] = 1.5
    x = images(2, 4, 4, 3)
    y = net.fprop(x, train=True).copy()
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        np.testing.assert_array_equal(other.fprop(x, train=True), y)
        other.params["layer._0_bias"][...] = 0
        np.testing.assert_array_equal(net.fprop(x, train=True), y)
    layer = Layer(nn.Conv2d(2, 2, 1))
    both = Net([layer, twin := layer.twin()], (2, 4, 4), 3)
    assert list(both.params) == ["0/layer.weight", "0/layer.bias"]
    both.params["0/layer.weight"][...] = 0.5
    assert bool((twin.module.weight == 0.5).all())
    unbound = Layer(nn.Conv2d(2, 2, 1))
    assert isinstance(pickle.loads(pickle.dumps(unbound)), Layer)


def test_names_can_be_told_apart():
    module = nn.Module()
    module.a = nn.Linear(2, 2, bias=False)
    module.a_weight = nn.Parameter(torch.ones(()))
    module.register_parameter("items", nn.Parameter(torch.ones(1)))
    module.register_buffer("fixed", torch.ones(2), persistent=False)
    module.register_buffer("kept", torch.tensor([True, False]))
    module.forward = lambda x: x * module.a_weight * module.items
    net = Net(Layer(lambda: module), (1, 2, 2), 3)
    assert sorted(net.params) == ["layer.a_weight", "layer.a_weight_", "layer.items_"]
    assert net.params["layer.a_weight"].shape == (1,) and net.params["layer.a_weight_"].shape == (2, 2)
    assert list(net.persistent) == ["layer.kept"] and net.persistent["layer.kept"].tolist() == [True, False]


def test_what_needs_no_gradient_is_not_learned():
    module = nn.Conv2d(2, 4, 1)
    module.weight.requires_grad_(False)
    net = Net([Layer(module), Conv(3, 2), Layer(nn.Flatten())], (2, 2, 2), 5, loss=SoftmaxCrossEntropy())
    before = {name: value.copy() for name, value in net.params.items()}
    net.train_step(images(2, 2, 2, 5), np.array([0, 1, 2, 0, 1]), SGD(0.1))
    changed = {name for name, value in net.params.items() if (value != before[name]).any()}
    assert changed == net.params.keys() - {"0/layer.weight"}


@pytest.mark.slow
def test_branches_of_torch_and_minet_write_into_one_output():
    graph = Concat(Layer(lambda: nn.Conv2d(2, 3, 3, padding=1)), [Conv(4, 1), PReLU()])
    assert check_layer(graph.clone, (2, 5, 4)).ok


def test_a_buffer_that_is_assigned_anew_is_still_the_nets():
    class Mean(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.zeros(2, 1, 1))

        def forward(self, x):
            y = x - self.mean
            if self.training:
                self.mean = 0.5 * self.mean + 0.5 * x.detach().mean((0, 2, 3))[:, None, None]
            return y

    net = Net(Layer(Mean()), (2, 3, 4), 2)
    x = np.full((2, 3, 4, 2), 4, np.float32)
    for mean in (2, 3):
        net.fprop(x, train=True)
        assert net.persistent["layer.mean"].ravel().tolist() == [mean, mean]
    assert (net.fprop(x) == 1).all()


def test_on_a_gpu_backend_it_computes_on_the_host():
    if why := backends.missing("emu"):
        pytest.skip(why)
    _, (make, in_shape), _ = Layer.examples()
    report = check_layer(make, in_shape, backend="emu")
    assert report.ok, str(report)


@pytest.mark.slow
def test_minet_check_takes_a_file_with_such_a_layer(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("blur.py").write_text(
        "from torch import nn\nfrom minet.torch import Layer\n\n\nclass Blur(Layer):\n"
        "    def __init__(self, size):\n        super().__init__(lambda: nn.Conv2d(2, 2, size))\n\n"
        "    @classmethod\n    def examples(cls):\n        yield lambda: cls(3), (2, 5, 4)\n"
    )
    result = CliRunner().invoke(app, ["check", "blur.py"])
    assert result.exit_code == 0 and result.stdout.startswith("Blur(3) on (2, 5, 4), batch 3, cpu\n"), (
        result.output
    )


def test_how_it_reads():
    assert repr(Layer(nn.GELU())) == "Layer(GELU(approximate='none'))"
    assert repr(Layer(nn.GELU)) == "Layer(GELU)"
    assert repr(Layer(nn.Sequential(nn.GELU()))) == "Layer(Sequential)"
    assert "Layer(Sequential)" in Net(Layer(nn.Sequential(nn.Conv2d(2, 3, 1))), (2, 4, 4), 3).summary()


class Odd(nn.Module):
    """A module that returns what a function makes of x."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def test_a_module_may_write_to_its_input_and_take_it_as_contiguous():
    report = check_layer(lambda: Layer(Odd(lambda x: x.mul_(2).view(len(x), -1).sin())), (2, 3, 4))
    assert report.ok, str(report)


def test_bprop_may_run_more_than_once():
    net = Net(Layer(nn.Sequential(nn.Conv2d(2, 3, 1), nn.Tanh(), nn.Dropout(0.4))), (2, 4, 4), 3)
    net.fprop(images(2, 4, 4, 3), train=True)
    dy, dx, again = images(3, 4, 4, 3), np.zeros((2, 4, 4, 3), np.float32), np.zeros((2, 4, 4, 3), np.float32)
    net.bprop(dy, dx)
    grads = {name: grad.copy() for name, grad in net.grads.items()}
    net.bprop(dy, again)
    np.testing.assert_array_equal(dx, again)
    for name, grad in net.grads.items():
        np.testing.assert_array_equal(grad, grads[name])


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (3, "takes a torch.nn.Module, got 3"),
        (nn.LazyLinear(3), "has lazy parameters, without a shape\n  hint: run the module on a batch first"),
        (nn.Conv2d(5, 3, 1), "the module fails on (N, C, H, W) = (2, 3, 4, 5): RuntimeError: "),
        (lambda: nn.LazyLinear(3), "has lazy parameters, without a shape"),
        (nn.Conv2d, "its function fails: TypeError: "),
        (lambda: 3, "its function made 3, not a module"),
        (Odd(lambda x: (x, x)), "the module returns a tuple, not a tensor\n  hint: wrap it in a module"),
        (
            Odd(lambda x: x.double()),
            "the module returns float64, for an input of float32\n  hint: y.to(x.dtype)",
        ),
        (Odd(lambda x: x.sum(0)), "the module changes the batch: of 2 samples it makes (3, 4, 5)"),
        (
            Odd(lambda x: x.reshape(6, 1, 4, 5)),
            "the module changes the batch: of 2 samples it makes (6, 1, 4, 5)",
        ),
        (Odd(lambda x: x.flatten(2)), "the module returns (2, 3, 20), neither (N, K, P, Q) nor (N, K)"),
        (Odd(lambda x: x.new_zeros(len(x), 0)), "out_shape returned (0, 1, 1), which is not (K, P, Q)"),
    ],
)
def test_what_cannot_be_a_layer_is_refused_with_its_line(module, message):
    with pytest.raises(MinetError) as error:
        Net([PReLU(), Layer(module)], (3, 4, 5), 2)
    assert message in str(error.value) and "test_torch_layer.py:" in str(error.value)


def test_a_module_that_does_otherwise_in_training_is_named():
    module = Odd(lambda x: x)
    module.function = lambda x: x[:, :1] if module.training else x
    net = Net(Layer(lambda: module), (3, 4, 5), 2)
    with pytest.raises(MinetError, match=r"the module makes \(1, 4, 5\), but \(3, 4, 5\) when it was tried"):
        net.fprop(images(3, 4, 5, 2), train=True)

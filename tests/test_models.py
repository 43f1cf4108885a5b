"""The models that come with minet: each trains a step and follows its paper, and digits learns."""

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from minet import MinetError, Net
from minet.data import Dataset, digits
from minet.layers import AvgPool, GaussianPool, MaxPool, StochasticPool
from minet.runs import runs
from minet.train import modelfile


def step(model, batch=2):
    """One training step and one evaluation of a model on noise."""
    net = Net(model.net(), model.input_shape, batch, model.loss)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((*model.input_shape, batch)).astype(np.float32)
    before = {name: value.copy() for name, value in net.params.items()}
    loss = net.train_step(x, np.array([3, 7])[:batch], model.solver())
    assert math.isfinite(loss)
    assert np.isfinite(net.fprop(x)).all()
    learned = [slot.path for slot in net.slots if slot.param.lr]
    assert all((net.params[name] != before[name]).any() for name in learned)
    return net


@pytest.mark.sweep(3)
@pytest.mark.parametrize("name", modelfile.names())
def test_each_model_trains_every_parameter(name):
    model = modelfile.load(name)
    net = step(model)
    assert net.output_shape == (10, 1, 1)
    assert model.batch >= 1 < model.epochs


@pytest.mark.parametrize("name", modelfile.names())
def test_each_model_names_its_source(name):
    text = modelfile.find(name).read_text()
    assert text.startswith('"""')
    assert any(mark in text.split('"""')[1] for mark in ("arXiv", "doi.org", "(1998)"))


def test_the_readme_lists_each_model():
    lines = (Path(__file__).parents[1] / "README.md").read_text().splitlines()
    listed = [
        line.split("`")[1]
        for line in lines[lines.index("| model | what it is |") + 2 :][: len(modelfile.names())]
    ]
    assert sorted(listed) == modelfile.names()


def test_gaussian_inception_is_the_reference_model():
    net = Net(modelfile.load("gaussian_inception").net(), (3, 32, 32), 1)
    assert [net.shapes[layer][1] for layer in net.graph.layers] == [
        (64, 32, 32), (64, 32, 32), (64, 16, 16), (96, 16, 16),
        (96, 8, 8), (192, 8, 8), (192, 4, 4), (10, 1, 1),
    ]  # fmt: skip

    def conv(maps, channels, window):
        return maps * channels * window**2 + maps

    def prelu(maps):
        return maps

    def gaussian(channels, kernels=1):
        return 4 * channels * kernels  # a mean and a sigma on each axis

    def block(maps, channels):
        return sum((
            conv(maps, channels, 1), prelu(maps),
            conv(maps // 2, channels, 1), prelu(maps // 2), conv(maps, maps // 2, 3), prelu(maps),
            gaussian(channels, 3), conv(maps, 3 * channels, 1), prelu(maps),
        ))  # fmt: skip

    expected = sum((
        conv(64, 3, 5), prelu(64), gaussian(64), block(32, 64), gaussian(96), block(64, 96), conv(10, 192, 4),
    ))  # fmt: skip
    assert sum(value.size for value in net.params.values()) == expected


@pytest.mark.sweep(1)
@pytest.mark.parametrize(
    ("pool", "kind"),
    [("max", MaxPool), ("avg", AvgPool), ("stochastic", StochasticPool), ("gaussian", GaussianPool)],
)
def test_the_net_of_zeiler_and_fergus_takes_each_pooling(pool, kind):
    model = modelfile.load("cifar10_zeiler", pool=pool, maps=4)
    net = step(model)
    assert sum(isinstance(layer, kind) for layer in net.graph.walk()) == 3
    assert [net.shapes[layer][1] for layer in net.graph.layers] == [
        (4, 16, 16), (4, 8, 8), (4, 4, 4), (10, 1, 1),
    ]  # fmt: skip


POOLS = ("max", "avg", "stochastic", "gaussian")


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("name", ["mnist", "cifar10_gaussian", "cifar10_zeiler"])
def test_the_pooling_and_whether_it_learns_are_settings(name, pool):
    small = {"maps" if name == "cifar10_zeiler" else "width": 4}
    model = modelfile.load(name, pool=pool, kernels=2, learn=False, **small)
    net = Net(model.net(), model.input_shape, 2)
    kind = dict(zip(POOLS, (MaxPool, AvgPool, StochasticPool, GaussianPool), strict=True))[pool]
    found = [layer for layer in net.graph.walk() if isinstance(layer, kind)]
    assert len(found) >= 1
    assert bool([slot for slot in net.slots if not slot.param.lr]) == (pool == "gaussian")
    if pool in ("avg", "gaussian"):  # of few images the others pick no negative value, for a PReLU to learn
        step(model)
    assert all(net.shapes[one][1][0] == (2 if pool == "gaussian" else 1) * net.shapes[one][0][0]
               for one in found[:1])  # fmt: skip


def test_an_unknown_pooling_is_refused():
    with pytest.raises(
        MinetError, match=r"pool must be one of 'max', 'avg', 'stochastic', 'gaussian', got 'maxi'"
    ):
        modelfile.load("cifar10_zeiler", pool="maxi")


@pytest.mark.parametrize("kernels", [1, 2, 3])
def test_the_number_of_kernels_is_a_setting(kernels):
    for name in ("mnist", "cifar10_gaussian"):
        net = Net(modelfile.load(name, width=4, kernels=kernels).net(), modelfile.load(name).input_shape, 1)
        pools = [layer for layer in net.graph.walk() if isinstance(layer, GaussianPool)]
        assert all(net.shapes[p][1][0] == kernels * net.shapes[p][0][0] for p in pools)


def test_digits_learns_and_draws_its_pictures(tmp_path):
    result, folder = runs.train("digits", out=tmp_path / "run", seed=1)
    assert result.accuracy >= 0.97
    assert {path.name for path in folder.iterdir()} == {
        "best.safetensors", "checkpoints", "curves.png", "kernels.jsonl", "kernels.png", "log.jsonl",
        "run.json", "weights.safetensors",
    }  # fmt: skip


def noisy(images, split, limit=None, **settings):
    return Dataset(images, np.arange(8), classes=10, name=f"noise {split}", **settings)


def test_mnist_and_cifar_models_train_from_end_to_end(tmp_path, monkeypatch):
    """On noise, instead of files that tests do not have."""
    from minet import data

    for name, source in (("mnist", "mnist"), ("cifar10_gaussian", "cifar10")):
        shape = modelfile.load(name).input_shape
        images = np.random.default_rng(0).integers(0, 256, (8, *shape), np.uint8)
        monkeypatch.setattr(data, source, partial(noisy, images))
        result, _ = runs.train(name, {"epochs": 1, "batch": 4, "width": 4}, out=tmp_path / name)
        assert result.history[0]["step"] == 2
    assert digits().image_shape == modelfile.load("digits").input_shape

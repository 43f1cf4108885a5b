"""The models that come with minet: each exports and agrees in onnxruntime."""

import numpy as np
import onnx
import pytest

import minet.onnx
from minet import Net
from minet.onnx.export_check import started
from minet.train import modelfile

SMALL = {"googlenet_bn": {"width": 0.25, "kernels": 2}}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *((name, SMALL.get(name, {})) for name in modelfile.names()),
        ("cifar10_zeiler", {"pool": "gaussian"}),
        ("leaf_front", {"causal": True}),
        pytest.param("googlenet_bn", {}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_model_agrees_in_onnxruntime(name, settings, tmp_path):
    model = modelfile.load(name, **settings)
    net, rng = Net(model.net(), model.input_shape, 4), np.random.default_rng(0)
    for path, value in net.params.items():
        if "gaussian_pool" in path:  # edges matter more off the centre
            value += rng.normal(0, 0.2, value.shape)
    for path, value in net.persistent.items():
        value[...] = rng.uniform(0.5, 1.5, value.shape) if "var" in path else rng.normal(0, 0.1, value.shape)
    assert minet.onnx.export(net, tmp_path / "m.onnx") <= 1e-4
    images = rng.normal(size=(3, *model.input_shape)).astype(np.float32)
    found, expected = started(onnx.load(tmp_path / "m.onnx")).run(None, {"x": images})[0], net.predict(images)
    assert found.shape == (3, 10)
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()

"""Which nets of timm come in: `python -m benchmarks.onnx_families [MODEL ...]`.

Needs `pip install timm onnxscript`. Exports each net by PyTorch, with random weights and running statistics,
reads it with `minet.onnx.load`, and compares it with onnxruntime. Prints the largest difference, relative to
the largest output, or what was refused.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from minet import MinetError, Net
from minet.onnx import load

MODELS = (
    "convmixer_768_32", "convnext_atto", "cspdarknet53", "darknet53", "densenet121", "dla34", "dpn48b",
    "efficientnet_b0", "fbnetc_100", "gernet_s", "ghostnet_100", "hrnet_w18_small",
    "inception_resnet_v2", "inception_v3", "inception_v4", "legacy_xception", "mnasnet_050",
    "mobilenetv2_100", "mobilenetv3_small_100", "mobileone_s0", "nf_resnet26", "regnetx_002",
    "regnety_002", "repvgg_a0", "res2net50_26w_4s", "resnest14d", "resnet18", "resnet26d",
    "resnetblur18", "resnext50_32x4d", "rexnet_100", "selecsls42", "seresnet18", "vovnet39a",
    "xception41",
)  # fmt: skip
SIZE = 96


def exported(name: str, file: Path) -> None:
    """Write a net of timm as PyTorch does by default."""
    import torch

    timm = import_module("timm")
    torch.manual_seed(0)
    net: Any = timm.create_model(name, pretrained=False).eval()
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):
        for layer in net.modules():
            if getattr(layer, "running_var", None) is not None:
                layer.running_mean.normal_(0, 0.2)
                layer.running_var.uniform_(0.5, 1.5)
                layer.weight.uniform_(0.5, 1.5)
                layer.bias.normal_(0, 0.2)
        x = torch.zeros(1, 3, SIZE, SIZE)
        torch.onnx.export(net, (x,), file, dynamo=True, external_data=False, verbose=False)


def difference(file: Path) -> float:
    """The largest between minet and onnxruntime, relative to the largest output."""
    from onnxruntime import InferenceSession

    graph, input_shape, weights = load(file)
    net = Net(graph, input_shape, batch=1)
    net.load(weights)
    x = np.random.default_rng(0).standard_normal((1, *input_shape), np.float32)
    session = InferenceSession(file, providers=["CPUExecutionProvider"])
    expected: Any = session.run(None, {session.get_inputs()[0].name: x})[0]
    return float(abs(net.predict(x).reshape(expected.shape) - expected).max() / abs(expected).max())


def main(names: list[str]) -> int:
    for name in names or MODELS:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"{name}.onnx"
            exported(name, file)
            try:
                found = f"{difference(file):.0e}"
            except MinetError as error:
                *_, first = error.message.removeprefix(f"{file}: ").splitlines()[:2]
                found = f"refused: {first.strip():.80}"
        print(f"{name:22} {found}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

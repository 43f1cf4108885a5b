"""Small ONNX models made by hand, and their outputs by onnxruntime."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from minet import Net
from minet.onnx import load

RNG = np.random.default_rng


def node(op: str, inputs: str, output: str = "y", **attributes: Any) -> Any:
    """A node, named by its output: ``node("Conv", "x w b", "y", group=2)``."""
    return helper.make_node(
        op, inputs.split(" "), output.split(" "), name=f"n_{output.split(' ')[0]}", **attributes
    )


def model(
    nodes: list[Any], constants: dict[str, Any] | None = None, shape: Any = ("N", 3, 7, 6), opset: int = 17,
    output: str = "y",
) -> Any:  # fmt: skip
    """A model with one input ``x`` and one output."""
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "made by hand", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    """Random float32."""
    return RNG(seed).standard_normal(shape).astype(np.float32)


def by_onnxruntime(made: Any, x: np.ndarray) -> np.ndarray:
    """The output of a model."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        made.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (y,) = session.run(None, {session.get_inputs()[0].name: x})
    return y


def by_reference(made: Any, x: np.ndarray) -> np.ndarray:
    """The output of a model, by the package onnx."""
    from onnx.reference import ReferenceEvaluator

    (y,) = ReferenceEvaluator(made).run(None, {made.graph.input[0].name: x})
    return y


def by_minet(file: Any, x: np.ndarray, **settings: Any) -> np.ndarray:
    """The output of a file's network."""
    graph, input_shape, weights = load(file, **settings)
    net = Net(graph, input_shape, len(x))
    net.load(weights)
    return net.predict(x)


def assert_agree(
    made: Any, folder: Any, batch: int = 2, rtol: float = 1e-5, by: Any = by_onnxruntime, **settings: Any
) -> None:
    """minet and onnxruntime give the same outputs, to `rtol` of the largest."""
    file = folder / "made.onnx"
    onnx.save(made, file)
    sizes = [dim.dim_value for dim in made.graph.input[0].type.tensor_type.shape.dim][1:]
    x = drawn(batch, *sizes, seed=1)
    expected, found = by(made, x), by_minet(file, x, **settings)
    assert found.size == expected.size
    np.testing.assert_allclose(
        found.reshape(expected.shape), expected, rtol=0, atol=rtol * abs(expected).max()
    )


class Drawn:
    """A random graph of sequences and branches, as nodes and as text.

    r and c are Relu and Conv, i is a branch with nothing in it, S(,) and C(,) are joins.
    """

    def __init__(self, seed):
        self.draw, self.nodes, self.arrays, self.count = random.Random(seed), [], {}, 0
        self.end, self.text = self.sequence("x", 0)

    def model(self):
        return model(self.nodes, self.arrays, output=self.end)

    def add(self, op, inputs, **attributes):
        self.count += 1
        self.nodes.append(node(op, " ".join(inputs), f"t{self.count}", **attributes))
        return f"t{self.count}"

    def conv(self, x, channels):
        self.arrays[f"w{channels}"] = drawn(3, channels, 1, 1) / np.float32(channels)
        return self.add("Conv", [x, f"w{channels}"])

    def sequence(self, x, depth):
        """Add a sequence after the tensor x; return its end, and how it is shown."""
        text = ""
        for _ in range(self.draw.randint(0 if depth else 2, 3)):
            if depth < 4 and self.draw.random() < 0.5:
                parts = [self.sequence(x, depth + 1) for _ in range(self.draw.randint(2, 3))]
                ends, texts = [end for end, _ in parts], [part or "i" for _, part in parts]
                if self.draw.random() < 0.5:
                    x, text = self.add("Sum", ends), f"{text}S({','.join(texts)})"
                else:
                    x = self.conv(self.add("Concat", ends, axis=1), 3 * len(ends))
                    text = f"{text}C({','.join(texts)})c"
            else:
                x, text = self.add("Relu", [x]), f"{text}r"
        return x, text

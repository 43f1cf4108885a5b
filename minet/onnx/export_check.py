"""An exported model against its net: both see the same images, the model in onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np

from minet.core.errors import MinetError
from minet.core.layer import Layer
from minet.core.net import Net
from minet.onnx.export_graph import Graph

LARGEST = 1e-4  # of the largest output: a difference beyond is no rounding


def difference(net: Net, x: np.ndarray, model: Any, graph: Graph, given: np.ndarray) -> float:
    """The largest difference of a model's outputs from the net's, relative to the largest of these.

    Parameters
    ----------
    net : Net
    x : array (M, C, H, W)
        What the net computes on.
    model : ModelProto
    graph : Graph
        Of which the model was made.
    given : array (M, C, H, W)
        What the model does: images that it normalises itself, if it does.

    Raises
    ------
    MinetError
        If the difference is too large: it names the first layer that differs. If outputs are not finite, or
        onnxruntime cannot run the model.
    """
    expected = net.predict(x)
    if not np.isfinite(expected).all():
        raise MinetError("the net's outputs are not finite, so its export cannot be checked", "retrain it")
    session = started(model)
    # One image, and the rest: the model must take any number.
    found = np.concatenate(
        [session.run(["y"], {"x": part})[0] for part in (given[:1], given[1:]) if len(part)]
    )
    if found.shape != expected.shape:
        raise MinetError(f"the exported model gives {found.shape} where the net gives {expected.shape}")
    relative = relative_to_scale(found, expected)
    if not relative <= LARGEST:
        to_blame = first_to_differ(net, model, graph, given)
        where = f", beginning at {to_blame.where}" if to_blame else ""
        raise MinetError(
            f"onnxruntime's outputs differ from the net's by {relative:.1e} of the largest{where}",
            f"at most {LARGEST:g} is rounding: is the layer's to_onnx what it computes in evaluation?",
        )
    return relative


def relative_to_scale(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to the largest expected value; 0 where both are 0 everywhere."""
    with np.errstate(invalid="ignore", over="ignore"):
        most = float(np.abs(found - expected).max(initial=0.0))
    scale = float(np.abs(expected).max(initial=0.0))
    return most / scale if scale else most and np.inf


def started(model: Any) -> Any:
    """A session of onnxruntime, quiet, on the cpu."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # its exceptions have no class in common
        raise MinetError(f"onnxruntime cannot load the exported model: {str(error)[:500]}") from error


def first_to_differ(net: Net, model: Any, graph: Graph, given: np.ndarray) -> Layer | None:
    """The first layer that, given what onnxruntime computed before it, computes something else."""
    from onnx import ModelProto, helper

    all_of_it = ModelProto.FromString(model.SerializeToString())
    names = sorted({name for pair in graph.made.values() for name in pair} - {"x", "y"})
    for name in names:
        all_of_it.graph.output.append(helper.make_tensor_value_info(name, 1, None))
    part = np.resize(given, (net.batch, *given.shape[1:]))
    values = dict(zip(["y", *names], started(all_of_it).run(["y", *names], {"x": part}), strict=True))
    values["x"] = part
    for layer, (x_name, y_name) in graph.made.items():
        (C, H, W), out = layer.bound_shapes
        x, expected = values[x_name].reshape(-1, C, H, W), values[y_name].reshape(-1, *out)
        y = net.be.zeros((*out, net.batch))
        layer.fprop(net.be.array(x.transpose(1, 2, 3, 0)), y, 0.0, False)
        if not relative_to_scale(expected.transpose(1, 2, 3, 0), net.be.get(y)) <= LARGEST:
            return layer
    return None

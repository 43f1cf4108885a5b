"""A net as an ONNX file, checked against it in onnxruntime before it is written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from minet.core.errors import MinetError
from minet.core.files import write_whole
from minet.core.layer import Layer
from minet.core.net import Net
from minet.version import __version__

MOST = 2**31 - 2**20  # bytes of a file: what protobuf can hold, less what is not arrays
IMAGES = 16  # to check with


def export(
    net: Net,
    file: str | Path,
    *,
    mean: ArrayLike | None = None,
    std: ArrayLike | None = None,
    images: np.ndarray | None = None,
    facts: Mapping[str, Any] | None = None,
) -> float:
    """Write a net, as it is in evaluation, to an ONNX file that gives the same outputs in onnxruntime.

    The file has one input ``x``, ``(N, C, H, W)`` float32, and one output ``y``: what `Net.predict` returns,
    ``(N, K)``, or ``(N, K, P, Q)`` for maps. N is free; C, H and W are not, as weights at edges depend on
    them. A net in float64 is written in float32. Opset 17. The same net gives the same file, byte for byte.

    Before it is written the model runs in onnxruntime, in batches of one and of many.

    Parameters
    ----------
    net : Net
    file : str or Path
    mean, std : float or one per channel, optional
        The model normalises its input itself, ``(x - mean) / std``; by default x is what the net computes on.
    images : array (M, C, H, W), optional
        What to check the model with, as it will be given to it: the first 16 count. By default noise.
    facts : mapping, optional
        More to say in the file's metadata, by name, as JSON.

    Returns
    -------
    float
        The largest difference of the outputs found in the check, relative to the largest output.

    Raises
    ------
    MinetError
        If layers have no ONNX form: all of them are named. If the model's outputs differ from the net's by
        more than 1e-4 of the largest, if it would exceed 2 GiB, or if the package onnx or onnxruntime is
        missing. Nothing is written then.
    """
    needed("onnx", "onnxruntime")
    from minet.onnx.export_check import difference

    shift, scale = _per_channel(net, "mean", mean, 0.0), _per_channel(net, "std", std, 1.0)
    if not (np.isfinite(shift).all() and np.isfinite(scale).all() and (scale > 0).all()):
        raise MinetError("mean and std must be finite, and std above 0", "those of the training set")
    given = _images(net, shift, scale, images)
    graph, model = made(net, shift, scale, dict(facts or {}))
    x = ((given - shift) / scale).astype(np.float32)
    largest = difference(net, x, model, graph, given)
    write_whole(file, model.SerializeToString(deterministic=True))
    return largest


def needed(*libraries: str) -> None:
    """Refuse to go on without libraries of the extra `onnx`."""
    from importlib.util import find_spec

    for name in libraries:
        if find_spec(name) is None:
            raise MinetError(
                f"ONNX files need {name}, which is not installed", "pip install 'minet-layers[onnx]'"
            )


def made(net: Net, mean: np.ndarray, std: np.ndarray, facts: dict[str, Any]) -> tuple[Any, Any]:
    """The graph of a net, and the model of it, checked by ONNX's own checker."""
    import onnx
    from onnx import TensorProto, helper

    from minet.onnx import export_gaussian_pool, export_pools  # noqa: F401 - they add to what is translated
    from minet.onnx.export_graph import OPSET, Graph
    from minet.onnx.export_layers import translate, untranslated

    _refuse(untranslated(net.graph))
    _check_size(net)
    net.steps.settle()
    graph, x = Graph(net.be.get), "x"
    if mean.any():
        x = graph.add("Sub", x, graph.constant(mean, "mean"))
    if (std != 1).any():
        x = graph.add("Div", x, graph.constant(std, "std"))
    y = translate(net.graph, graph, x)
    single = net.output_shape[1:] == (1, 1)
    graph.finish(graph.flat(y) if single else graph.maps(y))
    sizes = net.output_shape[:1] if single else net.output_shape
    proto = helper.make_graph(
        graph.nodes,
        "minet",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *net.input_shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", *sizes])],
        graph.constants,
        doc_string=_told(mean, std),
    )
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(
        proto,
        opset_imports=[opset],
        ir_version=helper.find_min_ir_version_for([opset]),
        producer_name="minet",
        producer_version=__version__,
        doc_string=_told(mean, std),
    )
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in facts.items()}
    helper.set_model_props(model, dict(sorted(texts.items())))
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        found = " ".join(str(error).split())  # it names the node, which begins with its layer's path
        raise MinetError(f"the net's ONNX form is not valid: {found:.500}") from error
    return graph, model


def _refuse(layers: list[Layer]) -> None:
    """Raise an error that names all layers that have no ONNX form."""
    if layers:
        lines = "".join(f"\n  {layer.where}" for layer in layers)
        raise MinetError(
            f"these layers have no ONNX form:{lines}",
            "give the class a method to_onnx(self, graph, x) that returns graph.add(...): docs/onnx.md",
        )


def _check_size(net: Net) -> None:
    size = 4 * sum(array.size for array in {**net.params, **net.persistent}.values())
    if size > MOST:
        raise MinetError(f"the net has {size / 2**30:.1f} GiB of parameters", "an ONNX file holds 2 GiB")


def _told(mean: np.ndarray, std: np.ndarray) -> str:
    plain = not mean.any() and (std == 1).all()
    taken = "as the net takes them" if plain else "in the units of its data set, normalised here"
    return f"x: images (N, C, H, W), {taken}. y: the net's outputs."


def _per_channel(net: Net, name: str, value: ArrayLike | None, usual: float) -> np.ndarray:
    """A number for each channel, as (C, 1, 1)."""
    values, C = np.asarray(usual if value is None else value, np.float32), net.input_shape[0]
    if values.size not in (1, C):
        raise MinetError(f"{name} has {values.size} numbers, the net {C} channels", "one, or one per channel")
    return np.broadcast_to(values.reshape(-1, 1, 1), (C, 1, 1)).copy()


def _images(net: Net, mean: np.ndarray, std: np.ndarray, images: np.ndarray | None) -> np.ndarray:
    """Images to check with, as the model takes them; noise is standard normal once it is normalised."""
    count = min(IMAGES, max(2, net.batch))
    if images is None:
        rng = np.random.default_rng(0)
        noise: np.ndarray = rng.standard_normal((count, *net.input_shape)).astype(np.float32) * std + mean
        return noise
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[1:] != net.input_shape or not len(images):
        expected = ("M", *net.input_shape)
        raise MinetError(f"images to check with must be (M, C, H, W) = {expected}, got {images.shape}")
    return np.ascontiguousarray(images[:count], np.float32)

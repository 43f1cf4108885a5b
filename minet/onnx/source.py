"""An ONNX file as it is read: its graph, its opset, its tensors. Nothing in it is trusted.

No tensor takes more memory than its data has in a file, and what a graph makes out of nothing is bounded by
`MOST`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from minet.core.errors import MinetError
from minet.core.files import FileError

OPSETS = range(7, 29)  # before 7 operators broadcast in another way
MOST = (
    1 << 31
)  # bytes, of a file and of all that a graph makes out of few numbers: what protobuf allows a file
KNOWN = ("FLOAT", "DOUBLE", "FLOAT16", "INT64", "INT32", "INT8", "UINT8", "BOOL")  # types of tensors


class OnnxError(FileError):
    """An ONNX file that cannot be read, or that minet has no net for."""


class Source:
    """The parts of an ONNX file.

    Attributes
    ----------
    path : Path
    graph : onnx.GraphProto
    opset : int
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._onnx = library()
        model = self._parsed()
        self.graph: Any = model.graph
        self.opset = self._opset(model)
        self._tensors = {tensor.name: tensor for tensor in self.graph.initializer}
        self._arrays: dict[str, np.ndarray] = {}
        self._made = 0
        self.numbers = 0  # in the tensors that the file holds
        if self.graph.sparse_initializer:
            raise self.error("has sparse tensors", "store them densely")

    def error(self, message: str, hint: str = "") -> OnnxError:
        """An error that begins with the file's name."""
        return OnnxError(f"{self.path}: {message}", hint)

    def _parsed(self) -> Any:
        try:
            if not self.path.is_file():
                found = "is a folder" if self.path.is_dir() else "no such file"
                raise self.error(found)
            if (size := self.path.stat().st_size) > MOST:
                raise self.error(f"has {size:,} bytes; an ONNX file has at most {MOST:,}")
            data = self.path.read_bytes()
        except OSError as error:
            raise self.error(f"cannot be read: {error.strerror}") from error
        try:
            model = self._onnx.ModelProto.FromString(data)
        except Exception as error:  # protobuf's implementations differ in what they raise
            raise self.error("is not an ONNX file, or is damaged", "use another copy") from error
        if not model.HasField("graph") or not model.graph.node:
            raise self.error("is not an ONNX file: it has no graph with nodes", "use another copy")
        if not all(isinstance(name, str) and name.isprintable() for name in _names(model.graph)):
            raise self.error("is damaged: it has names that are not text", "use another copy")
        return model

    def _opset(self, model: Any) -> int:
        found = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
        if not found:
            raise self.error("names no opset of ONNX's own operators", "convert it again")
        if found[0] not in OPSETS:
            raise self.error(
                f"has opset {found[0]}; minet reads {OPSETS[0]} to {OPSETS[-1]}",
                "onnx.version_converter.convert_version(model, 17) converts it",
            )
        return int(found[0])

    # -- tensors ----------------------------------------------------------------------------------------

    def __contains__(self, name: str) -> bool:
        return name in self._tensors or name in self._arrays

    def __getitem__(self, name: str) -> np.ndarray:
        """A constant by its name: an initialiser, or what `put` was given."""
        if name not in self._arrays:
            self._arrays[name] = self.array(self._tensors[name])
        return self._arrays[name]

    def put(self, name: str, array: np.ndarray) -> None:
        """Give a name to a constant."""
        self._arrays[name] = array

    def claim(self, shape: Iterable[int], itemsize: int) -> None:
        """Count the memory of a constant that the graph makes, before it is made."""
        sizes = [int(size) for size in shape]
        if any(size < 0 for size in sizes):
            raise MinetError(f"makes a constant of shape {tuple(sizes)}")
        self._made += math.prod(sizes) * itemsize
        if self._made > MOST:
            raise MinetError(f"makes constants of more than {MOST:,} bytes in all, here of {tuple(sizes)}")

    def array(self, tensor: Any) -> np.ndarray:
        """The values of a tensor of the file.

        Raises
        ------
        OnnxError
            If there is not as much data as its shape needs, or if its type is unknown.
        """
        kinds, name = self._onnx.TensorProto, tensor.name or "of an attribute"
        kind = next((kind for kind in KNOWN if getattr(kinds, kind) == tensor.data_type), None)
        if kind is None:
            known = kinds.DataType.values()
            what = kinds.DataType.Name(tensor.data_type) if tensor.data_type in known else tensor.data_type
            raise self.error(f"tensor {name} has the type {what}", f"known are {', '.join(KNOWN)}")
        dtype = np.dtype(self._onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
        dims = tuple(tensor.dims)
        if min(dims, default=1) < 0 or tensor.HasField("segment"):
            raise self.error(f"tensor {name} of shape {dims} has a size below 0, or is in segments")
        count = math.prod(dims)
        self.numbers += count
        if tensor.data_location == kinds.EXTERNAL:
            return np.frombuffer(self._external(tensor, count * dtype.itemsize), dtype).reshape(dims)
        if tensor.HasField("raw_data"):
            has, needs, what = len(tensor.raw_data), count * dtype.itemsize, "bytes"
        else:
            field = self._onnx.helper.tensor_dtype_to_field(tensor.data_type)
            has, needs, what = len(getattr(tensor, field)), count, "numbers"
        if has != needs:
            raise self.error(f"tensor {name} of shape {dims} needs {needs:,} {what} and has {has:,}")
        try:
            return np.asarray(self._onnx.numpy_helper.to_array(tensor))
        except (ValueError, TypeError, OverflowError) as error:
            raise self.error(f"tensor {name} cannot be read: {error}") from error

    def _external(self, tensor: Any, size: int) -> bytes:
        """What another file holds of a tensor: one in the folder of this one or below."""
        facts = {entry.key: entry.value for entry in tensor.external_data}
        location, where = facts.get("location", ""), f"tensor {tensor.name}"
        folder = self.path.parent.resolve()
        file = folder / location
        normal = os.path.normpath(location) if location else ""
        if not location or "\0" in location or os.path.isabs(location) or normal.split(os.sep)[0] == "..":
            raise self.error(
                f"{where} has its data in {location!r}, outside the folder of the file",
                "data may lie beside the ONNX file, or in folders there",
            )
        try:
            if file.resolve() != folder / normal:
                raise self.error(
                    f"{where} has its data behind a link, {location!r}", "put the file itself there"
                )
            start, length = int(facts.get("offset") or 0), int(facts.get("length") or size)
            has = file.stat().st_size if file.is_file() else -1
            if has < 0:
                raise self.error(f"{where} has its data in {location!r}: no such file")
            if length != size or start < 0 or start + size > has:
                found = f"{where} needs {size:,} bytes from byte {start:,} of {location!r}"
                raise self.error(f"{found}, and has {length:,} of the file's {has:,}")
            with file.open("rb") as opened:
                opened.seek(start)
                return opened.read(size)
        except ValueError:
            raise self.error(f"{where} has no whole numbers as offset and length: {facts}") from None
        except OSError as error:
            raise self.error(f"{where} has its data in {location!r}: {error.strerror}") from error


def _names(graph: Any) -> Iterator[Any]:
    """All names in a graph that are read here."""
    for named in (*graph.input, *graph.output, *graph.initializer):
        yield named.name
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
    for tensor in graph.initializer:
        for entry in tensor.external_data:
            yield from (entry.key, entry.value)


def library() -> Any:
    """The package onnx.

    Raises
    ------
    MinetError
        If it is not installed.
    """
    try:
        import onnx
        import onnx.helper
        import onnx.numpy_helper
    except ImportError as error:
        raise MinetError("ONNX files need the package onnx", "pip install 'minet-layers[onnx]'") from error
    return onnx

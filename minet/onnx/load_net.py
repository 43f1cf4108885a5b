"""A network from an ONNX file: a graph of layers, its input's shape, and its weights."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from minet.core.containers import Concat, Container, Sum
from minet.core.errors import MinetError
from minet.core.graph import assign_paths
from minet.core.layer import Layer, Shape, is_shape
from minet.core.node import LayerError
from minet.onnx.folding import FOLDED, fold
from minet.onnx.functions import FUNCTIONS
from minet.onnx.graph import Item, Leaf, Parts, built
from minet.onnx.node import NO_PADS, Node, Signal
from minet.onnx.nodes import OPERATORS
from minet.onnx.products import OF_TWO, Products
from minet.onnx.simplify import simplified
from minet.onnx.source import MOST, OnnxError, Source

JOINS = ("Concat", "Sum", "Add")
LAYERS = {*OPERATORS, *JOINS}  # operators of activations
PADDED = ("AveragePool", "Conv", "MaxPool", "Pad")  # what may come after a Pad
OF_SHAPES = {"Shape", "Gather"}  # which are constants once the activation's shape is known
KNOWN = {*LAYERS, *FOLDED, *OF_SHAPES}
SHOWN = 12  # nodes of one operator that an error lists
WIDEST = 2000  # letters of a line of it


def load(
    file: str | Path, input_shape: Shape | None = None, fold: bool = False
) -> tuple[Layer, Shape, dict[str, np.ndarray]]:
    """Read a network from an ONNX file.

    Parameters
    ----------
    file : str or Path
        Of opset 7 to 28, with one input ``(N, C, H, W)`` of float32 and one output.
    input_shape : tuple of int, optional
        ``(C, H, W)``, for a file that leaves it open.
    fold : bool
        Whether to fold BatchNorm, and scales for each channel, into the Conv or Linear before: in evaluation
        the net computes the same, to rounding, but these layers cannot be trained any more.

    Returns
    -------
    graph : Sequential
        Layers, Concat and Sum; not bound yet, for ``Net(graph, input_shape, batch)``.
    input_shape : tuple of int
        ``(C, H, W)``.
    weights : dict of str to array
        Parameters and running statistics, by minet's names: ``net.load(weights)`` takes them.

    Raises
    ------
    MinetError
        If the package onnx is not installed; if the file is damaged, of another opset, or has its data
        elsewhere; if minet has no layer for nodes, all of which are listed; if the graph is not made of
        sequences and branches.

    Notes
    -----
    Nothing in a file is executed. It is read whole, with what it has in other files of its folder. Constants
    that it makes out of shapes take no memory until a net has them, and have 2 GiB at most in all.
    """
    source = Source(file)
    translation = _Translation(source, input_shape)
    items = translation.items()
    leaves: dict[int, Leaf] = {}
    try:
        graph = built(simplified(items, fold), leaves)
    except MinetError as error:
        raise source.error(error.message, error.hint) from error
    assign_paths(graph)
    weights = {
        f"{layer.full_path}.{name}": array
        for layer in graph.walk()
        if id(layer) in leaves
        for name, array in leaves[id(layer)].arrays.items()
    }
    size = sum(array.nbytes for array in weights.values())
    if size > MOST + 8 * source.numbers:
        raise source.error(f"its nodes share constants: as weights of their own they have {size:,} bytes")
    return graph, translation.input_shape, weights


class _Translation:
    """A file's nodes, one after another, as parts of a graph of layers."""

    def __init__(self, source: Source, input_shape: Shape | None) -> None:
        self.source, self.parts, self.products = source, Parts(), Products()
        self.input, self.output = self._input(), self._output()
        self.batch, self.input_shape = self._shape(input_shape)
        self.signals = {self.input.name: Signal(self.input_shape)}
        self.unknown: dict[str, list[str]] = defaultdict(list)  # nodes without a layer, by their operators
        self.problems: list[str] = []
        self.concats: dict[str, tuple[str, list[str]]] = {}  # by the first input: the latest, and its inputs

    def _input(self) -> Any:
        found = [value for value in self.source.graph.input if value.name not in self.source]
        if len(found) != 1:
            names = ", ".join(value.name for value in found) or "none"
            raise self.source.error(f"has {len(found)} inputs, minet's nets have one: {names:.200}")
        return found[0]

    def _output(self) -> str:
        names = [value.name for value in self.source.graph.output]
        if len(names) != 1:
            found = f"has {len(names)} outputs, minet's nets have one: {', '.join(names):.200}"
            raise self.source.error(found, "onnx.utils.extract_model keeps one of them")
        return str(names[0])

    def _shape(self, given: Shape | None) -> tuple[int, Shape]:
        """The batch size that the file is for, 1 if it is open, and (C, H, W)."""
        kind = self.input.type.tensor_type
        if kind.elem_type != 1:
            raise self.source.error(f"its input {self.input.name} is not of float32", "export it in float32")
        N, *sizes = [dim.dim_value for dim in kind.shape.dim] or [0]
        if len(sizes) != 3:
            raise self.source.error(
                f"its input {self.input.name} has {1 + len(sizes)} axes, not (N, C, H, W)"
            )
        if given is not None:
            if not is_shape(given) or any(
                size not in (0, own) for size, own in zip(sizes, given, strict=True)
            ):
                shown = ", ".join(str(size or "?") for size in sizes)
                raise self.source.error(f"input_shape must be (C, H, W) and fit ({shown}), got {given!r}")
            sizes = list(given)
        if not is_shape(sizes):
            shown = ", ".join(str(size) if size > 0 else "?" for size in sizes)
            raise self.source.error(
                f"leaves the size of its input open: ({shown})",
                "say it: load(file, input_shape=(3, 224, 224)), or minet import FILE --input 3x224x224",
            )
        C, H, W = sizes
        return max(1, N), (C, H, W)

    def items(self) -> list[Item]:
        """All layers, as a sequence with branches."""
        for number, proto in self._live():
            self._translate(number, proto)
        self._refuse()
        if self.output not in self.signals:
            raise self.source.error(f"its output {self.output} does not depend on its input")
        if self.signals[self.output].pads != NO_PADS:
            raise self.source.error(f"its output {self.output} has a Pad that no Conv or pool follows")
        try:
            return self.parts.reduced(self.input.name, self.output)
        except MinetError as error:
            raise self.source.error(error.message, error.hint) from error

    def _live(self) -> list[tuple[int, Any]]:
        """The nodes that the output depends on, in the file's order, numbered from 1."""
        made = [self.input.name, *(tensor.name for tensor in self.source.graph.initializer)]
        made += [name for proto in self.source.graph.node for name in proto.output if name]
        name, count = Counter(made).most_common(1)[0]
        if count > 1:
            raise self.source.error(f"makes {name} twice", "it is damaged: use another copy")
        needed, live = {self.output}, []
        for number, proto in reversed(list(enumerate(self.source.graph.node, 1))):
            if needed & set(proto.output):
                needed |= set(proto.input)
                live.append((number, proto))
        self.needed = needed - {""}
        return live[::-1]

    def _translate(self, number: int, proto: Any) -> None:
        node = Node(proto, self.source, self.signals, self.batch)
        if proto.domain not in ("", "ai.onnx") or proto.op_type not in KNOWN:
            op = f"{proto.domain}.{proto.op_type}" if proto.domain not in ("", "ai.onnx") else proto.op_type
            self.unknown[op].append(proto.name or proto.output[0])
            return
        try:
            if others := [name for name in proto.output[1:] if name in self.needed]:
                raise node.unmet(f"minet has no {others[0]}, a second output")
            constant = fold(proto, node, self.source, self.signals)
            if constant is not None:
                self.source.put(proto.output[0], constant)
                return
            inputs = [name for name in proto.input if name]
            if missing := [name for name in inputs if name not in self.signals and name not in self.source]:
                if not self.unknown and not self.problems:
                    raise node.unmet(f"{missing[0]} is made nowhere before it")
                if proto.op_type not in LAYERS | OF_SHAPES:
                    self.unknown[proto.op_type].append(proto.name or proto.output[0])
                return  # what is before it has no layer: nothing is known of its input
            if not node.signals or proto.op_type not in LAYERS:
                op = proto.op_type if node.signals else f"{proto.op_type} of constants"
                self.unknown[op].append(proto.name or proto.output[0])
                return
            self._place(number, proto, node)
        except OnnxError:
            raise
        except LayerError as error:
            if error.hint.startswith("pip install"):  # of SymPy, for Elementwise
                raise self.source.error(f"{node.name}: {error.message}", error.hint) from error
            self._problem(f"{node.name}: {error.message}", proto, node)
        except MinetError as error:
            self._problem(error.message, proto, node)

    def _problem(self, message: str, proto: Any, node: Node) -> None:
        """Note why a node has no layer; where its output's shape is known all the same, go on after it."""
        self.problems.append(message)
        if node.op in FUNCTIONS and node.signals and all(signal.pads == NO_PADS for signal in node.signals):
            self.signals[proto.output[0]] = max(node.signals, key=lambda signal: signal.size)

    def _place(self, number: int, proto: Any, node: Node) -> None:
        if any(signal.pads != NO_PADS for signal in node.signals) and node.op not in PADDED:
            raise node.unmet("a Pad before it, which only a Conv or a pool can take over")
        name = proto.output[0]
        if node.op in JOINS and (node.op != "Add" or len(node.signals) > 1):
            kind = Concat if node.op == "Concat" else Sum
            starts = self._nested(proto) if kind is Concat else list(proto.input)
            self.parts.join(kind, node.name, starts, name)
            self.signals[name] = _joined(kind, node, proto)
            if kind is Sum and len(starts) == 2:
                self.products.note_sum(starts[0], starts[1], name)
        elif node.op in OF_TWO and len(node.signals) == 2:
            if len(proto.input) > 2 or len({signal.flat for signal in node.signals}) > 1:
                raise node.unmet("of maps and matrices, or of more than two")
            if (found := self.products.layer(node.op, *proto.input)) is None:
                like = ", as in squeeze-and-excitation" if node.op == "Mul" else ""
                raise node.unmet(f"of two activations{like}: minet has no such layer")
            node.finish()
            self._line(number, found[0], name, [Leaf(found[1])])
            self.signals[name] = node.x._replace(rectified=False)
        elif len(node.signals) > 1:
            raise node.unmet("of several activations: minet has no such layer")
        else:
            items: list[Item] = [*OPERATORS[node.op](node)]
            node.finish()
            self._line(number, proto.input[node.operands[0]], name, items)
            self.signals[name] = node.made

    def _nested(self, proto: Any) -> list[str]:
        """The inputs of a Concat, those that a Concat before it joins too as its output.

        In PyTorch, DenseNets join all maps so far anew before each layer.
        """
        inputs = list(proto.input)
        output, before = self.concats.get(inputs[0], ("", []))
        self.concats[inputs[0]] = proto.output[0], inputs
        # With two tensors in both, the graph could not be series-parallel as it is.
        if len(set(before)) > 1 and inputs[: len(before)] == before:
            return [output, *inputs[len(before) :]]
        return inputs

    def _line(self, number: int, start: str, end: str, items: list[Item]) -> None:
        """Put layers between two tensors."""
        for item in items:
            if isinstance(item, Leaf):
                item.layer.made_at = (str(self.source.path), number)  # where errors and the summary find it
        self.parts.line(start, end, items)
        self.products.note(start, end, items)

    def _refuse(self) -> None:
        """Raise one error about all nodes that minet has no layers for."""
        lines = []
        for op, names in sorted(self.unknown.items()):
            more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            lines.append(f"{op}: {', '.join(names[:SHOWN])}{more}")
        lines += self.problems[:SHOWN]
        if len(self.problems) > SHOWN:
            lines.append(f"and {len(self.problems) - SHOWN} more")
        lines = [line if len(line) <= WIDEST else f"{line[:WIDEST]}..." for line in lines]
        if lines:
            raise self.source.error(
                "minet has no layers for these nodes\n    " + "\n    ".join(lines),
                "onnx.utils.extract_model cuts out a part of the graph without them",
            )


def _joined(kind: type[Container], node: Node, proto: Any) -> Signal:
    """The output of a join, whose inputs must all be activations that fit."""
    first, shapes = node.x, [signal.shape for signal in node.signals]
    if len(node.signals) != len(proto.input):
        raise node.unmet("one of its inputs is a constant")
    if len({signal.flat for signal in node.signals}) > 1:
        raise node.unmet("joins maps with matrices")
    if kind is Sum:
        node.finish()
        if len(set(shapes)) > 1:
            raise node.unmet(f"adds activations of different shapes: {', '.join(map(str, shapes))}")
        return Signal(first.shape, first.flat)
    axis, rank = node.attribute("axis", 1), 1 + len(first.dims)
    node.finish()
    if axis % rank != 1:
        raise node.unmet(f"axis={axis} is not that of the channels")
    if len({shape[1:] for shape in shapes}) > 1:
        raise node.unmet(f"joins activations of different (H, W): {', '.join(map(str, shapes))}")
    return Signal((sum(shape[0] for shape in shapes), *first.shape[1:]), first.flat)

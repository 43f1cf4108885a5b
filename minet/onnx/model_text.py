"""A graph of layers as a model file: Python as a person would write it."""

from __future__ import annotations

import itertools

from minet.core.containers import Container, Sequential
from minet.core.layer import Layer
from minet.layers import Elementwise
from minet.onnx.layout import Part, Text, laid_out
from minet.onnx.recurring import Block, Call, Function, Items, Recurring

FRONT = ("maps", "window", "units", "rate", "expression")  # settings that are written without their names


def model_text(graph: Sequential, input_shape: tuple[int, ...], doc: str) -> str:
    """The text of a model file.

    Parameters
    ----------
    graph : Sequential
        From `load`.
    input_shape : tuple of int
    doc : str
        Its docstring.
    """
    found = Recurring()
    items = [found.item(layer) for layer in graph.layers]
    found.find_runs(items)
    items = found.with_blocks(items)
    kinds = {type(layer).__name__: isinstance(layer, Container) for layer in graph.walk()}
    core = [name for name, container in kinds.items() if container]
    parts = {
        "minet": ["MinetError", "SGD", "SoftmaxCrossEntropy", *core],
        "minet.layers": [name for name, container in kinds.items() if not container],
    }
    imports = [_import(module, names) for module, names in parts.items()]
    head = f'"""{doc}"""\n\n' + "".join(imports) + f"\ninput_shape = {input_shape!r}\n"
    head += "batch, epochs, loss = 16, 10, SoftmaxCrossEntropy()\n"
    functions = [_definition(function) for function in found.functions]
    body = Text("return Sequential(", _repeated([_text(item) for item in items]), ")", open=True)
    net = "def net():\n" + laid_out(body, 4)
    if items and isinstance(items[-1], Call) and items[-1].name == "Softmax":
        last, why = "        Softmax(),\n    )", "# softmax=False to train: the loss has its own"
        net = net.replace(last, f"        *([Softmax()] if softmax else []),  {why}\n    )")
        net = net.replace("def net()", "def net(softmax=True)")
    solver = "def solver(lr=0.001):\n    return SGD(lr, momentum=0.9)"
    hint = "return two minet.data.Dataset: training, test"
    data = f'def datasets():\n    raise MinetError("an ONNX file has no images", "{hint}")\n'
    return "\n\n".join([head, *(f"{text.rstrip()}\n" for text in (*functions, net, solver)), data])


def _text(item: Call | Block, alone: bool = False) -> Text:
    """An item of a sequence; a list of layers is spread into it, unless it is all of a branch."""
    if isinstance(item, Block):
        return Text(f"{item.name}(", [_branch(branch) for branch in item.branches], ")")
    settings = {k: v for k, v in item.settings.items() if repr(v) != repr(item.usual.get(k, Layer))}
    parts: list[str] = []
    for name, value in settings.items():
        named = len(parts) > 1 if name in FRONT else name in item.usual or item.name == Elementwise.__name__
        written = f'"{value}"' if isinstance(value, str) else repr(value)
        parts.append(f"{name}={written}" if named else written)
    return Text(f"{'*' if item.listed and not alone else ''}{item.name}(", [*parts], ")")


def _branch(items: Items) -> Text:
    if len(items) == 1:
        return _text(items[0], alone=True)
    return Text("[", _repeated([_text(item) for item in items]), "]")


def _repeated(texts: list[Text]) -> list[Part]:
    """Items of a sequence, those that are the same three times and more written once."""
    parts: list[Part] = []
    for line, group in itertools.groupby(texts, key=lambda text: text.line()):
        same = list(group)
        if len(same) > 2 and not line.startswith("*"):
            parts.append(f"*({line} for _ in range({len(same)}))")
        else:
            parts += same
    return parts


def _import(module: str, names: list[str]) -> str:
    in_order = sorted(names, key=lambda name: (not name.isupper(), name))  # as sorted imports are
    return laid_out(Text(f"from {module} import ", list(in_order)))


def _definition(function: Function) -> str:
    given = [name if value is Layer else f"{name}={value!r}" for name, value in function.usual.items()]
    head = laid_out(Text(f"def {function.name}(", list(given), "):"))
    if isinstance(function.body, Block):
        body = _text(function.body)
        return head + laid_out(Text(f"return {body.before}", body.parts, body.after), 4)
    return head + laid_out(Text("return [", [_text(item) for item in function.body], "]"), 4)

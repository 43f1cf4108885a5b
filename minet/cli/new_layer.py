"""`minet new-layer`: a layer of your own to start from, with its kernels and its test."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterable
from keyword import iskeyword
from pathlib import Path
from typing import Annotated

import typer

from minet.cli import new_files
from minet.cli.options import Debug, reporting
from minet.core.errors import MinetError

# Without an option a template loses what only that needs. Methods named _numpy become the layer's own.
NUMBA_ONLY = {"fprop_cpu", "bprop_cpu"}
CUDA_ONLY = {"BLOCKS", "constants", "state_gpu", "bprop_gpu", "test_kernels"}
CPP_KEYWORDS = """
    alignas alignof asm auto bool case catch char concept const constexpr decltype default delete do double
    enum explicit export extern false float friend goto inline int long mutable namespace new noexcept nullptr
    operator private protected public register requires short signed sizeof static struct switch template this
    throw true typedef typeid typename union unsigned using virtual void volatile
"""


def new_layer(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The layer's name, as my-layer, my_layer or MyLayer.")
    ],
    param: Annotated[
        str | None, typer.Option(metavar="NAME", help="Give it a learned parameter, say alpha.")
    ] = None,
    window: Annotated[
        bool, typer.Option("--window", help="Let it compute on windows, as pooling does.")
    ] = False,
    numba: Annotated[bool, typer.Option("--numba", help="Write its loops in Numba too.")] = False,
    cuda: Annotated[bool, typer.Option("--cuda", help="Write its CUDA kernels too.")] = False,
    folder: Annotated[Path, typer.Option("--dir", help="The folder to write to.")] = Path(),
    debug: Debug = False,
) -> None:
    """Write a layer of your own to start from, with its kernels and its test.

    What it writes is small, complete and passes every check: put your formula and its derivative in place of
    the one that is there. Nothing is overwritten.
    """
    with reporting(debug):
        files = layer_files(name, param, window=window, numba=numba, cuda=cuda)
        layer, *_, test = written = new_files.write_new(folder, files)
        commands = [("minet", "check", layer), ("pytest", test)]
        if cuda:
            commands.insert(1, ("minet", "check", layer, "--backend", "emu"))
        else:
            commands.append(("minet", "bench", f"{layer}:{new_files.class_name(name)}"))
        typer.echo(new_files.report(written, commands))


def layer_files(
    name: str, param: str | None = None, *, window: bool = False, numba: bool = False, cuda: bool = False
) -> dict[str, str]:
    """The files of a new layer: their names and texts, the layer first and its test last.

    Raises
    ------
    MinetError
        If the layer or its parameter cannot be called that.
    """
    from minet import layers
    from minet.core.containers import Container

    stem = new_files.new_stem(
        name, "layer", [*layers.stems(), *(cls.stem() for cls in Container.__subclasses__())]
    )
    names = {"MyLayer": new_files.class_name(name), "my_layer": stem, "alpha": param or ""}
    kind = ("window" if window else "elementwise") + ("_param" if param is not None else "")
    wanted = {"my_layer.py": True, "my_layer_loops.py": numba, "my_layer.cu": cuda, "test_my_layer.py": True}
    texts = {file: new_files.template(f"{kind}/{file}") for file in wanted}
    used = {word for file, text in texts.items() for word in _words(file, text)} - names.keys()
    if names["MyLayer"].startswith("Test"):
        raise MinetError(
            f"pytest would take a class {names['MyLayer']} for a test", f"choose another: my-{stem}"
        )
    if names["MyLayer"] in used:
        raise MinetError(f"a layer's file uses the name {names['MyLayer']}", f"choose another: my-{stem}")
    if param is not None:
        _check_param(param, used)
    return {
        new_files.renamed(file, names): new_files.renamed(_adapted(file, text, numba, cuda), names)
        for file, text in texts.items() if wanted[file]
    }  # fmt: skip


def _check_param(param: str, used: set[str]) -> None:
    """Refuse a name that is none in Python or C++, private in a class, or used in the layer's files."""
    if not re.fullmatch(r"_?[A-Za-z]\w*", param, re.ASCII):
        raise MinetError(f"--param {param}: is not a name", "--param alpha")
    if iskeyword(param) or param in CPP_KEYWORDS.split():
        raise MinetError(f"--param {param}: is a keyword of {'Python' if iskeyword(param) else 'C++'}")
    if param in used or hasattr(dict, param):
        found = f"--param {param}: the layer's files use this name for something else"
        raise MinetError(found, "choose a word, such as --param power")


def _words(file: str, text: str) -> list[str]:
    """The names in a program, as often as they are there; none from comments and docstrings."""
    if file.endswith(".cu"):
        return re.findall(r"[A-Za-z_]\w*", re.sub(r"//.*", "", text))
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return [token.string for token in tokens if token.type == tokenize.NAME]


def _adapted(file: str, text: str, numba: bool, cuda: bool) -> str:
    """A template's text without what only the options left out need."""
    if not file.endswith(".py"):
        return text
    text = _without(text, (set() if numba else NUMBA_ONLY) | (set() if cuda else CUDA_ONLY))
    if not numba:
        text = text.replace("_numpy(", "_cpu(")
    count = Counter(_words(file, text))

    def trimmed(line: re.Match[str]) -> str:
        kept = ", ".join(name for name in line[3].split(", ") if count[name] > 1)
        return f"{line[1]}from {line[2]} import {kept}\n" if kept else ""

    return re.sub(r"^(\n*)from (\S+) import (.+)\n", trimmed, text, flags=re.MULTILINE)


def _without(text: str, names: Iterable[str]) -> str:
    """A program without the methods and constants of these names, and the blank lines before them."""
    lines, module = text.splitlines(keepends=True), ast.parse(text)
    methods = [node for cls in module.body if isinstance(cls, ast.ClassDef) for node in cls.body]
    for node in sorted([*module.body, *methods], key=lambda node: -node.lineno):
        name = ast.unparse(node.targets[0]) if isinstance(node, ast.Assign) else getattr(node, "name", "")
        if name in names:
            start = node.lineno - 1
            while not lines[start - 1].strip():
                start -= 1
            del lines[start : node.end_lineno]
    return "".join(lines)

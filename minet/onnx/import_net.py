"""A network from an ONNX file as two files: a model file, and its weights beside it."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import NamedTuple

from minet.core import arrays_file
from minet.core.containers import Sequential
from minet.core.errors import MinetError
from minet.core.files import FileError
from minet.core.layer import Shape
from minet.core.naming import hides_module
from minet.onnx.load_net import load
from minet.onnx.model_text import model_text


class Imported(NamedTuple):
    """What was written."""

    model: Path
    weights: Path
    input_shape: Shape
    output_shape: Shape
    numbers: int  # in the weights


def import_net(
    file: str | Path, out: str | Path | None = None, input_shape: Shape | None = None, fold: bool = False
) -> Imported:
    """Write a network from an ONNX file as a model file, and its weights as safetensors beside it.

    Parameters
    ----------
    file : str or Path
    out : str or Path, optional
        The model file, by default the ONNX file's name with ``.py``, in the working folder. The weights have
        its name with ``.safetensors``: ``net.load`` reads them. Nothing is overwritten.
    input_shape : tuple of int, optional
    fold : bool
        As for `load`.

    Raises
    ------
    MinetError
        As `load` does, or if a file exists or cannot be written; then neither is.
    """
    if Path(file).suffix == ".py":  # by default, it would be the file to write
        raise MinetError(f"{file}: is a Python file, not an ONNX file", "to write ONNX files: minet export")
    model = Path(re.sub(r"\W", "_", Path(file).stem) + ".py" if out is None else out)
    if model.suffix != ".py":
        raise MinetError(f"a model file ends in .py, got {model}", f"--out {model.with_suffix('.py')}")
    if hides_module(model.stem):
        found = f"{model.name} would hide the module {model.stem} from programs in its folder"
        raise MinetError(found, f"--out my_{model.name}")
    weights = model.with_suffix(".safetensors")
    if not model.parent.is_dir():
        raise MinetError(f"{model}: its folder does not exist")
    for path in (model, weights):
        if path.exists() or path.is_symlink():
            raise FileError(f"{path} exists, and nothing is overwritten", "choose another name by --out")
    graph, input_shape, arrays = load(file, input_shape, fold)
    assert isinstance(graph, Sequential)
    text = model_text(graph, input_shape, _docstring(Path(file), model, weights))
    arrays_file.write(weights, arrays, {"model": model.stem, "step": 0, "seed": 0})
    try:
        with model.open("x", encoding="utf-8") as written:
            written.write(text)
    except BaseException as error:
        weights.unlink(missing_ok=True)
        if not isinstance(error, FileExistsError):
            with contextlib.suppress(OSError):
                model.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise FileError(f"{model}: cannot be written: {error.strerror}") from error
        raise
    numbers = sum(array.size for array in arrays.values())
    return Imported(model, weights, input_shape, graph.configure(input_shape), numbers)


def _docstring(file: Path, model: Path, weights: Path) -> str:
    """The model file's docstring: names alone, without what would end it or mean something else in it."""
    onnx, py, arrays = (re.sub(r"[^\w .+-]", "?", path.name) for path in (file, model, weights))
    return (
        f"The network of {onnx}, by ``minet import``.\n\n"
        f"Its weights are in {arrays}, which ``net.load`` and ``minet eval {py} --weights {arrays}`` read;\n"
        "``minet train`` begins with new ones.\n"
        "An ONNX file does not say how images were scaled, nor with what the network was trained.\n"
    )

"""A run, or a model with its first values, as an ONNX file: what `minet export` does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from minet.core.errors import MinetError
from minet.core.net import Net
from minet.onnx.export_graph import OPSET
from minet.onnx.export_net import IMAGES, export, needed
from minet.runs.trained import Trained
from minet.train import modelfile
from minet.train.modelfile import Model
from minet.train.pixels import Pixels


def export_run(
    run: str | Path, file: Path, *, model: str | Path | None = None, raw: bool = False
) -> tuple[list[str], list[str]]:
    """Write the net of a run's checkpoint, with the normalisation of its training set in front.

    Parameters
    ----------
    run : str or Path
        As for `minet.runs.folders.find`, or a file of weights.
    file : Path
    model : str or Path, optional
        The model file, if it is not where it was in training, or has changed.
    raw : bool
        Leave the normalisation out.

    Returns
    -------
    list of str, list of str
        What was written and how it was checked; and notes.
    """
    _check(file)
    try:
        trained = Trained.of(run, model)
    except MinetError as error:
        if str(run).endswith(".py") or run in modelfile.names():
            error.hint += "; --untrained takes its first values"
        raise
    net = trained.net(IMAGES)
    pixels, note = _pixels(trained.pixels, net, raw)
    return _written(net, trained.model, pixels, raw, file, [note] if note else [])


def export_untrained(
    name: str | Path, file: Path, settings: dict[str, Any], *, raw: bool = False
) -> tuple[list[str], list[str]]:
    """Write a model's net with its first values; the rest is as in `export_run`."""
    _check(file)
    model = modelfile.load(name, **settings)
    net = Net(model.net(), model.input_shape, IMAGES, model.loss, "cpu")
    pixels, _ = _pixels(lambda: (Pixels.of(model.datasets()[0]), ""), net, raw)
    return _written(net, model, pixels, raw, file, [])


def _pixels(find: Callable[[], tuple[Pixels, str]], net: Net, raw: bool) -> tuple[Pixels, str]:
    """How images become input, as far as that is known; if `raw`, it need not be."""
    try:
        pixels, note = find()
        return pixels, "" if raw else note
    except MinetError as error:
        if raw:
            return Pixels.none(net.input_shape[0]), ""
        error.hint = f"{error.hint}; --raw leaves the normalisation out".removeprefix("; ")
        raise


def _check(file: Path) -> None:
    """Refuse, before the work, a file that cannot be meant."""
    if file.suffix != ".onnx":
        raise MinetError(f"--onnx writes an ONNX file, got {file}", f"--onnx {file.with_suffix('.onnx')}")
    if not file.absolute().parent.is_dir():
        raise MinetError(f"{file}: its folder does not exist")
    needed("onnx", "onnxruntime")


def _written(
    net: Net, model: Model, pixels: Pixels, raw: bool, file: Path, notes: list[str]
) -> tuple[list[str], list[str]]:
    images, what, why = _images(model, net)
    if images is not None and raw:
        images = pixels.normalize(images)
    front = {} if raw else {"mean": pixels.mean, "std": pixels.std}
    facts: dict[str, Any] = {"model": model.name, "step": net.clock.now}
    if pixels.names:
        facts["classes"] = pixels.names
    largest = export(net, file, images=images, facts=facts, **front)
    K, *maps = net.output_shape
    sizes = (K,) if maps == [1, 1] else net.output_shape
    taken = "images as the net takes them" if raw or pixels.plain else "images in the units of the data set"
    lines = [
        f"wrote {file}: opset {OPSET}, x {_shape(net.input_shape)}, {taken}; y {_shape(sizes)}",
        f"checked in onnxruntime on {what}: the largest difference is {largest:.1e} of the largest output",
    ]
    return lines, [*notes, *why]


def _images(model: Model, net: Net) -> tuple[np.ndarray | None, str, list[str]]:
    """Images of the test set, if there is one, to check with; what they are; and why there are none."""
    try:
        train, test = model.datasets()
    except MinetError as error:
        return None, "noise", [f"checked on noise, as there are no images: {error.message.splitlines()[0]}"]
    data = train if test is None else test
    if data.image_shape != net.input_shape:
        return None, "noise", [f"checked on noise: {data.name} has images {data.image_shape}"]
    count = min(IMAGES, len(data))
    return data.centred(data.images[:count]), f"{count} images of {data.name}", []


def _shape(sizes: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, ('N', *sizes)))})"

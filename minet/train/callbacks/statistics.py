"""Statistics: what each layer puts out, and how large parameters and gradients are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from minet.core.errors import MinetError
from minet.core.layer import Array, Layer
from minet.core.net import Net
from minet.core.settings import is_whole
from minet.train.callback import Callback
from minet.train.line_log import LineLog
from minet.train.run_files import STATISTICS
from minet.train.trainer import Trainer


class Statistics(Callback):
    """Log the statistics of activations, parameters and gradients by layer.

    A line has the step and, for the path of each layer, of its output ``mean``, ``std`` and ``zero``, the
    share of zeros; and of each parameter the root mean square of ``value`` and of ``gradient``. Gradients are
    those of that step. Outputs are those for its batch in evaluation, with the parameters after the step; of
    a branch of a Sum, together with the branches before it.

    Parameters
    ----------
    every : int, optional
        Log every so many steps; by default the last step of each epoch.
    file : str or Path, optional
        By default ``statistics.jsonl`` in the run's folder; without a folder, `records` alone has the lines.

    Attributes
    ----------
    records : list of dict
        Those of this process.
    """

    reads_net = True

    def __init__(self, every: int | None = None, file: str | Path | None = None) -> None:
        if every is not None and (not is_whole(every) or every < 1):
            raise MinetError(f"every must be a whole number of at least 1, got {every!r}")
        self.every, self.file = every, file
        self.records: list[dict[str, Any]] = []
        self.log: LineLog | None = None

    def on_start(self, trainer: Trainer) -> None:
        if (file := self.file or (trainer.folder and trainer.folder / STATISTICS)) is not None:
            self.log = LineLog(file)
            self.log.begin(trainer.steps)

    def on_batch(self, trainer: Trainer, loss: float) -> None:
        step = trainer.steps
        if step % (self.every or len(trainer.batches)):
            return
        epoch = round(step / len(trainer.batches), 6)
        record = {"step": step, "epoch": epoch, "layers": statistics(trainer.net)}
        self.records.append(record)
        if self.log:
            self.log.add(record)


def statistics(net: Net) -> dict[str, dict[str, Any]]:
    """The statistics of a net after a training step, by the paths of its layers with their stems."""
    outputs = _outputs(net)
    found: dict[str, dict[str, Any]] = {}
    for layer in net.graph.walk():
        if layer.children:
            continue
        told: dict[str, Any] = found.setdefault(layer.full_path, {})
        if layer in outputs:
            told["output"] = outputs[layer]
        if params := {} if layer.tied else layer.p:
            told["parameters"] = {
                name: {"value": _rms(net, value), "gradient": _rms(net, layer.g[name])}
                for name, value in params.items()
            }
    return found


def _outputs(net: Net) -> dict[Layer, dict[str, float]]:
    """Compute the last batch once more, in evaluation, which changes nothing that is learned; watch it."""
    found: dict[Layer, dict[str, float]] = {}

    def watched(layer: Layer) -> Any:
        def fprop(x: Array, y: Array, beta: float = 0.0, train: bool = True) -> None:
            type(layer).fprop(layer, x, y, beta, train)
            values = np.asarray(net.be.get(y))
            mean, std = values.mean(dtype=np.float64), values.std(dtype=np.float64)
            zero = 1 - np.count_nonzero(values) / values.size
            found[layer] = {"mean": _short(mean), "std": _short(std), "zero": _short(zero)}

        return fprop

    leaves = [layer for layer in net.graph.walk() if not layer.children]
    for layer in leaves:
        layer.__dict__["fprop"] = watched(layer)
    try:
        net.steps.settle()
        with np.errstate(all="ignore"):
            net.graph.fprop(net.x, net.y, 0.0, False)
    finally:
        for layer in leaves:
            del layer.__dict__["fprop"]
    return found


def _rms(net: Net, value: Array) -> float:
    return _short(np.sqrt(np.square(net.be.get(value), dtype=np.float64).mean()))


def _short(number: Any) -> float:
    """A number to six significant digits."""
    return float(f"{float(number):.6g}")

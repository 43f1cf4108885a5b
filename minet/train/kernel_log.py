"""The log of a run's Gaussian kernels: ``kernels.jsonl``, a line for epoch 0 and for each epoch done.

A line is an object: ``epoch``, and ``layers``, which has for the path of each GaussianPool its call, its
window, how many channels have kernels of their own, and of the first 12 `mean`, `sigma` and, if the kernels
are tilted, `correlation`; all to five decimals.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minet.core.net import Net

CHANNELS = 12  # of which a layer's kernels are logged and drawn
DECIMALS = 5


@dataclass(frozen=True)
class Kernels:
    """The Gaussians of one layer.

    Attributes
    ----------
    path, call : str
        Such as ``2/1`` and ``GaussianPool(3)``.
    window : (int, int)
        Height and width, in pixels.
    mean, sigma : ndarray (C or 1, kernels, 2)
        In pixels, in the order (y, x); of a log, at most `CHANNELS` of the channels.
    correlation : ndarray (C or 1, kernels)
        Of y and x; 0 unless kernels are tilted.
    channels : int
        C, or 1 if all channels share their kernels.
    """

    path: str
    call: str
    window: tuple[int, int]
    mean: np.ndarray
    sigma: np.ndarray
    correlation: np.ndarray
    channels: int

    @property
    def label(self) -> str:
        return f"{self.path} {self.call}".lstrip()


def kernels(net: Net) -> list[Kernels]:
    """The current Gaussian kernels of a net."""
    from minet.layers.gaussian_pool import GaussianPool

    net.steps.settle()
    found = []
    for layer in net.graph.walk():
        if isinstance(layer, GaussianPool) and not layer.tied:
            mean, window = layer.mean, layer.window_on(layer.bound_shapes[0]).size
            tilt = np.broadcast_to(layer.correlation, mean.shape[:2])
            found.append(Kernels(layer.path, repr(layer), window, mean, layer.sigma, tilt, len(mean)))
    return found


def line(epoch: int, layers: Iterable[Kernels]) -> str:
    """A line of the log."""
    told = {}
    for layer in layers:
        told[layer.path] = {"layer": layer.call, "window": layer.window, "channels": layer.channels}
        told[layer.path] |= {"mean": _rounded(layer.mean), "sigma": _rounded(layer.sigma)}
        if layer.correlation.any():
            told[layer.path]["correlation"] = _rounded(layer.correlation)
    return json.dumps({"epoch": epoch, "layers": told})


def _rounded(values: np.ndarray) -> Any:
    return np.round(values[:CHANNELS].astype(np.float64), DECIMALS).tolist()


def lines(path: Path, epochs: int | None = None) -> Iterator[tuple[int, list[Kernels], str]]:
    """Yield epoch, kernels and text of a log's lines, up to an epoch or to the first line that is damaged."""
    before = -1
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        for text in path.read_text().splitlines():
            record = json.loads(text)
            epoch, layers = record["epoch"], [_read(*item) for item in record["layers"].items()]
            if type(epoch) is not int or not before < epoch <= (epoch if epochs is None else epochs):
                break
            yield epoch, layers, text
            before = epoch


def _read(path: str, told: dict[str, Any]) -> Kernels:
    mean, sigma = (np.array(told[name], float) for name in ("mean", "sigma"))
    tilt = np.array(told.get("correlation", np.zeros(mean.shape[:2])), float)
    height, width = window = tuple(told["window"])
    good = mean.ndim == 3 and mean.shape[2] == 2 and mean.size and mean.shape == sigma.shape
    good = good and tilt.shape == mean.shape[:2] and np.isfinite([mean, sigma]).all()
    good = good and (sigma > 0).all() and (abs(tilt) < 1).all()
    if not good or not all(type(n) is int and n > 0 for n in (height, width, told["channels"])):
        raise ValueError
    return Kernels(str(path), str(told["layer"]), window, mean, sigma, tilt, told["channels"])

"""What a trained net says of image files: what `minet predict` prints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from minet.backends import Backend
from minet.core.containers import Sequential
from minet.core.errors import MinetError
from minet.core.layer import Layer
from minet.core.loss import BinaryCrossEntropy, SoftmaxCrossEntropy
from minet.core.net import Net
from minet.data.image_files import ImageFiles, found
from minet.layers import Softmax
from minet.runs.trained import Trained
from minet.train.pixels import Pixels
from minet.train.precompile import precompile


class Predictor:
    """A run's net, and how image files become its input.

    Parameters
    ----------
    run : str or Path
        As for `minet.runs.folders.find`, or a file of weights.
    paths : sequence of str or Path
        Files and folders. All of them are read once before anything is computed.
    model : str or Path, optional
        The model file, if it is not where it was in training, or has changed.
    resize : bool
        Take image files of any size.
    backend : str or Backend

    Attributes
    ----------
    note : str
        Where mean and scale come from, if not from the checkpoint.

    Raises
    ------
    MinetError
        If there is no such run, or if files cannot be read or do not fit: all of those are named.
    """

    def __init__(
        self,
        run: str | Path,
        paths: Sequence[str | Path],
        *,
        model: str | Path | None = None,
        resize: bool = False,
        backend: str | Backend = "auto",
    ) -> None:
        trained = Trained.of(run, model)
        self.pixels: Pixels
        self.pixels, self.note = trained.pixels()
        shape = self.pixels.shape(trained.model.input_shape)
        self.reader = ImageFiles(shape, self.pixels.white, resize)
        self.files = found(paths)
        count = self.reader.check(self.files)
        self.net: Net = trained.net(min(count, trained.model.batch), backend)
        if self.net.output_shape[1:] != (1, 1):
            raise MinetError(
                f"{trained.file}: the net's outputs are maps, (K, P, Q) = {self.net.output_shape}",
                "in Python, net.predict(images) gives them",
            )

    def predictions(self, top: int = 2, console: Any = None) -> Iterator[dict[str, Any]]:
        """Yield what the net says of each image, as JSON can hold it.

        ``file``, and: for a net trained with SoftmaxCrossEntropy ``class``, ``label``, ``probability``, and
        ``top``, these three of the `top` likeliest classes; for one trained with BinaryCrossEntropy
        ``probabilities``; for any other ``outputs``.
        """
        precompile(self.net, train=False, console=console)
        named = (pair for file in self.files for pair in self.reader.images(file))
        while batch := list(islice(named, self.net.batch)):
            names, images = zip(*batch, strict=True)
            outputs = self.net.predict(self.pixels.normalize(np.stack(images))).astype(np.float64)
            for name, y in zip(names, outputs, strict=True):
                if not np.isfinite(y).all():
                    raise MinetError(
                        f"{name}: the net's outputs are not finite", "its weights may be damaged"
                    )
                yield {"file": name, **self._said(y, top)}

    def _said(self, y: np.ndarray, top: int) -> dict[str, Any]:
        if isinstance(self.net.loss, SoftmaxCrossEntropy):
            shares = probabilities(self.net, y)
            order = np.argsort(-shares, kind="stable")[:top].tolist()
            best = [
                {"class": self.pixels.name(i), "label": i, "probability": float(shares[i])} for i in order
            ]
            return {**best[0], "top": best}
        if isinstance(self.net.loss, BinaryCrossEntropy):
            return {"probabilities": (0.5 + 0.5 * np.tanh(0.5 * y)).tolist()}
        return {"outputs": y.tolist()}


def probabilities(net: Net, outputs: np.ndarray) -> np.ndarray:
    """The classes' probabilities ``(..., K)`` of a net trained with SoftmaxCrossEntropy, from its outputs."""
    shares = outputs if _gives_shares(net.graph) else np.exp(outputs - outputs.max(axis=-1, keepdims=True))
    found: np.ndarray = shares / shares.sum(axis=-1, keepdims=True)
    return found


def _gives_shares(graph: Layer) -> bool:
    """Whether a net's last layer is a Softmax, as in networks from ONNX files."""
    while isinstance(graph, Sequential):
        graph = graph.layers[-1]
    return isinstance(graph, Softmax)

"""What is timed: layers on shapes that matter, and the training step of a model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Case:
    """A layer with its settings on an input (C, H, W) and a batch N, or a model file's training step.

    Attributes
    ----------
    name : str
        The row's name, and what the command line selects by.
    layer : str
        A class of minet.layers, or the name of a model file.
    shape : tuple of int
        (C, H, W, N).
    settings : dict
        The class's arguments, or the model's settings.
    """

    name: str
    layer: str
    shape: tuple[int, int, int, int]
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def is_model(self) -> bool:
        return self.layer[0].islower()


def _gaussian(shape: tuple[int, int, int, int], **settings: Any) -> Case:
    window, stride, kernels = settings["window"], settings["stride"], settings.get("kernels", 1)
    name = f"GaussianPool {window}x{window} s{stride} k{kernels} {'x'.join(map(str, shape))}"
    return Case(name, "GaussianPool", shape, settings)


def _max(shape: tuple[int, int, int, int], **settings: Any) -> Case:
    size = "x".join(map(str, shape))
    return Case(f"MaxPool {settings['window']}x{settings['window']} s{settings['stride']} {size}",
                "MaxPool", shape, settings)  # fmt: skip


def _conv(shape: tuple[int, int, int, int], maps: int, window: int) -> Case:
    name = f"Conv {window}x{window} to {maps} {'x'.join(map(str, shape))}"
    return Case(name, "Conv", shape, {"maps": maps, "window": window, "pad": window // 2})


CASES = [
    _gaussian((64, 32, 32, 128), window=3, stride=2, pad=1),
    _gaussian((64, 32, 32, 128), window=5, stride=1, pad=2, kernels=3),
    _gaussian((64, 32, 32, 128), window=11, stride=2, pad=5),
    _gaussian((64, 16, 16, 128), window=5, stride=1, pad=2, kernels=3),
    _gaussian((128, 16, 16, 128), window=5, stride=1, pad=2, kernels=3),
    _max((64, 32, 32, 128), window=3, stride=2, pad=1),
    _max((128, 16, 16, 128), window=3, stride=2, pad=1),
    _max((64, 32, 32, 128), window=2, stride=2),
    _conv((64, 16, 16, 128), 32, 1),
    _conv((64, 16, 16, 128), 64, 3),
    _conv((64, 16, 16, 128), 64, 5),
    Case("step gaussian_inception 3x32x32x128", "gaussian_inception", (3, 32, 32, 128)),
]


def inputs(case: Case, out_shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The same x (C, H, W, N) for every contender, and dy for a layer or class numbers for a model."""
    draw = np.random.Generator(np.random.Philox(key=2015))
    x = draw.standard_normal(case.shape, np.float32)
    if case.is_model:
        return x, draw.integers(0, out_shape[0], case.shape[3])
    return x, draw.standard_normal((*out_shape, case.shape[3]), np.float32)

"""minet: a small layer-graph framework for people who write their own neural-network layers."""

import importlib
from types import ModuleType

from minet.core import rng, window
from minet.core.containers import Concat, Sequential, Sum
from minet.core.errors import MinetError
from minet.core.init import Gaussian, Glorot, He
from minet.core.layer import Layer, LayerError, Param, State, update
from minet.core.loss import BinaryCrossEntropy, Huber, Loss, MeanSquaredError, SoftmaxCrossEntropy
from minet.core.net import Net
from minet.core.window import Window
from minet.train.modelfile import load as load_model
from minet.train.optim import SGD, Adam, AdamW
from minet.train.optim.schedules import Cosine, Exponential, Polynomial, Step, WarmUp
from minet.train.trainer import Trainer
from minet.version import __version__

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "BinaryCrossEntropy",
    "Concat",
    "Cosine",
    "Exponential",
    "Gaussian",
    "Glorot",
    "He",
    "Huber",
    "Layer",
    "LayerError",
    "Loss",
    "MeanSquaredError",
    "MinetError",
    "Net",
    "Param",
    "Polynomial",
    "Sequential",
    "SoftmaxCrossEntropy",
    "State",
    "Step",
    "Sum",
    "Trainer",
    "WarmUp",
    "Window",
    "__version__",
    "load_model",
    "rng",
    "update",
    "window",
]

ROOMS = ("backends", "bench", "cli", "core", "data", "layers", "loops", "testing", "train")


def __getattr__(name: str) -> ModuleType:
    # Subpackages such as minet.data and minet.testing load on first use: `import minet` stays quick.
    if name in ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module 'minet' has no attribute {name!r}")

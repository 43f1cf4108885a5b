"""minet: a small layer-graph framework for people who write their own neural-network layers."""

import importlib
from pathlib import Path
from types import ModuleType

if not (Path(__file__).parent / "kernels").is_dir():
    # A checkout keeps kernels/, models/ and benchmarks/ beside minet/; an installed package has them inside.
    __path__.append(str(Path(__file__).parents[1]))

from minet.containers import Concat, Sequential, Sum
from minet.errors import MinetError
from minet.init import Gaussian, Glorot, He
from minet.layer import Layer, LayerError, Param, State, update
from minet.loss import Loss, MeanSquaredError, SoftmaxCrossEntropy
from minet.net import Net
from minet.optim import SGD, Cosine, Exponential, Polynomial, Step, WarmUp
from minet.trainer import Trainer

__version__ = "0.1.0"

__all__ = [
    "SGD",
    "Concat",
    "Cosine",
    "Exponential",
    "Gaussian",
    "Glorot",
    "He",
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
    "update",
]


def __getattr__(name: str) -> ModuleType:
    # minet.data, minet.testing and the like come with `import minet`, and load what they need when used.
    if name.startswith("_"):
        raise AttributeError(f"minet has no {name!r}")
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError:
        raise AttributeError(f"minet has no {name!r}") from None

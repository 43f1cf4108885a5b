"""Initialisers: random initial values of parameters, called as ``init(shape, rng)``.

For a constant, pass a float: every ``init`` setting takes one. Weights are ``(K, C, R, S)`` or ``(K, C)``:
the first axis is the output's, so ``fan_in = prod(shape[1:])`` and ``fan_out = shape[0] * prod(shape[2:])``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from minet.core.errors import MinetError
from minet.core.layer import Shape
from minet.core.settings import is_real, plain


@dataclass(frozen=True)
class Gaussian:
    """Normal with the given standard deviation and mean, whatever the shape.

    Raises
    ------
    MinetError
        If `std` is negative, or either is not a finite number.
    """

    std: float = 0.01
    mean: float = 0.0

    def __post_init__(self) -> None:
        _check(self, "std", self.std, 0.0)
        _check(self, "mean", self.mean)

    def __call__(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        return rng.normal(self.mean, self.std, shape)


@dataclass(frozen=True)
class Glorot:
    """Variance ``gain^2 * 2 / (fan_in + fan_out)``: keeps activations and deltas similar in size.

    Uniform in ``(-b, b)`` with ``b = gain * sqrt(6 / (fan_in + fan_out))``, as in the paper, or normal with
    the same variance.

    Parameters
    ----------
    gain : float
        1 is right for linear and tanh units.
    uniform : bool

    Raises
    ------
    MinetError
        If `gain` is negative or not a finite number, or `uniform` is not a bool.

    References
    ----------
    Glorot & Bengio, "Understanding the difficulty of training deep feedforward neural networks",
    AISTATS 2010, equation 16.
    """

    gain: float = 1.0
    uniform: bool = True

    def __post_init__(self) -> None:
        _check(self, "gain", self.gain, 0.0)
        if not isinstance(self.uniform, bool):
            raise MinetError(
                f"Glorot's uniform must be True or False, got {self.uniform!r}",
                "False draws from a normal distribution",
            )

    def __call__(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        std = self.gain * math.sqrt(2 / sum(fans(shape)))
        if self.uniform:
            bound = math.sqrt(3) * std
            return rng.uniform(-bound, bound, shape)
        return rng.normal(0.0, std, shape)


@dataclass(frozen=True)
class He:
    """Normal, variance ``2 / ((1 + a^2) * fan_in)``: keeps the size of activations through rectifiers.

    Parameters
    ----------
    a : float
        Slope of the negative side of the rectifier: 0 for ReLU, 0.25 for a new PReLU, 1 for no rectifier.

    Raises
    ------
    MinetError
        If `a` is not a finite number.

    References
    ----------
    He et al., "Delving deep into rectifiers", ICCV 2015, section 2.2, arXiv 1502.01852.
    """

    a: float = 0.0

    def __post_init__(self) -> None:
        _check(self, "a", self.a)

    def __call__(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        return rng.normal(0.0, math.sqrt(2 / ((1 + self.a**2) * fans(shape)[0])), shape)


def fans(shape: Shape) -> tuple[int, int]:
    """How many inputs feed one output of a weight of that shape, and how many outputs one input feeds."""
    return math.prod(shape[1:]), shape[0] * math.prod(shape[2:])


def _check(init: object, name: str, value: Any, least: float = -math.inf) -> None:
    if not is_real(value) or value < least:
        kind, bound = type(init).__name__, "" if least == -math.inf else f" of at least {least:g}"
        raise MinetError(
            f"{kind}'s {name} must be a finite number{bound}, got {value!r}",
            f"the default is {kind}({name}={getattr(type(init), name)})",
        )
    object.__setattr__(init, name, plain(value))

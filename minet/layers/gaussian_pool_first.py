"""GaussianPool's settings: which parameters learn, and what they start from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

SMALLEST = 0.3  # px; under a narrower Gaussian the gradient of the mean vanishes
STEEPEST = 0.95  # the largest correlation: the ellipse is six times as long as wide


def learned(layer: Any, learn: Any) -> tuple[str, ...]:
    """The settings that the solver may change, from True, False or their names."""
    if isinstance(learn, bool):
        return tuple(layer.parts) if learn else ()
    names = (learn,) if isinstance(learn, str) or not isinstance(learn, Iterable) else tuple(learn)
    if not all(name in tuple(layer.parts) for name in names):
        raise layer.error(f"learn must be True, False or some of {', '.join(layer.parts)}, got {learn!r}")
    return tuple(name for name in layer.parts if name in names)


def first_values(layer: Any, name: str, value: Any) -> np.ndarray:
    """A mean or sigma as (J, 2) or (C, J, 2), a correlation as (J,) or (C, J); or the layer's error."""
    pair = () if name == "correlation" else (2,)
    forms = ("1.5, (y, x),", ", 2)") if pair else ("0.5", ")")
    hint = f"use {name}={forms[0]} or an array of shape (kernels{forms[1]} or (C, kernels{forms[1]}"
    try:
        values, shape = np.array(value, dtype=float), (layer.kernels, *pair)
    except (TypeError, ValueError):
        raise layer.error(f"{name} must be numbers, in pixels, got {value!r}", hint) from None
    if values.shape in ((), pair):
        values = np.broadcast_to(values, shape)
    if values.ndim not in (len(shape), len(shape) + 1) or values.shape[-len(shape) :] != shape:
        raise layer.error(f"{name} of shape {values.shape} does not fit kernels={layer.kernels}", hint)
    if not np.isfinite(values).all():
        raise layer.error(f"{name} must be finite, got {value!r}")
    if name == "sigma" and (smallest := values.min()) < SMALLEST:
        raise layer.error(
            f"sigma must be at least {SMALLEST} px, got {smallest:g}",
            "a narrower Gaussian picks a single pixel and cannot learn its mean",
        )
    if name == "correlation" and abs(steepest := max(values.flat, key=abs)) > STEEPEST:
        raise layer.error(
            f"correlation must be between -{STEEPEST} and {STEEPEST}, got {steepest:g}",
            "towards 1 the Gaussian is a line, beyond it its covariance is not positive",
        )
    return values


def check_sets(layer: Any, name: str, values: np.ndarray, sets: int) -> None:
    """Raise the layer's error if there are values for another number of channels."""
    if values.ndim == (2 if name == "correlation" else 3) and len(values) not in (1, sets):
        whose = f"{sets} channels" if layer.per_channel else "the one set that all channels share"
        raise layer.error(f"{name} of shape {values.shape} does not fit {whose}")


def spread(kernels: int, window: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Default means and sigmas (J, 2), all different: kernels that start alike may stay alike."""
    size, j = np.array(window, dtype=float), np.arange(kernels)[:, None]
    if kernels == 1:
        mean, sigma = np.zeros((1, 2)), size[None] / 4
    else:
        angle = 2 * np.pi * (j + 0.5) / kernels
        mean = size / 16 * np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
        sigma = size / 8 * 4 ** (j / (kernels - 1))
    return mean, np.maximum(sigma, SMALLEST)

"""GaussianPool as ONNX nodes; `export_layers` says what such a function takes and returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minet.core.window import Window
from minet.layers.gaussian_pool import GaussianPool
from minet.onnx.export_graph import Graph, Value
from minet.onnx.export_layers import translated
from minet.onnx.export_window import depthwise, inside, scaled

STEEP = 60.0  # the largest exponent of a factor at an edge: beyond, float32 loses the weights that it scales


@dataclass
class Places:
    """The weights of windows that differ in which of their taps lie in the image.

    Attributes
    ----------
    exponent : array (sets, J, taps)
        Of the weights, before they are normalised.
    masks : array (places, taps)
        Which taps lie in the image.
    at : array (outputs,)
        The place of each output.
    root : float
        1, or 0.5 if the squares of the weights sum to one.
    whole, parts : arrays (sets, J, 1), (sets, J, places)
        The logarithms of what exponentials are divided by: in a window that lies inside, and in each place.
    """

    exponent: np.ndarray
    masks: np.ndarray
    at: np.ndarray
    root: float
    whole: np.ndarray
    parts: np.ndarray

    @property
    def steps(self) -> np.ndarray:
        """``(sets, J, places)``: the exponents of what a whole window's weights are multiplied by."""
        steps: np.ndarray = self.root * (self.whole - self.parts)
        return steps

    @property
    def factors(self) -> np.ndarray:
        """``(sets, J, outputs)``: their exponentials, for each output."""
        factors: np.ndarray = np.exp(self.steps)[..., self.at]
        return factors

    @property
    def weights(self) -> np.ndarray:
        """``(sets, J, taps)``: those of a whole window."""
        weights: np.ndarray = np.exp(self.root * (self.exponent - self.whole))
        return weights

    @property
    def each(self) -> np.ndarray:
        """``(sets, J, places, taps)``: those of each place; 0 for taps outside."""
        found = np.exp(self.root * (self.exponent[..., None, :] - self.parts[..., None]))
        return np.where(self.masks, found, 0.0)


@translated.register
def _(layer: GaussianPool, graph: Graph, x: Value) -> Value:
    """A convolution of each map with J kernels, then a constant factor for windows over an edge.

    Of taps outside the image x is 0. So weights that are normalised over the others are those of a whole
    window, times a factor that depends on the position alone.
    """
    shapes = (C, H, W), (_, P, Q) = layer.bound_shapes
    J, window = layer.kernels, layer.window_on((C, H, W))
    masks = [inside(window, 0, H, P), inside(window, 1, W, Q)]
    if layer.full:
        masks = [(masks[0][:, None, :, None] & masks[1][:, None]).reshape(P * Q, -1)]
    with np.errstate(all="ignore"):  # parameters that are not finite show in the output
        found = [places(layer, *both) for both in zip(exponents(layer, window), masks, strict=True)]
        if max(each.steps.max() for each in found) > STEEP:
            y = place_by_place(layer, found, graph, x)
        else:
            w = outer(*(each.weights for each in found)).reshape(-1, J, *window.size)
            y = depthwise(graph, x, np.broadcast_to(w, (C, *w.shape[1:])), window, shapes)
            sizes = [(P, Q)] if layer.full else [(P, 1), (1, Q)]
            y = scaled(graph, y, *(
                np.broadcast_to(each.factors, (C, J, each.factors.shape[2])).reshape(C * J, *size)
                for each, size in zip(found, sizes, strict=True)
            ))  # fmt: skip
    if C > 1 < J:  # ONNX has a map's kernels next to each other, minet a kernel's maps
        y = graph.add("Gather", y, np.arange(C * J).reshape(C, J).T.ravel(), axis=1)
    return y


def exponents(layer: GaussianPool, window: Window) -> list[np.ndarray]:
    """Of the taps' weights: ``(sets, J, R)`` and ``(sets, J, S)``, or if tilted ``(sets, J, R*S)``."""
    params = {name: np.asarray(layer.be.get(layer.p[at]), np.float64) for name, at in layer.parts.items()}
    means, sigmas = params["mean"], np.exp(params["sigma"])
    y, x = (
        (np.arange(size) - (size - 1) / 2 - means[..., axis, None]) / sigmas[..., axis, None]
        for axis, size in enumerate(window.size)
    )
    if not layer.full:
        return [-0.5 * y**2, -0.5 * x**2]
    y, x, rho = y[..., :, None], x[..., None, :], params["correlation"][..., None, None]
    tilted = -0.5 * (y**2 - 2 * rho * y * x + x**2) / (1 - rho**2)
    return [tilted.reshape(*tilted.shape[:2], -1)]


def places(layer: GaussianPool, exponent: np.ndarray, mask: np.ndarray) -> Places:
    """The weights of taps with these exponents, by place; a mask ``(outputs, taps)`` says what is inside."""
    masks, at = np.unique(mask, axis=0, return_inverse=True)
    whole = np.zeros((*exponent.shape[:2], 1))
    parts = np.broadcast_to(whole, (*exponent.shape[:2], len(masks)))
    if layer.normalize != "none":
        whole = log_sum(exponent)[..., None]
        counted = masks if layer.edge == "exact" else np.ones_like(masks)
        parts = np.stack([log_sum(exponent[..., taps]) for taps in counted], axis=-1)
    return Places(exponent, masks, at.reshape(-1), 0.5 if layer.normalize == "l2" else 1.0, whole, parts)


def log_sum(exponents: np.ndarray) -> np.ndarray:
    """The logarithm of the sum of exponentials along the last axis."""
    most = exponents.max(-1, keepdims=True)
    total: np.ndarray = most[..., 0] + np.log(np.exp(exponents - most).sum(-1))
    return total


def outer(down: np.ndarray, *across: np.ndarray) -> np.ndarray:
    """``(..., R, S)`` from ``(..., R)`` and ``(..., S)``; what is alone stays."""
    return down[..., :, None] * across[0][..., None, :] if across else down


def place_by_place(layer: GaussianPool, found: list[Places], graph: Graph, x: Value) -> Value:
    """A kernel of its own for each place of a window, all computed everywhere, and each output's chosen.

    For Gaussians that lie so far outside a window that its other taps have next to no weight.
    """
    shapes = (C, H, W), (_, P, Q) = layer.bound_shapes
    window = layer.window_on((C, H, W))
    if layer.full:
        w, at = found[0].each, found[0].at.reshape(P, Q)
    else:
        down, across = found
        w = down.each[:, :, :, None, :, None] * across.each[:, :, None, :, None, :]
        at = down.at[:, None] * len(across.masks) + across.at
    w = w.reshape(len(w), layer.kernels, -1, *window.size)
    J, K = w.shape[1:3]
    w = np.broadcast_to(w, (C, *w.shape[1:])).reshape(C, J * K, *window.size)
    y = graph.add("Reshape", depthwise(graph, x, w, window, shapes), [0, C * J, K, P * Q])
    chosen = np.arange(K)[:, None] == at.reshape(1, -1)
    y = graph.add("ReduceSum", graph.add("Mul", y, chosen.astype(np.float32)), [2], keepdims=0)
    return graph.add("Reshape", y, [0, C * J, P, Q])

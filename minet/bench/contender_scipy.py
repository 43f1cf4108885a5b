"""SciPy as a contender for pooling's fprop: the separable filters of scipy.ndimage, in one thread, on NCHW.

Each axis is filtered at every pixel and then thinned by the stride, the vertical axis first. AvgPool and
GaussianPool are divided by the sum of the weights inside the image.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage

from minet.bench.cases import Case, inputs
from minet.bench.contender_minet import net_of
from minet.bench.timers import Built, HostWatch


def build(case: Case, variant: str, backend: str) -> Built:
    """Build the case's fprop; `variant` is not used."""
    watch = HostWatch()
    net, _ = net_of(case)
    layer: Any = net.graph
    window = layer.window
    x = np.ascontiguousarray(inputs(case, net.output_shape)[0].transpose(3, 0, 1, 2))
    out = net.output_shape[1:]
    thin = [
        np.s_[window.size[axis] // 2 - window.pad[axis] :: window.stride[axis]] for axis in (0, 1)
    ]  # where the filter is centred on a window

    def along(image: np.ndarray, axis: int) -> np.ndarray:
        size = window.size[axis]
        if case.layer == "MaxPool":
            y = ndimage.maximum_filter1d(image, size, axis + 2, mode="constant", cval=-np.inf)
        else:
            y = ndimage.correlate1d(image, weights[axis], axis + 2, mode="constant")
        y = y[:, :, thin[axis]] if axis == 0 else y[:, :, :, thin[axis]]
        return y[:, :, : out[0]] if axis == 0 else y[:, :, :, : out[1]]

    if case.layer == "GaussianPool":
        weights = [one_for_all(layer, axis) for axis in (0, 1)]
    else:
        weights = [np.full(size, 1 / size) for size in window.size]
    exact = case.layer == "AvgPool" or getattr(layer, "edge", "") == "exact"
    inside = along(along(np.ones_like(x[:1, :1]), 0), 1) if exact else None

    def fprop() -> np.ndarray:
        y = along(along(x, 0), 1)
        return y if inside is None else y / inside

    return Built({"fprop": fprop}, lambda: {"y": fprop().transpose(1, 2, 3, 0)}, watch)


def one_for_all(layer: Any, axis: int) -> np.ndarray:
    """Return the weights along an axis of a layer whose channels all share them."""
    size = layer.window.size[axis]
    mean, log_sigma = (np.array(layer.p[name])[:, 0, axis] for name in ("mean", "log_sigma"))
    if np.ptp(mean) or np.ptp(log_sigma):
        raise NotImplementedError("SciPy's filters use the same weights for all channels")
    w = np.exp(-0.5 * ((np.arange(size) - (size - 1) / 2 - mean[0]) / np.exp(log_sigma[0])) ** 2)
    return np.asarray(w / w.sum())

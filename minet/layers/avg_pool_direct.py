"""AvgPool on a GPU, window by window: for windows that a dilation spreads, or that differ (``out=``).

The kernels are in ``kernels/avg_pool_direct.cu``. Other windows take the march of ``kernels/avg_pool.cu``.
"""

from __future__ import annotations

from typing import Any

from minet.core.layer import Array


def needed(layer: Any) -> bool:
    """Whether the windows of an AvgPool are such."""
    return layer.out is not None or (layer.window is not None and layer.window.dilation != (1, 1))


def launch(layer: Any, phase: str, written: Array, **values: Any) -> None:
    """Launch a phase's kernel with a thread for each element of the array that it writes."""
    channels, height, width, N = written.shape
    layer.be.launch(layer, f"avg_pool_direct_{phase}", width * N, channels * height, **values)

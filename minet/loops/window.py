"""The positions that a sliding window meets along one axis, as all pooling kernels need them."""

from functools import lru_cache
from math import gcd
from typing import Any, NamedTuple

import numpy as np

from minet.loops import kernel


@kernel()
def span(p, window, stride, pad, size):
    """Return the half-open range of input positions inside both the image and the window of output p."""
    start = p * stride - pad
    return max(start, 0), min(start + window, size)


@kernel()
def taps_inside(p, window, stride, pad, dilation, size):
    """Return the half-open range of output p's taps r inside the image, at p*stride - pad + r*dilation."""
    start = p * stride - pad
    if dilation == 1:  # no divisions
        return max(-start, 0), min(window, size - start)
    return max((dilation - 1 - start) // dilation, 0), min(window, (size - 1 - start) // dilation + 1)


@kernel()
def met(p, window, stride, pad, dilation, size):
    """Return, as a range, the input positions that the taps of output p meet inside the image."""
    start = p * stride - pad
    first, end = taps_inside(p, window, stride, pad, dilation, size)
    return range(start + first * dilation, start + end * dilation, dilation)


@kernel()
def covering_spread(h, window, stride, pad, dilation, count):
    """Return first, end and step of those of `count` outputs of which a tap meets input position h."""
    first = max((h + pad - dilation * (window - 1) + stride - 1) // stride, 0)
    end = min((h + pad) // stride + 1, count)
    if dilation == 1:
        return first, end, 1
    while first < end and (h + pad - first * stride) % dilation:
        first += 1
    return first, end, dilation // gcd(stride, dilation)


class Spans(NamedTuple):
    """The windows along one axis, and seen from the other side, the windows that hold each position."""

    first: np.ndarray  # of window p, the first position inside the image
    taps: np.ndarray  # positions of window p inside, `step` apart
    counted: np.ndarray  # what the mean of window p divides by
    low: np.ndarray  # the first window that holds position h
    held: np.ndarray  # windows that hold it, `apart` from one to the next
    step: int
    apart: int


@lru_cache(1024)
def spans(size: int, windows: int, taps: int, stride: int, pad: int, dilation: int, after: int) -> Any:
    """The Spans of a sliding window; positions up to `after` beyond the image count too, and those before it.

    With an `after` of -1 only what lies inside counts.
    """
    start = np.arange(windows) * stride - pad
    skipped = np.maximum(0, -(start // dilation))
    inside = np.minimum(taps, (size - 1 - start) // dilation + 1) - skipped
    counted = inside if after < 0 else np.minimum(taps, (size + after - 1 - start) // dilation + 1)
    apart = dilation // gcd(stride, dilation)
    low, high = np.full(size, windows), np.full(size, -1)
    for r in range(taps):  # tap r of window p is at a position of its own
        at = start + r * dilation
        p = np.flatnonzero((at >= 0) & (at < size))
        low[at[p]] = np.minimum(low[at[p]], p)
        high[at[p]] = np.maximum(high[at[p]], p)
    held = np.where(high < 0, 0, (high - low) // apart + 1)
    return Spans(start + skipped * dilation, inside, counted, low, held, dilation, apart)


@lru_cache(1024)
def adaptive(size: int, windows: int) -> Any:
    """The Spans of so many windows that cover the axis, as nearly alike as possible (PyTorch's bounds)."""
    p, h = np.arange(windows), np.arange(size)
    first, end = p * size // windows, -(-(p + 1) * size // windows)
    low, high = np.searchsorted(end, h, side="right"), np.searchsorted(first, h, side="right")
    return Spans(first, end - first, end - first, low, high - low, 1, 1)

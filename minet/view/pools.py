"""What pooling layers picked on a few images, as HTML."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import Any, cast

import numpy as np

from minet.core.window import Window
from minet.view.picks import Picks, positions

CHANNELS = 5  # of a MaxPool, those that vary most
SIDE = 32  # of a map, in pixels; of a larger one its middle is shown
FINE = 10  # a map with a longer side gets smaller dots
LARGEST = 112  # an image with longer sides is thinned out


def section(picked: Sequence[Picks], images: np.ndarray, names: Sequence[str], source: str) -> str:
    """The section of all pooling layers; empty if there are none.

    Parameters
    ----------
    images : ndarray (N, C, H, W)
        As stored.
    names : list of str
        What each image is.
    source : str
        The data set's name.
    """
    if not picked:
        return ""
    pictures = [_panel(picture(image), name) for image, name in zip(images, names, strict=True)]
    return (
        f'<section class="pools"><h2>What pooling picked</h2><p>Images of {escape(source)}, and the maps '
        "that each layer saw of them, the highest value white. A dot is a position that a window picked."
        f"</p>{''.join(_layer(layer, pictures) for layer in picked)}</section>"
    )


def _layer(layer: Picks, pictures: Sequence[str]) -> str:
    rows = []
    for n, image in enumerate(pictures):
        panels = _draws(layer, n) if layer.chances is not None else _maxima(layer, n)
        rows.append(f'<div class="row">{image}{"".join(panels)}</div>')
    some = ""
    if max(layer.x.shape[1:3]) > SIDE:
        some = f" Shown is the middle of maps of {layer.x.shape[1]}x{layer.x.shape[2]}."
    return (
        f"<article><h3><code>{escape(layer.path or '.')}</code> {escape(layer.call)}</h3>"
        f"<p>{_told(layer)}{some}</p>{''.join(rows)}</article>"
    )


def _told(layer: Picks) -> str:
    if layer.chances is None:
        channels = len(layer.x)
        some = f" of {channels}, those that vary most" if channels > CHANNELS else ""
        return f"The largest value of each window, in {min(channels, CHANNELS)} channels{some}."
    return (
        f"One value of each window, drawn with a probability proportional to it, in {len(layer.taps)} draws. "
        f"{100 * likeliest(layer):.0f} % of what is drawn is its window's largest value. "
        "A window without positive values picks none. Chances run from black, never, to pale yellow."
    )


def likeliest(layer: Picks) -> float:
    """The share of a StochasticPool's draws that are their window's largest value."""
    window = layer.window.on(layer.x.shape[:3])
    taps = window.taps(window.padded(np.nan_to_num(np.maximum(layer.x, 0))))
    flat, hits, draws = taps.reshape(-1, *taps.shape[2:]), 0, 0
    for drawn in layer.taps:
        some = drawn < len(flat)
        values = np.take_along_axis(flat, np.where(some, drawn, 0)[np.newaxis].astype(int), axis=0)[0]
        hits, draws = hits + (some & (values == flat.max(axis=0))).sum(), draws + some.sum()
    return float(hits / max(1, draws))


def _maxima(layer: Picks, n: int) -> list[str]:
    order = np.argsort(-layer.x.std(axis=(1, 2, 3)), kind="stable")[:CHANNELS]
    return [
        _map(layer, layer.x[c, :, :, n], f"channel {c}", layer.taps[0][c, :, :, n]) for c in sorted(order)
    ]


def _draws(layer: Picks, n: int) -> list[str]:
    assert layer.chances is not None
    c = int(layer.x[..., n].std(axis=(1, 2)).argmax())
    x = layer.x[c, :, :, n]
    return [
        _map(layer, x, f"channel {c}"),
        _map(layer, layer.chances[c, :, :, n], "chances", colors="magma", low=0.0),
        *(_map(layer, x, f"draw {i}", taps[c, :, :, n]) for i, taps in enumerate(layer.taps, 1)),
    ]


def _map(
    layer: Picks,
    x: np.ndarray,
    caption: str,
    taps: np.ndarray | None = None,
    colors: str = "gray",
    low: float | None = None,
) -> str:
    """A map (H, W), or its middle, with a dot where each window picked."""
    (top, height), (left, width) = (middle(size) for size in x.shape)
    dots = "" if taps is None else _dots(layer.window, taps, top, left, height, width)
    values = x[top : top + height, left : left + width]
    return _panel(
        png(values, colors, low), caption, height, width, _windows(layer.window, top, left, x.shape) + dots
    )


def middle(size: int) -> tuple[int, int]:
    """Where the shown part of an axis begins, and how long it is."""
    return max(0, (size - SIDE) // 2), min(size, SIDE)


def _dots(window: Window, taps: np.ndarray, top: int, left: int, height: int, width: int) -> str:
    places = {(int(h) - top, int(w) - left) for h, w in positions(window, taps)}
    inside = sorted((h, w) for h, w in places if 0 <= h < height and 0 <= w < width)
    path = "".join(f"M{w + 0.5:g} {h + 0.5:g}h0" for h, w in inside)
    fine = " fine" if max(height, width) > FINE else ""
    return f'<path class="halo{fine}" d="{path}"/><path class="dot{fine}" d="{path}"/>' if path else ""


def _windows(window: Window, top: int, left: int, shape: tuple[int, ...]) -> str:
    """Lines between windows, where they lie side by side."""
    if window.stride != window.size or window.dilation != (1, 1):
        return ""
    (R, S), (PY, PX), (height, width) = window.size, window.pad, (min(size, SIDE) for size in shape)
    rows = [f"M0 {y - top}H{width}" for y in range(R - PY, shape[0], R) if 0 < y - top < height]
    columns = [f"M{x - left} 0V{height}" for x in range(S - PX, shape[1], S) if 0 < x - left < width]
    return f'<path class="apart" d="{"".join(rows + columns)}"/>' if rows or columns else ""


def _panel(data: bytes, caption: str, height: int = 1, width: int = 1, over: str = "") -> str:
    href = "data:image/png;base64," + base64.b64encode(data).decode()
    longer = max(height, width)
    x, y = (longer - width) / 2, (longer - height) / 2
    return (
        '<figure><svg xmlns="http://www.w3.org/2000/svg" role="img" '
        f'viewBox="{-x:g} {-y:g} {longer} {longer}"><title>{escape(caption)}</title>'
        f'<image href="{href}" width="{width}" height="{height}"/>'
        f"{over}</svg><figcaption>{escape(caption)}</figcaption></figure>"
    )


def picture(image: np.ndarray) -> bytes:
    """An image (C, H, W) as PNG: in colour if it has three channels, else its first one in grey."""
    step = -(-max(image.shape[1:]) // LARGEST)
    values = image[:, ::step, ::step].astype(np.float64)
    if len(values) != 3:
        return png(values[0])
    if image.dtype != np.uint8:
        values = (values - values.min()) / max(values.max() - values.min(), 1e-12) * 255
    return png(values.transpose(1, 2, 0).astype(np.uint8))


def png(values: np.ndarray, colors: str = "gray", low: float | None = None) -> bytes:
    """Numbers (H, W) in these colours, from `low`, or their lowest, to their highest; or bytes (H, W, 3)."""
    from matplotlib.image import imsave

    file, unsigned = io.BytesIO(), cast(Any, {"Software": None})  # without the version of matplotlib
    if values.ndim == 2:
        values = np.nan_to_num(values, posinf=0.0, neginf=0.0)
        low = float(values.min()) if low is None else low
    high = max(float(values.max()), (low or 0.0) + 1e-12)
    imsave(file, values, cmap=colors, vmin=low, vmax=high, format="png", metadata=unsigned)
    return file.getvalue()

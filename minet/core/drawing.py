"""Pictures of a net and of Gaussian kernels as SVG, for notebooks, pages and `minet summary --graph`.

Text only: no library draws them. A container draws its children and joins them; x and y grow right and down.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from minet.core.containers import Concat, Sequential, Sum
from minet.core.layer import Layer, Shape

HUES = ("#1f6fb4", "#d9601a", "#2a9d5c", "#8e5bb5", "#b8860b")
INK, FAINT = "#222222", "#999999"
LETTER, LINE = 6.7, 15  # pixels: width of a letter at the font's size, height of a line
GAP, STEP = 18, 22  # pixels between branches, and between layers
BAR = 20  # height of the output that branches share
CELL = 9  # pixels on the screen for each of a window's

Shapes = dict[Layer, tuple[Shape, Shape]]


@dataclass(frozen=True)
class Part:
    """A drawn part of a net: its input enters at the top of its middle, its output leaves at the bottom."""

    width: float
    height: float
    svg: str
    splits: bool = False  # the input goes on to branches, so that its arrow does not end here

    @property
    def middle(self) -> float:
        return self.width / 2

    def at(self, x: float, y: float) -> str:
        return f'<g transform="translate({x:g} {y:g})">{self.svg}</g>'


def net(graph: Layer, shapes: Shapes) -> str:
    """The graph as SVG: layers from top to bottom, and how branches share an output, slice by slice."""
    part = _part(graph, shapes)
    source, width = _text(0, 0, "x".join(map(str, shapes[graph][0])), FAINT), part.width + 2 * GAP
    x = GAP + part.middle
    body = [
        f'<g transform="translate({x:g} {LINE:g})" text-anchor="middle">{source}</g>',
        _arrow(x, LINE + 5, x, LINE + STEP, head=not part.splits),
        part.at(GAP, LINE + STEP),
    ]
    return _page(width, part.height + LINE + STEP + GAP, body)


def gaussians(
    means: np.ndarray,
    sigmas: np.ndarray,
    window: tuple[int, int],
    most: int = 12,
    correlations: np.ndarray | None = None,
) -> str:
    """Kernels as one-sigma ellipses in their windows, one window for each of at most `most` channels.

    Parameters
    ----------
    means, sigmas : ndarray (C or 1, kernels, 2)
        In pixels, in the order (y, x).
    window : (int, int)
        Height and width.
    correlations : ndarray (C or 1, kernels), optional
        Of y and x, which tilt the ellipses.
    """
    height, width = (CELL * size for size in window)
    tilts = np.zeros(means.shape[:2]) if correlations is None else correlations
    body = []
    for c in range(min(len(means), most)):
        lines = "".join(
            [f'<path d="M{CELL * i} 0V{height}"/>' for i in range(window[1] + 1)]
            + [f'<path d="M0 {CELL * i}H{width}"/>' for i in range(window[0] + 1)]
        )
        parts = [f'<g stroke="#dddddd" stroke-width="1">{lines}</g>']
        hues = itertools.cycle(HUES)
        for (y, x), (sy, sx), tilt, hue in zip(means[c], sigmas[c], tilts[c], hues, strict=False):
            cy, cx, turn = height / 2 + CELL * y, width / 2 + CELL * x, ""
            if tilt:  # along the covariance's axes
                (sy, sx), degrees = tilted(sy, sx, tilt)
                turn = f' transform="rotate({degrees:.2f} {cx:.2f} {cy:.2f})"'
            parts.append(
                f'<ellipse cx="{cx:.2f}" cy="{cy:.2f}" rx="{CELL * sx:.2f}" ry="{CELL * sy:.2f}" '
                f'fill="{hue}" fill-opacity="0.13" stroke="{hue}"{turn}/>'
                f'<circle cx="{cx:.2f}" cy="{cy:.2f}" r="1.6" fill="{hue}"/>'
            )
        clipped = f'<svg width="{width}" height="{height}">{"".join(parts)}</svg>'
        label = _text(width / 2, height + LINE, str(c), FAINT, "middle")
        body.append(f'<g transform="translate({GAP + c * (width + GAP)} {GAP})">{clipped}{label}</g>')
    return _page(GAP + len(body) * (width + GAP), height + LINE + 2 * GAP, body)


def tilted(sy: float, sx: float, correlation: float) -> tuple[tuple[float, float], float]:
    """The short and the long radius of a one-sigma ellipse, and the angle of the long one in degrees."""
    both = correlation * sy * sx
    squares, axes = np.linalg.eigh([[sx * sx, both], [both, sy * sy]])
    short, long = np.sqrt(squares)
    return (float(short), float(long)), float(np.degrees(np.arctan2(axes[1, 1], axes[0, 1])))


def _part(layer: Layer, shapes: Shapes) -> Part:
    if not layer.children:
        return _box(layer, shapes[layer][1])
    parts = [_part(child, shapes) for child in layer.children]
    if isinstance(layer, Sequential):
        return _column(parts)
    if isinstance(layer, (Concat, Sum)):
        return _row(layer, parts, [shapes[child][1] for child in layer.children])
    return _column([_box(layer, shapes[layer][1]), *parts])


def _box(layer: Layer, shape: Shape) -> Part:
    """A layer: its call, its output's shape and how many parameters it has."""
    name, count = repr(layer), sum(value.size for value in layer.p.values())
    more = "shared parameters" if layer.tied and count else f"{count:,} parameters" if count else ""
    under = "   ".join(filter(None, ["x".join(map(str, shape)), more]))
    width = max(LETTER * max(len(name), len(under)) + 20, 110)
    frame = f'<rect width="{width:g}" height="{2 * LINE + 10}" rx="5" fill="#f6f8fa" stroke="{FAINT}"/>'
    return Part(
        width,
        2 * LINE + 10,
        f"<title>{escape(layer.full_path)}</title>{frame}"
        + _text(width / 2, LINE + 1, name, INK, "middle")
        + _text(width / 2, 2 * LINE + 1, under, "#666666", "middle"),
    )


def _column(parts: Sequence[Part]) -> Part:
    """Layers one below the other, joined by arrows."""
    width, y = max(part.width for part in parts), 0.0
    drawn = []
    for i, part in enumerate(parts):
        if i:
            drawn.append(_arrow(width / 2, y - STEP, width / 2, y, head=not part.splits))
        drawn.append(part.at(width / 2 - part.middle, y))
        y += part.height + STEP
    return Part(width, y - STEP, "".join(drawn), parts[0].splits)


def _row(layer: Layer, parts: Sequence[Part], shapes: Sequence[Shape]) -> Part:
    """Branches side by side on one input, and below them the one output that they write to."""
    whole = sum(part.width for part in parts) + GAP * (len(parts) - 1)
    top, tallest = STEP, max(part.height for part in parts)
    bottom = top + tallest + STEP
    channels = [shape[0] for shape in shapes]
    drawn, x, first = list[str](), 0.0, 0
    for part, count, hue in zip(parts, channels, itertools.cycle(HUES), strict=False):
        middle = x + part.middle
        drawn += [_arrow(whole / 2, 0, middle, top), part.at(x, top)]
        if isinstance(layer, Concat):
            start, share = whole * first / sum(channels), whole * count / sum(channels)
            label, fill = f"y[{first}:{first + count}]", hue
            drawn.append(
                f'<rect x="{start:g}" y="{bottom:g}" width="{share:g}" height="{BAR}" fill="{fill}" '
                f'fill-opacity="0.18" stroke="{fill}"/>' + _fitting(start, bottom, share, label)
            )
            target = start + share / 2
        else:
            target = whole / 2 + (middle - whole / 2) * 0.8
        drawn.append(_arrow(middle, top + part.height, target, bottom))
        x, first = x + part.width + GAP, first + count
    if isinstance(layer, Sum):
        drawn.append(
            f'<rect y="{bottom:g}" width="{whole:g}" height="{BAR}" fill="#eeeeee" stroke="{FAINT}"/>'
            + _fitting(0, bottom, whole, "y = the sum")
        )
    return Part(whole, bottom + BAR, "".join(drawn), splits=True)


def _fitting(x: float, y: float, width: float, label: str) -> str:
    """A label in a bar, if it fits there."""
    text = _text(x + width / 2, y + LINE - 1, label, INK, "middle")
    return text if LETTER * len(label) < width else f"<title>{label}</title>"


def _text(x: float, y: float, text: str, color: str, anchor: str = "") -> str:
    where = f' text-anchor="{anchor}"' if anchor else ""
    return f'<text x="{x:g}" y="{y:g}" fill="{color}"{where} xml:space="preserve">{escape(text)}</text>'


def _arrow(x: float, y: float, to_x: float, to_y: float, head: bool = True) -> str:
    """A line that leaves and arrives vertically."""
    half = (y + to_y) / 2
    marker = ' marker-end="url(#head)"' if head else ""
    path = f"M{x:g} {y:g}C{x:g} {half:g} {to_x:g} {half:g} {to_x:g} {to_y - 4 * head:g}"
    return f'<path d="{path}" fill="none" stroke="{FAINT}"{marker}/>'


def _page(width: float, height: float, body: Sequence[Any]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}" style="max-width: 100%; height: auto; background: white" '
        'font-family="ui-monospace, Menlo, Consolas, monospace" font-size="11">'
        '<defs><marker id="head" markerWidth="6" markerHeight="6" refX="3" refY="3" orient="auto">'
        f'<path d="M0 0L6 3L0 6z" fill="{FAINT}"/></marker></defs>' + "".join(body) + "</svg>\n"
    )

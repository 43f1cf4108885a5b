"""Gaussian kernels over the epochs as HTML: for each channel one that moves, and a strip of still ones.

The animation is CSS. A row of radio buttons plays it or holds it at an epoch, so the page needs no script.
Who asks for less motion gets the last epoch, held.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TypeAlias

import numpy as np

from minet.train.kernel_log import Kernels

Epochs: TypeAlias = Sequence[tuple[int, list[Kernels]]]
Frames: TypeAlias = Sequence[tuple[float, int, Kernels]]  # when, in seconds; the epoch; one layer's kernels

FRAMES, STILLS = 24, 6  # the most epochs that are animated, and that the strip shows
BIG, SMALL, GAP = 84, 36, 5  # pixels of a window's longer side, and between small ones
TOP, WIDTH, HEIGHT = 16, 344, 104  # of a card
SECONDS, HOLD = 0.7, 2.0  # from one frame to the next; at the last one
HUES = 5
FINEST = 3  # pixels of a cell, below which no grid is drawn


def section(epochs: Epochs) -> str:
    """The section of all layers of the last epoch; empty if there are none."""
    if not epochs or not epochs[-1][1]:
        return ""
    framed = [epochs[i] for i in evenly(len(epochs), FRAMES)]
    layers = [_layer(i, layer.path, framed) for i, layer in enumerate(epochs[-1][1])]
    return (
        '<section class="kernels" id="kernels"><h2>Gaussian kernels, epoch by epoch</h2>'
        "<p>A square is a pooling window, a cell of it a pixel. An ellipse is one standard deviation around "
        "the mean of a kernel; dashed is how it began, and a grey line the way of its mean.</p>"
        f"{_controls([epoch for epoch, _ in framed])}{''.join(layers)}</section>"
    )


def evenly(count: int, most: int) -> list[int]:
    """At most `most` of the indices below `count`, evenly spread, with the first and the last."""
    return sorted(set(np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()))


def duration(frames: int) -> float:
    """Seconds of the animation."""
    return SECONDS * (frames - 1) + HOLD


def _controls(epochs: Sequence[int]) -> str:
    """Radio buttons, their labels, and the rules by which they move the kernels or hold them."""
    total = duration(len(epochs))
    rules = [f".kernels{{--total:{total:g}s;--last:{-SECONDS * (len(epochs) - 1):g}s}}"]
    for name, share in (("lit", SECONDS / total), ("last", HOLD / total)):
        rules.append(
            f"@keyframes {name}{{0%{{background:var(--lit)}}{100 * share:.3f}%,100%{{background:none}}}}"
        )
    inputs = ['<input type="radio" name="epoch" id="play" checked="checked"/>']
    labels = ['<label for="play" class="play">▶ play</label>']
    for i, epoch in enumerate(epochs):
        at, name = SECONDS * i, "last" if i == len(epochs) - 1 else "lit"
        inputs.append(f'<input type="radio" name="epoch" id="e{epoch}"/>')
        lit = f"animation-name:{name};animation-delay:{at - total:g}s"
        labels.append(f'<label for="e{epoch}" style="{lit}">{epoch}</label>')
        rules.append(f"#e{epoch}:checked~article .still{{--at:{-at:g}s}}")
    for name in ("play", *(f"e{epoch}" for epoch in epochs)):
        rules.append(f"#{name}:checked~nav label[for={name}]{{background:var(--lit)}}")
        rules.append(f"#{name}:focus-visible~nav label[for={name}]{{outline:2px solid var(--ink)}}")
    return (
        f"<style>{''.join(rules)}</style>{''.join(inputs)}"
        f'<nav aria-label="epoch"><span>epoch</span>{"".join(labels)}</nav>'
    )


def _layer(number: int, path: str, epochs: Epochs) -> str:
    """A layer's heading, what changed in numbers, and a card for each channel."""
    last = next(layer for layer in epochs[-1][1] if layer.path == path)
    same = [
        (SECONDS * i, epoch, layer)
        for i, (epoch, layers) in enumerate(epochs)
        for layer in layers
        if (layer.path, layer.mean.shape, layer.window) == (path, last.mean.shape, last.window)
    ]
    total = duration(len(epochs))
    cards, rules = [], []
    for c in range(len(last.mean)):
        names = [f"k{number}-{c}-{j}" for j in range(last.mean.shape[1])]
        rules += [_keyframes(name, same, total, c, j) for j, name in enumerate(names)]
        cards.append(_card(same, c, names, "all channels" if last.channels == 1 else f"channel {c}"))
    some = (
        f", the first {len(last.mean)} of {last.channels} channels" if last.channels > len(last.mean) else ""
    )
    return (
        f"<article><h3><code>{escape(path or '.')}</code> {escape(last.call)}{some}</h3>"
        f"<p>{_change(same)}</p><style>{''.join(rules)}</style>"
        f'<div class="cards">{"".join(cards)}</div></article>'
    )


def _change(same: Frames) -> str:
    (_, first, before), (_, last, after) = same[0], same[-1]
    moved = np.hypot(*np.moveaxis(after.mean - before.mean, -1, 0))
    sigmas = [
        f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} to {high:.2f}"
        for low, high in ((layer.sigma.min(), layer.sigma.max()) for layer in (before, after))
    ]
    return (
        f"From epoch {first} to {last} the means moved by {moved.mean():.2f} px on average, "
        f"{moved.max():.2f} px at most. Standard deviations were {sigmas[0]} px and are {sigmas[1]} px."
    )


def _centre(layer: Kernels, c: int, j: int, cell: float) -> tuple[float, float]:
    """A kernel's mean in its window, (x, y)."""
    (y, x), (height, width) = layer.mean[c, j], layer.window
    return cell * (width / 2 + x), cell * (height / 2 + y)


def _matrix(layer: Kernels, c: int, j: int, cell: float, unit: str = "") -> str:
    """What makes a kernel's ellipse of the unit circle."""
    (x, y), (sy, sx), tilt = _centre(layer, c, j, cell), cell * layer.sigma[c, j], layer.correlation[c, j]
    if not tilt:
        return f"translate({x:.2f}{unit},{y:.2f}{unit}) scale({sx:.2f},{sy:.2f})"
    return f"matrix({sx:.2f},{sy * tilt:.2f},0,{sy * (1 - tilt**2) ** 0.5:.2f},{x:.2f},{y:.2f})"


def _keyframes(name: str, same: Frames, total: float, c: int, j: int) -> str:
    cell, frames = BIG / max(same[-1][2].window), []
    for i, (when, _, layer) in enumerate(same):
        shares = ["0%"] * (i == 0) + [f"{100 * when / total:.4g}%"] + ["100%"] * (i == len(same) - 1)
        moved = _matrix(layer, c, j, cell, "px")
        frames.append(f"{','.join(dict.fromkeys(shares))}{{transform:{moved}}}")
    return f"@keyframes {name}{{{''.join(frames)}}}"


def _card(same: Frames, c: int, names: Sequence[str], label: str) -> str:
    """A channel: the moving window on the left, the strip of still ones on the right."""
    first, last = same[0][2], same[-1][2]
    cell = BIG / max(last.window)
    ways = []
    for j in range(len(names)):
        places = (_centre(layer, c, j, cell) for *_, layer in same)
        ways.append(f'<path class="way" d="M{" ".join(f"{x:.2f} {y:.2f}" for x, y in places)}"/>')
    moving = "".join(
        f'<g class="k h{j % HUES}" style="animation-name:{name}"><circle r="1"/><path d="M0 0h0"/></g>'
        for j, name in enumerate(names)
    )
    body = "".join(ways) + f'<g class="moving">{moving}</g><g class="still">{moving}</g>'
    parts = [f'<text y="10">{label}</text>', _window(0, TOP, cell, last, _before(first, c, cell) + body)]
    cell = SMALL / max(last.window)
    top = TOP + (BIG - SMALL) / 2 - 6
    for i, at in enumerate(evenly(len(same), STILLS)):
        (_, epoch, layer), left = same[at], BIG + 14 + i * (SMALL + GAP)
        parts.append(_window(left, top, cell, layer, _before(first, c, cell) + _ellipses(layer, c, cell)))
        middle, under = left + cell * last.window[1] / 2, top + cell * last.window[0] + 13
        parts.append(f'<text x="{middle:g}" y="{under:g}" text-anchor="middle">{epoch}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="card" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
        f"<title>{label}: {_told(last, c)}</title>{''.join(parts)}</svg>"
    )


def _told(layer: Kernels, c: int) -> str:
    return "; ".join(
        f"mean ({my:.2f}, {mx:.2f}), sigma ({sy:.2f}, {sx:.2f})"
        + (f", correlation {tilt:.2f}" if tilt else "")
        for (my, mx), (sy, sx), tilt in zip(layer.mean[c], layer.sigma[c], layer.correlation[c], strict=True)
    )


def _window(x: float, y: float, cell: float, layer: Kernels, body: str) -> str:
    """A window with its grid; what is beyond it is cut off."""
    rows, columns = layer.window
    height, width = cell * rows, cell * columns
    lines = (
        ""
        if cell < FINEST
        else "".join(
            [f"M{cell * i:.2f} 0V{height:.2f}" for i in range(1, columns)]
            + [f"M0 {cell * i:.2f}H{width:.2f}" for i in range(1, rows)]
        )
    )
    frame = f'<rect class="frame" width="{width:.2f}" height="{height:.2f}"/>'
    return (
        f'<svg x="{x:g}" y="{y:g}" width="{width:.2f}" height="{height:.2f}">'
        f'{frame.replace("frame", "paper")}<path class="grid" d="{lines or "M0 0"}"/>{body}{frame}</svg>'
    )


def _before(layer: Kernels, c: int, cell: float) -> str:
    return _ellipses(layer, c, cell).replace('class="h', 'class="before h')


def _ellipses(layer: Kernels, c: int, cell: float) -> str:
    return "".join(
        f'<circle class="h{j % HUES}" r="1" transform="{_matrix(layer, c, j, cell)}"/>'
        for j in range(layer.mean.shape[1])
    )

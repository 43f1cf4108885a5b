"""Line charts as SVG, by text alone: in the page's colours, light or dark, and without a script."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 340, 200
LEFT, RIGHT, TOP, BOTTOM = 48, 8, 8, 22  # room for numbers around the lines
DOTS = 25  # a line with fewer points shows them
HUES = 5
LARGEST = 1e30  # beyond, a number counts as not finite
Point = tuple[float, float]

STYLE = """
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(300px,100%),1fr));gap:18px 28px;
margin:12px 0}
.chart h4{margin:0;font-size:14px}
.chart svg{display:block;width:100%;height:auto;font:10px system-ui,sans-serif}
.chart .key{margin:0 0 2px;font-size:13px}.chart .key b{display:inline-block;
color:var(--c);font-weight:600;margin-right:14px}
.chart .rule{stroke:var(--line)}.chart .line{fill:none;stroke:var(--c);stroke-width:1.8;stroke-linejoin:round}
.chart .band{fill:var(--c);opacity:.15}.chart circle{fill:var(--c);fill-opacity:1;stroke:none}
"""


@dataclass(frozen=True)
class Line:
    """A line of a chart: its label, its points (x, y) and, to shade, how far it spreads at each."""

    label: str
    points: Sequence[Point]
    hue: int = 0
    spread: Sequence[float] = ()

    @property
    def finite(self) -> list[Point]:
        return [(x, y) for x, y in self.points if abs(y) < LARGEST]  # which a NaN is not either

    @property
    def shade(self) -> list[tuple[float, float, float]]:
        """x, y and how far it spreads there, of the points that are finite."""
        return [(x, y, d) for (x, y), d in zip(self.points, self.spread, strict=False) if abs(y) < LARGEST]


def chart(
    title: str, lines: Iterable[Line], text: Callable[[float], str] = "{:.4g}".format, percent: bool = False
) -> str:
    """A titled chart of numbers by epoch; logarithmic where all are above 0 and far apart.

    Parameters
    ----------
    text : callable
        What makes text of a line's numbers.
    percent : bool
        Whether the axis is in percent.
    """
    shown = [line for line in lines if line.finite]
    if not shown:
        return f'<div class="chart"><h4>{escape(title)}</h4><p>No number is finite.</p></div>'
    points = [point for line in shown for point in line.finite]
    ys = [y for _, y in points] + [
        y + sign * d for line in shown for _, y, d in line.shade for sign in (1, -1)
    ]
    log = min(ys) > 0 and max(ys) > 20 * min(ys)
    first, last = min(x for x, _ in points), max(x for x, _ in points)
    low, high = _widened(min(ys), max(ys), log)
    height = math.log if log else float

    def across(x: float) -> float:
        share = 0.5 if last == first else (x - first) / (last - first)
        return LEFT + 4 + share * (WIDTH - LEFT - RIGHT - 8)

    def down(y: float) -> float:
        share = (height(y) - height(low)) / (height(high) - height(low))
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    body = []
    for tick in log_ticks(low, high) if log else ticks(low, high):
        y = down(tick)
        body.append(
            f'<path class="rule" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
            f'<text x="{LEFT - 5}" y="{y + 3.5:.1f}" text-anchor="end">{_short(tick, percent)}</text>'
        )
    for tick in ticks(first, last, 6, least=1) if last > first else [first]:
        body.append(f'<text x="{across(tick):.1f}" y="{HEIGHT - 6}" text-anchor="middle">{tick:g}</text>')
    body += [_drawn(line, across, down, text) for line in shown]
    told = "".join(
        f'<b class="{_look(line)}">{escape(line.label)} {escape(text(line.finite[-1][1]))}</b>'
        for line in shown
    )
    return (
        f'<div class="chart"><h4>{escape(title)}</h4><p class="key">{told}</p>'
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
        f"<title>{escape(title)} by epoch</title>{''.join(body)}</svg></div>"
    )


def _short(tick: float, percent: bool) -> str:
    """A number beside the axis."""
    return f"{100 * tick:.4g} %" if percent else f"{tick:.4g}"


def _look(line: Line) -> str:
    """The classes of a line and of its key: its colour, and its dashes where all colours are used up."""
    return f"h{line.hue % HUES} d{line.hue // HUES % 3}"


def _drawn(
    line: Line,
    across: Callable[[float], float],
    down: Callable[[float], float],
    text: Callable[[float], str],
) -> str:
    points, parts = line.finite, [f'<g class="{_look(line)}">']
    if line.spread and len(points) > 1:
        above = [(x, y + d) for x, y, d in line.shade]
        below = [(x, y - d) for x, y, d in reversed(line.shade)]
        area = "L".join(f"{across(x):.1f} {down(y):.1f}" for x, y in above + below)
        parts.append(f'<path class="band" d="M{area}z"/>')
    if len(points) > 1:
        way = "L".join(f"{across(x):.1f} {down(y):.1f}" for x, y in points)
        parts.append(f'<path class="line" d="M{way}"/>')
    for x, y in points if len(points) < DOTS else points[-1:]:
        told = escape(f"{line.label}, {x:g}: {text(y)}")
        parts.append(
            f'<circle cx="{across(x):.1f}" cy="{down(y):.1f}" r="2.6"><title>{told}</title></circle>'
        )
    return "".join([*parts, "</g>"])


def _widened(low: float, high: float, log: bool) -> Point:
    """The ends of an axis, with some room."""
    if log:
        return low / 1.15, high * 1.15
    room = 0.06 * (high - low) or abs(high) * 0.05 or 1.0
    return low - room, high + room


def ticks(low: float, high: float, count: int = 4, least: float = 0.0) -> list[float]:
    """At most `count` + 1 round numbers from low to high, one, two or five of a power of ten apart."""
    rough = max((high - low) / count, least)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(n * power for n in (1, 2, 5, 10) if n * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten from low to high, with twice and five times of them if there are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    apart = 1 + (last - first) // 6
    times = (1, 2, 5) if high < 200 * low else (1,)
    found = [n * 10.0**power for power in range(first, last + 1, apart) for n in times]
    return [tick for tick in found if low <= tick <= high]

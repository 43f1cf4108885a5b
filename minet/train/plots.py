"""Plots of a training run, drawn without a display: curves, and Gaussian kernels before and after."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np

from minet.core.files import write_whole
from minet.train.kernel_log import CHANNELS, Kernels
from minet.train.number_text import number_text
from minet.train.records import metrics_in
from minet.train.records import title as title_of

INK, FAINT, BLUE, ORANGE = "#222222", "#dddddd", "#1f6fb4", "#d9601a"
HUES = (BLUE, ORANGE, "#2a9d5c", "#8e5bb5", "#b8860b")
STYLE: Any = {
    "font.size": 9,
    "text.parse_math": False,  # a model's name may have $ in it
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#999999",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": "#666666",
    "ytick.color": "#666666",
}


def curves(history: list[dict[str, Any]], name: str = "") -> Any:
    """A figure of losses and metrics by epoch."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, PercentFormatter

    last, name = history[-1], f"{name}: " if name else ""
    losses, metrics = [key for key in ("loss", "test_loss") if key in last], metrics_in(last)
    shown, ending = [*metrics, *losses[::-1]][0], "" if last["epoch"] == 1 else "s"
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4 * max(2, 1 + len(metrics)), 3.4), layout="constrained")
        left, *others = figure.subplots(1, 1 + len(metrics), squeeze=False)[0]
        figure.suptitle(
            f"{name}{title_of(shown)} {number_text(shown, last[shown])} after {last['epoch']} epoch{ending}",
            x=0.01, ha="left", fontsize=11, fontweight="bold",
        )  # fmt: skip
        every = [record[key] for key in losses for record in history if key in record]
        if min(every) > 0 and max(every) > 20 * min(every):
            left.set_yscale("log")
            left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            left.yaxis.set_major_formatter("{x:g}")
            left.yaxis.set_minor_locator(NullLocator())
        _lines(left, history, {"train": ("loss", BLUE), "test": ("test_loss", ORANGE)})
        left.set_title("loss", loc="left", fontsize=9)
        for axes, key in zip(others, metrics, strict=True):
            _lines(axes, history, {number_text(key, last[key]): (key, ORANGE)})
            axes.set_title(title_of(key), loc="left", fontsize=9)
            if key.endswith("accuracy"):
                axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None, symbol=" %"))
        for axes in (left, *others):
            axes.set_xlabel("epoch", loc="right")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
            axes.grid(axis="x", visible=False)
    return figure


def _lines(axes: Any, history: list[dict[str, Any]], wanted: dict[str, tuple[str, str]]) -> None:
    """Draw and label lines, by label: the key of their values in the records that have it, and the colour."""
    ends = {}
    for label, (key, color) in wanted.items():
        if found := [(record["epoch"], record[key]) for record in history if key in record]:
            epochs, values = zip(*found, strict=True)
            marker = 3.5 if len(epochs) < 25 else 0
            axes.plot(epochs, values, color=color, lw=1.6, marker="o", ms=marker)
            if np.isfinite(values[-1]):
                ends[label] = values[-1], color
    _label_ends(axes, history[-1]["epoch"], ends)


def gaussian_kernels(path: Path, before: list[Kernels], after: list[Kernels], name: str) -> None:
    """Draw each channel's kernels as one-sigma ellipses in their window: dashed before, solid after."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    columns = min(CHANNELS, max(len(layer.mean) for layer in after))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(max(6.0, 0.8 * columns), 1.15 * len(after) + 0.35), layout="constrained")
        title = "Gaussian kernels, one sigma around the mean, before (dashed) and after training"
        figure.suptitle(f"{name}: {title}", x=0.01, ha="left", fontsize=10, fontweight="bold")
        rows = figure.subfigures(len(after), 1, squeeze=False)[:, 0]
        for row, old, new in zip(rows, before, after, strict=True):
            shown = f", {columns} of {len(new.mean)} maps" if len(new.mean) > columns else ""
            row.suptitle(new.label + shown, x=0.01, ha="left", fontsize=8)
            for c, axes in enumerate(row.subplots(1, columns, squeeze=False)[0]):
                if c < len(new.mean):
                    _window(axes, new.window)
                    for j, color in zip(range(new.mean.shape[1]), itertools.cycle(HUES)):
                        _ellipse(axes, old, c, j, facecolor="none", edgecolor="#888888", linestyle="--")
                        _ellipse(axes, new, c, j, facecolor=f"{color}22", edgecolor=color)
                        axes.plot(new.mean[c, j, 1], new.mean[c, j, 0], "o", ms=2, color=color)
                    axes.set_xlabel(f"{c}", fontsize=7, labelpad=1, color="#666666")
                else:
                    axes.axis("off")
    save(figure, path)


def _window(axes: Any, window: tuple[int, int]) -> None:
    """Draw an empty window with a grid of pixels, offsets counted from its centre, y downwards."""
    height, width = window
    axes.set(xlim=(-width / 2, width / 2), ylim=(height / 2, -height / 2), aspect="equal")
    axes.set_xticks(np.arange(width + 1) - width / 2, [])
    axes.set_yticks(np.arange(height + 1) - height / 2, [])
    axes.tick_params(length=0)
    axes.spines[:].set(visible=True, color=FAINT)


def _ellipse(axes: Any, layer: Kernels, c: int, j: int, **look: Any) -> None:
    from matplotlib.patches import Ellipse

    (y, x), (sy, sx) = layer.mean[c, j], layer.sigma[c, j]
    axes.add_patch(Ellipse((x, y), 2 * sx, 2 * sy, linewidth=1.1, **look))


def _label_ends(axes: Any, x: int, ends: dict[str, tuple[float, str]]) -> None:
    """Label lines at their ends, moving labels apart where they would overlap."""
    axes.margins(x=0.12)
    to_pixels = axes.transData.transform
    heights = {label: to_pixels((x, value))[1] for label, (value, _) in ends.items()}
    lowest = None
    for label in sorted(ends, key=heights.__getitem__):
        height = heights[label] if lowest is None else max(heights[label], lowest + 14)
        offset = (height - heights[label]) * 72 / axes.figure.dpi
        axes.annotate(label, (x, ends[label][0]), (6, offset), textcoords="offset points", va="center",
                      color=ends[label][1], fontweight="bold", annotation_clip=False)  # fmt: skip
        lowest = height


def save(figure: Any, path: Path) -> None:
    """Write a figure as a PNG, whole or not at all."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=150)
    write_whole(path, picture.getvalue())


def as_svg(figure: Any) -> str:
    """A figure as SVG, the same text for the same figure."""
    import matplotlib as mpl

    picture = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "minet"}):
        figure.savefig(picture, format="svg", metadata={"Date": None})
    return picture.getvalue()

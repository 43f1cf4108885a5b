"""Plots of a training run, drawn without a display: curves, and Gaussian kernels before and after."""

from __future__ import annotations

import io
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minet.core.files import write_whole
from minet.core.net import Net

INK, FAINT, BLUE, ORANGE = "#222222", "#dddddd", "#1f6fb4", "#d9601a"
HUES = (BLUE, ORANGE, "#2a9d5c", "#8e5bb5", "#b8860b")
STYLE: Any = {
    "font.size": 9,
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
CHANNELS = 12  # a layer's kernels are drawn for at most this many channels


@dataclass(frozen=True)
class Kernels:
    """The Gaussians of one layer: means and sigmas (C or 1, kernels, 2), in pixels, order (y, x)."""

    label: str
    window: tuple[int, int]
    mean: np.ndarray
    sigma: np.ndarray


def kernels(net: Net) -> list[Kernels]:
    """The current Gaussian kernels of a net."""
    from minet.layers.gaussian_pool import GaussianPool

    return [
        Kernels(
            f"{layer.path} {layer!r}",
            layer.window.size,
            np.array(net.be.get(layer.p["mean"])),
            np.exp(net.be.get(layer.p["log_sigma"])),
        )
        for layer in net.graph.walk()
        if isinstance(layer, GaussianPool) and not layer.tied
    ]


def curves(path: Path, history: list[dict[str, Any]], name: str) -> None:
    """Plot loss and test accuracy by epoch."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    epochs = [record["epoch"] for record in history]
    losses = {key: [record[key] for record in history] for key in ("loss", "test_loss")}
    accuracy = [100 * record["accuracy"] for record in history]
    ending = "" if epochs[-1] == 1 else "s"
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        figure.suptitle(
            f"{name}: {accuracy[-1]:.2f} % test accuracy after {epochs[-1]} epoch{ending}",
            x=0.01, ha="left", fontsize=11, fontweight="bold",
        )  # fmt: skip
        _line(left, epochs, losses["loss"], BLUE)
        _line(left, epochs, losses["test_loss"], ORANGE)
        every = [value for values in losses.values() for value in values]
        if min(every) > 0 and max(every) > 20 * min(every):
            left.set_yscale("log")
            left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            left.yaxis.set_major_formatter("{x:g}")
            left.yaxis.set_minor_locator(NullLocator())
        _label_ends(
            left, epochs[-1], {"train": (losses["loss"][-1], BLUE), "test": (losses["test_loss"][-1], ORANGE)}
        )
        _line(right, epochs, accuracy, ORANGE)
        _label_ends(right, epochs[-1], {f"{accuracy[-1]:.2f} %": (accuracy[-1], ORANGE)})
        for axes, title in ((left, "loss"), (right, "test accuracy (%)")):
            axes.set_title(title, loc="left", fontsize=9)
            axes.set_xlabel("epoch", loc="right")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
            axes.grid(axis="x", visible=False)
    save(figure, path)


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


def _line(axes: Any, epochs: list[int], values: list[float], color: str) -> None:
    axes.plot(epochs, values, color=color, lw=1.6, marker="o", ms=3.5 if len(epochs) < 25 else 0)


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

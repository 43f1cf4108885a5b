"""Plots of a benchmark: each rival's time relative to minet's, the share of the roofline, growth of cost."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from minet.bench.cases import Case
from minet.bench.targets import ratio_wanted
from minet.train.plots import BLUE, FAINT, HUES, INK, ORANGE, STYLE, save

GREY = "#666666"
MARKS = {  # a colour and a shape for each rival
    "torch-nchw": (HUES[1], "o"),
    "torch-channels_last": (HUES[1], "s"),
    "torch-separable": (HUES[1], "D"),
    "torch-compiled": (HUES[3], "^"),
    "torch-compiled-nchw": (HUES[3], "o"),
    "torch-compiled-channels_last": (HUES[3], "s"),
    "dcls": (HUES[2], "v"),
    "scipy": (HUES[4], "P"),
    "numpy": (GREY, "p"),
}
BARS = {"copy": (BLUE, "of a copy's bandwidth"), "product": (HUES[2], "of a matrix product's speed")}


def contests(path: Path, facts: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Draw a row for each case: ratios on the left, the roofline on the right."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    shown = main_rows(facts["backend"], rows)
    if not shown:
        return
    backend, names = facts["backend"], [row["case"]["name"] for row in shown]
    height = 1.55 + 0.27 * len(shown)
    with mpl.rc_context(STYLE):
        engine = ConstrainedLayoutEngine(w_pad=0.08, wspace=0.02)
        figure = Figure(figsize=(10, height), layout=engine)
        left, right = figure.subplots(1, 2, width_ratios=(5, 3), sharey=True)
        figure.suptitle(
            "Time of other libraries, relative to minet", x=0.01, ha="left", fontsize=11, fontweight="bold"
        )
        at = np.arange(len(shown))
        _ratios(left, shown, at, backend)
        _shares(right, shown, at)
        left.set_yticks(at, [f"{name}  " for name in names])
        left.set_ylim(len(shown) - 0.4, -0.6)
        for axes in (left, right):
            axes.tick_params(axis="y", length=0)
            axes.spines["left"].set_visible(False)
            axes.grid(axis="y", visible=False)
            for above, below in pairwise(at):
                if _kind(shown[above]) != _kind(shown[below]):
                    axes.axhline(above + 0.5, color=FAINT, lw=0.8)
        where = facts["card"] or f"{facts['machine']}, {facts['threads']} threads"
        versions = ", ".join(f"{k} {v}" for k, v in facts["versions"].items() if k in ("minet", "torch"))
        figure.text(0.995, 0.997, f"{where}\n{versions}, {facts['date'][:10]}", ha="right", va="top",
                    fontsize=7, color=GREY)  # fmt: skip
    save(figure, path)


def main_rows(backend: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the row with all of a case's work, for each case that was timed."""
    return [
        row
        for row in rows
        if row["minet"] and row["phase"] == Case.from_dict(row["case"]).phases_on(backend)[-1]
    ]


def _kind(row: dict[str, Any]) -> str:
    case = Case.from_dict(row["case"])
    return "model" if case.is_model else case.layer


def _ratios(axes: Any, rows: list[dict[str, Any]], at: np.ndarray, backend: str) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    known: dict[str, Any] = {}
    axes.axvline(1, color=INK, lw=1)
    for y, row in zip(at, rows, strict=True):
        times = {n: float(np.median(t)) / row["minet"] for n, t in row["times"].items() if n != "minet"}
        if times:
            axes.plot([1, min(times.values())], [y, y], color=FAINT, lw=5, solid_capstyle="butt", zorder=1)
        for name, ratio in sorted(times.items(), key=lambda item: -item[1]):
            color, mark = MARKS[name]
            first = name == row["rival"]
            look: dict[str, Any] = {
                "marker": mark,
                "color": color,
                "mfc": color if first else "white",
                "mew": 1.1,
            }
            axes.plot(ratio, y, ls="", ms=6 if first else 4.5, zorder=3 if first else 2, **look)
            look["mfc"] = color
            known[name] = Line2D([], [], ls="", ms=5, label=name, **look)
        if wanted := ratio_wanted(backend, Case.from_dict(row["case"]), row["phase"]):
            axes.plot([wanted, wanted], [y - 0.36, y + 0.36], color=INK, lw=1.4, zorder=4)
            known["target"] = Line2D([], [], marker="|", color=INK, ls="", ms=8, mew=1.4, label="target")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(LogLocator(base=2))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, 0.5), max(high, 4))
    axes.set_xlabel("time / minet's time; filled marks are the fastest", loc="left")
    order = [name for name in [*MARKS, "target"] if name in known]
    if order:
        axes.legend(handles=[known[name] for name in order], loc="lower left", bbox_to_anchor=(-0.02, 1),
                    ncols=4, fontsize=7.5, frameon=False, handletextpad=0.2, columnspacing=1)  # fmt: skip


def _shares(axes: Any, rows: list[dict[str, Any]], at: np.ndarray) -> None:
    from matplotlib.patches import Patch

    used = {}
    for y, row in zip(at, rows, strict=True):
        if row["share"] is not None:
            color, what = BARS[row["bound"]]
            axes.barh(y, 100 * row["share"], height=0.5, color=color, alpha=0.75)
            axes.annotate(f"{100 * row['share']:.0f} %", (100 * row["share"], y), (3, 0),
                          textcoords="offset points", va="center", fontsize=7.5, color=GREY)  # fmt: skip
            used[what] = Patch(color=color, alpha=0.75, label=what)
    axes.set_xlim(0, max([112, *(115 * row["share"] for row in rows if row["share"])]))
    axes.set_xticks([0, 25, 50, 75, 100])
    axes.set_xlabel("% of the machine's peak", loc="left")
    if used:
        axes.legend(handles=list(used.values()), loc="lower left", bbox_to_anchor=(-0.02, 1), fontsize=7.5,
                    frameon=False, handlelength=1)  # fmt: skip


def growth(path: Path, title: str, curves: dict[str, dict[str, list[tuple[float, float]]]]) -> None:
    """Draw time against size, with a panel for each axis that grows; dashed lines are proportional growth.

    Parameters
    ----------
    curves : dict
        By axis, by layer: (size, milliseconds).
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.9 * len(curves), 3.3), layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        panels = figure.subplots(1, len(curves), squeeze=False, sharey=True)[0]
        layers = list(dict.fromkeys(layer for each in curves.values() for layer in each))
        colors = dict(zip(layers, (BLUE, ORANGE, *HUES[2:]), strict=False))
        for axes, (axis, each) in zip(panels, curves.items(), strict=True):
            for layer, points in each.items():
                sizes, times = np.array(points).T
                axes.loglog(sizes, times, "o-", ms=3.5, lw=1.5, color=colors[layer], label=layer)
                axes.loglog(sizes, times[-1] * sizes / sizes[-1], "--", lw=0.8, color=colors[layer])
            axes.set_title(axis, loc="left", fontsize=9)
        panels[0].set_ylabel("ms")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=len(layers), frameon=False, fontsize=8)
    save(figure, path)

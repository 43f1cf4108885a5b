"""The pictures of docs/gaussian-pooling.md: `python examples/gaussian_pooling/pictures.py` draws them anew.

windows.svg: the weights as mean and sigma move. costs.svg: the page's first table. edge.svg: what becomes of
the weights at an image's edge. march.svg: what a thread holds while it walks down. slices.svg: how branches
share one output and one delta.
"""

import re
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from weights import weigh

PAGE = Path(__file__).parents[2] / "docs/gaussian-pooling.md"
INK, FAINT, BLUE, ORANGE, GREEN = "#222222", "#dddddd", "#1f6fb4", "#d9601a", "#2a9d5c"
STYLE: Any = {
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#999999",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": "#666666",
    "ytick.color": "#666666",
    "svg.hashsalt": "minet",  # the same names inside the file each time
}


def windows():
    """Six windows of 11 x 11 with their rows and columns of weights."""
    figure = Figure(figsize=(7.6, 5.4), layout="constrained")
    cases = [
        ((0, 0), (1, 1)), ((0, 0), (2.75, 2.75)), ((0, 0), (50, 50)),
        ((-2, 3), (1.5, 1.5)), ((0, 0), (1, 3)), ((6.5, 6.5), (2, 2)),
    ]  # fmt: skip
    names = ["narrow", "the default: sigma a quarter", "wide: average pooling",
             "the mean moved up and right", "narrow in y, wide in x", "the mean outside"]  # fmt: skip
    for axes, name, (mean, sigma) in zip(figure.subplots(2, 3).flat, names, cases, strict=True):
        rows, columns = (weigh(11, m, s)[0] for m, s in zip(mean, sigma, strict=True))
        axes.imshow(np.outer(rows, columns), cmap="Blues", vmin=0, extent=(-5.5, 5.5, 5.5, -5.5))
        offsets = np.arange(11) - 5
        axes.step(offsets, -6 - 3 * columns / columns.max(), where="mid", color=BLUE, lw=1.2)
        axes.step(6 + 3 * rows / rows.max(), offsets, where="mid", color=ORANGE, lw=1.2)
        axes.set(xlim=(-5.5, 9.2), ylim=(5.5, -9.2), xticks=(-5, 0, 5), yticks=(-5, 0, 5))
        axes.spines[:].set_visible(False)
        axes.set_title(
            f"{name}\nmean {mean[0]:g}, {mean[1]:g}   sigma {sigma[0]:g}, {sigma[1]:g}",
            fontsize=9,
            loc="left",
        )
    return figure


def costs():
    """Draw bytes, and instructions in the time of bytes, of the rungs in the page's first table."""
    rows = re.findall(r"^\| (\d \w+) \| ([\d. |]+) \|$", PAGE.read_text(), re.MULTILINE)
    names = [name for name, _ in rows if "(" not in name]
    numbers = np.array([cells.split(" | ") for _, cells in rows], float)
    figure = Figure(figsize=(7.6, 2.9), layout="constrained")
    places = np.arange(len(names))
    panels = figure.subplots(1, 2, sharey=True)
    for phase, axes in enumerate(panels):
        kinds = (
            (numbers[:, phase], BLUE, "bytes"),
            (numbers[:, 2 + phase] / 10, ORANGE, "instructions / 10"),
        )
        for shift, (lengths, color, label) in zip((-0.2, 0.2), kinds, strict=True):
            bars = axes.barh(places + shift, lengths, 0.36, color=color, label=label)
            axes.bar_label(bars, fmt="%.3g", padding=2, fontsize=7.5)
        axes.set(xlim=(0, 1.12 * numbers[:, 2 + phase].max() / 10), yticks=places, xlabel="for each x")
        axes.set_yticklabels(names)
        axes.set_title(("fprop", "bprop")[phase], fontsize=9, loc="left")
    panels[0].invert_yaxis()
    panels[1].legend(frameon=False, loc="lower right")
    return figure


def edge():
    """A window of 5 at the first three positions of a row, its outside counted as 0 and not at all."""
    figure = Figure(figsize=(7.6, 3.6), layout="constrained")
    grid = figure.subplots(2, 3, sharex=True, sharey=True)
    for column, first in enumerate((-2, -1, 0)):
        at = first + np.arange(5)
        whole, exact = weigh(5, 0, 1.2)[0], weigh(5, 0, 1.2, first, 8)[0]
        for axes, w, color in zip(
            grid[:, column], (np.where(at >= 0, whole, 0), exact), (ORANGE, BLUE), strict=True
        ):
            axes.axvspan(-2.5, -0.5, color=FAINT, lw=0)
            axes.bar(at, w, color=color, width=0.8)
            axes.bar(at, np.where(at < 0, whole, 0), fill=False, edgecolor="#999999", ls=":", width=0.8)
            axes.text(5.4, 0.5, f"sum {w.sum():.2f}", ha="right", color=color)
            axes.set(xlim=(-2.5, 5.5), ylim=(0, 0.58), xticks=range(-2, 6), yticks=(0, 0.25, 0.5))
        grid[0, column].set_title(f"position p = {first + 2}", fontsize=9, loc="left")
        grid[1, column].set_xlabel("pixel")
    grid[0, 0].set_ylabel("zero: rungs 1, 2")
    grid[1, 0].set_ylabel("exact: rungs 3 to 7")
    grid[0, 0].text(-1.5, 0.5, "outside", ha="center", color="#666666")
    return figure


def boxes(axes, left, top, wide, high, width=1.0, height=1.0, **style):
    """Draw a lattice of `high` x `wide` cells."""
    for r in range(high):
        for s in range(wide):
            axes.add_patch(Rectangle((left + s * width, top + r * height), width, height, **style))


def march():
    """One thread of fprop, window 5, stride 2: the rows under way, and the three sums that wait for them."""
    figure = Figure(figsize=(7.6, 3.2), layout="constrained")
    axes = figure.subplots()
    boxes(axes, 0, 0, 9, 11, facecolor="white", edgecolor=FAINT)
    axes.add_patch(Rectangle((2, 6), 5, 2, facecolor=BLUE, alpha=0.3, lw=0))
    rows = "rows 0 and 1 of its 5", "rows 2 and 3 of its 5", "row 4 of its 5, and is written"
    for k, (top, color) in enumerate(((6, GREEN), (4, ORANGE), (2, BLUE))):
        axes.plot([9.6 + 0.7 * k] * 2, (top + 0.1, top + 4.9), color=color, lw=3, solid_capstyle="butt")
        axes.text(13, 2.4 + 1.5 * k, f"sums[{k}]", family="monospace", color=color, va="center")
        window = "window p" + (f" - {k}" if k else "")
        axes.text(16.4, 2.4 + 1.5 * k, f"{window} gets {rows[k]}", va="center")
    arrow = FancyArrowPatch((4.5, -0.9), (4.5, 5.9), arrowstyle="-|>", mutation_scale=12, color=INK, lw=1.2)
    axes.add_patch(arrow)
    axes.text(4.5, -1.1, "one thread, one column q", ha="center", va="bottom")
    axes.text(-0.4, 7, "this step:\ntwo new rows", ha="right", va="center", color=BLUE)
    axes.text(-0.4, 3, "read in\nearlier steps", ha="right", va="center", color="#666666")
    note = "Each row is weighed across once, and the\nresult added to every window that holds it."
    axes.text(13, 8.4, note, va="center")
    axes.set(xlim=(-5, 30), ylim=(11.2, -2.4), aspect="equal")
    axes.axis("off")
    return figure


def slices():
    """Three branches: slices of one y forward, one dx in turn backward."""
    figure = Figure(figsize=(7.6, 2.8), layout="constrained")
    axes = figure.subplots()

    def block(x, y, high, name, color, size=3.2):
        axes.add_patch(Rectangle((x, y), size, high, facecolor=color, alpha=0.25, edgecolor=color))
        axes.text(x + size / 2, y + high / 2, name, ha="center", va="center")

    def arrow(start, end, name, color):
        axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=11, color=color, lw=1.2))
        middle = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2 - 0.25
        axes.text(*middle, name, ha="center", va="bottom", color=color, family="monospace", fontsize=8)

    for left, title in (
        (0, "forward: y is one array, each branch writes its slice"),
        (14, "backward: dx is added up where it lies"),
    ):
        axes.text(left, -0.6, title, fontweight="bold", va="bottom")
    block(0, 3, 2, "x (C, ...)", INK)
    block(24, 3, 2, "dx (C, ...)", INK)
    for j, (part, color) in enumerate((("0 : C", BLUE), ("C : 2C", ORANGE), ("2C : 3C", GREEN))):
        block(8, 0.5 + 2.4 * j, 2.4, f"y[{part}]", color)
        arrow((3.4, 4), (7.9, 1.7 + 2.4 * j), "", color)
        block(14, 0.5 + 2.4 * j, 2.4, f"dy[{part}]", color)
        arrow((17.4, 1.7 + 2.4 * j), (23.9, 3.5 + 0.5 * j), f"beta {min(j, 1)}", color)
    axes.set(xlim=(-0.2, 27.4), ylim=(8.2, -1.6), aspect="equal")
    axes.axis("off")
    return figure


PICTURES = (windows, costs, edge, march, slices)


def draw(folder):
    """Draw all pictures into a folder."""
    folder.mkdir(exist_ok=True)
    with mpl.rc_context(STYLE):
        for make in PICTURES:
            make().savefig(folder / f"{make.__name__}.svg", metadata={"Date": None})


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parents[2] / "docs/gaussian-pooling")

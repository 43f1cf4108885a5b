"""A comparison as a picture: every seed's result, mean and spread of each combination, and the curves."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minet.compare.table import Row, judged, spread_text
from minet.train.plots import FAINT, HUES, INK, STYLE
from minet.train.records import title as title_of

DASHES = ("-", "--", ":")
ROOM = 0.32  # inches for a combination
LONGEST = 40  # letters of a name


def means(row: Row, key: str) -> list[tuple[int, float, float]]:
    """Epoch, mean and standard deviation over the runs, of the epochs that all of them have."""
    logs = [{one["epoch"]: one[key] for one in run.records if key in one} for run in row.runs]
    shared = sorted(set.intersection(*map(set, logs))) if logs else []
    found = []
    for epoch in shared:
        values = np.array([log[epoch] for log in logs], np.float64)
        found.append((epoch, float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else 0.0))
    return found


def figure(rows: Sequence[Row], title: str) -> Any:
    """The figure; combinations from top to bottom in their order."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    key, names = judged(rows), names_of(rows)
    lines = [means(row, key) for row in rows]
    curves = any(len(points) > 1 for points in lines)
    with mpl.rc_context(STYLE):
        height = max(2.4, 1.3 + ROOM * len(rows))
        whole = Figure(figsize=(12 if curves else 6.4, height), layout="constrained")
        axes = whole.subplots(1, 2 if curves else 1, squeeze=False)[0]
        whole.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        heading = title_of(key)
        for i, (row, hue) in enumerate(zip(rows, itertools.cycle(HUES))):
            values = [value for value in row.values(key) if math.isfinite(value)]
            axes[0].plot(values, [i] * len(values), "o", ms=4, color=hue, alpha=0.55)
            if values:
                mean, spread = row.mean(key), row.spread(key)
                axes[0].plot([mean], [i], "|", ms=15, mew=2, color=hue)
                if math.isfinite(spread):
                    axes[0].plot([mean - spread, mean + spread], [i, i], color=hue, lw=1.6)
                axes[0].annotate(
                    spread_text(key, row), (1, i), (4, 0), xycoords=("axes fraction", "data"),
                    textcoords="offset points", va="center", fontsize=8, color=INK,
                )  # fmt: skip
        axes[0].set_yticks(range(len(rows)), names)
        axes[0].set_ylim(len(rows) - 0.4, -0.6)
        axes[0].set_title(f"{heading}, each seed, mean and spread", loc="left", fontsize=9)
        axes[0].grid(axis="y", color=FAINT)
        if curves:
            for i, (name, points) in enumerate(zip(names, lines, strict=True)):
                look = {"color": HUES[i % len(HUES)], "ls": DASHES[i // len(HUES) % len(DASHES)]}
                axes[1].plot([p[0] for p in points], [p[1] for p in points], lw=1.5, label=name, **look)
            axes[1].set_title(f"{heading}, mean by epoch", loc="left", fontsize=9)
            axes[1].set_xlabel("epoch", loc="right")
            axes[1].xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
            axes[1].legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
        if key.endswith("accuracy"):
            axes[0].xaxis.set_major_formatter(PercentFormatter(1, decimals=None, symbol=" %"))
            if curves:
                axes[1].yaxis.set_major_formatter(PercentFormatter(1, decimals=None, symbol=" %"))
        axes[0].xaxis.set_major_locator(MaxNLocator(nbins=4))
    return whole


def names_of(rows: Sequence[Row]) -> list[str]:
    """What rows are called: where that is enough, without the settings that make no difference to a row."""
    names = [
        " ".join(f"{name}={value}" for name, value in row.labels.items() if "/" not in value) for row in rows
    ]
    if not all(names) or len(set(names)) < len(names):
        names = [row.name for row in rows]
    return [name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…" for name in names]

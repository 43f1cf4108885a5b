"""A comparison as one HTML page: the table, every seed's result, the curves, and how to repeat it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from html import escape

from minet.compare.plot import means
from minet.compare.table import Row, cells, judged, spread_text
from minet.report import chart, facts
from minet.report.chart import HUES, Line
from minet.train.number_text import number_text
from minet.train.records import title as title_of
from minet.view.page import page

WIDTH, STEP, EDGE = 340, 34, 8  # pixels of the picture of results: its width, a row's height, its margin

STYLE = (
    chart.STYLE
    + facts.STYLE
    + """
.dots{max-width:520px}.dots svg{display:block;width:100%;height:auto;font:10px system-ui,sans-serif}
.dots .value{fill:var(--ink)}.dots path{stroke:var(--c);stroke-width:2;fill:none}
.dots path.rule{stroke:var(--line);stroke-width:1}.dots circle{fill:var(--c);fill-opacity:.5;stroke:none}
.d1 .line{stroke-dasharray:6 3}.d2 .line{stroke-dasharray:2 3}
.key .d1{border-bottom:2px dashed}.key .d2{border-bottom:2px dotted}
"""
)


def html(rows: Sequence[Row], title: str, command: str, notes: Sequence[str]) -> str:
    """The page.

    Parameters
    ----------
    command : str
        What makes the comparison again; empty if that is not one command.
    notes : list of str
        What is to be known of it besides.
    """
    runs = [run for row in rows for run in row.runs]
    failed = [(name, why) for row in rows for name, why in row.failed]
    told = {"runs": str(len(runs)), "combinations": str(len(rows))}
    told["time"] = facts.seconds_text(sum(run.seconds for run in runs))
    if len(epochs := {run.epoch for run in runs}) == 1:
        told["epochs"] = str(*epochs)
    if failed:
        told["failed"] = str(len(failed))
    sections = [_table(rows, notes), _dots(rows), _curves(rows), _failed(failed), _runs(rows)]
    sections.append(_repeat(rows, command))
    return page(title, told, [section for section in sections if section], [], STYLE)


def _table(rows: Sequence[Row], notes: Sequence[str]) -> str:
    headings, made = cells(rows)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in made)
    more = "".join(f"<p>{escape(note)}</p>" for note in notes)
    return (
        f"<section><h2>Results</h2><p>{title_of(judged(rows)).capitalize()} after the last epoch, mean and "
        "standard deviation over the seeds; the time of a run without its tests.</p>"
        f"{facts.table(headings, body)}{more}</section>"
    )


def _dots(rows: Sequence[Row]) -> str:
    """Each seed's result as a dot, with mean and spread, one combination below the other."""
    key = judged(rows)
    values = [[value for value in row.values(key) if math.isfinite(value)] for row in rows]
    every = [value for some in values for value in some]
    if not every:
        return ""
    for row in rows:
        mean, spread = row.mean(key), row.spread(key)
        every += [end for end in (mean - spread, mean + spread) if math.isfinite(end)]
    room = 0.05 * (max(every) - min(every)) or abs(every[0]) * 0.01 or 1.0
    low, high = min(every) - room, max(every) + room

    def across(value: float) -> float:
        return (value - low) / (high - low) * (WIDTH - 2 * EDGE) + EDGE

    parts, bottom = [], STEP * len(rows) + 4
    for tick in chart.ticks(low, high, 6):
        x, label = across(tick), f"{100 * tick:.4g} %" if key.endswith("accuracy") else f"{tick:.4g}"
        parts.append(f'<path class="rule" d="M{x:.1f} 4V{bottom}"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 12}" text-anchor="middle">{label}</text>')
    for i, (row, some) in enumerate(zip(rows, values, strict=True)):
        y = STEP * i + 26
        parts.append(f'<text class="value" x="{EDGE}" y="{y - 12}">{escape(row.name)}</text>')
        shown = f'<text class="value" x="{WIDTH - EDGE}" y="{y - 12}" text-anchor="end">'
        parts.append(f'{shown}{escape(spread_text(key, row))}</text><g class="h{i % HUES}">')
        for value in some:
            dot = f'<circle cx="{across(value):.1f}" cy="{y}" r="3.5">'
            parts.append(f"{dot}<title>{escape(number_text(key, value))}</title></circle>")
        if some:
            mean, spread = row.mean(key), row.spread(key)
            if math.isfinite(spread):
                parts.append(f'<path d="M{across(mean - spread):.1f} {y}H{across(mean + spread):.1f}"/>')
            if math.isfinite(mean):
                parts.append(f'<path d="M{across(mean):.1f} {y - 7}V{y + 7}"/>')
        parts.append("</g>")
    return (
        "<section><h2>Each seed</h2><p>A dot is a run; the upright line is the mean, the level one the "
        'standard deviation.</p><div class="dots"><svg xmlns="http://www.w3.org/2000/svg" role="img" '
        f'viewBox="0 0 {WIDTH} {bottom + 18}"><title>results</title>{"".join(parts)}</svg></div></section>'
    )


def _curves(rows: Sequence[Row]) -> str:
    """What rows are judged by, and the losses, by epoch: the mean, with the spread shaded."""
    drawn = []
    for key in dict.fromkeys([judged(rows), "test_loss", "loss"]):
        lines = []
        for i, row in enumerate(rows):
            points = means(row, key)
            if len(points) > 1:
                where = [(float(epoch), mean) for epoch, mean, _ in points]
                lines.append(Line(row.name, where, i, [spread for *_, spread in points]))
        if lines:
            percent = key.endswith("accuracy")
            drawn.append(chart.chart(title_of(key), lines, partial(number_text, key), percent))
    if not drawn:
        return ""
    return (
        "<section><h2>Curves</h2><p>Means over the seeds; the shade is one standard deviation.</p>"
        f'<div class="charts">{"".join(drawn)}</div></section>'
    )


def _failed(failed: Sequence[tuple[str, str]]) -> str:
    if not failed:
        return ""
    told = "".join(f"<h3>{escape(name)}</h3><pre>{escape(why)}</pre>" for name, why in failed)
    return f'<section><h2 class="broken">Failed</h2>{told}</section>'


def _runs(rows: Sequence[Row]) -> str:
    lines, key = [], judged(rows)
    for row in rows:
        for run in row.runs:
            last = run.records[-1]
            measured = number_text(key, last[key]) if key in last else "-"
            seed = str(run.facts.get("seed", "?"))
            told = [row.name, seed, measured, facts.seconds_text(run.seconds), str(run.folder)]
            lines.append(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in told)}</tr>")
    headings = ["settings", "seed", title_of(key), "time", "folder"]
    return (
        f"<section><details><summary>All {len(lines)} runs</summary>"
        f"{facts.table(headings, ''.join(lines))}</details></section>"
    )


def _repeat(rows: Sequence[Row], command: str) -> str:
    runs = [run for row in rows for run in row.runs]
    commands = [command] if command else [run.command for run in runs if run.command]
    if not commands:
        return ""
    run = runs[0] if runs else None
    machine = {str(k): str(v) for k, v in run.facts.get("machine", {}).items()} if run else {}
    text = str(run.facts.get("text", "")) if run and len({one.facts.get("text") for one in runs}) == 1 else ""
    model = (
        f"<details><summary>the model file as it was in training</summary><pre>{escape(text)}</pre></details>"
        if text
        else ""
    )
    return (
        f"<section><h2>How to reproduce</h2><pre>{escape(chr(10).join(commands))}</pre>"
        f"{facts.pairs('machine of the first run', machine)}{model}</section>"
    )

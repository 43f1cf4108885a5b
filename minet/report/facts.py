"""What a report tells in words and tables: how to repeat a run, its settings, its machine, its epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from minet.report.chart import Line, chart
from minet.runs.listing import Run
from minet.train.number_text import loss_text, number_text, percent_text
from minet.train.records import metrics_in

STYLE = """
section h2{scroll-margin-top:8px}.toc{margin:14px 0 0}.toc a{color:var(--h0);margin-right:16px}
pre{background:var(--paper);border:1px solid var(--line);border-radius:6px;padding:10px 12px;
margin:6px 0 12px;white-space:pre-wrap;overflow-wrap:anywhere;
font:13px/1.45 ui-monospace,Menlo,Consolas,monospace}
.two{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(300px,100%),1fr));gap:0 28px}
.wide{overflow-x:auto;max-width:100%}table{border-collapse:collapse;font-size:14px;margin:6px 0 14px}
th,td{text-align:left;vertical-align:top;padding:3px 18px 3px 0;border-bottom:1px solid var(--line)}
th{font-weight:600;color:var(--faint)}td{overflow-wrap:anywhere}.numbers td,.numbers th{text-align:right;
font-variant-numeric:tabular-nums;white-space:nowrap}.given td{font-weight:600}
summary{cursor:pointer;color:var(--faint)}.broken{color:var(--h1)}
.graph{overflow:auto;max-height:90vh;border:1px solid var(--line);border-radius:6px;margin:8px 0}
.graph svg{display:block;margin:auto;max-width:none!important;background:none!important}
.graph text[fill="#222222"]{fill:var(--ink)}.graph rect[fill="#f6f8fa"],.graph rect[fill="#eeeeee"]{
fill:var(--paper)}.graph [stroke="#999999"]{stroke:var(--frame)}
"""


def curves(records: Sequence[dict[str, Any]]) -> str:
    """Losses, metrics and rate by epoch; empty without a record."""
    if not records:
        return ""
    last = records[-1]
    shown = [_curve("loss", records, {"train": ("loss", 0), "test": ("test_loss", 1)}, loss_text)]
    for name in metrics_in(last):
        share = name.endswith("accuracy")
        text = percent_text if share else loss_text
        shown.append(_curve(f"test {name}", records, {"test": (name, 1)}, text, share))
    shown.append(_curve("learning rate", records, {"rate": ("rate", 3)}, "{:.3g}".format))
    return (
        f'<section id="curves"><h2>Curves</h2><div class="charts">{"".join(shown)}</div>'
        f"<details><summary>The epochs in numbers</summary>{_numbers(records)}</details>"
        "</section>"
    )


def _curve(
    title: str, records: Any, wanted: Mapping[str, tuple[str, int]], text: Any, percent: bool = False
) -> str:
    lines = []
    for label, (key, hue) in wanted.items():
        points = [(float(one["epoch"]), float(one[key])) for one in records if key in one]
        if points:
            lines.append(Line(label, points, hue))
    return chart(title, lines, text, percent)


def _numbers(records: Sequence[dict[str, Any]]) -> str:
    names = list(records[-1])
    rows = "".join(f"<tr>{''.join(f'<td>{_cell(name, one)}</td>' for name in names)}</tr>" for one in records)
    return table([name.replace("_", " ") for name in names], rows)


def _cell(name: str, record: dict[str, Any]) -> str:
    if name not in record:
        return ""
    return escape(f"{record[name]:,}" if name in ("epoch", "step") else number_text(name, record[name]))


def table(headings: Sequence[str], rows: str) -> str:
    """A table of numbers, which scrolls by itself where it is too wide."""
    heads = "".join(f"<th>{escape(one)}</th>" for one in headings)
    return (
        '<div class="wide"><table class="numbers"><thead><tr>'
        f"{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def pairs(title: str, values: Mapping[str, str], given: Sequence[str] = ()) -> str:
    """A table of two columns; the rows of what was given stand out."""
    rows = "".join(
        f"<tr{_given(name, given)}><th>{escape(name)}</th><td>{escape(value)}</td></tr>"
        for name, value in values.items()
    )
    return f"<div><h3>{escape(title)}</h3><table><tbody>{rows}</tbody></table></div>" if rows else ""


def _given(name: str, given: Sequence[str]) -> str:
    return ' class="given"' if name in given else ""


def about(run: Run) -> str:
    """How to repeat a run, with which settings, and on what it ran."""
    facts, settings = run.facts, run.settings
    values = run.values | {
        name: str(facts[name]) for name in ("batch", "epochs", "seed", "backend") if name in facts
    }
    machine = {str(name): str(value) for name, value in facts.get("machine", {}).items()}
    began = {"began": str(facts["began"])} if "began" in facts else {}
    told = (
        f"<p>The same again, to the bit on this backend:</p><pre>{escape(run.command)}</pre>"
        if run.command
        else "<p>The run does not say of which model it is: it has neither run.json nor a checkpoint.</p>"
    )
    data = "".join(f"<p>{escape(str(one))}</p>" for one in facts.get("data", []))
    text, file = str(facts.get("text", "")), escape(str(facts.get("file", "the model file")))
    model = (
        f"<details><summary>{file} as it was in training</summary><pre>{escape(text)}</pre></details>"
        if text
        else ""
    )
    return (
        f'<section id="repeat"><h2>How to reproduce</h2>{told}{data}<div class="two">'
        f"{pairs('settings', values, list(settings))}{pairs('machine', began | machine)}</div>"
        f"{model}</section>"
    )


def top(run: Run) -> dict[str, str]:
    """What stands below the title."""
    told = {"run": str(run.folder), "state": run.state}
    if run.epoch:
        told["epochs"] = f"{run.epoch} of {run.epochs}" if run.epochs > run.epoch else str(run.epoch)
    if run.records:
        last = run.records[-1]
        told |= {f"test {name}": number_text(name, last[name]) for name in metrics_in(last)}
        loss = "test_loss" if "test_loss" in last else "loss"
        told[loss.replace("_", " ")] = number_text(loss, last[loss])
        told["time"] = seconds_text(run.seconds)
    if "parameters" in run.facts:
        told["parameters"] = f"{run.facts['parameters']:,}"
    return told


def seconds_text(seconds: float) -> str:
    """A duration: ``41.2 s``, ``5:07 min``, ``2:30 h``."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return (
        f"{int(seconds // 60)}:{int(seconds % 60):02} min"
        if seconds < 6000
        else f"{minutes // 60}:{minutes % 60:02} h"
    )

"""`minet report`: gather what a run folder and its model have to tell, and write the page."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from minet.backends import Backend
from minet.core import drawing
from minet.core.errors import MinetError
from minet.core.files import write_whole
from minet.core.net import Net
from minet.report import chart, classes, facts
from minet.runs import folders
from minet.runs.about import ABOUT
from minet.runs.listing import BROKEN, Run
from minet.runs.trained import model_file
from minet.train import checkpoint, kernel_log, modelfile, older
from minet.train.callbacks import KERNEL_LOG, LOG, WEIGHTS
from minet.train.modelfile import Model
from minet.train.precompile import precompile
from minet.train.trainer import check_data
from minet.view import kernels
from minet.view.page import page

PAGE = "report.html"
STYLE = chart.STYLE + facts.STYLE + classes.STYLE
TITLES = {"curves": "curves", "confusion": "confusion matrix", "mistakes": "worst mistakes"} | {
    "kernels": "Gaussian kernels", "graph": "graph", "repeat": "how to reproduce",
}  # fmt: skip


def report(
    run: str | Path,
    out: Path | None = None,
    model: str | Path | None = None,
    backend: str | Backend = "cpu",
    console: Any = None,
) -> tuple[Path, list[str]]:
    """Write a page of a run, complete or not.

    Curves, kernels, settings and machine are those in its logs. The graph needs the model file, and the
    confusion matrix the checkpoint and the data too; the page says what it lacks, and why.

    Parameters
    ----------
    run : str or Path
        As for `minet.runs.folders.find`.
    out : Path, optional
        By default ``report.html`` in the run's folder.
    model : str or Path, optional
        The model file, if it is not where it was in training, or has changed.
    backend : str or Backend
        Where the net looks at the test set.
    console : rich.console.Console, optional
        Where compilation is shown.

    Returns
    -------
    Path, list of str
        The page, and what it lacks.

    Raises
    ------
    MinetError
        If there is no such run, or if the page cannot be written.
    """
    folder, file = folders.with_page(run, out, PAGE)
    found = Run.of(folder)
    notes, sections = list[str](), {"curves": facts.curves(found.records)}
    if not found.records:
        notes.append(f"the curves are left out: no epoch is in {folder / LOG}")
    net: Net | None = None
    loaded: Model | None = None
    try:
        loaded = _model(folder, found, model)
        net = Net(
            loaded.net(), loaded.input_shape, loaded.batch, loaded.loss, backend, found.facts.get("seed", 0)
        )
        sections["graph"] = _graph(net)
    except MinetError as error:
        notes.append(f"the graph, the confusion matrix and the mistakes are left out: {error}")
    epochs = [(epoch, layers) for epoch, layers, _ in kernel_log.lines(folder / KERNEL_LOG)]
    if loaded is not None and net is not None:
        before = kernel_log.kernels(net)
        try:
            done = checkpoint.load(older.newest_whole(folder)[0], net)
            if not epochs and before:
                epochs = [(0, before), (done.get("epoch", 1), kernel_log.kernels(net))]
                notes.append(f"no {KERNEL_LOG}: kernels are shown at the start and in the checkpoint alone")
            sections["confusion"] = _classes(loaded, net, console)
        except MinetError as error:
            notes.append(f"the confusion matrix and the mistakes are left out: {error}")
    sections["kernels"] = kernels.section(epochs)
    sections["repeat"] = facts.about(found)
    write_whole(file, _page(found, sections, notes).encode())
    return file, notes


def _model(folder: Path, run: Run, model: str | Path | None) -> Model:
    """The model of a run with its settings, if its file is as it was, or is named."""
    where = folder / (ABOUT if (folder / ABOUT).is_file() else WEIGHTS)
    path = modelfile.find(model) if model is not None else model_file(where, run.facts)
    return modelfile.load(path, **run.settings)


def _graph(net: Net) -> str:
    drawn = drawing.net(net.graph, net.shapes)
    return (
        '<section id="graph"><h2>Graph</h2><p>From the input to the output, with the shapes (C, H, W). '
        "Branches side by side write to slices of one output, y[from:to] of its channels.</p>"
        f'<div class="graph" tabindex="0">{drawn}</div></section>'
    )


def _classes(model: Model, net: Net, console: Any) -> str:
    train, test = model.datasets()
    data = train if test is None else test
    with model.named():
        check_data(data, net)
    precompile(net, data, train=False, console=console)
    return classes.section(classes.answers(net, data), data)


def _page(run: Run, sections: dict[str, str], notes: list[str]) -> str:
    shown = {name: sections[name] for name in TITLES if sections.get(name)}
    body = "".join(shown.values())
    links = [f'<a href="#{name}">{TITLES[name]}</a>' for name in TITLES if f'id="{name}"' in body]
    opening = f'<p class="toc">{"".join(links)}</p>'
    if run.state == BROKEN:
        opening = f'<p class="broken">{escape(run.why)}</p>{opening}'
    title = run.model or run.folder.name
    return page(title, facts.top(run), [opening, *shown.values()], notes, STYLE)

"""`minet view`: gather what a run folder and its model have to show, and write the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from minet.core.errors import MinetError
from minet.core.files import write_whole
from minet.core.net import Net
from minet.data.dataset import Dataset
from minet.runs import folders
from minet.runs.runs import history
from minet.runs.trained import Trained
from minet.train import checkpoint, kernel_log
from minet.train.callbacks import KERNEL_LOG, LOG
from minet.train.number_text import number_text
from minet.train.records import metrics_in
from minet.train.trainer import check_data
from minet.view import kernels, pools
from minet.view.page import page
from minet.view.picks import picks

PAGE = "view.html"
IMAGES = 3


def view(run: str | Path, out: Path | None = None, model: str | Path | None = None) -> tuple[Path, list[str]]:
    """Write a page of a run's Gaussian kernels over the epochs and of what its pooling layers pick.

    The first is read from the run's log. For the second the model file runs, and the net of the last
    checkpoint sees a few images of the test set. What a run does not have is left out.

    Parameters
    ----------
    run : str or Path
        As for `minet.runs.folders.find`.
    out : Path, optional
        By default ``view.html`` in the run's folder.
    model : str or Path, optional
        The model file, if it is not where it was in training.

    Returns
    -------
    Path, list of str
        The page, and what it lacks.

    Raises
    ------
    MinetError
        If there is no such run, or nothing to show; nothing is written then.
    """
    folder, file = folders.with_page(run, out, PAGE)
    epochs = [(epoch, layers) for epoch, layers, _ in kernel_log.lines(folder / KERNEL_LOG)]
    facts: dict[str, Any] = {}
    notes, pooled, why = list[str](), "", "its net has no GaussianPool, MaxPool or StochasticPool"
    try:
        net, data, facts, ends = _loaded(folder, model)
        if not epochs and ends[0][1]:
            epochs = ends
            notes.append(
                f"no {KERNEL_LOG}: kernels are shown before the first epoch and in the checkpoint alone"
            )
        images, names = _images(data)
        pooled = pools.section(picks(net, data.normalize(images)), images, names, data.name)
    except MinetError as error:
        why = str(error)
        notes.append(f"what pooling picked is left out: {why}")
    sections = [kernels.section(epochs), pooled]
    if not any(sections):
        raise MinetError(f"{folder}: nothing to view: {why}", "curves.png in that folder shows its training")
    title = facts.get("model", folder.name)
    text = page(title, _facts(folder, facts), [section for section in sections if section], notes)
    write_whole(file, text.encode())
    return file, notes


def _loaded(folder: Path, model: str | Path | None) -> tuple[Net, Dataset, dict[str, Any], Any]:
    """The net of a run's checkpoint, a data set, the checkpoint's facts, and the kernels at both ends."""
    run = Trained.of(folder, model)
    loaded, facts = run.model, run.facts
    net = Net(loaded.net(), loaded.input_shape, 1, loaded.loss, "cpu", facts.get("seed", 0))
    before = kernel_log.kernels(net)
    checkpoint.load(run.file, net)
    train, test = loaded.datasets()
    data = train if test is None else test
    with loaded.named():
        check_data(data, net)
    return net, data, facts, [(0, before), (facts.get("epoch", 1), kernel_log.kernels(net))]


def _images(data: Dataset) -> tuple[np.ndarray, list[str]]:
    """The first images of a data set, of different classes if it has classes, and what they are."""
    chosen = list(range(len(data)))[:IMAGES]
    if data.labels.ndim == 1:
        _, first = np.unique(data.labels, return_index=True)
        chosen = sorted(first.tolist())[:IMAGES]
    names = [f"label {data.labels[i]}" if data.labels.ndim == 1 else f"image {i}" for i in chosen]
    return data.centred(data.images[chosen]), names


def _facts(folder: Path, facts: dict[str, Any]) -> dict[str, str]:
    """What the page says of a run."""
    told = {"run": str(folder)}
    if records := history(folder / LOG, float("inf")):
        last = records[-1]
        told["epochs"] = str(last["epoch"])
        told |= {f"test {name}": number_text(name, last[name]) for name in metrics_in(last)}
        loss = "test_loss" if "test_loss" in last else "loss"
        told[loss.replace("_", " ")] = number_text(loss, last[loss])
    return told | {name: repr(value) for name, value in facts.get("settings", {}).items() if name != "epochs"}

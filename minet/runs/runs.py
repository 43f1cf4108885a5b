"""Runs: train a model file in a folder of its own, from the start or from where it stopped.

A run folder, ``runs/<model>`` or the next free ``runs/<model>-2``, holds the log, the checkpoints and plots.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minet.backends import Backend
from minet.core.errors import MinetError
from minet.core.finite import NotFiniteError
from minet.core.net import Net
from minet.data.batches import Batches
from minet.runs import folders
from minet.runs.about import About
from minet.runs.resuming import as_before, history, restore
from minet.runs.text import ending, how_to_go_on, opening
from minet.train import checkpoint, modelfile, older, versions
from minet.train.alone import Alone
from minet.train.by_class import confusion, table
from minet.train.callbacks import Best, Checkpointer, Curves, JsonLog, KernelLog, Progress
from minet.train.evaluation import evaluate as test
from minet.train.modelfile import Model
from minet.train.number_text import number_text
from minet.train.pixels import Pixels
from minet.train.precompile import precompile
from minet.train.run_files import CURVES, KERNEL_LOG, KERNELS, LOG, WEIGHTS
from minet.train.trainer import Result, Trainer, check_data

__all__ = ["CURVES", "KERNELS", "KERNEL_LOG", "LOG", "WEIGHTS", "evaluate", "history", "train"]
SAVE_EVERY, KEEP = "60s", 2


def train(
    file_or_name: str | Path,
    settings: dict[str, Any] | None = None,
    *,
    backend: str | Backend = "auto",
    seed: int | None = None,
    out: Path | None = None,
    resume: bool = False,
    force: bool = False,
    save_every: str | int | None = SAVE_EVERY,
    keep: int = KEEP,
    quiet: bool = False,
    tag: str | None = None,
    ranks: Any = None,
) -> tuple[Result, Path]:
    """Train a model, and keep its log, weights and plots in a run folder.

    Parameters
    ----------
    file_or_name : str or Path
    settings : dict, optional
        As for `minet.train.modelfile.load`.
    backend : str
    seed : int, optional
        By default 0, or the seed of the run being resumed.
    out : Path, optional
        The run folder; by default the next free one in ``runs/`` or, with `resume`, the newest.
    resume : bool
        Continue from the run's newest whole checkpoint, with its settings and seed.
    force : bool
        Resume even if the model file, settings or data have changed.
    save_every : str, int or None
        Save a checkpoint within epochs too: every ``"60s"``, or so many steps; None or 0 for never.
    keep : int
        How many checkpoints are kept, besides the best.
    quiet : bool
        Print nothing but how to go on with a run that was stopped.
    tag : str, optional
        A text that is kept with the run; by default that of the run being resumed.
    ranks : minet.parallel.ranks.Ranks, optional
        The processes that train together; the first of them writes the run folder. By default one process,
        with as many micro-batches as the run being resumed.

    Returns
    -------
    Result, Path
        The result, and the run folder; of the other processes, an empty one that is gone.
    """
    chosen, ranks = ranks is not None, ranks or Alone()
    if ranks.rank:
        quiet = True
    told: Callable[..., Any] = _nothing if quiet else print
    saving = Checkpointer("", save_every, keep)  # refuses what they cannot be before a folder is made
    with contextlib.ExitStack() as held:

        def placed() -> tuple[Path, Path | None]:
            if ranks.rank:
                return Path(held.enter_context(tempfile.TemporaryDirectory(prefix="minet-"))), None
            if not resume:
                return held.enter_context(folders.new(modelfile.find(file_or_name).stem, out)), None
            folder = folders.old(file_or_name, out)
            held.enter_context(folders.locked(folder))
            found, _, damaged = older.newest_whole(folder)
            told(*damaged, sep="\n", end="\n" if damaged else "")
            return folder, found

        def prepared() -> tuple[Model, Trainer]:
            model, chosen = _chosen(file_or_name, resumed, settings or {}, seed, force)
            model.tag = model.tag if tag is None else tag
            saving.folder = folder
            trainer = _trainer(model, folder, backend, chosen, saving, quiet, ranks)
            if resumed:
                drawn = all(one.complete for one in trainer.callbacks if isinstance(one, Curves))
                restore(trainer, model, resumed, None if ranks.rank else drawn, force, told)
            return model, trainer

        folder, found = ranks.together(placed)
        resumed = ranks.file(found)
        if resumed and not chosen:
            ranks = Alone(checkpoint.facts_of(resumed).get("micro_batches", 1))
        model, trainer = ranks.together(prepared)
        ranks.join(trainer)
        told(opening(model, trainer, resumed), flush=True)
        ranks.together(lambda: _compile(trainer, quiet))
        try:
            with model.blamed():
                result = trainer.fit()
        except KeyboardInterrupt:
            if saving.place and not ranks.rank:
                print(how_to_go_on(file_or_name, folder, saving.place), flush=True)
            raise
        ranks.finish()
        if not quiet:
            print(ending(result, folder))
        if trainer.within.batches and not ranks.rank:
            print(how_to_go_on(file_or_name, folder, saving.place))
    return result, folder


def _chosen(
    file_or_name: str | Path, resumed: Path | None, settings: dict[str, Any], seed: int | None, force: bool
) -> tuple[Model, int]:
    """The model and the seed of a run: as they were, if it is resumed."""
    if resumed is None:
        return modelfile.load(file_or_name, **settings), seed or 0
    return as_before(file_or_name, resumed, checkpoint.facts_of(resumed), settings, seed, force)


def _nothing(*_: Any, **options: Any) -> None:
    """Print nothing."""


def _trainer(
    model: Model,
    folder: Path,
    backend: str | Backend,
    seed: int,
    saving: Checkpointer,
    quiet: bool,
    ranks: Any,
) -> Trainer:
    """A trainer of a model, with the callbacks that every run has and those of the model file."""
    checkpoint.as_json(model.settings)  # refuses, before the work, what a checkpoint could not hold
    graph, solver, datasets, own = model.net(), model.solver(), model.datasets(), model.callbacks()
    with model.named():
        Batches(datasets[0], model.batch)  # refuses a batch that is too large before the net takes memory
        batch = ranks.share(model.batch)
    net = Net(graph, model.input_shape, batch, model.loss, backend, seed)
    with model.named():
        trainer = Trainer(net, solver, *datasets, model.epochs, folder=folder, ranks=ranks)
    trainer.facts = model.facts
    if ranks.rank:  # what the model file has may change the training; all else writes, and one does that
        trainer.callbacks = own
        return trainer
    best = [] if any(isinstance(one, Best) for one in own) else [Best()]
    trainer.callbacks = [
        *own, *([] if quiet else [Progress(_console(ranks))]), JsonLog(folder / LOG),
        KernelLog(folder / KERNEL_LOG, net), *best, saving, Curves(folder, net, model.name),
        About(folder, model),
    ]  # fmt: skip
    return trainer


def _console(ranks: Any, quiet: bool = False) -> Any:
    """Where a run prints; of several processes, lines alone: a launcher's pipes look like a terminal."""
    from rich.console import Console

    return Console(quiet=quiet, force_terminal=False if ranks.size > 1 else None)


def _compile(trainer: Trainer, quiet: bool) -> None:
    if trainer.ranks.here:
        return  # another process of this machine does it
    console = _console(trainer.ranks, quiet)
    precompile(trainer.net, trainer.batches.dataset, console=console, solver=trainer.solver)


def evaluate(
    file_or_name: str | Path,
    settings: dict[str, Any] | None = None,
    *,
    weights: Path | None = None,
    backend: str | Backend = "auto",
    by_class: bool = False,
) -> str:
    """Test a model's weights, by default those of its newest run; return a line, and perhaps one by class."""
    path = modelfile.find(file_or_name)
    stem = path.stem
    file = older.newest_whole(folders.latest(file_or_name))[0] if weights is None else Path(weights)
    if (file / WEIGHTS).is_file():
        file /= WEIGHTS
    _, facts = checkpoint.read(file)
    if facts.get("model", stem) != stem:
        raise MinetError(f"{file}: holds weights of {facts['model']}, not of {stem}")
    if not modelfile.is_of(path, facts):
        raise MinetError(f"{file}: holds weights of {facts['file']}, not of {modelfile.place(path)}")
    model = modelfile.load(file_or_name, **{**facts.get("settings", {}), **(settings or {})})
    net = Net(model.net(), model.input_shape, model.batch, model.loss, backend)
    checkpoint.load(file, net)
    now, data = model.datasets()
    if data is None:
        raise model.error("has no test set to evaluate on", "let datasets() return train, test")
    with model.named():
        check_data(data, net)
        if pixels := Pixels.from_facts(file, facts, model.input_shape[0]):
            data = pixels.applied(now, data, file)
    precompile(net, data, train=False)
    begin = time.perf_counter()
    loss, metrics = test(net, data)
    seconds = time.perf_counter() - begin
    if not math.isfinite(loss):
        bad = [name for name, a in {**net.params, **net.persistent}.items() if not net.be.sum_is_finite(a)]
        why = f": {bad[0]} is not finite" if bad else ""
        raise NotFiniteError(f"{file}: the loss on {data.name} is {loss}{why}", "retrain at a lower rate")
    changed = versions.changed(path, facts)
    edited = f"; {modelfile.place(changed[0])} has changed since" if changed else ""
    what = ", ".join(
        f"{name} {number_text(name, value)}" for name, value in {**metrics, "loss": loss}.items()
    )
    rows = f"\n\n{table(confusion(net, data), data.names)}" if by_class else ""
    return f"{what} on {data.name} ({len(data):,} images), {seconds:.1f} s, with {file}{edited}{rows}"

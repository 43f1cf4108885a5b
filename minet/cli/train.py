"""`minet train`: train a model in a run folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from minet.cli.options import (
    BackendName,
    Batch,
    DataDir,
    Debug,
    FileOrName,
    Settings,
    Strict,
    Sync,
    Words,
    computing,
    parsed,
    reporting,
    use_data,
)
from minet.core.errors import MinetError
from minet.parallel import launch
from minet.parallel.options import DEFAULTS


def train(
    model: FileOrName,
    backend: BackendName = "auto",
    words: Words = None,
    epochs: Annotated[int | None, typer.Option(help="Total number of epochs.")] = None,
    batch: Batch = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights, order and draws; by default 0.")] = None,
    settings: Settings = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; by default the next free runs/MODEL.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the checkpoint in --out, or the model's newest.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="With --resume: even if model file, settings or data have changed."),
    ] = False,
    save_every: Annotated[
        str, typer.Option(metavar="60s|500", help="Save within epochs: a time (s, m, h) or steps; 0: never.")
    ] = "60s",
    keep: Annotated[int, typer.Option(help="How many checkpoints are kept, besides the best.")] = 2,
    tag: Annotated[str | None, typer.Option(help="A text that is kept with the run.")] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print nothing but warnings and errors.")
    ] = False,
    micro_batches: Annotated[
        int | None,
        typer.Option(
            metavar="M",
            help="Compute each batch in M parts: less memory, gradients added in order; by default 1, with "
            "--resume what the run had.",
        ),
    ] = None,
    reduce: Annotated[
        str,
        typer.Option(metavar="fast|ordered", help="With mpiexec: how gradients are added."),
    ] = DEFAULTS["reduce"],
    sync_batch_norm: Annotated[
        bool, typer.Option("--sync-batch-norm", help="With mpiexec: BatchNorm over the whole batch.")
    ] = False,
    trace: Annotated[
        Path | None, typer.Option(help="With mpiexec: write what each rank did in the first steps, as JSON.")
    ] = None,
    patience: Annotated[
        float, typer.Option(help="With mpiexec: seconds to wait for a rank before the job ends.")
    ] = DEFAULTS["patience"],
    data_dir: DataDir = None,
    strict: Strict = False,
    sync: Sync = False,
    debug: Debug = False,
) -> None:
    """Train a model; its log, weights and plots go to runs/MODEL.

    Ctrl-C finishes the step and saves; --resume continues there. A run that was killed continues after its
    last checkpoint, with the same result as if it had not been killed.

    `mpiexec -n P minet train MODEL` trains with P processes, each on its share of every batch. With
    `--reduce ordered` it has the same bits as one process with `--micro-batches P`.
    """
    options = {"reduce": reduce, "sync_batch_norm": sync_batch_norm, "trace": trace, "patience": patience}
    with reporting(debug), together(options, micro_batches) as ranks:
        from minet.runs import runs

        if force and not resume:
            raise MinetError("--force is for --resume: a new run overwrites nothing")
        use_data(data_dir)
        chosen = parsed([*(settings or []), *(words or [])], batch=batch, epochs=epochs)
        device = computing(backend, strict, sync)
        kept: Any = {"save_every": save_every, "keep": keep, "tag": tag, "quiet": quiet, "ranks": ranks}
        runs.train(model, chosen, backend=device, seed=seed, out=out, resume=resume, force=force, **kept)


@contextlib.contextmanager
def together(options: dict[str, Any], micro_batches: int | None) -> Iterator[Any]:
    """The processes that a launcher started, else this one; None leaves M to the run that is resumed."""
    from minet.train.alone import Alone

    ranks = launch.ranks(1 if micro_batches is None else micro_batches, **options)
    with ranks.ending() if ranks else contextlib.nullcontext():
        yield ranks or (None if micro_batches is None else Alone(micro_batches))

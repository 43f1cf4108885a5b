"""`minet train`: train a model in a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
        bool, typer.Option("--force", help="With --resume: even if the model file or settings have changed.")
    ] = False,
    data_dir: DataDir = None,
    strict: Strict = False,
    sync: Sync = False,
    debug: Debug = False,
) -> None:
    """Train a model; its log, weights and plots go to runs/MODEL.

    Ctrl-C stops it; --resume continues after the last complete epoch.
    """
    with reporting(debug):
        from minet.train import runs

        if force and not resume:
            raise MinetError("--force is for --resume: a new run overwrites nothing")
        use_data(data_dir)
        chosen = parsed([*(settings or []), *(words or [])], batch=batch, epochs=epochs)
        device = computing(backend, strict, sync)
        runs.train(model, chosen, backend=device, seed=seed, out=out, resume=resume, force=force)

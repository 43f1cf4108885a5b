"""`minet compare`: a model with every combination of settings by every seed, or runs side by side."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from minet.cli.options import TWICE, BackendName, Batch, DataDir, Debug, parsed, reporting, use_data
from minet.core.errors import MinetError


def compare(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL [NAME=VALUES ...] | RUN RUN ...",
            help="A model's file or name, with more settings as after --set; or runs.",
        ),
    ],
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE,VALUE ...", help="A setting and its values, e.g. kernels=1,2,3."
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option(help="Train each combination with the seeds 0, 1, ... below this.")
    ] = 1,
    jobs: Annotated[int, typer.Option(help="Runs side by side; they share the cores.")] = 1,
    epochs: Annotated[int | None, typer.Option(help="Epochs of each run.")] = None,
    batch: Batch = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the runs and the results; by default runs/compare-MODEL.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run, and run nothing.")] = False,
    backend: BackendName = "auto",
    data_dir: DataDir = None,
    debug: Debug = False,
) -> None:
    """Train a model with every combination of settings by every seed, or set finished runs side by side.

    It ends in a table of means and spreads, table.csv, runs.csv, compare.png and report.html. The same
    command goes on where it was stopped: runs that are done are not done again. A run that fails is told, the
    others go on, and the exit status is 1. Combinations that make the same net are trained once.
    """
    with reporting(debug):
        from minet.compare import run as comparing
        from minet.compare import table
        from minet.train import modelfile

        names = [word for word in what if not word.partition("=")[0].isidentifier() or "=" not in word]
        settings = [*(settings or []), *(word for word in what if word not in names)]
        hint = "minet compare MODEL --set kernels=1,2,3"
        if not names:
            raise MinetError("what is to be compared?", hint)
        if len(names) > 1 or not _is_model(names[0]):
            if settings or dry_run or (seeds, jobs, epochs, batch) != (1, 1, None, None):
                raise MinetError("settings are for one model, not for runs", hint)
            rows = comparing.finished(names)
            typer.echo(table.text(rows))
            if out is not None:
                _say_files(comparing.write(rows, out, f"{len(names)} runs", _typed()))
            return
        for name, value in {"--seeds": seeds, "--jobs": jobs}.items():
            if value < 1:
                raise MinetError(f"{name} must be at least 1, got {value}")
        use_data(data_dir)
        grid = [(name, _values(name, texts)) for name, texts in _axes(settings)]
        common = parsed(None, epochs=epochs, batch=batch)
        if twice := [name for name, _ in grid if name in common]:
            raise MinetError(f"the setting {twice[0]} is given twice", TWICE)
        planned = comparing.Comparison.of(names[0], grid, seeds, out, **common)
        typer.echo("\n".join(planned.opening()))
        if dry_run:
            for job in planned.jobs:
                typer.echo(f"  {job.label}: {planned.waiting.get(job, 'done')}")
            return
        try:
            rows = planned.train(jobs, backend, typer.echo)
        except KeyboardInterrupt:
            typer.echo("stopped; the same command goes on", err=True)
            raise
        typer.echo(f"\n{table.text(rows)}\n")
        title = f"compare {modelfile.find(names[0]).stem}"
        _say_files(comparing.write(rows, planned.folder, title, _typed(), planned.same()))
        if failed := [one for row in rows for one in row.failed]:
            for label, why in failed:
                typer.echo(f"failed: {label}: {why}", err=True)
            raise typer.Exit(1)


def _is_model(name: str) -> bool:
    from minet.train import modelfile

    path = Path(name)
    return (
        path.suffix == ".py"
        or name in modelfile.names()
        or not (path.exists() or Path("runs", name).exists())
    )


def _axes(settings: list[str]) -> list[tuple[str, list[str]]]:
    from minet.compare.grid import axes

    return axes(settings)


def _values(name: str, texts: list[str]) -> list[Any]:
    return [parsed([f"{name}={text}"])[name] for text in texts]


def _typed() -> list[str]:
    """The command as it was typed."""
    return ["minet", *sys.argv[1:]]


def _say_files(files: list[Path]) -> None:
    for file in files:
        typer.echo(f"wrote {file}")

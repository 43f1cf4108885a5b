"""`minet export`: a trained net as an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from minet.cli.options import DataDir, Debug, ModelOfRun, Settings, parsed, reporting, use_data
from minet.core.errors import MinetError


def export(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN_OR_MODEL",
            help="A run folder, its name in runs/, a file of weights, or a model, for its newest run.",
        ),
    ],
    onnx: Annotated[Path, typer.Option("--onnx", metavar="FILE.onnx", help="The file to write.")],
    raw: Annotated[
        bool,
        typer.Option("--raw", help="Leave out the normalisation: the file takes what the net computes on."),
    ] = False,
    untrained: Annotated[
        bool, typer.Option("--untrained", help="Take the model's first values instead of a run's.")
    ] = False,
    settings: Settings = None,
    model: ModelOfRun = None,
    data_dir: DataDir = None,
    debug: Debug = False,
) -> None:
    """Write a trained net as an ONNX file, for onnxruntime and others.

    The file takes images as the data set stores them, (N, C, H, W) with any N, and normalises them itself. It
    gives what the net gives: logits, for a net that is trained with SoftmaxCrossEntropy. Before it is written
    it runs in onnxruntime on images of the test set; if it differs from the net, nothing is written.
    """
    with reporting(debug):
        from minet.onnx.export_run import export_run, export_untrained

        use_data(data_dir)
        if untrained and model is not None:
            raise MinetError("--model is for a run's model file", "minet export MODEL --untrained")
        if settings and not untrained:
            raise MinetError("--set is for --untrained: a run has its settings")
        if untrained:
            lines, notes = export_untrained(run, onnx, parsed(settings), raw=raw)
        else:
            lines, notes = export_run(run, onnx, model=model, raw=raw)
        for note in notes:
            typer.echo(f"note: {note}", err=True)
        typer.echo("\n".join(lines))

"""Whether ranks follow one process: `[mpiexec -n P] python -m benchmarks.rank_losses MODEL --json FILE`.

Trains a model and notes the loss of each step, over the whole batch. With `--against FILE`, which another
number of ranks has written, it prints the largest relative difference between a step's two losses, and the
first steps at which it exceeds 1e-6, 1e-5 and so on. With `--micro-batches`, or `--reduce ordered` by several
ranks, gradients are added in a fixed order: as many parts in all have the same bits.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from minet import Net
from minet.parallel import launch
from minet.parallel.options import SUMS
from minet.train import modelfile
from minet.train.alone import Alone
from minet.train.callbacks import Callback
from minet.train.trainer import Trainer


class Losses(Callback):
    def __init__(self) -> None:
        self.found: list[float] = []

    def on_batch(self, trainer: Any, loss: float) -> None:
        self.found.append(loss)


def losses(name: str, dtype: str, epochs: int, ranks: Any) -> list[float]:
    """The loss of each step."""
    model, found = modelfile.load(name), Losses()
    train, test = model.datasets()
    net = Net(model.net(), model.input_shape, ranks.share(model.batch), model.loss, dtype=dtype)
    trainer = Trainer(net, model.solver(), train, test, epochs, [found], ranks=ranks)
    trainer.fit()
    return found.found


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rank_losses")
    parser.add_argument("model")
    parser.add_argument("--dtype", default="float64", choices=["float64", "float32"])
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the losses to this file")
    parser.add_argument("--against", type=Path, help="compare them with those of this file")
    parser.add_argument("--micro-batches", type=int, default=1, metavar="M", help="parts of each rank")
    parser.add_argument("--reduce", default="fast", choices=SUMS)
    options = parser.parse_args(arguments)
    together = launch.ranks(options.micro_batches, reduce=options.reduce)
    ranks = together or Alone(options.micro_batches)
    with together.ending() if together else contextlib.nullcontext():
        found = losses(options.model, options.dtype, options.epochs, ranks)
    if ranks.rank:
        return 0
    size, mean = ranks.size, sum(found) / len(found)
    parts = f", {ranks.micro_batches} micro-batches each" if ranks.micro_batches > 1 else ""
    print(f"{size} rank{'s' * (size > 1)}{parts}, {options.dtype}: {len(found)} steps, mean {mean:.10g}")
    if options.json:
        options.json.write_text(json.dumps(found))
    if options.against:
        theirs = json.loads(options.against.read_text())
        off = [abs(a / b - 1) for a, b in zip(found, theirs, strict=True)]
        print(f"largest relative difference of a step's loss: {max(off):.1e}")
        for bound in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2):
            if (step := next((i for i, one in enumerate(off) if one > bound), None)) is not None:
                print(f"above {bound:.0e} first at step {step}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

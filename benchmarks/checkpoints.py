"""What a checkpoint costs: `python -m benchmarks.checkpoints [MODEL ...]`.

Prints the milliseconds that writing one takes, a median, and the share of a minute: `minet train`
writes one each minute unless `--save-every` says otherwise.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

from minet import Net
from minet.bench.timers import HostWatch, measure
from minet.data import Dataset
from minet.train import modelfile
from minet.train.trainer import Trainer

MODELS = ("digits", "gaussian_inception", "cifar10_zeiler")


def milliseconds(name: str) -> float:
    """Train a model for a step, so that its solver has a state; the median time of saving it."""
    model = modelfile.load(name)
    images = np.zeros((model.batch, *model.input_shape), np.uint8)
    data = Dataset(images, np.arange(model.batch) % 10)
    net = Net(model.net(), model.input_shape, model.batch, model.loss)
    trainer = Trainer(net, model.solver(), data)
    trainer.fit()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights.safetensors"
        return measure(HostWatch(), lambda: trainer.save(file), False) * 1e3


def main(names: list[str]) -> int:
    for name in names or MODELS:
        took = milliseconds(name)
        print(f"{name:20}  {took:6.1f} ms a checkpoint   {took / 60_000:.3%} of a minute")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

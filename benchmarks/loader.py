"""Whether the data loader keeps up: `python -m benchmarks.loader [--backend cuda] [MODEL ...]`.

Prints the images a second of the loader's one thread, shuffled, cropped and mirrored, the milliseconds of a
batch, and those of a training step. The two run at once and wait for each other, so the loader should take at
most half as long.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from minet import MinetError, Net
from minet.bench.timers import HostWatch, measure
from minet.data import Batches, Dataset
from minet.train import modelfile

MODELS = ("digits", "gaussian_inception", "cifar10_zeiler")
TARGET = 2.0  # batches for each step
BATCHES = 40  # in an epoch


def both(name: str, backend: str = "cpu", least: float = 1.0) -> tuple[float, float, int]:
    """Return the milliseconds of a batch and of a training step of that model, and the batch's images."""
    model = modelfile.load(name)
    draw = np.random.Generator(np.random.Philox(key=2015))
    images = draw.integers(0, 256, (BATCHES * model.batch, *model.input_shape), np.uint8)
    labels = draw.integers(0, 10, len(images))
    data = Dataset(
        images, labels, crop=min(4, model.input_shape[1] // 2), flip=True, mean=128, std=64, name=name
    )
    batches = Batches(data, model.batch)

    def epoch() -> None:
        for _ in batches.epoch(0):
            pass

    net = Net(model.net(), model.input_shape, model.batch, model.loss, backend)
    solver = model.solver()
    x, first = next(batches.epoch(0))
    watch = HostWatch()
    batch = measure(watch, epoch, False, least) / BATCHES
    step = measure(watch, lambda: net.train_step(x, first, solver), False, least)
    return batch * 1e3, step * 1e3, model.batch


def main(arguments: list[str] | None = None) -> int:
    about = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loader", description=about)
    parser.add_argument("models", nargs="*", default=MODELS, metavar="MODEL")
    parser.add_argument("--backend", default="cpu", help="Backend of the training steps.")
    given = parser.parse_args(arguments)
    try:
        for name in given.models:
            batch, step, images = both(name, given.backend)
            under = "" if step >= TARGET * batch else f"  < target: at least {TARGET:g}"
            print(
                f"{name:<20} {images / batch * 1e3:9,.0f} images/s   batch {batch:7.3f} ms   "
                f"step {step:7.2f} ms   ratio {step / batch:6.1f}{under}"
            )
    except MinetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

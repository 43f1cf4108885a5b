"""Whether the data loader keeps up: `python -m benchmarks.loader [--augment] [--backend cuda] [MODEL ...]`.

Prints the images a second of the loader, shuffled, shifted and mirrored, the milliseconds of a batch, and
those of a training step. The two run at once and wait for each other, so the loader should take at most half
as long. With --augment, also for each augmentation by itself and for all of them.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from minet import MinetError, Net
from minet.bench.timers import HostWatch, measure
from minet.data import Augmentation, Batches, Brightness, Crop, Cutout, Dataset, Flip, Shift
from minet.train import modelfile

MODELS = ("digits", "gaussian_inception", "cifar10_zeiler")
TARGET = 2.0  # batches for each step
BATCHES = 40  # in an epoch


def both(name: str, backend: str = "cpu", least: float = 1.0) -> tuple[float, float, int]:
    """Return the milliseconds of a batch and of a training step of that model, and the batch's images."""
    model = modelfile.load(name)
    batches = made(model, [Shift(min(4, model.input_shape[1] // 2)), Flip()])
    net = Net(model.net(), model.input_shape, model.batch, model.loss, backend)
    solver = model.solver()
    x, first = next(batches.epoch(0))
    step = measure(HostWatch(), lambda: net.train_step(x, first, solver), False, least)
    return of_batch(batches, least), step * 1e3, model.batch


def made(model: modelfile.Model, augment: list[Augmentation], margin: int = 0) -> Batches:
    """Batches of random images for a model, stored with a margin for Crop."""
    draw = np.random.Generator(np.random.Philox(key=2015))
    C, H, W = model.input_shape
    images = draw.integers(0, 256, (BATCHES * model.batch, C, H + margin, W + margin), np.uint8)
    labels = draw.integers(0, 10, len(images))
    return Batches(Dataset(images, labels, augment=augment, mean=128, std=64), model.batch)


def of_batch(batches: Batches, least: float = 1.0) -> float:
    """The milliseconds of a batch."""

    def epoch() -> None:
        for _ in batches.epoch(0):
            pass

    return measure(HostWatch(), epoch, False, least) / BATCHES * 1e3


def each(name: str, least: float = 1.0) -> dict[str, float]:
    """The milliseconds of a batch of that model by the augmentation: of none, one or all."""
    model = modelfile.load(name)
    _, H, W = model.input_shape
    hole = (max(H // 4, 1), max(W // 4, 1))
    kinds: dict[str, list[Augmentation]] = {
        "none": [], "Flip": [Flip()], "Shift": [Shift(min(4, H // 2))], "Crop": [Crop((H, W))],
        "Cutout": [Cutout(hole)], "Brightness": [Brightness(0.2)],
    }  # fmt: skip
    kinds["all"] = [one for kind in kinds.values() for one in kind]
    return {
        kind: of_batch(made(model, augment, margin=4 * (kind in ("Crop", "all"))), least)
        for kind, augment in kinds.items()
    }


def main(arguments: list[str] | None = None) -> int:
    about = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loader", description=about)
    parser.add_argument("models", nargs="*", default=MODELS, metavar="MODEL")
    parser.add_argument("--backend", default="cpu", help="Backend of the training steps.")
    parser.add_argument("--augment", action="store_true", help="Show each augmentation.")
    given = parser.parse_args(arguments)
    try:
        for name in given.models:
            batch, step, images = both(name, given.backend)
            rows = {name: batch}
            if given.augment:
                rows |= {f"  {kind}": ms for kind, ms in each(name).items()}
            for row, ms in rows.items():
                under = "" if step >= TARGET * ms else f"  < target: at least {TARGET:g}"
                print(
                    f"{row:<20} {images / ms * 1e3:9,.0f} images/s   batch {ms:7.3f} ms   "
                    f"step {step:7.2f} ms   ratio {step / ms:6.1f}{under}"
                )
    except MinetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

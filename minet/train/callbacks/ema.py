"""EMA: an average of the parameters over the steps, tested beside them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from minet.core.errors import MinetError
from minet.core.layer import Array
from minet.core.net import Net
from minet.core.settings import is_real
from minet.train import checkpoint
from minet.train.callback import Callback
from minet.train.evaluation import evaluate
from minet.train.pixels import Pixels
from minet.train.run_files import AVERAGE
from minet.train.trainer import Trainer


class EMA(Callback):
    """Keep an exponential moving average of the parameters and running statistics.

    After each epoch the average is tested: the record gets its metrics as ``ema_accuracy`` and so on, or
    ``ema_test_loss`` if the loss has none. A run's folder keeps it as ``ema.safetensors``, which ``minet eval
    MODEL --weights FILE`` reads. Training itself goes on unchanged.

    Parameters
    ----------
    decay : float
        ``a <- d*a + (1-d)*w`` after step n, with ``d = min(decay, n / (n + 9))``: early steps, far from the
        end, are soon forgotten.

    Attributes
    ----------
    arrays : dict of str to array
        The average, by path; empty before the first step.
    """

    reads_net = True

    def __init__(self, decay: float = 0.999) -> None:
        if not is_real(decay) or not 0 < decay < 1:
            raise MinetError(f"decay must be a number between 0 and 1, got {decay!r}")
        self.decay, self.count = decay, 0
        self.arrays: dict[str, Array] = {}
        self._pairs: list[tuple[Array, Array]] = []
        self._loaded: dict[str, np.ndarray] = {}

    def on_start(self, trainer: Trainer) -> None:
        net, be = trainer.net, trainer.net.be
        before = self._loaded or self.arrays  # of a checkpoint, or of a fit before this one
        flat = be.duplicate(net.memory.flat_params)  # all parameters at once: one call a step
        self.arrays = {slot.path: slot.place(flat) for slot in net.slots}
        self._pairs = [(net.memory.flat_params, flat)]
        for path, value in net.persistent.items():
            if np.dtype(value.dtype).kind == "f":
                self.arrays[path] = be.duplicate(value)
                self._pairs.append((value, self.arrays[path]))
        for path, kept in before.items():
            if path not in self.arrays or self.arrays[path].shape != kept.shape:
                raise MinetError(f"EMA: the average of {path} {kept.shape} does not fit the net")
            be.copy(kept, self.arrays[path])
        self._loaded = {}

    def on_batch(self, trainer: Trainer, loss: float) -> None:
        self.count += 1
        decay = min(self.decay, self.count / (self.count + 9))
        for value, average in self._pairs:
            trainer.net.be.axpby(1 - decay, value, decay, average)

    def on_epoch(self, trainer: Trainer, record: dict[str, Any]) -> None:
        with self.in_net(trainer.net):
            if trainer.test is not None:
                loss, metrics = evaluate(trainer.net, trainer.test, trainer.ranks)
                found = metrics or {"test_loss": loss}
                record |= {f"ema_{name}": value for name, value in found.items()}
            if trainer.folder is not None:
                # With what `minet eval` needs to build the net; the run's own facts are the trainer's.
                facts = {"epoch": trainer.epoch, "batch": trainer.batches.whole}
                facts |= Pixels.of(trainer.batches.dataset).facts | trainer.facts
                checkpoint.save(trainer.folder / AVERAGE, trainer.net, **facts)

    @contextlib.contextmanager
    def in_net(self, net: Net) -> Iterator[None]:
        """Within this context, the net computes with the average."""
        kept = [net.be.duplicate(value) for value, _ in self._pairs]
        try:
            for value, average in self._pairs:
                net.be.copy(average, value)
            yield
        finally:
            for (value, _), own in zip(self._pairs, kept, strict=True):
                net.be.copy(own, value)

    def state(self) -> dict[str, Any]:
        return {"count": self.count, **self.arrays}

    def load_state(self, state: dict[str, Any]) -> None:
        self.count = state["count"]
        self._loaded = {path: value for path, value in state.items() if path != "count"}

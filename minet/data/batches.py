"""Batches: images shuffled, augmented and laid out as (C, H, W, N), ahead of the steps that use them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from minet.core.memory import aligned
from minet.core.settings import is_whole
from minet.data.augment import Brightness, Draws, framed
from minet.data.dataset import Dataset
from minet.data.errors import DataError

AHEAD = 2  # batches prepared while the consumer works on one
WORKERS = 2 if (os.cpu_count() or 1) >= 8 else 1  # threads that prepare them, each one batch at a time

Batch = tuple[NDArray[Any], NDArray[Any]]


class Plan(NamedTuple):
    """The plan of one epoch, by position in the epoch."""

    order: NDArray[np.int64]  # (positions,): index of the image
    moves: NDArray[np.int64]  # (positions, 3): shift down, shift right, 1 if mirrored
    inside: NDArray[np.int64]  # (positions, 4): top, bottom, left and right of what may be seen
    holes: NDArray[np.int64]  # (positions, holes, 4): such rectangles, which are 0
    gain: NDArray[np.float32]  # (positions,)


class Batches:
    """Batches of a data set, epoch by epoch.

    In training, images come in a new order each epoch, augmented as the data set specifies, and an incomplete
    last batch is dropped. Otherwise they come in the data set's order, without augmentation, and the last
    batch is filled up with images labelled -1, which losses ignore. (Targets of fillers are -1 or, if real,
    NaN.)

    An image's place in the order and its augmentation depend on ``(seed, epoch, image index)`` alone, not on
    the batch size, the timing, or where an epoch was resumed.

    Parameters
    ----------
    dataset : Dataset
    batch : int
        N, the number of images in each batch.
    seed : int
    train : bool
    dtype : {"float32", "float64"}
    share : (int, int)
        ``(i, P)`` yields N images of each larger batch of ``P * N``: those from ``i * N`` on.

    Raises
    ------
    DataError
        If a training batch is larger than the data set, or a setting is invalid.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch: int,
        *,
        seed: int = 0,
        train: bool = True,
        dtype: DTypeLike = "float32",
        share: tuple[int, int] = (0, 1),
    ) -> None:
        from minet.loops.gather import gather  # here, as it imports Numba: `import minet.data` stays fast

        self._gather = gather
        self.dataset, self.batch, self.seed, self.train = dataset, batch, seed, train
        self.dtype = np.dtype(dtype)
        if not is_whole(batch) or batch < 1:
            raise DataError(f"{dataset.name}: cannot make batches of {batch!r} images", "use at least 1")
        if not is_whole(seed):
            raise DataError(f"{dataset.name}: seed must be a whole number, got {seed!r}", "seed=0")
        for method in ("__getitem__", "normalize"):
            if getattr(type(dataset), method) is not getattr(Dataset, method):
                never = f"{type(dataset).__name__}.{method} is never called in training"
                hint = "give Dataset(images, labels) what it returns, or write an Augmentation"
                raise DataError(f"{dataset.name}: {never}: batches are made from `images` and `labels`", hint)
        self.whole, self._first = batch * share[1], batch * share[0]
        if train and self.whole > len(dataset):
            larger = f"a batch of {self.whole} is larger than the data set of {len(dataset)} images"
            raise DataError(f"{dataset.name}: {larger}", "use a smaller batch, or more images")
        bright = train and any(isinstance(one, Brightness) for one in dataset.augment)
        self._most = np.float32(dataset.white if bright and dataset.white else np.inf)
        if self.dtype not in (np.float32, np.float64):
            raise DataError(f"{dataset.name}: cannot make batches of {self.dtype}", "use float32 or float64")

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        n = len(self.dataset)
        return n // self.whole if self.train else -(-n // self.whole)

    def epoch(self, e: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of epoch `e`, starting with batch `start`.

        Worker threads prepare them ahead. They end with the loop, even if the loop is left early. Each batch
        has its own memory and stays valid.

        Yields
        ------
        x : ndarray, (C, H, W, N), C-contiguous
        labels : ndarray, C-contiguous
            The data set's: class numbers (N,), or targets (K, P, Q, N) in int64 or, if real, in x's type.
            Class numbers of a map's positions are (1, P, Q, N).

        Raises
        ------
        DataError
            If `start` is outside the epoch. Errors in the worker are raised here too.
        """
        if not 0 <= start <= len(self):
            message = f"{self.dataset.name}: cannot start from batch {start}"
            raise DataError(message, f"an epoch has {len(self)} batches")
        plan = self._plan(e)
        pool = ThreadPoolExecutor(max_workers=WORKERS, thread_name_prefix="minet-data")
        ready: deque[Future[Batch]] = deque()
        try:
            for i in range(start, len(self)):
                ready.append(pool.submit(self._make, plan, i))
                if len(ready) > AHEAD:
                    yield ready.popleft().result()
            while ready:
                yield ready.popleft().result()
        finally:  # also if the consumer breaks out or fails: finish the current batch, drop the others
            pool.shutdown(cancel_futures=True)

    def _plan(self, e: int) -> Plan:
        data = self.dataset
        n = len(data)
        draws = Draws(self.seed, e, n)
        # Of an image's four words the first is its rank in the order; Shift and Flip have the others.
        if self.train:
            order = np.argsort(draws.words()[:, 0], kind="stable")
        else:
            order = np.arange(len(self) * self.whole) % n
        _, C, H, W = data.images.shape
        frames = framed(data.augment, (C, H, W), draws, self.train)
        holes = np.stack(frames.holes, axis=1) if frames.holes else np.empty((n, 0, 4), np.int64)
        return Plan(order, frames.moves[order], frames.inside[order], holes[order], frames.gain[order])

    def _make(self, plan: Plan, i: int) -> Batch:
        data, start = self.dataset, i * self.whole + self._first
        here = slice(start, start + self.batch)
        x = aligned((*data.image_shape, self.batch), self.dtype)
        parts = [array[here] for array in plan]
        self._gather(data.images, *parts, self._most, data.mean, data.std, x)
        real = data.labels.dtype.kind == "f"
        labels = np.empty((*data.labels.shape[1:], self.batch), self.dtype if real else np.int64)
        labels[...] = np.moveaxis(data.labels[plan.order[here]], 0, -1)
        labels[..., max(0, len(data) - start) :] = np.nan if real else -1
        return x, labels

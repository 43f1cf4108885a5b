"""Buckets: parts of a net's gradients that leave together, as soon as bprop has finished them."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minet.core.layer import Array, Layer
from minet.core.memory import Slot

LEAST, MOST = 1 << 16, 1 << 20  # bytes that close a bucket: fewer, and the latency of a message counts
PARTS = 8  # of the gradients, so that most have left before bprop ends


@dataclass
class Bucket:
    """Neighbours in the net's buffer of gradients.

    Attributes
    ----------
    number : int
        The order in which buckets leave, the same in all processes: the last layers' comes first.
    values : array
        A view of the buffer.
    paths : list of str
        The parameters.
    start : int
        Where it begins in the buffer, in elements.
    earlier : list of ndarray
        The same place in the gradients of the parts that were computed before, if they are added apart.
    """

    number: int
    values: Array
    paths: list[str] = field(default_factory=list)
    start: int = 0
    earlier: list[np.ndarray] = field(default_factory=list)

    def place(self, flat: Array) -> Array:
        """Its place in a buffer laid out like that of the gradients."""
        return flat[self.start : self.start + self.values.size]

    @property
    def name(self) -> str:
        first, last = self.paths[0], self.paths[-1]
        return first if first == last else f"{first} .. {last}"


def buckets_of(slots: list[Slot], flat: Array, size: int | None = None) -> list[Bucket]:
    """Cut the gradients into buckets, from the end, as bprop computes them; padding travels along.

    Parameters
    ----------
    slots : list of Slot
    flat : array
        The buffer of all gradients.
    size : int, optional
        Bytes that close a bucket.
    """
    if size is None:
        size = min(max(flat.nbytes // PARTS, LEAST), MOST)
    found: list[Bucket] = []
    end, paths = flat.size, list[str]()
    for slot in reversed(slots):
        paths.insert(0, slot.path)
        if (end - slot.start) * flat.dtype.itemsize >= size or slot is slots[0]:
            found.append(Bucket(len(found), flat[slot.start : end], paths, slot.start))
            end, paths = slot.start, []
    return found


class Readiness:
    """Calls back for each bucket once bprop has added the last gradient to it, in the buckets' order.

    A parameter is done when every layer that has it, twins too, has returned from bprop.
    """

    def __init__(self, graph: Layer, slots: list[Slot], buckets: list[Bucket]) -> None:
        place = {path: bucket.number for bucket in buckets for path in bucket.paths}
        paths = {id(slot.grad): slot.path for slot in slots}
        self.buckets = buckets
        self.layers: dict[Layer, list[int]] = {}  # the numbers of the buckets that a layer adds to
        for layer in graph.walk():
            if layer.g:
                self.layers[layer] = [place[paths[id(grad)]] for grad in layer.g.values()]
        self._all = Counter(number for numbers in self.layers.values() for number in numbers)

    @contextlib.contextmanager
    def watching(
        self, ready: Callable[[Bucket], None], ran: Callable[[Layer, float], None] | None = None
    ) -> Iterator[None]:
        """Within this context, run bprop; afterwards every bucket has been called back for.

        `ran`, if given, is called with each layer whose bprop has returned, and when that began.
        """
        left, following = Counter(self._all), iter(self.buckets)
        waiting, done = next(following, None), set[Layer]()

        def leave(all_done: bool = False) -> None:
            nonlocal waiting
            while waiting is not None and (all_done or left[waiting.number] <= 0):
                ready(waiting)
                waiting = next(following, None)

        def watched(layer: Layer, numbers: list[int]) -> Any:
            def bprop(x: Array, dy: Array, dx: Array | None, beta: float = 0.0) -> None:
                if layer in done:
                    raise layer.error("bprop ran twice in one step, which ranks cannot share", "use twin()")
                done.add(layer)
                begin = time.perf_counter()
                type(layer).bprop(layer, x, dy, dx, beta)
                if ran is not None:
                    ran(layer, begin)
                left.subtract(numbers)
                leave()

            return bprop

        # For this call alone: a copy of a layer has its attributes.
        for layer, numbers in self.layers.items():
            layer.__dict__["bprop"] = watched(layer, numbers)
        try:
            yield
        finally:
            for layer in self.layers:
                layer.__dict__.pop("bprop", None)
        leave(all_done=True)  # a layer may have been left out, or called by another name

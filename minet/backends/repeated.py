"""Work that a card does again and again: when it may be captured as a graph, and when it is launched anew.

A step is captured only when two steps in a row have launched the same kernels with the same arguments, and
nothing that the host would have to do again. A log of the backend's calls tells. What is known to change is
given anew before each replay: the labels are copied to where they were, and a kernel that takes the step's
number gets it by an update of its node. If a layer's setting changes, the graph is dropped. A step whose
labels have another form, or which has another part of a batch, is launched.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from minet.backends.cuda_graph import Graph, GraphError, Stepped, last_node
from minet.backends.cuda_source import Kernel
from minet.backends.launcher import Step
from minet.backends.settings_watch import Watch
from minet.core.blame import running_node
from minet.core.node import LayerError, Node

ALIKE = 2  # steps in a row that must be alike before one is captured


class Log:
    """What a step launches, in order.

    Parameters
    ----------
    labels : array
        The step's, which it may copy to the device.
    stream : int, optional
        The handle of the stream, if this step is being captured.
    """

    def __init__(self, labels: Any, stream: int | None = None) -> None:
        self.labels, self.stream, self.why = labels, stream, ""
        self.form = form_of(labels)
        self.entries: list[tuple[Any, ...]] = []
        self.uploads: list[Any] = []  # arrays that hold the labels
        self.stepped: list[Stepped] = []  # launches that take the step's number
        self.memory: list[Any] = []  # of the arrays made meanwhile

    def launched(self, module: Any, kernel: Kernel, sizes: tuple[Any, ...], numbers: list[Any]) -> None:
        moving = [i for i, number in enumerate(numbers) if isinstance(number, Step)]
        plain = tuple("step" if isinstance(number, Step) else number for number in numbers)
        self.entries.append((module, kernel.name, sizes, plain))
        if moving and self.stream is not None:
            self.stepped.append(Stepped(last_node(self.stream), kernel, numbers, moving))

    def called(self, *what: Any) -> None:
        self.entries.append(what)

    def lent(self, memory: Any) -> None:
        if self.capturing:
            self.memory.append(memory.memory)

    def given(self, values: Any, out: Any) -> bool:
        """Note that the values are copied to the array, if they are the labels."""
        if values is not self.labels:
            return False
        self.entries.append(("labels", int(out.gpudata), out.shape, out.dtype))
        if self.capturing:  # without a hold on the memory: the step may use it again, as a launched one does
            self.uploads.append(type(out)(out.shape, out.dtype, gpudata=int(out.gpudata)))
        return True

    @property
    def capturing(self) -> bool:
        return self.stream is not None

    def refuse(self, what: str) -> None:
        """Note that a step does what cannot be captured."""
        node = running_node()
        self.why = self.why or (f"{node.where} {what}" if node else f"it {what}")
        if self.capturing:
            raise GraphError(self.why)


def form_of(labels: Any) -> tuple[Any, ...]:
    """What labels are, apart from their values: probabilities in place of class numbers are another step."""
    kind = np.asarray(labels).dtype.kind
    return np.shape(labels), kind in "iu"


class Repeated:
    """Work that is done again and again: launched at first, then captured and replayed.

    Attributes
    ----------
    graph : Graph, optional
        The captured work.
    why : str
        Why there is none.
    """

    def __init__(self, be: Any, work: Callable[[Any], Any], nodes: Iterable[Node], clock: Any) -> None:
        self.be, self.work, self.clock = be, work, clock
        self.nodes = [node for node in nodes if node is not None]
        self.graph: Graph | None = None
        self.why = "--sync waits for each kernel" if be.sync else "the first steps are launched one by one"
        self.log = Log(None)
        self._before, self._watch = Log(None), Watch([])
        self._part: tuple[int, int] | None = None  # of a batch, which the graph was captured with
        self._memory: Any = None  # of the arrays of the captured work, which nobody else may get
        self._alike, self._wanted, self._never = 0, ALIKE, bool(be.sync)

    def __call__(self, labels: Any) -> Any:
        if self.graph is not None and not self._stale():
            alike = form_of(labels) == self.log.form and self.clock.part == self._part
            return self._replayed(labels) if alike else self.work(labels)
        ready = self._alike >= self._wanted and not self._never and not self._stale()
        if ready and self._captured(labels):
            return self._replayed(labels)
        return self.work(labels) if self._never else self._logged(labels)

    def _stale(self) -> bool:
        """Whether a setting has changed since the last launched step; then all begins anew."""
        if changed := self._watch.changed():
            if self.graph is not None:
                self._wanted *= 2  # what changes often is not worth capturing
            self.why, self.graph, self._alike = f"{changed} has changed", None, 0
            self._memory = None
        return bool(changed)

    def _logged(self, labels: Any) -> Any:
        """Launch the work; compare it with what the step before launched."""
        log, result = Log(labels), None
        with self._logging(log):
            result = self.work(labels)
        if self.clock.read and not log.why:
            log.why = "a layer reads clock.step; a kernel gets `step` by its name"
        if result is not None and not log.why:
            log.why = "the loss is a number on the host"
        changed = self._watch.changed()
        alike = not log.why and not changed and log.entries == self._before.entries
        self._alike = self._alike + 1 if alike else 1
        if log.why:
            self._alike, self.why = 0, log.why
        elif not alike and self._before.entries:
            self.why = f"{changed} has changed" if changed else "steps launch different kernels or arguments"
        self._before, self._watch = log, Watch([] if log.why else self.nodes)
        return result

    def _captured(self, labels: Any) -> bool:
        """Capture the work; whether that succeeds and is what the last step launched."""
        graph, log = Graph(self.be.stream.handle), Log(labels, self.be.stream.handle)
        common, own = self.be._shelf, deque(self.be._shelf)
        self.be._shelf = own
        try:
            with self._logging(log), graph.capturing():
                self.work(labels)
        except Exception as error:
            # A mistake in the work itself shows again, at the launches that follow.
            where = f"{error.layer.where}: " if isinstance(error, LayerError) and error.layer else ""
            self._never, self.why = True, where + str(getattr(error, "message", error))
            return False
        finally:
            self.be._shelf = common
            kept = {id(memory) for memory in log.memory}
            for one in list(own):
                if id(one[1]) not in kept:
                    own.remove(one)
            mine = [one for one in common if id(one[1]) in kept]
            for one in mine:
                common.remove(one)
        if log.entries != self._before.entries:
            self.why, self._alike = "steps launch different kernels or arguments", 0
            return False
        self.graph, self.log, self.why, self._part = graph, log, "", self.clock.part
        self._memory = own
        return True

    @contextmanager
    def _logging(self, log: Log) -> Iterator[None]:
        self.be.log, self.clock.read = log, False
        try:
            yield
        finally:
            self.be.log = None

    def _replayed(self, labels: Any) -> Any:
        assert self.graph is not None
        for array in self.log.uploads:
            self.be.copy(labels, array)
        try:
            for stepped in self.log.stepped:
                stepped.give(self.graph.executable, self.clock.now)
        except GraphError as error:  # nothing was launched yet
            self.graph, self._never, self.why = None, True, error.message
            return self.work(labels)
        try:
            self.graph.launch()
        except GraphError as error:
            raise self.be._failed("a captured step", error) from error
        for node in self.nodes:
            if "train" in vars(node):
                node.train = True  # as its fprop would
        return None

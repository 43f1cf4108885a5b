"""Compile what a net will need before its first step, in as many processes as there are cores.

Numba compiles a kernel at its first call, one after the other. Here a batch is made, and the net's fprop and
bprop are gone through, with kernels that do nothing but tell the types they are called with. Those that the
cache lacks are then compiled by processes forked for it, and put where the first step finds them.
Whatever is left out, for want of `fork` or because a layer fails, the step compiles itself.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import numpy as np

from minet.core.net import Net
from minet.data.dataset import Dataset

Kernel = tuple[Any, tuple[Any, ...]]  # Numba's dispatcher of a function, and the types of its arguments
MOST = 255  # kernels: their numbers go through pipes as single bytes
NOTICE = "compiling kernels, once on this machine"


def precompile(net: Net, data: Dataset | None = None, train: bool = True, console: Any = None) -> int:
    """Compile the kernels that a net's fprop, and in training its bprop, call, and that the cache lacks.

    Parameters
    ----------
    net : Net
        Parameters and persistent state stay as they are; outputs, deltas and gradients do not.
    data : Dataset, optional
        Whose batches need a kernel too.
    train : bool
    console : rich.console.Console, optional
        Where it is told, if there is something to do: on a terminal by a bar, else in a line.

    Returns
    -------
    int
        How many were compiled.
    """
    config: Any = importlib.import_module("numba").config
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1
    if net.be.name != "cpu" or cores < 2 or config.DISABLE_JIT:
        return 0
    cold = [kernel for kernel in called(net, data, train) if not cached(*kernel)][:MOST]
    if len(cold) < 2:
        return 0
    cold.sort(key=_length, reverse=True)  # so that no process is left with a long one at the end
    with compiling(cold, min(cores, len(cold))) as done, showing(len(cold), console) as show:
        return sum(show(cold[number][0].py_func.__name__) for number in done)


def _length(kernel: Kernel) -> int:
    """Of its file: how long a kernel will take, next to others."""
    file = kernel[0].py_func.__code__.co_filename
    return os.path.getsize(file) if os.path.isfile(file) else 0


@contextlib.contextmanager
def showing(total: int, console: Any) -> Iterator[Callable[[str], int]]:
    """A bar, or a line, that tells of compilation; what it gives is called with each kernel's name."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = console or Console()
    if not console.is_terminal:
        console.print(f"  {NOTICE}", soft_wrap=True, highlight=False)
    columns = TextColumn(f"  {NOTICE}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}")
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)

        def show(kernel: str) -> int:
            bar.update(task, advance=1, description=kernel)
            return 1

        yield show


def called(net: Net, data: Dataset | None = None, train: bool = True) -> list[Kernel]:
    """The kernels that go through Numba's cache and that this process has not called yet."""
    from minet.data.batches import Batches  # here, as it imports Numba

    found: dict[Kernel, None] = {}
    kept = {path: net.be.get(array).copy() for path, array in net.persistent.items()}
    x = np.zeros((*net.input_shape, net.batch), net.be.dtype)
    try:
        with noting(found), np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if data is not None:
                next(Batches(data, net.batch, train=False, dtype=net.be.dtype).epoch(0))
            net.fprop(x, train=False)
            if train:
                net.fprop(x, train=True)
                net.bprop(net.dy)
                for size in {slot.value.size for slot in net.slots}:  # which decides on the kernel
                    w, g, v = net.be.zeros((3, size))
                    net.be.sgd_step(w, g, v, lr=0.0, momentum=0.0, decay=0.0, nesterov=False, bounds=None)
    except Exception:  # a layer that needs what its kernel computes; the step will tell what is wrong, if so
        pass
    finally:
        net.x = None
        for path, array in kept.items():
            net.be.copy(array, net.persistent[path])
    return list(found)


@contextlib.contextmanager
def noting(found: dict[Kernel, None]) -> Iterator[None]:
    """Within, a kernel that would be compiled, or loaded, is noted instead, and does nothing."""
    from numba.core.registry import CPUDispatcher as Kernels

    name = "_compile_for_args"  # what Numba calls where a call's types are new to it
    compile_for = getattr(Kernels, name)

    def note(dispatcher: Any, *args: Any, **options: Any) -> Any:
        if dispatcher.stats.cache_path is None:  # its result may matter, and nothing could be kept of it
            return compile_for(dispatcher, *args, **options)
        found[dispatcher, tuple(dispatcher.typeof_pyval(arg) for arg in args)] = None
        return lambda *args: None

    setattr(Kernels, name, note)
    try:
        yield
    finally:
        setattr(Kernels, name, compile_for)


class Cold(Exception):
    """A kernel is not in the cache."""


def cached(dispatcher: Any, types: tuple[Any, ...]) -> bool:
    """Load a compiled kernel from the cache, if it is there."""
    from numba.core import event

    class Refusal(event.Listener):
        def on_start(self, event: Any) -> None:
            raise Cold

        def on_end(self, event: Any) -> None:
            pass

    with event.install_listener("numba:compile", Refusal()), contextlib.suppress(Cold):
        dispatcher.compile(types)
        return True
    return False


@contextlib.contextmanager
def compiling(kernels: list[Kernel], processes: int) -> Iterator[Iterator[int]]:
    """Compile kernels in forked processes; what it gives tells the number of each one as it is done."""
    (tasks, put), (done, tell) = os.pipe(), os.pipe()
    os.write(put, bytes(range(len(kernels))))  # whoever reads a byte takes that kernel
    os.close(put)
    children = []
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # an interrupt is the parent's alone
    try:
        with warnings.catch_warnings():
            # Python warns of fork beside other threads; those of BLAS and Numba sleep, and are not needed.
            warnings.simplefilter("ignore", DeprecationWarning)
            for _ in range(processes):
                with contextlib.suppress(OSError):  # fewer, or none, where the system allows no more
                    child = os.fork()
                    if not child:
                        _work(kernels, tasks, tell)
                    children.append(child)
        os.close(tell)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        yield (number[0] for number in iter(lambda: os.read(done, 1), b""))
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(tasks)
        os.close(done)


def _work(kernels: list[Kernel], tasks: int, tell: int) -> NoReturn:
    """A process's part: take kernels until there are none left."""
    try:
        while number := os.read(tasks, 1):
            dispatcher, types = kernels[number[0]]
            try:
                dispatcher.compile(types)
            except Exception:  # the first step will meet it too, and tell
                continue
            os.write(tell, number)  # fails where the parent is gone
    finally:
        os._exit(0)  # nothing of the parent's is to be flushed or closed twice

"""Compile the kernels a net needs before its first step, on all cores.

Numba and nvcc would compile each kernel at its first call, one after another. Here a batch is made and a step
rehearsed, with kernels that do nothing but record the types they are called with or, on a GPU, the sources
they are made from. Those missing from the cache are then compiled side by side: by forked processes for
Numba, by nvcc or g++ for a GPU or its emulator. The first step finds them in the cache. It compiles whatever
is left out because there is no `fork` or because a layer fails.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, NoReturn

import numpy as np

from minet.backends import kernel_cache
from minet.backends.kernel_cache import Recipe
from minet.backends.launcher import Launcher
from minet.core.errors import MinetError
from minet.core.net import Net
from minet.data.dataset import Dataset
from minet.train.interrupts import SIGNALS
from minet.train.optim.sgd import SGD
from minet.train.optim.solver import FirstOrder

Kernel = tuple[Any, tuple[Any, ...]]  # Numba's dispatcher of a function, and the types of its arguments
MOST = 255  # kernels: their numbers go through pipes as single bytes
STOPS = set(SIGNALS)
NOTICE = "compiling kernels (once per machine)"


def precompile(
    net: Net, data: Dataset | None = None, train: bool = True, console: Any = None, solver: Any = None
) -> int:
    """Compile the kernels that fprop and, in training, bprop call and that are not in the cache yet.

    Parameters
    ----------
    net : Net
        Parameters and persistent state stay as they are; outputs, deltas and gradients do not.
    data : Dataset, optional
        If given, the kernel that makes its batches is compiled too.
    train : bool
    console : rich.console.Console, optional
        Where progress is shown if there is anything to compile: a bar on a terminal, otherwise a line.
    solver : Solver, optional
        Its update is compiled too if it is one of minet's; without one, SGD's.

    Returns
    -------
    int
        The number of kernels compiled.
    """
    config: Any = importlib.import_module("numba").config
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1
    cold: list[Any]
    if cores < 2:
        return 0
    if isinstance(net.be, Launcher):
        recipes = loaded(net, data, train, solver)
        cold = [(stem, recipe) for recipe, stem in recipes.items() if not kernel_cache.is_built(*recipe)]
        names, compile_all = [stem for stem, _ in cold], building
    elif net.be.name == "cpu" and not config.DISABLE_JIT:
        cold = [kernel for kernel in called(net, data, train, solver) if not cached(*kernel)][:MOST]
        cold.sort(key=_length, reverse=True)  # so that no process starts a long one last
        names, compile_all = [kernel.py_func.__name__ for kernel, _ in cold], compiling
    else:
        return 0
    if len(cold) < 2:
        return 0
    with compile_all(cold, min(cores, len(cold))) as done, showing(len(cold), console) as show:
        return sum(show(names[number]) for number in done)


def _length(kernel: Kernel) -> int:
    """The size of a kernel's source file, a rough measure of its compile time."""
    file = kernel[0].py_func.__code__.co_filename
    return os.path.getsize(file) if os.path.isfile(file) else 0


@contextlib.contextmanager
def showing(total: int, console: Any) -> Iterator[Callable[[str], int]]:
    """Show compilation as a bar or a line; the yielded function is called with each kernel's name."""
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


def called(net: Net, data: Dataset | None = None, train: bool = True, solver: Any = None) -> list[Kernel]:
    """The kernels a net calls that Numba caches and that this process has not called yet."""
    found: dict[Kernel, None] = {}
    with noting(found):
        rehearse(net, data, train, solver)
    return list(found)


def loaded(
    net: Net, data: Dataset | None = None, train: bool = True, solver: Any = None
) -> dict[Recipe, str]:
    """How the kernels are made that a net loads on a GPU or its emulator, and the stems of their files."""
    be: Any = net.be
    found: dict[Recipe, str] = {}

    def note(code: Any, constants: dict[str, Any]) -> None:
        with contextlib.suppress(MinetError):  # the first step reports it
            found[be.recipe(code, constants)] = code.path.stem

    before, warned = be._functions, set(be._warned)
    be._functions, be.load, be.start = {}, note, lambda *args: None
    try:
        rehearse(net, data, train, solver)
    finally:
        be._functions, be._warned = before, warned
        del be.load, be.start
    return found


def rehearse(net: Net, data: Dataset | None, train: bool, solver: Any = None) -> None:
    """Do what a step does, with kernels that may compute nothing; parameters and persistent state stay."""
    from minet.data.batches import Batches  # here, as it imports Numba

    kept = {path: net.be.get(array).copy() for path, array in net.persistent.items()}
    x, labels = np.zeros((*net.input_shape, net.batch), net.be.dtype), None
    be: Any = net.be
    tried, be.tried = be.tried, None  # kernels that do nothing need not write what they must
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if data is not None:
                _, labels = next(Batches(data, net.batch, train=False, dtype=net.be.dtype).epoch(0))
            net.fprop(x, train=False)
            if train:
                net.fprop(x, train=True)
                net.bprop(net.dy)
                _rehearse_update(net, labels, solver)
    except Exception:  # a layer that needs its kernel's result; the first step reports real errors
        pass
    finally:
        be.tried, net.x = tried, None
        for path, array in kept.items():
            net.be.copy(array, net.persistent[path])


def _rehearse_update(net: Net, labels: Any, solver: Any) -> None:
    be: Any = net.be
    memory = net.memory
    if be.judges and labels is not None:
        loss = be.started(net.loss, "loss", net.y, labels, net.dy)
        if getattr(loss, "shape", ()):  # else the host judges
            be.judge(loss, net.flat_grads, memory.verdict)
            memory.keep_state()
            memory.restore_state(memory.verdict)
    solver = solver or SGD(1.0)
    if isinstance(solver, FirstOrder):
        solver.rehearse(net)


@contextlib.contextmanager
def noting(found: dict[Kernel, None]) -> Iterator[None]:
    """Within this context, kernels that would be compiled or loaded are recorded instead, and do nothing."""
    from numba.core.registry import CPUDispatcher as Kernels

    name = "_compile_for_args"  # what Numba calls when a call's types are new to it
    compile_for = getattr(Kernels, name)

    def note(dispatcher: Any, *args: Any, **options: Any) -> Any:
        if dispatcher.stats.cache_path is None:  # never cached, and its result may matter
            return compile_for(dispatcher, *args, **options)
        found[dispatcher, tuple(dispatcher.typeof_pyval(arg) for arg in args)] = None
        return lambda *args: None

    setattr(Kernels, name, note)
    try:
        yield
    finally:
        setattr(Kernels, name, compile_for)


class Cold(Exception):
    """Raised when a kernel is not in the cache."""


def cached(dispatcher: Any, types: tuple[Any, ...]) -> bool:
    """Load a compiled kernel from the cache, and return whether it was there."""
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
def building(kernels: list[tuple[str, Recipe]], processes: int) -> Iterator[Iterator[int]]:
    """Let compilers build that many kernels at once; the yielded iterator gives each number as it is done."""
    with ThreadPoolExecutor(processes) as pool:
        numbers = {pool.submit(kernel_cache.build, *recipe): i for i, (_, recipe) in enumerate(kernels)}
        try:
            yield (numbers[made] for made in as_completed(numbers) if not made.exception())
        finally:
            pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def compiling(kernels: list[Kernel], processes: int) -> Iterator[Iterator[int]]:
    """Compile kernels in forked processes; the yielded iterator gives each one's number as it is done."""
    (tasks, put), (done, report) = os.pipe(), os.pipe()
    os.write(put, bytes(range(len(kernels))))  # a process that reads a byte takes that kernel
    os.close(put)
    children = []
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)  # which only the parent handles
    try:
        with warnings.catch_warnings():
            # Python warns about forking with threads; those of BLAS and Numba are idle and not needed.
            warnings.simplefilter("ignore", DeprecationWarning)
            for _ in range(processes):
                with contextlib.suppress(OSError):  # the system may allow fewer processes, or none
                    child = os.fork()
                    if not child:
                        _work(kernels, tasks, report)
                    children.append(child)
        os.close(report)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        yield (number[0] for number in iter(lambda: os.read(done, 1), b""))
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(tasks)
        os.close(done)


def _work(kernels: list[Kernel], tasks: int, report: int) -> NoReturn:
    """In a child process, compile kernels until none are left, and exit."""
    try:
        while number := os.read(tasks, 1):
            dispatcher, types = kernels[number[0]]
            try:
                dispatcher.compile(types)
            except Exception:  # the first step will meet and report it too
                continue
            os.write(report, number)  # fails if the parent is gone
    finally:
        os._exit(0)  # without cleanup: the parent's files must not be flushed or closed twice

"""Which layer or loss raised an exception, found from the traceback."""

from __future__ import annotations

import inspect
import re
import signal
import sys
import traceback
from types import FrameType, TracebackType
from typing import Any

from minet.core.errors import MinetError
from minet.core.layer import Layer
from minet.core.naming import defined, relative
from minet.core.node import LayerError, Node


class blaming:  # no generator, which takes longer: a training step has several
    """Turn what a layer's own code raises into a LayerError that names layer, method, file and line."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None or isinstance(error, (MinetError, MemoryError)) or not is_mistake(error):
            return
        if type(error).__name__ == "OutOfMemoryError":  # PyTorch's, by which users look for a batch that fits
            return
        node, method = refused_call(error) or node_at_fault(error.__traceback__)
        if node is None:
            return
        message = f"{method} raised {type(error).__name__} at {line_of(error)}: {error}".removesuffix(": ")
        hint = "see the traceback, which minet shows with --debug"
        raise LayerError(message, hint, layer=node) from error


def is_mistake(error: BaseException) -> bool:
    """Whether an exception is one of the code that was running.

    An exit is one too, but not by a signal, nor because nobody reads what is printed, as with ``| head``.
    """
    if not isinstance(error, SystemExit):
        return isinstance(error, Exception)
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if frames and frames[-1].f_globals.get("__name__") == "rich.console":
        return False
    handlers = [getattr(signal.getsignal(number), "__code__", None) for number in signal.valid_signals()]
    return not any(frame.f_code in handlers for frame in frames)


def node_at_fault(trace: TracebackType | None) -> tuple[Node | None, str]:
    """The innermost layer or loss that was running, and its method."""
    found: tuple[Node | None, str] = (None, "")
    while trace is not None:
        frame, trace = trace.tb_frame, trace.tb_next
        owner = frame.f_locals.get("self")
        if isinstance(owner, Node):
            found = (owner, frame.f_code.co_name)
    return found


def refused_call(error: BaseException) -> tuple[Node, str] | None:
    """The layer or loss, and its method, that could not be called: it takes other parameters."""
    told = re.match(r"(\S+\.)(\w+)\(\) (takes|missing|got) ", str(error))
    trace = error.__traceback__
    if not (isinstance(error, TypeError) and told and trace):
        return None
    while trace.tb_next:
        trace = trace.tb_next
    caller = trace.tb_frame  # in which a call fails
    if not str(caller.f_globals.get("__name__")).startswith("minet."):
        return None
    for owner in caller.f_locals.values():
        owner = getattr(owner, "graph", owner)  # of a net
        for node in owner.walk() if isinstance(owner, Layer) else [owner]:
            method = getattr(node, told[2], None) if isinstance(node, Node) else None
            if getattr(method, "__qualname__", "") == told[1] + told[2]:
                return node, told[2]
    return None


def interrupted_in(error: KeyboardInterrupt) -> str:
    """Where in a layer or loss of the user's own an interrupt came, which may be a loop without end."""
    node, method = node_at_fault(error.__traceback__)
    if node is None or type(node).__module__.startswith("minet."):
        return ""
    return f" at {line_of(error)}, in {method} of {type(node).__name__}"


def running_node() -> Node | None:
    """The innermost layer or loss whose method is running."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        # Methods only: looking at a function's variables keeps them alive until it returns.
        method = frame.f_code.co_varnames[:1] == ("self",)
        if method and isinstance(owner := frame.f_locals["self"], Node):
            return owner
        frame = frame.f_back
    return None


def line_of(error: BaseException) -> str:
    """File and line of the mistake: the last line in the layer's own file, else where it was raised.

    That of a method that cannot be called as minet calls it is where it is defined.
    """
    if called := refused_call(error):
        node, method = called
        code = inspect.unwrap(getattr(type(node), method)).__code__
        return f"{relative(code.co_filename)}:{code.co_firstlineno}"
    frames = traceback.extract_tb(error.__traceback__)
    owner, _ = node_at_fault(error.__traceback__)
    cls: Any = type(owner)
    own = defined(cls)[0] if owner is not None else ""
    frame = ([frame for frame in frames if frame.filename == own] or frames)[-1]
    return f"{relative(frame.filename)}:{frame.lineno}"

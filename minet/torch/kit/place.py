"""Where the code at fault is: the file and line of a forward or backward, of an exception, of a warning."""

from __future__ import annotations

import inspect
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch  # pyright: ignore[reportMissingImports]

from minet.core.naming import relative
from minet.testing.harness import differing
from minet.torch.kit.rig import Case, Rig, differentiable

MINET = Path(__file__).parents[2]
OTHERS = (
    str(Path(torch.__file__).parent), str(MINET / "torch" / "kit"), str(MINET / "torch" / "layer.py"),
    str(MINET / "torch" / "check.py"),
    str(MINET / "testing"),
    str(Path(warnings.__file__).parent / "warnings.py"), str(Path(differing.__code__.co_filename)), "<frozen",
)  # fmt: skip


def place(case: Case, phase: str) -> str:
    """File, line and name of the forward, or of the backward that somebody wrote; empty if PyTorch's own."""
    try:
        if phase == "bprop" and (written := backwards(case)):
            return "; ".join(map(_code, written[:2]))
        return _code(_forward(case.make()))
    except Exception:  # a fault elsewhere must not hide what was found
        return ""


def backwards(case: Case) -> list[Any]:
    """The backward functions in the graph of the outputs that are not PyTorch's own."""
    todo = [y.grad_fn for y in Rig(case).forward() if differentiable(y)]
    seen, found = set(), dict[Any, None]()
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        todo += [other for other, _ in node.next_functions]
        if code := _backward(node):
            found[code] = None
    return [code for code in found if not _from_others(inspect.unwrap(code).__code__.co_filename)]


def _backward(node: Any) -> Any:
    """The Python function of a node of the graph, if it has one."""
    cls = getattr(type(node), "_forward_cls", None)
    if cls is None:
        return None
    generated = "GeneratedBackwardFor_"
    if cls.__name__.startswith(generated):  # of a custom op, by namespace, name and overload
        for op in _ops().values():
            if cls.__name__.startswith(f"{generated}{op._namespace}_{op._name}_"):
                return op._backward_fn
        return None
    return cls.__dict__.get("backward", cls.__dict__.get("vjp", cls.backward))


def _ops() -> dict[str, Any]:
    try:
        from torch._library.custom_ops import OPDEFS
    except ImportError:  # not part of PyTorch's interface
        return {}
    return dict(OPDEFS)


def _forward(call: Any) -> Any:
    """The function that computes forward."""
    if isinstance(call, torch.nn.Module):
        return type(call).forward
    if is_op(call):
        return call._init_fn
    owner = getattr(call, "__self__", None)
    if isinstance(owner, type) and issubclass(owner, torch.autograd.Function):
        return owner.forward
    return call


def is_op(call: Any) -> bool:
    return isinstance(call, torch.library.CustomOpDef)  # pyright: ignore[reportPrivateImportUsage]


def writes_to_inputs(call: Any) -> bool:
    """Whether it is a custom op that declares so, by `mutates_args`."""
    return is_op(call) and bool(call._opoverload._schema.is_mutable)


def _code(function: Any) -> str:
    function = inspect.unwrap(getattr(function, "__func__", function))
    code = function.__code__
    if _from_others(code.co_filename):
        return ""
    return f"{relative(code.co_filename)}:{code.co_firstlineno}, {function.__qualname__.split('>.')[-1]}"


def _from_others(file: str) -> bool:
    return file.startswith(OTHERS)


def line_of(error: BaseException) -> str:
    """File and line of the innermost call outside PyTorch and the kit that raised; empty without one."""
    frames = traceback.extract_tb(error.__traceback__)
    frame = ([frame for frame in frames if not _from_others(frame.filename)] or frames)[-1]
    return "" if _from_others(frame.filename) else f"{relative(frame.filename)}:{frame.lineno}"


def told(error: BaseException) -> str:
    """An exception on one line, with the line of the code that raised it."""
    text = " ".join(str(error).split())
    at = line_of(error)
    return f"{type(error).__name__}{f' at {at}' if at else ''}: {text[:300]}"


@contextmanager
def gathered(found: dict[str, None]) -> Iterator[None]:
    """Collect warnings of code outside PyTorch and the kit as ``message at file:line``, each once."""

    def keep(message: Warning | str, *_: Any) -> None:
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and _from_others(frame.f_code.co_filename):
            frame = frame.f_back
        if frame is not None and not frame.f_code.co_filename.startswith((str(MINET), sys.prefix)):
            text = " ".join(str(message).split())
            found[f"{text[:200]} at {relative(frame.f_code.co_filename)}:{frame.f_lineno}"] = None

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = keep  # type: ignore[assignment]
        yield

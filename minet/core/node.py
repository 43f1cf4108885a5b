"""Node, what a backend runs: a layer or a loss, with its name, its place in the user's file, its errors."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, NoReturn, Self

from minet.core.errors import MinetError
from minet.core.naming import brief, caller, near_to, relative, stem_of


class NameMissing(MinetError, KeyError):
    """A name or a path that is not there; the message lists near ones."""

    def __init__(self, name: Any, known: Iterable[str]) -> None:
        known = [name for name in known if name]  # a root's path is empty
        near = near_to(str(name), known)
        some = ", ".join(near or known[:9]) or "nothing at all"
        super().__init__(f"there is no {name!r}", f"{'near it' if near else 'there are'}: {some}")


class Named(dict[str, Any]):
    """A dict whose items also read as attributes: ``self.p["mean"]`` is ``self.p.mean``."""

    def __missing__(self, name: Any) -> Any:
        raise NameMissing(name, self)

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        raise AttributeError(f"no {name!r}; available: {', '.join(self) or 'nothing'}")

    def __setitem__(self, name: str, value: Any) -> None:
        if name in self and self[name] is not value:
            raise owned(repr(name))
        super().__setitem__(name, value)

    __setattr__ = __setitem__

    def update(self, *args: Any, **kwargs: Any) -> None:
        for name, value in dict(*args, **kwargs).items():
            self[name] = value

    def __ior__(self, other: Any) -> Self:  # type: ignore[override, misc]
        self.update(other)
        return self

    def _taken_out(self, *_: Any) -> NoReturn:
        raise TypeError("these are arrays that the net owns: none can be taken out")

    __delitem__ = pop = popitem = clear = _taken_out


def owned(name: str) -> TypeError:
    """The error about putting another array in place of the net's: the net would keep using its own."""
    return TypeError(f"{name} is an array that the net owns: write into it, with += or [...] =")


class LayerError(MinetError):
    """An error of a layer or a loss: which one, where it was made, the shapes, a hint."""

    def __init__(
        self, message: str, hint: str = "", *, layer: Node | None = None, in_shape: Any = None
    ) -> None:
        super().__init__(message, hint)
        self.layer = layer
        self.in_shape = in_shape

    def __str__(self) -> str:
        if self.layer is None:
            return super().__str__()
        where = f"{self.layer.where}" + (f", input {self.in_shape}" if self.in_shape is not None else "")
        return f"{where}\n  {super().__str__()}"


class Node:
    """A part of a net that computes on its backend: the base of Layer and Loss.

    `Backend.run(node, phase, ...)` calls the node's ``<phase>_cpu`` or ``<phase>_gpu``, or a kernel named
    ``<stem>_<phase>``. The net sets `be`, its backend, and the arrays `p` (parameters), `g` (their
    gradients) and `s` (state), by name; in a loss these three are empty.
    """

    be: Any
    p: Named
    g: Named
    s: Named
    path: str = ""
    train: bool = False  # the mode of a layer's last fprop
    made_at: tuple[str, int] = ("", 0)
    _call: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        node = super().__new__(cls)
        # Bypass the setters of frozen dataclasses, which losses may be.
        object.__setattr__(node, "made_at", caller(sys._getframe(1), cls))
        object.__setattr__(node, "_call", (args, kwargs))
        if cls.__init__ is object.__init__ and (args or kwargs):
            raise node.error(f"{cls.__name__} takes no settings, got {[*args, *kwargs][0]!r}")
        return node

    def constants(self) -> dict[str, Any]:
        """Compile-time constants of the CUDA kernels, by macro name: a window's sizes, flags."""
        return {}

    def on_bind(self) -> None:
        """Cache views here: called when memory is in place, and again after a change of batch size."""

    @classmethod
    def stem(cls) -> str:
        """The class's name in files and parameter paths: gaussian_pool for GaussianPool."""
        return stem_of(cls.__name__)

    @property
    def where(self) -> str:
        """The node as errors name it: ``1/2:GaussianPool (models/x.py:14)``."""
        name = f"{self.path}:{type(self).__name__}" if self.path else type(self).__name__
        file, line = self.made_at
        return f"{name} ({relative(file)}:{line})" if file else name

    def error(self, message: str, hint: str = "", in_shape: Any = None) -> LayerError:
        """A LayerError about this node, to be raised by the caller."""
        return LayerError(message, hint, layer=self, in_shape=in_shape)

    def __repr__(self) -> str:
        args, kwargs = self._call
        settings = [brief(a) for a in args] + [f"{k}={brief(v)}" for k, v in kwargs.items()]
        return f"{type(self).__name__}({', '.join(settings)})"

"""What a module computes, apart from its parameters; custom operators find it by its handle, a string."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any
from weakref import WeakValueDictionary

import torch

from minet import backends
from minet.core.errors import MinetError
from minet.core.graph import assign_paths
from minet.core.layer import Layer, Shape
from minet.torch import layout
from minet.torch.program import Program

MOST = 64  # shapes of input for which a module is kept ready
BACKENDS = ("auto", "cpu", "emu")
DTYPES = {torch.float32: "float32", torch.float64: "float64"}
_known: WeakValueDictionary[str, Spec] = WeakValueDictionary()
_compiled: dict[str, Spec] = {}  # those that a compiler has seen: its graphs have nothing but the handle


class Spec:
    """Layers with their settings, and a backend.

    A copied module has the same Spec; a pickled one makes its own when it is loaded.

    Parameters
    ----------
    graph : Layer
        Unbound; a clone of it is kept.
    backend : {"auto", "cpu", "emu"}
    """

    def __init__(self, graph: Layer, backend: str = "auto") -> None:
        for layer in graph.walk():
            if layer.bound:
                raise layer.error(
                    "is bound in a net already: a layer binds once", "module(layer.clone()) has its settings"
                )
        assign_paths(graph)
        self.graph, self.backend = graph.clone(), backend
        for old, new in zip(graph.walk(), self.graph.walk(), strict=True):
            new.path, new.placed = old.path, True
        if backend not in BACKENDS:
            raise MinetError(f"a module's backend is one of {', '.join(BACKENDS)}, got {backend!r}")
        # No number: PyTorch keeps what it compiles on disk, and would take it for another process's module.
        self.handle = f"{type(graph).__name__}#{secrets.token_hex(8)}"
        self._idle: dict[tuple[Shape, torch.device, str], list[Program]] = {}
        _known[self.handle] = self

    def __deepcopy__(self, memo: dict[int, Any]) -> Spec:
        return self

    def __reduce__(self) -> Any:
        return Spec, (self.graph.clone(), self.backend)

    @contextmanager
    def program(self, in_shape: Shape, like: torch.Tensor) -> Iterator[Program]:
        """Yield a program for a tensor's device and dtype that no other call uses; then keep it."""
        key = in_shape, like.device, DTYPES[like.dtype]
        if key not in self._idle and len(self._idle) == MOST:
            self._idle.pop(next(iter([*self._idle])), None)  # the oldest; of a copy, as other threads may add
        idle = self._idle.setdefault(key, [])
        try:
            program = idle.pop()  # atomic
        except IndexError:
            program = Program(self.graph, in_shape, self._backend(like.device, key[2]))
        yield program
        program.release()
        idle.append(program)  # not after an error: layers may be in any state

    def attached(
        self, in_shape: Shape, params: Sequence[torch.Tensor], running: Sequence[torch.Tensor]
    ) -> Layer:
        """The layers, bound to the memory of parameters and running statistics."""
        like = next((t for t in (*params, *running) if t.dtype in DTYPES), torch.empty(0))
        program = Program(self.graph, in_shape, self._backend(like.device, DTYPES[like.dtype]))
        with on(like):
            program.attach(*([layout.native(t) for t in tensors] for tensors in (params, running)))
        return program.graph

    def _backend(self, device: torch.device, dtype: str) -> backends.Backend:
        if device.type == "cuda" and self.backend == "auto":
            from minet.torch.card import card

            return card(device)
        return _backend("emu" if self.backend == "emu" else "cpu", dtype)

    def check(self, x: torch.Tensor, params: Sequence[torch.Tensor], autocast: bool = False) -> Shape:
        """(C, H, W) of an input that the module can take; else raise. Under autocast any dtype will do.

        Raises
        ------
        LayerError
            If the input's number of axes, dtype or device is none that the module can take.
        """
        graph = self.graph
        if x.dim() != 4:
            three = x.dim() == 3
            hint = "x[None] makes a batch of one" if three else "x[:, :, None, None] has maps of 1x1"
            raise graph.error(f"takes images (N, C, H, W), got a tensor of shape {tuple(x.shape)}", hint)
        if x.layout != torch.strided:
            raise graph.error(f"computes on dense tensors, got {x.layout}", "x.to_dense()")
        on_card = x.device.type == "cuda" and self.backend == "auto"
        if x.device.type not in ("cpu", "meta") and not on_card:
            where = (
                "the cpu or a CUDA device"
                if self.backend == "auto"
                else f"the cpu, as backend={self.backend!r}"
            )
            raise graph.error(f"computes on {where}, got a tensor on {x.device}", "x.cpu(), module.cpu()")
        single = on_card or self.backend == "emu"
        if not autocast and (x.dtype not in DTYPES or (x.dtype == torch.float64 and single)):
            kinds = "float32" if single else "float32 or float64"
            raise graph.error(f"computes in {kinds}, got {x.dtype}", "x.float(), or torch.autocast")
        for param in params:
            if param.dtype != x.dtype:
                found = f"its parameters are {param.dtype}, got a tensor of {x.dtype}"
                raise graph.error(found, f"module.to({x.dtype}), or x.to({param.dtype})")
            if param.device != x.device:
                found = f"its parameters are on {param.device}, got a tensor on {x.device}"
                raise graph.error(found, f"module.to({str(x.device)!r})")
        return tuple(int(size) for size in x.shape[1:])

    def check_params(self, program: Program, params: Sequence[torch.Tensor]) -> None:
        """Raise unless the parameters are those of such an input."""
        for (layer, name, declared), value in zip(program.params, params, strict=True):
            if tuple(value.shape) != tuple(declared.shape):
                found = f"its {name} is {tuple(value.shape)}, but on this input"
                raise layer.error(
                    f"{found} it would be {tuple(declared.shape)}",
                    "a module learns C, and what else its parameters depend on, from its first input",
                    in_shape=program.in_shape,
                )


def on(x: torch.Tensor) -> AbstractContextManager[Any]:
    """Make a tensor's device PyTorch's current one."""
    return torch.cuda.device(x.device) if x.device.type == "cuda" else nullcontext()


def spec_of(handle: str, compiled: bool = False) -> Spec:
    """The Spec with that handle; one that was compiled is kept for good."""
    spec = _known.get(handle)
    if spec is None:
        hint = "keep it until backward is done, and use what is exported or traced in the same process"
        raise MinetError(f"the module of {handle} is gone", hint)
    if compiled:
        _compiled[handle] = spec
    return spec


@cache
def _backend(name: str, dtype: str) -> backends.Backend:
    return backends.get(name, dtype)

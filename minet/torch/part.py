"""The parameters and running statistics of one layer, as a part of a module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter, is_lazy

from minet.backends.base import limits
from minet.core import rng
from minet.core.declared import declared_params, first_value
from minet.core.errors import MinetError
from minet.core.layer import Layer, Param, Shape, State

PROBE = (64, 64, 64)  # an input shape for which layers are asked what they declare, before theirs is known


class Unshaped(UninitializedBuffer):
    """A buffer without a shape yet, which can be copied, as PyTorch's parameters without a shape can."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Unshaped:
        return _buffer(device=self.device, dtype=self.dtype)


# PyTorch declares no arguments for them.
_buffer: Any = Unshaped
_parameter: Any = UninitializedParameter


class Part(LazyModuleMixin, torch.nn.Module):
    """A layer's parameters and running statistics, under its own names for them; its children's inside.

    Until the input's shape is known they have no shapes, as in PyTorch's lazy modules.
    """

    def __init__(self, layer: Layer, device: Any, dtype: torch.dtype) -> None:
        torch.nn.Module.__init__(self)  # LazyModuleMixin's own warns every user that lazy modules are new
        self._layer = layer
        self._bounds: list[tuple[str, float, float]] = []
        self._learned: tuple[str, ...] = ()
        self._running: tuple[str, ...] = ()
        self._options = {"device": device, "dtype": dtype}
        try:
            declared = _declared(layer, PROBE, PROBE)
        except Exception:  # a layer that does not take that shape gets its parameters with its own
            declared = None
        if declared:
            self._register(*declared)
        lazy: Any = getattr(self, "_lazy_load_hook")  # noqa: B009  # LazyModuleMixin's, on a type of its own
        self._load_hook = self._register_load_state_dict_pre_hook(lazy)
        for i, child in enumerate(layer.children):
            self.add_module(str(i), Part(child, device, dtype))

    def parts(self) -> Iterator[Part]:
        """This part and those inside it, in the order of `Layer.walk`."""
        yield self
        for child in self._modules.values():
            if isinstance(child, Part):
                yield from child.parts()

    def _register(self, params: dict[str, Param], states: dict[str, State]) -> None:
        """Make a parameter or a buffer without a shape for each name."""
        for name in (*params, *states):
            if hasattr(type(self), name) or name in vars(self):
                raise self._layer.error(f"{name!r} is a name that torch.nn.Module uses itself", "rename it")
        self._learned, self._running = tuple(params), tuple(states)
        for name in params:
            setattr(self, name, _parameter(**self._options))
        for name, state in states.items():
            own = {"dtype": torch.from_numpy(np.empty(0, state.dtype)).dtype} if state.dtype else {}
            self.register_buffer(name, _buffer(**self._options | own))

    def begin(self, in_shape: Shape, out_shape: Shape, seed: int) -> None:
        """Give parameters and statistics their shapes, and first values to those that none was loaded for."""
        layer = self._layer
        params, states = _declared(layer, in_shape, out_shape)
        if not (self._learned or self._running):
            self._register(params, states)
        if (tuple(params), tuple(states)) != (self._learned, self._running):
            hint = "params() and state() must give the same names whatever in_shape is"
            raise layer.error("the names of its parameters depend on the input's shape", hint)
        for name, param in params.items():
            drawn = rng.generator(seed, f"{layer.full_path}.{name}")
            fresh = self._fill(name, first_value(layer, name, param, drawn))
            if fresh or not param.lr:  # a user may have frozen one that was loaded
                getattr(self, name).requires_grad_(bool(param.lr))
            if param.bounds:
                self._bounds.append((name, *limits(param.bounds)))
        for name, state in states.items():
            self._fill(name, np.full(state.shape, state.init))

    def done(self) -> None:
        """Forget what only modules without shapes need."""
        self._load_hook.remove()
        del self._load_hook

    def _fill(self, name: str, values: np.ndarray) -> bool:
        """Give one that has no shape yet its values; return whether it had none."""
        found: Any = getattr(self, name)
        if fresh := is_lazy(found):
            found.materialize(values.shape)
            with torch.no_grad():
                found.copy_(torch.tensor(values))
        elif tuple(found.shape) != values.shape:
            what = f"its {name} was loaded with shape {tuple(found.shape)}, but has {values.shape} here"
            raise self._layer.error(what, "load the state of a module for such inputs")
        return fresh

    def learned(self) -> list[torch.Tensor]:
        """The parameters, of which those that a step has moved out of their bounds are set back into them."""
        found = {name: getattr(self, name) for name in self._learned}
        for name, low, high in self._bounds:
            if isinstance(found[name], torch.nn.Parameter) and not transformed():
                # .data, since the copies that autograd has kept of it are within the bounds already.
                found[name].data.clamp_(low, high)
            else:  # the caller's own, by a parametrisation or functional_call, or not to be written to
                found[name] = found[name].clamp(low, high)
        return [*found.values()]

    def _replicate_for_data_parallel(self) -> Any:
        lazy: Any = LazyModuleMixin  # which refuses always
        kind = lazy if hasattr(self, "_load_hook") else torch.nn.Module
        return kind._replicate_for_data_parallel(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise MinetError(
            f"{self._get_name()} is a part of a module, and does not compute by itself",
            "call the whole module",
        )

    def extra_repr(self) -> str:
        layer = self._layer
        return "" if layer.children else repr(layer).partition("(")[2].removesuffix(")")

    def _get_name(self) -> str:
        return type(self._layer).__name__


def transformed() -> bool:
    """Whether torch.func or torch.export looks on, which refuse that a parameter is written to."""
    # Not is_exporting(), which up to PyTorch 2.11 is true in what torch.compile traces, too.
    return torch.compiler._is_exporting_flag or torch._C._are_functorch_transforms_active()


def _declared(layer: Layer, in_shape: Shape, out_shape: Shape) -> tuple[dict[str, Param], dict[str, State]]:
    """A layer's own parameters, and its persistent state."""
    params = {} if layer.tied else declared_params(layer, in_shape)
    states = layer.state(in_shape, out_shape)
    return params, {name: state for name, state in states.items() if state.persistent}

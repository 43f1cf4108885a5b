"""Layer: a torch module as a layer of a net."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from minet.core import layer as core
from minet.core.layer import Array, Param, Shape, State, update
from minet.torch.kit.place import told
from minet.torch.kit.rig import lazy

TRIED = 2  # samples on which a module is tried: more than one, to see that it keeps the batch


class Layer(core.Layer):
    """A `torch.nn.Module` as a layer like any other: ``Net([Layer(module), PReLU()], (3, 32, 32), 64)``.

    The layer computes with a copy of the module, `layer.module`, whose parameters and buffers are the net's:
    they share memory, so what a solver of minet's learns is in the module, and checkpoints have both. It runs
    on the cpu, on one copy of x in PyTorch's order (N, C, H, W); on a GPU backend its arrays travel to the
    host and back. `train` and `eval` follow the net. The graph of a forward in training is kept until the
    next; in evaluation bprop runs forward again.

    Random draws come from torch's global generator, which is seeded for each call by the net's seed, the
    layer's path and the step, and left as it was. A parameter with ``requires_grad=False`` is not learned.

    Shapes: ``(C, H, W)`` to what the module makes of it: ``(K, P, Q)`` of a (N, K, P, Q), ``(K, 1, 1)`` of a
    (N, K). Parameters and persistent buffers have the module's shapes and names, with ``_`` for ``.``, and
    before a number: ``"0.weight"`` is ``_0_weight``.

    Parameters
    ----------
    module : torch.nn.Module or callable
        Of a module, the values that it has are the initial ones. A class or function that makes one is called
        with torch seeded by the net's seed, so that the same seed gives the same net, as the kit asks.

    Attributes
    ----------
    module : torch.nn.Module

    Raises
    ------
    LayerError
        If it is no module, does not take the input, or gives something else than one tensor of the same type
        for as many samples.
    """

    module: torch.nn.Module | None

    def __init__(self, module: torch.nn.Module | Callable[[], torch.nn.Module]) -> None:
        if not callable(module):  # modules are, too
            found = f"takes a torch.nn.Module, got {module!r:.60}"
            raise self.error(found, "Layer(torch.nn.Conv2d(3, 8, 3))")
        self._check_lazy(module)
        self.given = module
        self._clear()

    def _check_lazy(self, module: Any) -> None:
        if lazy(module):
            raise self.error("has lazy parameters, without a shape", "run the module on a batch first")

    def _clear(self) -> None:
        self.module = None
        self._shapes: dict[Shape, Shape] = {}
        self._values: tuple[tuple[int, int], dict[str, np.ndarray]] | None = None
        self._graph: tuple[torch.Tensor, torch.Tensor] | None = None
        self._homes: list[tuple[torch.nn.Module, str, str, torch.Tensor]] = []

    def clone(self) -> core.Layer:
        other = super().clone()
        assert isinstance(other, Layer)
        other._clear()
        return other

    def __repr__(self) -> str:
        if type(self) is not Layer:
            return super().__repr__()
        module = self.module or self.given
        if not isinstance(module, torch.nn.Module):
            return f"Layer({getattr(module, '__name__', '...')})"
        text = repr(module)
        return f"Layer({type(module).__name__ if chr(10) in text else text})"

    # -- the module -------------------------------------------------------------------------------

    def _made(self) -> torch.nn.Module:
        """A module of the layer's own: a copy of the one given, or one made from the net's seed."""
        if isinstance(self.given, torch.nn.Module):
            try:
                return copy.deepcopy(self.given)
            except Exception as error:
                hint = "Layer(lambda: MyModule(...)) makes it anew"
                raise self.error(f"cannot copy the module: {told(error)}", hint) from error
        try:
            with _seeded(self.key, 0):
                made = self.given()
        except Exception as error:
            raise self.error(f"its function fails: {told(error)}", "Layer(lambda: MyModule(...))") from error
        if not isinstance(made, torch.nn.Module):
            raise self.error(f"its function made {made!r:.60}, not a module", "Layer(lambda: MyModule())")
        self._check_lazy(made)
        return made

    def _own(self) -> torch.nn.Module:
        if self.module is None:
            self.module = self._made()
        return self.module

    def _first(self) -> dict[str, np.ndarray]:
        """The initial values of parameters and buffers, by the module's names."""
        if self._values is None or self._values[0] != self.key:
            made = self._made()
            named = [*made.named_parameters(), *made.named_buffers()]
            self._values = self.key, {name: _array(value) for name, value in named}
        return self._values[1]

    def _initial(self, name: str, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        return self._first()[name].reshape(shape)

    def _named(self) -> dict[str, str]:
        """The module's names of parameters and persistent buffers, by the layer's."""
        module, names = self._own(), dict[str, str]()
        saved = module.state_dict().keys()
        for name in [*dict(module.named_parameters()), *(n for n, _ in module.named_buffers() if n in saved)]:
            ours = name.replace(".", "_")
            ours = ours if ours.isidentifier() else f"_{ours}"
            while ours in names or hasattr(dict, ours):
                ours += "_"
            names[ours] = name
        return names

    # -- declared ---------------------------------------------------------------------------------

    def out_shape(self, in_shape: Shape) -> Shape:
        if in_shape not in self._shapes:
            self._shapes[in_shape] = self._tried(in_shape)
        return self._shapes[in_shape]

    def _tried(self, in_shape: Shape) -> Shape:
        """The shape that the module makes of zeros, in evaluation."""
        module = self._own().eval()
        floats = (p.dtype for p in module.parameters() if p.is_floating_point())
        x = torch.zeros(TRIED, *in_shape, dtype=next(floats, torch.float32))
        try:
            with torch.no_grad(), _seeded(self.key, 0):
                y = module(x)
        except Exception as error:
            found = f"the module fails on (N, C, H, W) = {(TRIED, *in_shape)}: {told(error)}"
            raise self.error(found) from None
        self._check(x, y)
        if y.dim() not in (2, 4):
            found = f"the module returns {tuple(y.shape)}, neither (N, K, P, Q) nor (N, K)"
            raise self.error(found, "torch.nn.Flatten, or a reshape at its end")
        return (*y.shape[1:], 1, 1)[:3]

    def _check(self, x: torch.Tensor, y: Any) -> None:
        """Refuse what is not one tensor of the input's type for as many samples."""
        if not isinstance(y, torch.Tensor):
            hint = "wrap it in a module whose forward returns one tensor"
            raise self.error(f"the module returns a {type(y).__name__}, not a tensor", hint)
        if y.dtype != x.dtype:
            kinds = (str(t.dtype).removeprefix("torch.") for t in (y, x))
            raise self.error("the module returns {}, for an input of {}".format(*kinds), "y.to(x.dtype)")
        if not y.dim() or len(y) != len(x):
            found = f"the module changes the batch: of {len(x)} samples it makes {tuple(y.shape)}"
            raise self.error(found, "the first axis of its output must be N")

    def params(self, in_shape: Shape) -> dict[str, Param]:
        learned, found = dict(self._own().named_parameters()), {}
        for ours, name in self._named().items():
            if name in learned:
                shape = tuple(learned[name].shape) or (1,)
                init = partial(self._initial, name)  # which is called when the net has given its seed
                found[ours] = Param(shape, init, lr=1.0 if learned[name].requires_grad else 0.0)
        return found

    def state(self, in_shape: Shape, out_shape: Shape) -> dict[str, State]:
        buffers, found = dict(self._own().named_buffers()), {}
        for ours, name in self._named().items():
            if name in buffers:
                b = buffers[name]
                dtype = None if b.is_floating_point() else str(b.dtype).removeprefix("torch.")
                found[ours] = State(tuple(b.shape) or (1,), dtype, per_sample=False, persistent=True)
        return found

    def on_bind(self) -> None:
        module, names = self._own(), self._named()
        if not self.bound:  # a State starts from a number; buffers have an array
            for ours in self.s:
                value = self._first()[names[ours]].reshape(self.s[ours].shape)
                self.be.copy(np.array(value, self.s[ours].dtype), self.s[ours])
            self._values = None
        if not all(type(a) is np.ndarray for a in (*self.p.values(), *self.s.values())):
            return  # on a card, as a CardArray is: the host is given copies before it computes
        module.to(torch.float64 if self.be.dtype == np.float64 else torch.float32)
        for ours, p in self._parameters():
            p.data = torch.from_numpy(self.p[ours]).reshape(p.shape)
        ours_of = {name: ours for ours, name in names.items()}
        self._homes = []
        for path, part in module.named_modules():
            for name, value in part.named_buffers(recurse=False):
                ours = ours_of.get(f"{path}.{name}" if path else name, "")
                if ours in self.s:
                    home = torch.from_numpy(self.s[ours]).reshape(value.shape)
                    part._buffers[name] = home
                    self._homes.append((part, name, ours, home))

    def _parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """Each parameter with the layer's name for it."""
        found = dict(self._own().named_parameters())
        return ((ours, found[name]) for ours, name in self._named().items() if name in found)

    # -- computed ---------------------------------------------------------------------------------

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        self._graph = None
        with torch.set_grad_enabled(train):
            leaf, out = self._forward(x, train)
        if out[0].numel() != y[..., 0].size:
            found = f"the module makes {tuple(out.shape[1:])}, but {self.bound_shapes[1]} when it was tried"
            raise self.error(found, "its output's shape must depend on the input's alone")
        if train:
            self._graph = leaf, out
        update(y, _inner(out.detach(), y.shape), beta)

    def _forward(self, x: Array, train: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """The input as a leaf of autograd's graph, and the module's output."""
        module = self._own().train(train)
        leaf = torch.from_numpy(x).requires_grad_()
        outer = _outer(leaf)
        with _seeded(self.key, *(int(self.clock.step), *(self.clock.part or ())) if train else (0,)):
            out = module(outer)
        self._check(outer, out)
        for part, name, ours, home in self._homes:
            if (now := part._buffers[name]) is not None and now is not home:  # assigned anew
                self.s[ours][...] = now.detach().numpy().reshape(self.s[ours].shape)
                part._buffers[name] = home
        return leaf, out

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        with torch.enable_grad():
            leaf, out = self._graph or self._forward(x, self.train)
        learned = [(ours, p) for ours, p in self._parameters() if p.requires_grad]
        targets = [*([leaf] if dx is not None else []), *(p for _, p in learned)]
        grads: list[torch.Tensor | None] = [None] * len(targets)
        if targets and out.requires_grad:
            above = _outer(torch.from_numpy(dy)).reshape(out.shape)
            grads = list(torch.autograd.grad(out, targets, above, retain_graph=True, allow_unused=True))
        if dx is not None:
            of_x = grads.pop(0)
            update(dx, np.zeros((), dx.dtype) if of_x is None else of_x.numpy(), beta)
        for (ours, _), grad in zip(learned, grads, strict=True):
            if grad is not None:
                self.g[ours] += grad.numpy().reshape(self.g[ours].shape)

    @classmethod
    def examples(cls) -> Iterable[tuple[Callable[[], core.Layer], Shape]]:
        nn = torch.nn
        yield lambda: Layer(lambda: nn.Conv2d(3, 4, 3, padding=1)), (3, 7, 6)
        yield lambda: Layer(lambda: nn.Sequential(nn.BatchNorm2d(3), nn.GELU(), nn.Dropout(0.3))), (3, 5, 4)
        yield lambda: Layer(lambda: nn.Sequential(nn.Flatten(), nn.Linear(24, 5))), (2, 3, 4)


def _array(value: torch.Tensor) -> np.ndarray:
    """The values in NumPy, which knows no bfloat16."""
    value = value.detach().cpu()
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy()


def _outer(x: torch.Tensor) -> torch.Tensor:
    """A (C, H, W, N) as (N, C, H, W): a copy in any case, as a module may write to its input."""
    return x.permute(3, 0, 1, 2).clone(memory_format=torch.contiguous_format)


def _inner(out: torch.Tensor, shape: Shape) -> np.ndarray:
    """An output (N, K, P, Q) or (N, K) as (K, P, Q, N), a view."""
    return out.reshape(shape[-1], *shape[:-1]).permute(1, 2, 3, 0).numpy()


@contextmanager
def _seeded(key: tuple[int, int], *step: int) -> Iterator[None]:
    """Within this context torch draws from a seed of a layer's key and the step; its state comes back.

    The part of a batch follows the step: parts draw each their own, though not what the whole batch would.
    """
    state = torch.get_rng_state()
    seed = np.random.SeedSequence([*key, *step]).generate_state(1, np.uint64)[0]
    torch.default_generator.manual_seed(int(seed))
    try:
        yield
    finally:
        torch.set_rng_state(state)

"""What training asks of a solver, and what SGD and Adam have in common."""

from __future__ import annotations

import math
from dataclasses import replace
from inspect import getattr_static
from types import SimpleNamespace
from typing import Any, ClassVar, Protocol

import numpy as np

from minet.core.errors import MinetError
from minet.core.layer import Array
from minet.core.naming import brief, relative
from minet.core.net import Net
from minet.core.settings import is_real, plain
from minet.train.callback import is_array
from minet.train.function_settings import hint_for, kind_of
from minet.train.optim.schedules import Schedule, check_number, check_schedule


class Solver(Protocol):
    """What `Trainer`, checkpoints and ``minet train`` ask of a solver; a class need not inherit from this.

    ``net.train_step(x, labels, solver)`` alone asks for `update` only. Two more are used where a solver has
    them:

    - ``bind(net)`` is called before a step computes anything. What it raises, such as an error about a
      setting, leaves the net as it is.
    - ``reads_verdict = True`` says that on a GPU its kernels read ``net.memory.verdict`` and change nothing
      while ``verdict[1]`` is not 0, be it parameters or what the solver keeps. Without it a step on a GPU
      waits until its loss is known to be finite.

    Attributes
    ----------
    epoch : float
        Epochs done, including fractions; the trainer sets it before each step.
    """

    epoch: float

    @property
    def rate(self) -> float:
        """The learning rate at `epoch`, for the log."""
        ...

    def update(self, net: Net) -> None:
        """Change the net's parameters, by its gradients.

        ``net.slots`` has a `Slot` for each: its `path`, `value`, `grad` and `param`, what the layer declares.
        ``param.lr`` multiplies the rate, and 0 freezes the parameter; ``param.decay`` says whether it decays;
        it must stay within ``param.bounds``. Only finite gradients arrive here.
        """

    def state(self, net: Net) -> dict[str, Array]:
        """All that a resumed run needs, by name: arrays on the net's backend, made at the first call.

        A checkpoint saves them, and resumes by writing into them. A name is a kind, a colon, and the path of
        the parameter that it belongs to, if any: ``velocity:2/conv.w``.
        """
        ...


def lacking(solver: Any) -> list[str]:
    """What an object lacks to be a `Solver`; of a class, all of it."""
    needs = ("update", "rate", "epoch", "state")
    return [name for name in needs if isinstance(solver, type) or getattr_static(solver, name, None) is None]


def state_of(solver: Any, net: Net) -> dict[str, Array]:
    """What a solver keeps, for a checkpoint; raise MinetError if a run could not be resumed with it."""
    name, state, again = type(solver).__name__, solver.state(net), solver.state(net)
    if not isinstance(state, dict):
        what = f"{name}.state(net) returned {kind_of(state)}, not a dict of arrays"
        raise MinetError(what, hint_for(state, 'return {"velocity:2/conv.w": velocity}'))
    for key, value in state.items():
        if not isinstance(key, str) or ":" not in key or key.startswith(("callback:", ":")):
            what = f"{name}.state(net) calls an array {key!r}, which is not a kind and a parameter's path"
            raise MinetError(what, f'"velocity:{key}", for a checkpoint holds the parameters by their paths')
        if not is_array(value) or getattr(getattr(value, "dtype", None), "kind", None) not in tuple("biuf"):
            what = f"{name}.state(net) has {kind_of(value)} as {key!r}, which is no array of numbers"
            raise MinetError(what, "net.be.zeros((1,)): a checkpoint resumes by writing into it")
        other = again.get(key, value)
        if value.size and other is not value and not net.be.overlap(value, other):
            what = f"{name}.state(net) returns another array as {key!r} at each call"
            raise MinetError(what, "make it once, and keep it: a checkpoint resumes by writing into it")
    return state


class FirstOrder:
    """What SGD and Adam have in common: rate, clipping, and arrays that are kept for each parameter.

    A subclass is a dataclass with the settings below, and its own.
    """

    lr: float
    weight_decay: float
    schedule: Schedule | None
    clip_norm: float | None
    clip_value: float | None
    epoch: float = 0.0
    reads_verdict: ClassVar[bool] = True
    stem: ClassVar[str]  # of its loops and kernels
    keeps: ClassVar[dict[str, str]]  # what it keeps for each parameter: name in the kernel, kind of state

    def __post_init__(self) -> None:
        self.check()
        self.epoch = 0.0
        self._net: Net | None = None
        self._kept: dict[str, dict[str, Array]] = {kind: {} for kind in self.keeps.values()}
        self._step: Any = None
        self._scale: Any = None

    def check(self) -> None:
        """Raise MinetError if a setting is out of range; settings may be changed between steps."""
        check_number(self, "lr", "above 0", is_real(self.lr) and self.lr > 0)
        decays = is_real(self.weight_decay) and self.weight_decay >= 0
        check_number(self, "weight_decay", "of at least 0", decays)
        for name in ("clip_norm", "clip_value"):
            if (limit := getattr(self, name)) is not None:
                check_number(self, name, "above 0, or None", is_real(limit) and limit > 0)
        if self.schedule is not None:
            check_schedule(self, "schedule", self.schedule)

    @property
    def rate(self) -> float:
        """The learning rate at this epoch."""
        if self.schedule is None:
            return self.lr
        try:
            factor: Any = self.schedule(self.epoch)
        except Exception as error:
            raise self._bad_schedule(f"fails: {type(error).__name__}: {error}") from error
        if not is_real(factor) or factor < 0:
            raise self._bad_schedule(f"returned {factor!r}")
        return self.lr * float(plain(factor))

    def _bad_schedule(self, what: str) -> MinetError:
        code = getattr(self.schedule, "__code__", None)
        place = f" ({relative(code.co_filename)}:{code.co_firstlineno})" if code else ""
        return MinetError(
            f"the schedule {brief(self.schedule)}{place} {what} at epoch {self.epoch:g}",
            "a schedule takes the epoch and returns a finite factor of at least 0",
        )

    def update(self, net: Net) -> None:
        """Update all parameters of the net by one step, using its gradients."""
        self.bind(net)
        scale = None if self.clip_norm is None else self._scale(self.clip_norm)
        self._take(scale=scale, clip=math.inf if self.clip_value is None else self.clip_value)

    def _take(self, **clipping: Any) -> None:
        """Take a step with the settings of now."""
        raise NotImplementedError

    def bind(self, net: Net) -> None:
        """Check the settings and, at the first call, attach to this net; `update` does it if needed.

        Raises
        ------
        MinetError
            If a setting is out of range, if it already serves another net, or if what a copied solver holds
            does not fit the net's parameters.
        """
        self.check()
        _ = self.rate  # a schedule that fails does so before the step computes anything
        if self._net is net:
            return
        if self._net is not None:
            raise MinetError(
                "this solver already serves another net",
                f"create one {type(self).__name__}(...) for each net",
            )
        self._check_kept(net)
        be, memory = net.be, net.memory
        flat = {name: be.zeros(memory.flat_params.shape) for name in self.keeps}
        bound = {kind: {s.path: s.place(flat[name]) for s in net.slots} for name, kind in self.keeps.items()}
        for kind, arrays in self._kept.items():
            for path, values in arrays.items():
                be.copy(values, bound[kind][path])
        buffers = {"w": memory.flat_params, "g": memory.flat_grads, **flat}
        self._step = be.solver_step(self.stem, net.slots, buffers, memory.verdict, **self._fixed(be))
        self._scale = be.clip_scale(net.slots, memory.flat_grads)
        self._kept, self._net = bound, net

    def rehearse(self, net: Net) -> None:
        """Launch what an update does, on zeros, to have it compiled; nothing changes."""
        zeros = net.be.zeros(net.memory.flat_params.shape)
        memory = SimpleNamespace(flat_params=zeros, flat_grads=zeros, verdict=net.memory.verdict)
        like: Any = SimpleNamespace(be=net.be, slots=net.slots, memory=memory)
        fresh: FirstOrder = replace(self)  # type: ignore[type-var]  # subclasses are dataclasses
        fresh.update(like)

    def _fixed(self, be: Any) -> dict[str, Array]:
        """More arrays that the kernel takes."""
        return {}

    def _check_kept(self, net: Net) -> None:
        """Raise unless the arrays that a copied solver holds fit the net's parameters."""
        shapes = {slot.path: tuple(slot.value.shape) for slot in net.slots}
        for kind, arrays in self._kept.items():
            held = {path: tuple(values.shape) for path, values in arrays.items()} or shapes
            if held != shapes:
                path = next(p for p in [*shapes, *held] if shapes.get(p) != held.get(p))
                raise MinetError(
                    f"the {kind} of {path} has shape {held.get(path, 'none')}, "
                    f"the net's parameter {shapes.get(path, 'none')}",
                    "use a copy of a solver that served the same model",
                )

    def state(self, net: Net) -> dict[str, Array]:
        """What it keeps for each parameter of the net, by name, such as ``velocity:2/conv.w``."""
        self.bind(net)
        return {f"{kind}:{path}": a for kind, arrays in self._kept.items() for path, a in arrays.items()}

    def __getstate__(self) -> dict[str, Any]:
        """The settings and what it keeps, in host memory: a copy serves the net that it first updates."""
        state, net = dict(vars(self)), self._net
        if net is not None:
            kept = {
                kind: {path: np.array(net.be.get(values)) for path, values in arrays.items()}
                for kind, arrays in self._kept.items()
            }
            state |= {"_kept": kept, "_net": None, "_step": None, "_scale": None}
        return state

"""The base of the checks: a module or function under control, its inputs and its gradients by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch.utils import _pytree as pytree  # pyright: ignore[reportMissingImports]

from minet.core.layer import Shape
from minet.testing.harness import ROUNDING, CheckFailed, Skip, expect, values

Input: TypeAlias = Shape | torch.Tensor  # of one sample; a tensor is passed as it is, whatever the batch
LARGE = 32  # arrays with a gradient from which on a module is a net, checked with fewer differences
GRAD_OUTPUT = "grad_output"
SCALE = 0.31 * np.pi


Check: TypeAlias = Callable[["Case"], str | None]  # what it returns is shown beside PASS


def registry() -> tuple[dict[str, Check], Callable[[Check], Check]]:
    """Return a dict of checks and a decorator that adds one; a check's docstring opens with its promise."""
    checks: dict[str, Check] = {}

    def check(function: Check) -> Check:
        checks[function.__name__] = function
        return function

    return checks, check


@dataclass(frozen=True)
class Case:
    """What to check: a function that makes the module or function, its inputs, a batch size, a device."""

    make: Callable[[], Any]
    inputs: tuple[Input, ...]
    batch: int = 3
    device: str = "cpu"

    @cached_property
    def is_module(self) -> bool:
        return isinstance(self.make(), torch.nn.Module)

    def zeros(self) -> list[torch.Tensor]:
        """A batch of zeros."""
        return [x if isinstance(x, torch.Tensor) else torch.zeros(self.batch, *x) for x in self.inputs]

    @property
    def modes(self) -> tuple[bool, ...]:
        """Training and evaluation; of a function, which has no modes, one alone."""
        return (True, False) if self.is_module else (True,)


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """Within this context torch draws from a seed; afterwards it goes on as if nothing had been drawn."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=list(devices)):
        torch.manual_seed(seed)
        yield


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Within this context torch computes on so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def lazy(call: Any) -> bool:
    """Whether it is a module with parameters or buffers that have no shape yet."""
    if not isinstance(call, torch.nn.Module):
        return False
    return any(map(torch.nn.parameter.is_lazy, [*call.parameters(), *call.buffers()]))


class Rig:
    """A module or function made anew, with its inputs and the gradient of its output under control.

    Parameters
    ----------
    case : Case
    dtype : torch.dtype
    batch : int, optional
    seed : int
        For what the module draws while it is made.
    used : bool
        Whether a batch has moved its buffers.

    Attributes
    ----------
    x : list of Tensor
        The inputs; those of floating type are leaves that require a gradient.
    params : dict of str to Tensor
        What has a gradient besides the inputs.
    buffers : dict of str to Tensor
        Parameters without a gradient too: forward may move them, as averages of others.
    """

    def __init__(
        self, case: Case, dtype: torch.dtype = torch.float32, batch: int | None = None, seed: int = 0,
        used: bool = True,
    ) -> None:  # fmt: skip
        self.case, self.dtype, self.batch = case, dtype, batch or case.batch
        with seeded(seed):
            self.call = case.make()
            if lazy(self.call):  # its first batch says what shapes it has, and draws the values
                with torch.no_grad():
                    self.call.eval()(*case.zeros())
        self.module = self.call if isinstance(self.call, torch.nn.Module) else None
        self.params: dict[str, Any] = {}
        self.buffers: dict[str, Any] = {}
        if self.module is not None:
            self.module.to(device=case.device, dtype=dtype)
            self.params = {name: p for name, p in self.module.named_parameters() if p.requires_grad}
            self.buffers = self.now()
            for name, p in self.params.items():
                # Away from symmetric initial values, such as a bias of 0, which hide mistakes; a little.
                size = float(p.detach().abs().mean()) if p.numel() else 0.0
                p.data += 0.1 * (size or 1.0) * torch.from_numpy(values(tuple(p.shape), name)).to(p.data)
        self.names = ["x"] if len(case.inputs) == 1 else [f"x{i}" for i in range(len(case.inputs))]
        self.home = {name: b.clone() for name, b in self.buffers.items()}
        if used and self.module is not None and self.buffers:  # statistics that a batch has moved
            x = self.inputs(case.batch)
            self.forward([(0.7 * one if one.is_floating_point() else one).detach() for one in x])
            self.buffers = self.now()
            self.home = {name: b.clone() for name, b in self.buffers.items()}
        self.x = self.inputs(self.batch)

    def inputs(self, batch: int) -> list[torch.Tensor]:
        """Inputs of that batch size; those of floating type require a gradient."""
        made = []
        for given, name in zip(self.case.inputs, self.names, strict=True):
            if isinstance(given, torch.Tensor):
                x = given.detach().clone().to(self.case.device)
                made.append(x.to(self.dtype).requires_grad_() if x.is_floating_point() else x)
            else:
                made.append(self.tensor(values((batch, *given), name)).requires_grad_())
        return made

    def tensor(self, value: np.ndarray) -> torch.Tensor:
        """The values as a tensor, no simple fractions: those may lie on an edge, where code rounds."""
        return torch.from_numpy(np.array(value * SCALE)).to(self.case.device, self.dtype)

    def draws(self, train: bool) -> bool:
        """Whether it draws random numbers: another seed gives something else."""
        first, second = (self.forward(train=train, seed=seed) for seed in (1, 2))
        return not all(torch.equal(a, b) for a, b in zip(first, second, strict=True))

    # -- computing ----------------------------------------------------------------------------------

    def restore(self) -> None:
        """Set the buffers to what they were at first; a graph that saved them does not notice.

        Where forward has assigned another tensor to one, the first one is back.
        """
        now = self.now() if self.home else {}
        for name, value in self.home.items():
            self.buffers[name].data.copy_(value)
            if self.module is not None and now.get(name) is not self.buffers[name]:
                path, _, leaf = name.rpartition(".")
                setattr(self.module.get_submodule(path), leaf, self.buffers[name])

    def now(self) -> dict[str, torch.Tensor]:
        """The buffers as they are, some perhaps assigned anew, and the parameters without a gradient."""
        if self.module is None:
            return {}
        frozen = {name: p for name, p in self.module.named_parameters() if not p.requires_grad}
        return dict(self.module.named_buffers()) | frozen

    def forward(
        self, x: Sequence[Any] | None = None, train: bool = True, seed: int = 1
    ) -> list[torch.Tensor]:
        """The outputs, from the buffers at first and from one seed; inputs by default are copies of `x`."""
        self.restore()
        if self.module is not None:
            self.module.train(train)
        with seeded(seed):
            found = self.call(*(self.copies() if x is None else x))
        outputs = [leaf for leaf in pytree.tree_leaves(found) if isinstance(leaf, torch.Tensor)]
        if not outputs:
            cause = "forward has no return, or does not return tensors"
            raise CheckFailed(f"it returned {found!r:.60}, not a tensor", cause, "fprop")
        return outputs

    def copies(self) -> list[torch.Tensor]:
        """The inputs as copies that autograd follows, so that code may write to them."""
        return [x.clone() for x in self.x]

    def targets(self) -> dict[str, torch.Tensor]:
        """What has a gradient: inputs of floating type, parameters."""
        inputs = {n: x for n, x in zip(self.names, self.x, strict=True) if x.requires_grad}
        return inputs | {name: p for name, p in self.params.items() if p.requires_grad}

    def grad_output(self, i: int, y: torch.Tensor) -> torch.Tensor:
        """The gradient of output number i."""
        return self.tensor(values(tuple(y.shape), f"{GRAD_OUTPUT}{i}")).to(y.dtype)

    def grad_outputs(self, outputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The gradients of the outputs of floating type that have a graph."""
        return [self.grad_output(i, y) for i, y in enumerate(outputs) if differentiable(y)]

    def backward(
        self, outputs: Sequence[torch.Tensor], dy: Sequence[Any] | None = None
    ) -> dict[str, torch.Tensor | None]:
        """The gradient of each target by name, as in ``x.grad``; None where there is none."""
        dy = self.grad_outputs(outputs) if dy is None else dy
        targets = self.targets()
        found: Sequence[Any] = [None] * len(targets)
        if dy and targets:
            with_graph = [y for y in outputs if differentiable(y)]
            found = torch.autograd.grad(
                with_graph, list(targets.values()), dy, retain_graph=True, allow_unused=True
            )
        return {f"{name}.grad": grad for name, grad in zip(targets, found, strict=True)}

    def both(
        self, train: bool = True, x: Sequence[Any] | None = None, dy: Sequence[Any] | None = None
    ) -> dict[str, np.ndarray]:
        """The outputs and all gradients of one forward and backward; a missing gradient is 0."""
        outputs = self.forward(x, train)
        return named(outputs) | self.grads(self.backward(outputs, dy))

    def grads(self, found: dict[str, torch.Tensor | None]) -> dict[str, np.ndarray]:
        like = {f"{name}.grad": x for name, x in self.targets().items()}
        return {name: array(torch.zeros_like(like[name]) if g is None else g) for name, g in found.items()}


def differentiable(y: torch.Tensor) -> bool:
    return y.requires_grad and y.is_floating_point()


def named(outputs: Sequence[torch.Tensor]) -> dict[str, np.ndarray]:
    """Outputs by name: y, or y0, y1 and so on."""
    return {"y" if len(outputs) == 1 else f"y{i}": array(y) for i, y in enumerate(outputs)}


def array(x: torch.Tensor) -> np.ndarray:
    """A copy in NumPy; bfloat16 and float16, whose bits NumPy or the kit do not know, as float32."""
    x = x.detach().cpu()
    x = x.to_dense() if x.layout != torch.strided else x
    return np.array((x.float() if x.dtype in (torch.bfloat16, torch.float16) else x).numpy())


def phase(name: str) -> str:
    """The phase that computes an array of that name."""
    return "bprop" if name.endswith(".grad") else "fprop"


def same(
    got: dict[str, np.ndarray], expected: dict[str, np.ndarray], cause: str, rtol: float | None = None,
    said: str = "", atol: float = 0.0, at: str = "",
) -> None:  # fmt: skip
    """Fail at the worst element of the first array that differs by more than rounding (`rtol` 0: one bit).

    Rounding is relative to the array's largest value, and a little to that of all gradients, or all outputs:
    a gradient may be 0, as that of a bias before batch normalisation, and rounding all there is of it.
    """
    largest = {True: 0.0, False: 0.0}
    for name, value in expected.items():
        if value.dtype.kind in "fc":
            size = float(np.abs(value[np.isfinite(value)]).max(initial=0))
            largest[name.endswith(".grad")] = max(largest[name.endswith(".grad")], size)
    for name, value in expected.items():
        pair = [a.astype(np.float64) if a.dtype.kind in "iub" else a for a in (got[name], value)]
        near = 0.0
        if rtol != 0 and value.dtype.kind in "fc":
            size = float(np.abs(value[np.isfinite(value)]).max(initial=0))
            little = 32 * float(np.finfo(value.dtype).eps) * largest[name.endswith(".grad")]
            rounding = ROUNDING[np.finfo(value.dtype).dtype.name] if rtol is None else rtol
            near = atol + little + rounding * size
        # As an absolute error: a constant multiple is no cause here.
        expect(pair[0], pair[1], said + name, cause, 0.0, near, at or phase(name))


def modules_only(case: Case, what: str) -> None:
    """Skip a check that needs a module."""
    if not case.is_module:
        raise Skip(f"a function has no {what}")

"""The base of the conformance checks: a layer under full control, and comparisons that explain."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from minet.backends import Backend
from minet.core import rng
from minet.core.declared import all_states
from minet.core.layer import Layer, Shape
from minet.core.net import Net
from minet.testing import guard_pages

MODES = (True, False)  # training, evaluation
ROUNDING = {"float32": 3e-5, "float64": 1e-11}  # relative to the largest value of an array


class CheckFailed(Exception):
    """The contract is broken: what was found, the likely cause, and the phase that it lies in.

    A phase is "fprop", "bprop" or "loss"; a report shows where its code is, unless a place is given.
    """

    def __init__(self, found: str, cause: str, phase: str = "", place: str = "") -> None:
        super().__init__(f"{found}\nlikely cause: {cause}")
        self.phase, self.place = phase, place


class Skip(Exception):
    """The check cannot run here."""


@dataclass(frozen=True)
class Case:
    """What to check: a function that makes the layer, its input shape, a batch size and a backend."""

    make: Callable[[], Layer]
    in_shape: Shape
    batch: int
    backend: str | Backend

    @property
    def backend_name(self) -> str:
        return self.backend if isinstance(self.backend, str) else self.backend.name


Check: TypeAlias = Callable[[Any], None]  # of a Case, or for losses a LossCase


def registry() -> tuple[dict[str, Check], Callable[[Check], Check]]:
    """Return a dict of checks and a decorator that adds one; a check's docstring opens with its promise."""
    checks: dict[str, Check] = {}

    def check(function: Check) -> Check:
        checks[function.__name__] = function
        return function

    return checks, check


def values(shape: Shape, name: str) -> np.ndarray:
    """Return shuffled numbers in [-0.8, 1]: no ties, none near a kink at 0, the same at each call."""
    size = int(np.prod(shape))
    apart = (2 * np.arange(size) + 1) / size - 1
    apart[size // 2] += 0.5 / size if size % 2 else 0.0  # of an odd count, the middle one would be 0
    apart[apart < 0] *= 0.8  # otherwise their mean would be 0
    return rng.generator(0, name).permutation(apart).reshape(shape)


class Rig:
    """A net around one layer, with x, dy and every buffer under control."""

    def __init__(self, case: Case, dtype: str = "float32", batch: int | None = None, seed: int = 0) -> None:
        batch = batch or case.batch
        layer = case.make()
        if layer.bound:
            raise CheckFailed("make() returned the same object again", "it must make a new layer each time")
        backend = case.backend if dtype == "float32" else case.backend_name
        self.net = Net(layer, case.in_shape, batch, backend=backend, seed=seed, dtype=dtype)
        self.graph, self.be = self.net.graph, self.net.be
        self.be.tried = None  # a check finds more about what is not written
        for slot in self.net.slots:
            # Away from symmetric initial values, such as a bias of 0, which hide mistakes.
            moved = self.get(slot.value) + 0.1 * values(slot.value.shape, slot.path)
            low, high = slot.param.bounds or (None, None)
            low, high = -np.inf if low is None else low, np.inf if high is None else high
            self.be.copy(np.clip(moved, low, high), slot.value)
        self.x = self.array(values((*case.in_shape, batch), "x"))
        self.dy = self.array(values((*self.net.output_shape, batch), "dy"))
        self.poison()

    def array(self, value: np.ndarray) -> Any:
        """Return a copy of the values in native memory."""
        return self.be.array(guard_pages.around(np.array(value, self.be.dtype, order="C")))

    def get(self, array: Any) -> np.ndarray:
        return np.array(self.be.get(array))

    def buffers(self, scratch: bool = False) -> Iterator[Any]:
        """Yield what a layer must write before it reads: scratch and, unless it alone, per-sample state."""
        for layer, name, state in all_states(self.graph, self.net.shapes):
            if (state.scratch or (state.per_sample and not scratch)) and not state.persistent:
                yield layer.s[name]

    def poison(self, scratch: bool = False) -> None:
        """Fill `buffers` with what shows up wherever it is used."""
        for array in self.buffers(scratch):
            self.be.fill(array, _poison(array.dtype))

    def persistent(self) -> dict[str, np.ndarray]:
        return {path: self.get(value) for path, value in self.net.persistent.items()}

    def full(self, shape: Shape, value: float) -> Any:
        return self.array(np.full(shape, value))

    def fprop(self, y: Any = None, beta: float = 0.0, train: bool = True) -> np.ndarray:
        y = self.full(self.dy.shape, np.nan) if y is None else y
        self.graph.fprop(self.x, y, beta, train)
        return self.get(y)

    def bprop(self, dx: Any = None, beta: float = 0.0) -> np.ndarray:
        dx = self.full(self.x.shape, np.nan) if dx is None else dx
        self.be.fill(self.net.flat_grads, 0.0)
        self.graph.bprop(self.x, self.dy, dx, beta)
        return self.get(dx)

    def grads(self) -> dict[str, np.ndarray]:
        return {path: self.get(grad) for path, grad in self.net.grads.items()}

    def both(self, train: bool = True) -> dict[str, np.ndarray]:
        """Return y, dx and all gradients of one fprop and bprop."""
        return {"y": self.fprop(train=train), "dx": self.bprop(), **self.grads()}


def _poison(dtype: np.dtype) -> Any:
    """Return a value that shows up wherever it is used."""
    if dtype.kind in "fc":
        return np.nan
    return True if dtype.kind == "b" else np.iinfo(dtype).max


def expect(
    got: np.ndarray, expected: np.ndarray, what: str, cause: str, rtol: float | None = None,
    atol: float = 0.0, phase: str = "",
) -> None:  # fmt: skip
    """Fail at the worst element if an array differs by more than rounding (with `rtol` 0, by one bit).

    The phase at fault, if not given, follows from `what`, which ends with the array's name ("y", "dx", or
    that of a parameter gradient) or with the phase, as in "x after bprop".
    """
    phase = phase or phase_of(what)
    if got.shape != expected.shape:
        raise CheckFailed(f"{what}: expected shape {expected.shape}, got {got.shape}", cause, phase)
    if not got.size:
        return
    if got.dtype == bool:
        got, expected = got.astype(np.uint8), expected.astype(np.uint8)
    rtol = ROUNDING[str(got.dtype)] if rtol is None else rtol
    same = (got == expected) | (np.isnan(got) & np.isnan(expected))
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.where(same, 0.0, np.abs(got - expected))
    error = np.where(np.isnan(error), np.inf, error)
    finite = np.abs(expected[np.isfinite(expected)])
    largest = finite.max() if finite.size else 0.0
    if error.max() > rtol * largest + atol:
        index = tuple(int(i) for i in np.unravel_index(error.argmax(), error.shape))
        at = ", ".join(map(str, index))
        found = f"{what}[{at}]: {differing(expected[index], got[index])}"
        raise CheckFailed(found, (multiple(got, expected) if rtol else "") or cause, phase)


def expect_all(
    got: dict[str, np.ndarray], expected: dict[str, np.ndarray], cause: str, rtol: float | None = None,
    atol: float = 0.0, phase: str = "",
) -> None:  # fmt: skip
    """Apply `expect` to every expected array."""
    for name, value in expected.items():
        expect(got[name], value, name, cause, rtol, atol, phase)


def differing(expected: Any, got: Any) -> str:
    """``expected 0.5, got 0.25``, with as many digits as show a difference."""
    few, many = f"expected {expected:.9g}, got {got:.9g}", f"expected {expected:.17g}, got {got:.17g}"
    return many if f"{expected:.9g}" == f"{got:.9g}" else few


def multiple(got: np.ndarray, expected: np.ndarray, rtol: float = 1e-4) -> str:
    """The cause if all numbers are the same multiple of the expected ones, but not 1 or 0; else empty."""
    got, expected = got.astype(np.float64).ravel(), expected.astype(np.float64).ravel()
    if not (np.isfinite(got).all() and np.isfinite(expected).all() and got.any()):
        return ""
    factor = float(got @ expected) / max(float(expected @ expected), np.finfo(np.float64).tiny)
    if abs(factor - 1) < 10 * rtol or np.abs(got - factor * expected).max() > rtol * np.abs(got).max():
        return ""
    shown = round(factor, 3) if abs(factor) >= 0.1 else float(f"{factor:.3g}")
    why = {2.0: "added twice?", -1.0: "a wrong sign?", 0.5: "halved, or a factor 2 forgotten?"}
    if got.size == 1 and shown not in why:  # of one number, any other is a multiple
        return ""
    return f"{shown:g} times the expected values everywhere: {why.get(shown, 'a wrong factor?')}"


def phase_of(what: str) -> str:
    """The phase that computes what a comparison names."""
    name = what.split()[-1]
    if name in ("fprop", "bprop", "loss"):
        return name
    return "fprop" if what.startswith("y") or name == "y" else "bprop"

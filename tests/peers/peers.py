"""What the inputs of all peers share: a case that minet runs, its comparison, its row in docs/peers.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import InitVar, dataclass, field
from typing import Any

import numpy as np

from minet import Layer, Net, Window, backends
from minet.core.loss import Loss

ON_EMU = 12  # at most, of each op: each window is compiled anew


class Unmet(Exception):
    """What minet cannot express of an input, as docs/peers.md says it."""


@dataclass
class Case:
    """A peer's input as a layer, and what the peer makes of it: y, dx, gradients and state by their names."""

    layer: Layer
    x: np.ndarray
    dy: np.ndarray | None = None
    params: dict[str, Any] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)  # before
    train: bool = True
    expected: dict[str, np.ndarray] = field(default_factory=dict)
    rounded: float = 0.0  # to which share the peer's numbers are

    def run(self, backend: str, dtype: str) -> dict[str, np.ndarray]:
        net = Net(self.layer.clone(), self.x.shape[:3], self.x.shape[3], backend=backend, dtype=dtype)
        be = net.be

        def native(values: Any) -> Any:
            return be.array(np.array(values, dtype, order="C"))

        for name, values in self.params.items():
            be.copy(native(values), net.graph.p[name])
        for name, values in self.state.items():
            be.copy(native(values), net.graph.s[name])
        found = {"y": net.fprop(native(self.x), self.train)}
        if self.dy is not None:
            found["dx"] = native(np.full(self.x.shape, np.nan))
            net.bprop(native(self.dy), found["dx"])
        found |= {f"d{name}": grad for name, grad in net.graph.g.items()} | net.graph.s
        return {name: be.get(found[name]) for name in self.expected}


@dataclass
class LossCase:
    """The same of a loss, of logits (K, P, Q, N)."""

    loss: Loss
    y: np.ndarray
    labels: np.ndarray
    expected: dict[str, np.ndarray] = field(default_factory=dict)
    rounded: float = 0.0

    def run(self, backend: str, dtype: str) -> dict[str, np.ndarray]:
        be = backends.get(backend, dtype)
        self.loss.check(self.labels, self.y.shape[:3], self.y.shape[3])
        dy = be.array(np.full(self.y.shape, np.nan, dtype))
        value = be.run(self.loss.on(be), "loss", be.array(np.array(self.y, dtype)), self.labels, dy)
        return {"loss": np.array(value, dtype), "dy": be.get(dy)}


@dataclass
class Inputs:
    """All inputs of one op of a peer: the cases by label, and how many cannot be expressed, by reason."""

    op: str
    makes: InitVar[Mapping[str, Callable[[], Case | LossCase]]]

    def __post_init__(self, makes: Mapping[str, Callable[[], Case | LossCase]]) -> None:
        self.cases: dict[str, Case | LossCase] = {}
        self.unmet: Counter[str] = Counter()
        for label, make in makes.items():
            try:
                self.cases[label] = make()
            except Unmet as why:
                self.unmet[str(why)] += 1

    @property
    def on_emu(self) -> list[str]:
        """The cases that also run on the emulator."""
        labels = list(self.cases)
        rng = np.random.default_rng(0)  # not every so many: their settings could be alike
        return labels if len(labels) <= ON_EMU else list(rng.choice(labels, ON_EMU, replace=False))

    def check(self, backend: str, dtype: str, labels: Iterable[str], tolerance: float) -> None:
        """Fail if a case differs, with how many do and all about the first."""
        differing = {}
        for label in labels:
            case = self.cases[label]
            try:
                compare(case, case.run(backend, dtype), tolerance)
            except Exception as error:
                differing[label] = error
        if differing:
            label, error = next(iter(differing.items()))
            what = getattr(self.cases[label], "layer", getattr(self.cases[label], "loss", None))
            raise AssertionError(
                f"{self.op} on {backend}: {len(differing)} of {len(self.cases)} inputs differ; "
                f"the first is {label}, as {what!r}:\n{error}"
            ) from error

    @property
    def row(self) -> str:
        """The op's row of the table in docs/peers.md, if `check` finds no difference."""
        why = "; ".join(f"{count}: {why}" for why, count in self.unmet.items())
        return row(
            f"`{self.op}`", len(self.cases) + self.unmet.total(), len(self.cases), len(self.on_emu), why
        )


def row(*cells: str | int) -> str:
    shown = (f"{cell:,} " if isinstance(cell, int) else f"{cell} ".lstrip() for cell in cells)
    return "| " + "| ".join(shown) + "|"


def compare(case: Case | LossCase, found: dict[str, np.ndarray], tolerance: float) -> None:
    """Fail unless all numbers agree to that share of the largest; dx may be what is left of a larger dy."""
    for name, values in case.expected.items():
        got = found[name]
        assert got.shape == values.shape, f"{name} has shape {got.shape}, the peer's {values.shape}"
        largest = max(np.abs(a).max(initial=0) for a in (values, case.dy if name == "dx" else values))
        allowed = max(tolerance, case.rounded) * largest if got.dtype.kind == "f" else 0
        np.testing.assert_allclose(got, values, rtol=0, atol=allowed, err_msg=name)


def images(a: np.ndarray) -> np.ndarray:
    """(N, C, ...) as (C, H, W, N): of one axis that is W, of several all but the last are H."""
    N, C, *area = a.shape
    W = area[-1] if area else 1
    return np.moveaxis(a.reshape(N, C, -1, W), 0, -1)


def image(a: np.ndarray) -> np.ndarray:
    """(C, ...), without a batch."""
    return images(a[None])


def elements(a: np.ndarray) -> np.ndarray:
    """Numbers that each stand for themselves, in an array of any shape."""
    return a.reshape(1, 1, -1, 1)


def rows(a: np.ndarray) -> np.ndarray:
    """(..., F), features last, as (F, 1, 1, N)."""
    return a.reshape(-1, a.shape[-1]).T[:, None, None]


def argmax(window: Window, h: np.ndarray, w: np.ndarray) -> np.ndarray:
    """MaxPool's state from the row and column of each maximum, both (C, P, Q, N)."""
    _, P, Q, _ = h.shape
    r = (h + window.pad[0] - window.stride[0] * np.arange(P)[:, None, None]) / window.dilation[0]
    s = (w + window.pad[1] - window.stride[1] * np.arange(Q)[:, None]) / window.dilation[1]
    return r * window.size[1] + s

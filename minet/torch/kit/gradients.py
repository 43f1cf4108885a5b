"""The gradient check: backward against central differences, in float64 where a module computes in it.

In float64 as minet's own layers are checked (`minet.testing.gradients`): single elements, which a failure
names, and along one random direction through all of them. In float32 a difference is taken over a step that
is large enough for rounding, twice, so that its error can be told from a kink, and relative to scale.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from minet.core import rng
from minet.testing.gradients import NOT_FINITE, UNDEFINED
from minet.testing.harness import CheckFailed, Skip, differing, multiple
from minet.torch.kit.precision import precise
from minet.torch.kit.rig import LARGE, Case, Rig, differentiable

PROBES = 48
EPS, RTOL = 1e-6, 1e-6
EPS32, RTOL32 = 2.0**-6, 5e-3
CAUSE = "backward is not the derivative of forward"
FLAT = "forward is flat (round, sign, argmax): a straight-through gradient is no derivative"
MISSING = "detach(), .data, no_grad or NumPy on the way, or a None that backward returns"


def check_gradients(case: Case, train: bool) -> str:
    """Raise CheckFailed at the first wrong slope of an input or a parameter; return how it was checked."""
    exact = precise(case, train)
    rig = Rig(case, torch.float64 if exact else torch.float32)
    outputs = rig.forward(train=train)
    if not any(y.is_floating_point() for y in outputs):
        raise Skip("no output is of floating type")
    if not rig.targets():
        raise Skip("no input and no parameter has a gradient")
    slopes = Slopes(rig, train, exact)
    found = rig.backward(outputs)
    missing = {name for name, grad in found.items() if grad is None}
    grads = rig.grads(found)
    many = len(grads) > LARGE
    for name, x in rig.targets().items():
        title = f"{name}.grad"
        got = grads[title].reshape(-1)
        draw = rng.generator(1, name)
        count = 0 if many and name in rig.params else PROBES
        learned = _learned(rig, x)
        probes = draw.permutation(np.flatnonzero(learned))[:count]
        slopes.compare(title, x, probes, grads[title], title in missing)
        direction = draw.choice([-1.0, 1.0], got.size) * learned
        slopes.compare_sum(title, x, direction, got, title in missing)
    if not exact:
        return f"in float32, to {RTOL32:g} of scale: it does not compute in float64"
    return "along one direction for each parameter" if many else ""


def _learned(rig: Rig, x: torch.Tensor) -> np.ndarray:
    """1 for each element; 0 for those of an embedding's padding, which has no gradient on purpose."""
    found = np.ones(tuple(x.shape))
    for module in rig.module.modules() if rig.module is not None else ():
        padding: Any = getattr(module, "padding_idx", None)
        if padding is not None and getattr(module, "weight", None) is x:
            found[padding] = 0
    return found.reshape(-1)


class Slopes:
    """Differences of sum(grad_output * y), and what counts as equal to them."""

    def __init__(self, rig: Rig, train: bool, exact: bool) -> None:
        self.rig, self.train, self.exact = rig, train, exact
        outputs = rig.forward(train=train)
        # Where no output has a graph, they are all watched: that one depends on x is the finding.
        at = [i for i, y in enumerate(outputs) if differentiable(y)]
        self.at = at or [i for i, y in enumerate(outputs) if y.is_floating_point()]
        self.dy = [rig.grad_output(i, outputs[i]) for i in self.at]
        terms = [(dy * outputs[i].detach()).double() for i, dy in zip(self.at, self.dy, strict=True)]
        total = sum(float(t.abs().sum()) if exact else float((t * t).sum()) for t in terms)
        size = total if exact else total**0.5  # single roundings of float32 make up for each other
        self.rounding = 8 * torch.finfo(rig.dtype).eps * size  # of a difference, before it is divided by eps
        self.rtol = RTOL if exact else RTOL32
        self.home = self.value()

    def value(self) -> float:
        with torch.no_grad():
            outputs = self.rig.forward(train=self.train)
        pairs = zip(self.dy, (outputs[i] for i in self.at), strict=True)
        return sum(float((dy.double() * y.double()).sum()) for dy, y in pairs)

    def along(self, x: torch.Tensor, direction: np.ndarray, eps: float = EPS) -> tuple[float, float]:
        """The slope as x moves along a direction, and its error.

        At a kink the quotients to the left and to the right differ, by twice what it adds to the error of
        their mean. Steps in float32 are so large that a bend counts too. There two are compared: of a smooth
        function the quotients agree, and the bend is twice that over half the step.
        """
        if self.exact:
            slope, kink = self.quotient(x, direction, eps)
            return slope, self.rounding / eps + 0.6 * abs(kink)
        (whole, bend), (half, less) = (self.quotient(x, direction, step) for step in (EPS32, EPS32 / 2))
        kink = max(abs(whole - half), abs(bend - 2 * less))
        return (4 * half - whole) / 3, self.rounding / EPS32 + 2 * kink  # Richardson: eps**2 cancels

    def quotient(self, x: torch.Tensor, direction: np.ndarray, eps: float) -> tuple[float, float]:
        """The central difference, and how far those to the left and to the right are apart."""
        step = torch.from_numpy(direction.reshape(tuple(x.shape))).to(x.device, x.dtype)
        home, ends, moved = x.detach().clone(), [], []
        for sign in (1, -1):
            x.data.copy_(home + sign * eps * step)
            moved.append(float(((x.detach() - home) * step).double().sum()))
            ends.append(self.value())
        x.data.copy_(home)
        width = (moved[0] - moved[1]) / float((step * step).double().sum())  # what rounding made of 2 * eps
        apart = (ends[0] - 2 * self.home + ends[1]) / eps
        return (ends[0] - ends[1]) / (2 * eps if self.exact else width), apart

    def compare(
        self, name: str, x: torch.Tensor, probes: np.ndarray, grad: np.ndarray, missing: bool
    ) -> None:
        """Fail at the worst of some elements."""
        got = grad.reshape(-1)[probes]
        if not len(probes):
            return
        found = [self.along(x, _unit(grad.size, i)) for i in probes]
        expected, error = (np.array(values) for values in zip(*found, strict=True))
        self._finite(expected, lambda i: f"{name}[{_at(probes[i], grad.shape)}]")
        scale = max(np.abs(expected).max(), np.abs(got[np.isfinite(got)]).max(initial=0))
        near, sharp = self.rtol * scale, error <= 0.1 * scale
        wrong = [i for i in np.flatnonzero(~(np.abs(got - expected) <= near + error))
                 if self._still(x, _unit(grad.size, probes[i]), got[i], near)]  # fmt: skip
        if wrong:
            i = max(wrong, key=lambda i: np.nan_to_num(abs(got[i] - expected[i]), nan=np.inf))
            what = f"{name}[{_at(probes[i], grad.shape)}]: {differing(expected[i], got[i])}"
            many = multiple(got[sharp], expected[sharp], 1e-4 if self.exact else 5e-3)
            self._fail(name, what, many or (CAUSE if expected.any() else FLAT), missing)

    def compare_sum(
        self, name: str, x: torch.Tensor, direction: np.ndarray, got: np.ndarray, missing: bool
    ) -> None:
        """Fail if the sum along a direction through all elements is wrong."""
        total = float(got @ direction)
        expected, error = self.along(x, direction)
        self._finite(np.array([expected]), lambda _: f"{name} along a random direction")
        near = self.rtol * max(abs(expected), float(np.abs(got[np.isfinite(got)]).sum()))
        if not abs(total - expected) <= near + error and self._still(x, direction, total, near):
            what = f"{name} along a random direction: {differing(expected, total)}"
            self._fail(name, what, f"{CAUSE}, at elements not probed one by one", missing)

    def _still(self, x: torch.Tensor, direction: np.ndarray, got: float, near: float) -> bool:
        """Whether a slope is wrong over a smaller step too, in which there are fewer kinks."""
        if not self.exact:
            return True
        expected, error = self.along(x, direction, EPS / 32)
        return not abs(got - expected) <= near + error

    def _finite(self, expected: np.ndarray, name: Callable[[int], str]) -> None:
        for i in np.flatnonzero(~np.isfinite(expected)):
            raise CheckFailed(f"{name(int(i))} {UNDEFINED}", NOT_FINITE, "fprop")

    def _fail(self, name: str, what: str, cause: str, missing: bool) -> None:
        if missing:
            raise CheckFailed(f"{name} is None, but y depends on it: {what}", MISSING, "bprop")
        raise CheckFailed(what, cause, "bprop")


def _unit(size: int, i: int) -> np.ndarray:
    """The direction of one element."""
    direction = np.zeros(size)
    direction[i] = 1
    return direction


def _at(index: int, shape: tuple[int, ...]) -> str:
    return ", ".join(str(i) for i in np.unravel_index(index, shape))

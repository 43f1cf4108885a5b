"""The named checks of a loss, and the examples that they run on.

An example is ``(make, out_shape, labels)``: a function that makes the loss, the shape ``(K, P, Q)`` of the
net's output, and the labels of a batch, whose first samples are the labels of smaller ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from minet import backends
from minet.backends import Backend
from minet.core import rng
from minet.core.errors import MinetError
from minet.core.layer import Shape
from minet.core.loss import Loss
from minet.testing.gradients import EPS, PROBES, ROUNDING, compare
from minet.testing.harness import CheckFailed, Skip, differing, expect, multiple, registry, values
from minet.testing.numerics import SCALES, SMALL, in_range
from minet.testing.parity import RTOL
from minet.testing.place import code_of
from minet.testing.report import Report
from minet.testing.runner import outcome

LossExample = tuple[Callable[[], Loss], Shape, np.ndarray]
CHECKS, check = registry()


@dataclass(frozen=True)
class LossCase:
    """What to check: a function that makes the loss, the output's shape, labels, and a backend."""

    make: Callable[[], Loss]
    out_shape: Shape
    labels: np.ndarray
    backend: str | Backend = "cpu"

    @property
    def batch(self) -> int:
        return int(self.labels.shape[-1])

    def first(self, samples: slice) -> LossCase:
        """The same with the labels of some samples only."""
        return replace(self, labels=np.ascontiguousarray(self.labels[..., samples]))

    def y(self, dtype: str = "float32", scale: Callable[[Any], Any] = lambda v: v) -> np.ndarray:
        """Numbers of both signs up to 1, scaled, or what they become within the loss's domain."""
        drawn, (low, high) = scale(values((*self.out_shape, self.batch), "y")), self.make().domain
        if math.isfinite(low) and math.isfinite(high):
            drawn = low + (high - low) * (0.5 + 0.45 * drawn)
        elif math.isfinite(low) or math.isfinite(high):
            drawn = low + np.abs(drawn) if math.isfinite(low) else high - np.abs(drawn)
        return np.asarray(drawn, dtype)

    def run(
        self, y: np.ndarray, fill: float | None = np.nan, exact: bool = False, labels: Any = None
    ) -> tuple[float, Any]:
        """Return the loss and dy, whose memory held `fill`; without dy if that is None."""
        labels = self.labels.copy() if labels is None else labels
        be = backends.get("cpu", "float64") if exact else backends.get(self.backend)
        be.tried = None  # a check finds more about what is not written
        loss = self.make().on(be)
        loss.check(labels, self.out_shape, self.batch)
        dy = None if fill is None else be.array(np.full(y.shape, fill))
        found = be.run(loss, "loss", be.array(y), labels, dy)
        if not isinstance(found, (int, float, np.floating)):
            raise CheckFailed(f"the loss is {found!r:.60}, not a number", "return float(...)", "loss")
        return float(found), None if dy is None else np.array(be.get(dy))


@check
def finite(case: LossCase) -> None:
    """The loss and dy are finite for ordinary y, within the loss's domain."""
    with np.errstate(all="ignore"):
        loss, dy = case.run(case.y(), 0.0)
    for name, value in (("the loss", loss), ("dy", dy)):
        if not np.isfinite(value).all():
            y, cause = case.y(), "a log, root or division; if y lies between numbers, declare domain = (0, 1)"
            found = f"{name} is not finite for y from {y.min():.3g} to {y.max():.3g}"
            raise CheckFailed(found, cause, "loss")


@check
def dy_written(case: LossCase) -> None:
    """loss_cpu overwrites every element of dy, whatever it held before."""
    y = case.y()
    dy = {fill: case.run(y, fill)[1] for fill in (77.0, np.nan, 0.0)}
    if (dy[77.0] == 77).any():
        index = ", ".join(str(i) for i in np.argwhere(dy[77.0] == 77)[0])
        raise CheckFailed(
            f"dy[{index}] was not written", "dy[...] = value writes; dy = value does not", "loss"
        )
    for fill in (np.nan, 0.0):
        cause = f"dy held {fill:g} before, and is read or added to; write dy[...] = value"
        expect(dy[fill], dy[77.0], "dy", cause, 0.0, 0, "loss")


@check
def untouched(case: LossCase) -> None:
    """loss_cpu leaves y and the labels unchanged."""
    y, labels = case.y(), case.labels.copy()
    given = case.y()
    case.run(given, labels=labels)
    expect(given, y, "y after the loss", "the loss modifies y in place", 0.0, 0, "loss")
    if not np.array_equal(labels, case.labels):
        raise CheckFailed("the labels have changed", "the loss modifies them in place", "loss")


@check
def optional_dy(case: LossCase) -> None:
    """The loss is the same with dy, without it, and when it is computed again."""
    y = case.y()
    loss = case.run(y)[0]
    for said, fill in (("without dy", None), ("again", np.nan)):
        again = case.run(y, fill)[0]
        _same(again, loss, f"the loss {said}", "something depends on dy or on an earlier call", 0.0)


@check
def gradient(case: LossCase) -> None:
    """dy equals central differences of the loss in float64."""
    if not _is_cpu(case.backend):
        raise Skip("differences need float64, which only the cpu backend has; parity carries the result over")
    y = case.y("float64")
    loss, dy = case.run(y, exact=True)
    flat, slopes = y.reshape(-1), []
    probes = rng.generator(1, "dy").permutation(y.size)[:PROBES]
    for probe in probes:
        ends = []
        for sign in (1, -1):
            kept, flat[probe] = flat[probe], flat[probe] + sign * EPS
            ends.append(case.run(y, None, exact=True)[0])
            flat[probe] = kept
        slopes.append((ends[0] - ends[1]) / (2 * EPS))
    got, atol = dy.reshape(-1)[probes], ROUNDING * max(1.0, abs(loss))
    cause = "dy is not the derivative of the loss; both are means over the batch"
    compare("dy", y.shape, probes, got, np.array(slopes), atol, cause, ("loss", "loss"))


@check
def batch_sizes(case: LossCase) -> None:
    """The loss is the mean over the samples, as `count` weighs them, for any batch size; so is dy."""
    y = case.y()
    for size in sorted({1, 2, case.batch}):
        part = case.first(slice(size))
        loss, dy = part.run(y[..., :size].copy())
        ones = [case.first(slice(n, n + 1)) for n in range(size)]
        alone = [one.run(y[..., n : n + 1].copy()) for n, one in enumerate(ones)]
        counts = [one.make().count(one.labels, "loss") for one in ones]
        shares = np.array(counts) / (sum(counts) or 1)
        cause = "the loss must be a mean over the batch, and samples must not be mixed"
        mean = float(shares @ [one for one, _ in alone])
        _same(loss, mean, f"the loss of {size} samples", cause, 1e-5)
        together = np.concatenate([n * one for n, (_, one) in zip(shares, alone, strict=True)], axis=-1)
        expect(dy, together.astype(dy.dtype), f"of {size} samples: dy", cause, 1e-5, 0, "loss")


@check
def float32(case: LossCase) -> None:
    """float32 agrees with float64."""
    loss, dy = case.run(case.y())
    exact, dy64 = case.run(case.y().astype(np.float64), exact=True)
    cause = "a sum or an exponential loses digits in float32"
    _same(loss, exact, "the loss", cause, 1e-4)
    expect(dy, dy64.astype(np.float32), "dy", cause, 1e-4, 1e-7, "loss")


@check
def magnitude(case: LossCase) -> None:
    """For y of 0.01 and of 100, nothing overflows or vanishes in float32 that does not in float64."""
    if np.isfinite(case.make().domain).all():
        raise Skip("y has no magnitudes between {:g} and {:g}".format(*case.make().domain))
    for said, scale in SCALES.items():
        y = case.y(scale=scale)
        with np.errstate(all="ignore"):
            pairs = zip(("loss", "dy"), case.run(y), case.run(y.astype(np.float64), exact=True), strict=True)
            for name, got, exact in pairs:
                found, wanted = np.atleast_1d(np.float32(got)), np.atleast_1d(np.float64(exact))
                in_range(found, wanted, name, f"y {said}", said == SMALL, "loss")


@check
def not_finite(case: LossCase) -> None:
    """A NaN in y shows: the loss is not finite."""
    for n in {0, case.batch - 1}:
        y = case.y()
        y[..., n] = np.nan
        with np.errstate(all="ignore"):
            loss, _ = case.run(y)
        if np.isfinite(loss):
            found = f"the loss is {loss:.9g}, although y holds NaN"
            raise CheckFailed(
                found, "a comparison or maximum drops it: np.fmax, np.where, nan_to_num", "loss"
            )


@check
def parity_emu(case: LossCase) -> None:
    """loss_gpu on the emulator agrees with the cpu."""
    _parity(case, "emu")


@check
def parity_cuda(case: LossCase) -> None:
    """loss_gpu on the GPU agrees with the cpu."""
    _parity(case, "cuda")


def _parity(case: LossCase, backend: str) -> None:
    if why := backends.missing(backend):
        raise Skip(why)
    if not hasattr(case.make(), "loss_gpu"):
        raise Skip(f"{type(case.make()).__name__} has no loss_gpu: it computes on the host")
    there = replace(case, backend=backend) if _name(case.backend) != backend else case
    (loss, dy), (exact, dy_cpu) = there.run(case.y()), replace(case, backend="cpu").run(case.y())
    cause = f"loss_gpu on {backend} does not compute what loss_cpu does"
    _same(loss, exact, "the loss", cause, RTOL)
    expect(dy, dy_cpu, "dy", cause, RTOL, 0, "loss")
    _same(there.run(case.y(), None)[0], exact, "the loss without dy", cause, RTOL)


def check_loss(
    make: Callable[[], Loss], out_shape: Shape, labels: Any, *, backend: str | Backend = "cpu"
) -> Report:
    """Run every check on a loss.

    Parameters
    ----------
    make : callable
        Returns the loss.
    out_shape : tuple of int
        ``(K, P, Q)``, the shape of one sample of the net's output.
    labels : array
        The labels of a batch of at least two samples, the batch innermost, such as ``(N,)`` class numbers or
        ``(K, P, Q, N)`` targets.
    """
    case = LossCase(make, tuple(out_shape), np.array(labels), backend)
    loss = make()
    if isinstance(backend, str) and (why := backends.missing(backend)):
        raise MinetError(why)
    if not case.labels.ndim or case.batch < 2:
        raise loss.error(
            f"cannot be checked on labels of shape {case.labels.shape}", "the last axis is N, 2 or more"
        )

    def at(name: str) -> Callable[[str], str]:
        there = name.partition("parity_")[2] or backend
        return lambda phase: code_of(loss, phase, backends.get(there))

    title = f"{loss!r} on {case.out_shape}, batch {case.batch}, {_name(backend)}"
    return Report(title, [outcome(name, check, case, at(name)) for name, check in CHECKS.items()])


def usual_examples(cls: type[Loss]) -> Iterator[LossExample]:
    """Examples for a loss that declares none: class numbers, and targets, if the loss accepts them."""
    kinds = [
        ((5, 1, 1), np.array([1, 0, 4, 2, 3, 1])),
        ((3, 2, 4), 0.5 + 0.4 * values((3, 2, 4, 6), "targets")),
        ((4, 1, 1), 0.5 + 0.4 * values((4, 1, 1, 6), "targets")),
    ]
    for out_shape, labels in kinds:
        try:
            cls().check(labels, out_shape, labels.shape[-1])
        except MinetError:
            continue
        yield cls, out_shape, labels


def _same(got: float, expected: float, what: str, cause: str, rtol: float) -> None:
    same = got == expected or (math.isnan(got) and math.isnan(expected))
    if not same and not abs(got - expected) <= rtol * (abs(expected) + 1e-3):
        many = multiple(np.atleast_1d(got), np.atleast_1d(expected))
        raise CheckFailed(f"{what}: {differing(expected, got)}", many or cause, "loss")


def _name(backend: str | Backend) -> str:
    return backend if isinstance(backend, str) else backend.name


def _is_cpu(backend: str | Backend) -> bool:
    return _name(backend) == "cpu"

"""The named checks of the conformance kit: one function for each clause of the layer contract.

A check takes a `Case` and raises `CheckFailed`, or `Skip` with the reason. `CHECKS` has them in report order.
Those of what a layer keeps are in `minet.testing.kept`, that of its random draws in `minet.testing.draws`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minet.core.blame import line_of
from minet.core.node import LayerError
from minet.testing.gradients import check_gradients
from minet.testing.harness import (
    MODES,
    Case,
    CheckFailed,
    Rig,
    expect,
    expect_all,
    phase_of,
    registry,
    values,
)  # fmt: skip

CHECKS, check = registry()

BETAS = (0.0, 0.5, 1.0, -0.7)
GUARD = 77.0


@check
def shape(case: Case) -> None:
    """fprop writes every element of y, in the shape that it declares, and bprop every element of dx."""
    rig = Rig(case)
    y, dx = rig.fprop(rig.full(rig.dy.shape, GUARD)), rig.bprop(rig.full(rig.x.shape, GUARD))
    for name, got in (("y", y), ("dx", dx)):
        if (got == GUARD).all():
            cause = f"update({name}, value, beta) writes into it; {name} = ... only names another array"
            raise CheckFailed(f"no element of {name} was written", cause, phase_of(name))
        if (got == GUARD).any():
            index = ", ".join(str(i) for i in np.argwhere(got == GUARD)[0])
            cause = "out_shape is wrong, or a loop ends early"
            raise CheckFailed(f"{name}[{index}] was not written", cause, phase_of(name))


@check
def untouched(case: Case) -> None:
    """fprop and bprop leave x and dy unchanged: other branches read them too."""
    for train in MODES:
        rig = Rig(case)
        x, dy = rig.get(rig.x), rig.get(rig.dy)
        rig.fprop(train=train)
        expect(rig.get(rig.x), x, "x after fprop", "the layer modifies x in place", 0.0)
        rig.bprop()
        expect(rig.get(rig.x), x, "x after bprop", "the layer modifies x in place", 0.0)
        expect(rig.get(rig.dy), dy, "dy after bprop", "the layer scales or masks dy in place", 0.0)


@check
def determinism(case: Case) -> None:
    """Results are bit-identical from a new layer, a used one, one beside another, and with one thread."""
    first, again = Rig(case), Rig(case)
    for slot, same in zip(first.net.slots, again.net.slots, strict=True):
        cause = "params() draws by itself: let Param(shape, init) draw, by an init(shape, rng) such as He()"
        what = f"the first value of {slot.path}"
        expect(again.get(same.value), first.get(slot.value), what, cause, 0.0, phase="params")
    plain = first.both()
    expect_all(again.both(), plain, "global random state, or a reduction whose order varies", 0.0)
    used = Rig(case)
    x = used.x
    used.x = used.array(used.get(x) * -0.5)
    used.both()
    used.x = x
    expect_all(used.both(), plain, "something carries over from the previous batch", 0.0)
    rig, other = Rig(case), Rig(case)
    other.x = other.array(other.get(other.x) * -0.5)
    y = rig.fprop()
    other.fprop()
    cause = "another layer of its class changes it: state is kept in the class or the module, not in self.s"
    expect_all({"y": y, "dx": rig.bprop(), **rig.grads()}, plain, cause, 0.0)
    if case.backend_name == "cpu":
        import numba

        threads = numba.get_num_threads()
        try:
            numba.set_num_threads(1)
            expect_all(Rig(case).both(), plain, "the order of a sum depends on the number of threads", 0.0)
        finally:
            numba.set_num_threads(threads)


@check
def evaluation(case: Case) -> None:
    """Evaluation draws no random numbers and changes no running statistics."""
    rig = Rig(case)
    rig.fprop(train=True)
    kept = rig.persistent()
    plain = rig.fprop(train=False)
    expect_all(rig.persistent(), kept, "statistics are updated in evaluation", 0.0, phase="fprop")
    rig.net.clock.step += 1
    cause = "evaluation draws random numbers, or depends on the step"
    expect(rig.fprop(train=False), plain, "y at the next step", cause, 0.0)


@check
def in_place(case: Case) -> None:
    """A layer that sets ``in_place`` computes the same when dx is dy itself."""
    for train in MODES:
        rig = Rig(case)
        if not rig.graph.in_place:
            return
        plain = Rig(case).both(train)
        rig.fprop(train=train)
        rig.be.fill(rig.net.flat_grads, 0.0)
        rig.graph.bprop(rig.x, rig.dy, rig.dy, 0.0)
        got = {"dx": rig.get(rig.dy), **rig.grads()}
        expected = {name: value for name, value in plain.items() if name != "y"}
        expect_all(got, expected, "dy is read after dx is written; in_place is for elementwise layers only")


@check
def poison(case: Case) -> None:
    """At beta 0, nothing in y, dx, scratch or per-sample state is read before it is written."""
    for train in MODES:
        clean, dirty = Rig(case), Rig(case)
        for array in clean.buffers():
            clean.be.fill(array, 0)
        y = clean.fprop(clean.full(clean.dy.shape, 0.0), train=train)
        dx = clean.bprop(clean.full(clean.x.shape, 0.0))
        for name, got in (("y", y), ("dx", dx)):
            if not np.isfinite(got).all():
                found = f"{name} is not finite, although x and dy are"
                raise CheckFailed(found, "a division by 0, or a log of x <= 0", phase_of(name))
        cause = "a buffer is read before it is written; multiply by beta only if beta != 0"
        expect_all(dirty.both(train), {"y": y, "dx": dx, **clean.grads()}, cause)


@check
def beta_y(case: Case) -> None:
    """``y <- beta*y + f(x)`` for any beta."""
    for train in MODES:
        plain = Rig(case).fprop(train=train)
        for beta in BETAS:
            rig = Rig(case)
            y0 = values(plain.shape, "y0").astype(plain.dtype)
            got = rig.fprop(rig.array(y0), beta, train)
            cause = f"at beta {beta}, train={train}, fprop must write beta*y + f(x)"
            expect(got, beta * y0 + plain, "y", cause)


@check
def beta_dx(case: Case) -> None:
    """``dx <- beta*dx + J^T dy`` for any beta; beta does not apply to parameter gradients."""
    for train in MODES:
        plain = Rig(case).both(train)
        for beta in BETAS:
            rig = Rig(case)
            dx0 = values(plain["dx"].shape, "dx0").astype(plain["dx"].dtype)
            rig.fprop(train=train)
            got = {"dx": rig.bprop(rig.array(dx0), beta), **rig.grads()}
            expected = {name: value for name, value in plain.items() if name != "y"}
            expected["dx"] = beta * dx0 + plain["dx"]
            cause = f"at beta {beta}, train={train}, bprop must write beta*dx + J^T dy, with beta on dx alone"
            expect_all(got, expected, cause)


@check
def slices(case: Case) -> None:
    """y, dy, x and dx may be channel slices of larger arrays; nothing outside them is read or written."""
    rig = Rig(case)
    plain = rig.both()

    def canvas(like: Any, fill: np.ndarray | float) -> tuple[Any, Any]:
        around = np.full((len(like) + 3, *like.shape[1:]), GUARD)
        around[2:-1] = fill
        whole = rig.array(around)
        return whole, whole[2:-1]

    y_canvas, y = canvas(rig.dy, np.nan)
    dx_canvas, dx = canvas(rig.x, np.nan)
    rig.x, rig.dy = canvas(rig.x, rig.get(rig.x))[1], canvas(rig.dy, rig.get(rig.dy))[1]
    got = {"y": rig.fprop(y), "dx": rig.bprop(dx), **rig.grads()}
    for name, whole in (("y", rig.get(y_canvas)), ("dx", rig.get(dx_canvas))):
        if not (whole[:2] == GUARD).all() or not (whole[-1:] == GUARD).all():
            cause = "a loop runs past the end of the slice"
            raise CheckFailed(f"memory next to {name} was written", cause, phase_of(name))
    expect_all(got, plain, "an index counts from the start of the whole array, or a stride is assumed")


@check
def bprop_reads_y(case: Case) -> None:
    """bprop does not read y: under Sum, y also holds what other branches add."""
    rig = Rig(case)
    plain = rig.both()
    y = rig.full(rig.dy.shape, np.nan)
    rig.fprop(y)
    rig.be.fill(y, np.nan)
    got = {"dx": rig.bprop(), **rig.grads()}
    expected = {name: value for name, value in plain.items() if name != "y"}
    expect_all(got, expected, "bprop reads y; keep what it needs as state")


@check
def accumulate(case: Case) -> None:
    """bprop adds to parameter gradients and never overwrites them, whatever beta is."""
    plain = Rig(case).both()
    for beta, dx in ((0.0, np.nan), (1.0, 0.0)):
        rig = Rig(case)
        rig.fprop()
        cause = f"at beta {beta}: use self.g[...] +=, not ="
        for path, got in _added(rig, rig.full(rig.x.shape, dx), beta).items():
            expect(got, plain[path] + np.asarray(0.5, got.dtype), path, cause)


def _added(rig: Rig, dx: Any, beta: float = 0.0) -> dict[str, np.ndarray]:
    """Parameter gradients that were 0.5 before bprop."""
    rig.be.fill(rig.net.flat_grads, 0.5)
    rig.graph.bprop(rig.x, rig.dy, dx, beta)
    return rig.grads()


@check
def gradient(case: Case) -> None:
    """In training, dx and every parameter gradient equal central differences in float64."""
    check_gradients(case, train=True)


@check
def gradient_eval(case: Case) -> None:
    """In evaluation, dx and every parameter gradient equal central differences in float64."""
    check_gradients(case, train=False)


@check
def need_dx(case: Case) -> None:
    """With dx=None, as for a net's first layer, bprop still adds to the parameter gradients."""
    plain, rig = Rig(case).both(), Rig(case)
    rig.fprop()
    for path, got in _added(rig, None).items():
        cause = "where dx is None: use self.g[...] +=, not ="
        if (got == 0.5).all():
            cause = "parameter gradients are computed only if dx is given"
        expect(got, plain[path] + np.asarray(0.5, got.dtype), path, cause)


@check
def batch_sizes(case: Case) -> None:
    """N = 1 and odd N work; in evaluation, a sample's y and dx do not depend on the rest of the batch."""
    whole = Rig(case, batch=7)
    together = whole.both(train=False)
    x, dy = whole.get(whole.x), whole.get(whole.dy)
    for n in (0, 6):
        one = Rig(case, batch=1)
        one.x, one.dy = one.array(x[..., n : n + 1]), one.array(dy[..., n : n + 1])
        alone = one.both(train=False)
        cause = "a loop assumes a certain N, or samples are mixed in evaluation"
        for name in ("y", "dx"):
            expect(alone[name], together[name][..., n : n + 1], f"sample {n} alone: {name}", cause)
    for rig in (Rig(case, batch=1), whole):
        for name, got in rig.both(train=True).items():
            if not np.isfinite(got).all():
                found = f"{name} is not finite at N = {rig.net.batch}"
                raise CheckFailed(found, "a statistic divides by N - 1", phase_of(name))


@check
def bad_shapes(case: Case) -> None:
    """A shape that does not fit raises LayerError before anything runs; one that fits works."""
    Rig(case).both()  # what fails on any shape is not a matter of shapes
    c, h, w = case.in_shape
    for small in ((1, 1, 1), (c, 1, 1), (c, 1, w), (c, h, 1), (1, h, w), (c + 1, h, w)):
        try:
            rig = Rig(Case(case.make, small, case.batch, case.backend))
        except Exception as error:
            if isinstance(error, LayerError) and error.__cause__ is None:
                continue  # raised by the layer on purpose
            found = f"input {small}: expected a LayerError or a net, got {(error.__cause__ or error)!r}"
            raise CheckFailed(found, "out_shape does not check every size", "out_shape") from error
        cause = "out_shape accepts a shape that does not fit"
        try:
            computed = rig.both()
        except Exception as error:
            found = f"input {small}: expected a result, got {type(error).__name__}: {error}"
            raise CheckFailed(found, cause, place=line_of(error)) from error
        for name, got in computed.items():
            if not np.isfinite(got).all():
                raise CheckFailed(f"input {small}: {name} is not finite", cause, "out_shape")

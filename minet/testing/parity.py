"""The checks of the conformance kit that compare backends, and the emulator with itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from minet import backends
from minet.backends import cuda_source
from minet.backends.launcher import THREADS
from minet.core import rng
from minet.core.declared import all_states
from minet.testing.harness import MODES, Case, CheckFailed, Rig, Skip, expect, expect_all, phase_of, registry

CHECKS, check = registry()
RTOL = 1e-4  # relative to an array's largest value: sums and exponentials differ between backends


# Numbers at which kernels that agree on others part: of equals and of zeros, and next to 0, the rule counts.
TIES = (0.0, -0.0, 0.25, 0.5, -0.5, -1.0)
SMALLEST = float(np.finfo(np.float32).smallest_subnormal)
RARE = (np.nan, np.inf, -np.inf, SMALLEST, -SMALLEST, 0.0)


def _ties(rig: Rig) -> None:
    for name in ("x", "dy"):
        array = getattr(rig, name)
        setattr(rig, name, rig.array(rng.generator(0, name).choice(TIES, array.shape)))


def _rare_in(name: str) -> Callable[[Rig], None]:
    """A change of one in 16 numbers of x or dy, and of one at least."""

    def change(rig: Rig) -> None:
        draw, value = rng.generator(1, name), rig.get(getattr(rig, name))
        chosen = draw.choice(value.size, -(-value.size // 16), replace=False)
        value.reshape(-1)[chosen] = draw.choice(RARE, len(chosen))
        setattr(rig, name, rig.array(value))

    return change


DRAWS: dict[str, Callable[[Rig], None]] = {
    "": lambda rig: None,
    ", of ties and zeros": _ties,
    ", where x holds NaN, infinities, denormal numbers or zeros": _rare_in("x"),
    ", where dy holds NaN, infinities, denormal numbers or zeros": _rare_in("dy"),
}


@check
def thread_order(case: Case) -> None:
    """On the emulator, every order of a kernel's threads and blocks gives the same y, dx and gradients."""
    if case.backend_name != "emu":
        raise Skip("only the emulator can reorder threads: --backend emu")
    results = {}
    for order in ("forward", "reversed", "shuffled"):
        rig = _native(replace(case, backend=backends.get("emu", order=order)))
        results[order] = rig.both() | _integers(rig)
    for order in ("reversed", "shuffled"):
        cause = f"{order} threads: a race, or atomics whose order matters; give each element one owner"
        expect_all(results[order], results["forward"], cause)


@check
def parity_emu(case: Case) -> None:
    """The CUDA kernels on the emulator agree with the cpu, also where a row takes several blocks."""
    _parity(case, "emu")


@check
def parity_cuda(case: Case) -> None:
    """The CUDA kernels on the GPU agree with the cpu, also where a row takes several blocks."""
    _parity(case, "cuda")


def _parity(case: Case, backend: str) -> None:
    if why := backends.missing(backend):
        raise Skip(why)
    chosen = case.backend if case.backend_name == backend else backend
    cause = f"the kernel on {backend} does not compute what the cpu backend does"
    for of, change in DRAWS.items():
        for train in MODES:
            there, here = _native(replace(case, backend=chosen)), Rig(replace(case, backend="cpu"))
            for rig in (there, here):
                change(rig)
            _same(there, here, train, cause + of)
    many = replace(case, batch=_filling_blocks(case))
    there, here = _native(replace(many, backend=chosen)), Rig(replace(many, backend="cpu"))
    _same(there, here, True, f"{cause} where a row takes more than one block of threads: at N = {many.batch}")


def _filling_blocks(case: Case) -> int:
    """An odd batch size at which a row of W * N threads is more than one block, in fprop and in bprop."""
    width = min(case.in_shape[2], case.make().configure(case.in_shape)[2])
    return (THREADS // width + 1) | 1


def _same(there: Rig, here: Rig, train: bool, cause: str) -> None:
    """Compare results, running statistics and positions; any number that is not finite equals any other."""
    with np.errstate(all="ignore"):
        got, expected = there.both(train), here.both(train)
    for name, value in expected.items():
        if value.any() and not got[name].any():
            most = np.abs(value).max()
            zeros = f"{name}: expected values up to {most:.9g}, got only zeros"
            raise CheckFailed(zeros, cause, phase_of(name))
        neither = ~np.isfinite(value) & ~np.isfinite(got[name])
        got[name] = np.where(neither, value, got[name])
    expect_all(got, expected, cause, RTOL)
    kept = {path: here.get(value) for path, value in here.net.persistent.items()}
    expect_all({path: there.get(there.net.persistent[path]) for path in kept}, kept, cause, RTOL, 0, "fprop")
    if train:
        found = _integers(there)
        for path, value in _integers(here).items():
            why = f"{cause}: positions and masks must match bit for bit"
            expect(found[path], value, path, why, 0, 0, "fprop")


def _native(case: Case) -> Rig:
    """Return the rig; skip the check if a layer has no kernels on that backend, fail if its name is wrong."""
    rig = Rig(case)
    be: Any = rig.be
    for layer in rig.graph.walk():
        if not layer.children and not be.native(layer):
            cls = type(layer)
            how = {phase: be.how(cls, phase)[0] for phase in ("fprop", "bprop")}
            on_host = [phase for phase, kind in how.items() if kind == "host"]
            launched = "method" in how.values()  # then kernels of other names are for it to launch
            if found := cuda_source.unused(cls, on_host, launched):
                cause = "the name of the file or of a kernel: as it is, the layer computes on the host"
                raise CheckFailed(found, cause)
            if len(on_host) == len(how):
                raise Skip(f"{cls.__name__} has no kernel: it computes on the host")
    return rig


def _integers(rig: Rig) -> dict[str, np.ndarray]:
    """Return the integer and boolean state of the layers, such as positions and masks."""
    return {
        f"{layer.full_path}.{name}": rig.get(layer.s[name]).astype(np.float64)
        for layer, name, state in all_states(rig.graph, rig.net.shapes)
        if not state.scratch and layer.s[name].dtype.kind in "iub"
    }

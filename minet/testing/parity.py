"""The checks of the conformance kit that compare backends, and the emulator with itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from minet import backends
from minet.core.declared import all_states
from minet.testing.harness import MODES, Case, CheckFailed, Rig, Skip, expect, expect_all, registry

CHECKS, check = registry()
RTOL = 1e-4  # relative to an array's largest value: sums and exponentials differ between backends


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
    """The CUDA kernels on the emulator agree with the cpu."""
    _parity(case, "emu")


@check
def parity_cuda(case: Case) -> None:
    """The CUDA kernels on the GPU agree with the cpu."""
    _parity(case, "cuda")


def _parity(case: Case, backend: str) -> None:
    if why := backends.missing(backend):
        raise Skip(why)
    chosen = case.backend if case.backend_name == backend else backend
    cause = f"the kernel on {backend} does not compute what the cpu backend does"
    for train in MODES:
        there, here = _native(replace(case, backend=chosen)), Rig(replace(case, backend="cpu"))
        got, expected = there.both(train), here.both(train)
        for name, value in expected.items():
            if value.any() and not got[name].any():
                most = np.abs(value).max()
                raise CheckFailed(f"{name}: expected values up to {most:.9g}, got only zeros", cause)
        expect_all(got, expected, cause, RTOL)
        kept = {path: here.get(value) for path, value in here.net.persistent.items()}
        expect_all({path: there.get(there.net.persistent[path]) for path in kept}, kept, cause, RTOL)
        if train:
            found = _integers(there)
            for path, value in _integers(here).items():
                expect(found[path], value, path, f"{cause}: positions and masks must match bit for bit", 0.0)


def _native(case: Case) -> Rig:
    """Return the rig; skip the check if a layer has no kernel on that backend."""
    rig = Rig(case)
    for layer in rig.graph.walk():
        if not layer.children and not rig.be.native(layer):
            raise Skip(f"{type(layer).__name__} has no kernel: it computes on the host")
    return rig


def _integers(rig: Rig) -> dict[str, np.ndarray]:
    """Return the integer and boolean state of the layers, such as positions and masks."""
    return {
        f"{layer.full_path}.{name}": rig.get(layer.s[name]).astype(np.float64)
        for layer, name, state in all_states(rig.graph, rig.net.shapes)
        if not state.scratch and layer.s[name].dtype.kind in "iub"
    }

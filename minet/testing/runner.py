"""Run checks and report their outcome: one by name, all of them, or as pytest cases."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from minet import backends
from minet.backends import Backend
from minet.backends.host_fallback import check_kernels
from minet.backends.kernel_cache import CompileError
from minet.backends.launcher import KernelError
from minet.core.blame import is_mistake, line_of
from minet.core.errors import MinetError
from minet.core.layer import Layer, Shape, is_shape
from minet.core.settings import is_whole
from minet.testing import bounds, contract, draws, kept, numerics, parity
from minet.testing.examples import examples
from minet.testing.harness import Case, CheckFailed, Skip
from minet.testing.place import code_of, gathered
from minet.testing.report import Check, Report

PARTS = (contract, kept, draws, numerics, parity)
CHECKS = {name: check for part in PARTS for name, check in part.CHECKS.items()}  # in the order of a report


def run_check(
    name: str, make: Callable[[], Layer], in_shape: Shape, *, batch: int = 3, backend: str | Backend = "cpu"
) -> Check:
    """Run one named check on the layer that `make()` returns; anything it raises is a failure of the layer.

    Raises
    ------
    CompileError, KernelError
        If a kernel does not compile, or names something that its layer does not have.
    """
    case = Case(make, tuple(in_shape), batch, backend)
    there = name.partition("parity_")[2] or backend
    return outcome(name, CHECKS[name], case, lambda phase: _place(make(), phase, there))


def outcome(name: str, check: Callable[[Any], None], case: Any, place: Callable[[str], str]) -> Check:
    """Run a check on a case; `place` says where the code of a phase is."""
    seen: dict[str, None] = {}
    tried = getattr(case.backend, "tried", None)  # of a Backend, which checks change

    def made(status: str, detail: str = "", at: str = "") -> Check:
        return Check(name, status, detail, at, tuple(seen))

    try:
        with gathered(seen):
            check(case)
    except Skip as why:
        return made("SKIP", str(why))
    except (CompileError, KernelError):
        raise  # there is nothing to check
    except CheckFailed as failure:
        return made("FAIL", str(failure), failure.place or place(failure.phase))
    except BaseException as error:  # any mistake of the layer's is a finding
        if not is_mistake(error):
            raise
        if index := bounds.cause(error):
            return made(
                "FAIL",
                f"{index.found}\nlikely cause: the loop's end, or the index, in: {index.code}",
                index.place,
            )
        known = isinstance(error, MinetError)  # whose message names the place
        if known:
            return made("FAIL", str(error))
        promise = (check.__doc__ or "").partition("\n")[0]
        found = f"{type(error).__name__} at {line_of(error)}: {error}".removesuffix(": ")
        return made("FAIL", f"{found}\nthe contract: {promise}")
    finally:
        if isinstance(case.backend, Backend):
            case.backend.tried = tried
    return made("PASS")


def _place(layer: Layer, phase: str, backend: str | Backend) -> str:
    return "" if layer.children else code_of(layer, phase, backends.get(backend))


def check_layer(
    make: Callable[[], Layer], in_shape: Shape, *, batch: int = 3, backend: str | Backend = "cpu"
) -> Report:
    """Run every check of the kit on a layer.

    Parameters
    ----------
    make : callable
        Returns a new layer at each call, such as ``lambda: PReLU()`` or the class itself.
    in_shape : tuple of int
        ``(C, H, W)``; best with H != W, and a window that equals neither its stride nor the image.
    batch : int
    backend : str or Backend
    """
    layer = make() if callable(make) else make
    if not callable(make) or not isinstance(layer, Layer):
        found = f"make() returned {layer!r}" if callable(make) else f"make is {make!r}"
        hint = "check_layer(lambda: PReLU(), (3, 4, 5))"
        raise MinetError(f"check_layer needs a function or class that makes a layer; {found}", hint)
    if not is_shape(in_shape) or not is_whole(batch) or batch < 1:
        raise layer.error(
            f"cannot be checked on {in_shape!r}, batch {batch!r}", "in_shape is (C, H, W), batch 1 or more"
        )
    name = backend if isinstance(backend, str) else backend.name
    if isinstance(backend, str) and (why := backends.missing(backend)):
        raise MinetError(why)
    check_kernels(backend, layer)
    title = f"{layer!r} on {tuple(in_shape)}, batch {batch}, {name}"
    return Report(title, [run_check(name, make, in_shape, batch=batch, backend=backend) for name in CHECKS])


def layer_checks(cls: type[Layer], *, backend: str = "cpu") -> Callable[..., None]:
    """Return a pytest function with one case for each of the class's examples and each check."""
    import pytest

    cases = []
    for make, in_shape in examples(cls):
        label = f"{make()!r}{tuple(in_shape)}".replace(" ", "")
        cases += [pytest.param(make, in_shape, name, id=f"{name}-{label}") for name in CHECKS]
    if not cases:
        raise NotImplementedError(f"{cls.__name__}.examples() yields nothing to check")

    @pytest.mark.parametrize(("make", "in_shape", "name"), cases)
    def conformance(make: Callable[[], Layer], in_shape: Shape, name: str) -> None:
        check = run_check(name, make, in_shape, backend=backend)
        for text in check.warnings:
            warnings.warn(text, stacklevel=1)
        if check.status == "SKIP":
            pytest.skip(check.detail)
        if check.status == "FAIL":
            where = f"\nat {check.place}" if check.place else ""
            pytest.fail(f"{make()!r} on {in_shape}: {name}: {check.detail}{where}", pytrace=False)

    return conformance

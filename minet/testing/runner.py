"""Run checks and report their outcome: one by name, all of them, or as pytest cases."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from minet import backends
from minet.backends import Backend
from minet.backends.host_fallback import HostWarning, check_kernels
from minet.backends.kernel_cache import CompileError
from minet.backends.launcher import KernelError
from minet.core.blame import line_of
from minet.core.errors import MinetError
from minet.core.layer import Layer, Shape, is_shape
from minet.core.settings import is_whole
from minet.testing import contract, parity
from minet.testing.examples import examples
from minet.testing.harness import Case, CheckFailed, Skip

CHECKS = contract.CHECKS | parity.CHECKS  # by name, in the order of a report


@dataclass
class Check:
    """The outcome of one check: "PASS", "FAIL" or "SKIP", with the finding or the reason."""

    name: str
    status: str
    detail: str = ""


@dataclass
class Report:
    """The outcomes of all checks of one layer; `ok` is False if any failed."""

    title: str
    checks: list[Check]

    @property
    def ok(self) -> bool:
        return not self.failed

    @property
    def failed(self) -> list[Check]:
        return [check for check in self.checks if check.status == "FAIL"]

    @property
    def counts(self) -> Counter[str]:
        """The number of checks with each status."""
        return Counter(check.status for check in self.checks)

    def __str__(self) -> str:
        lines, first = [self.title], dict[str, str]()
        width = max(len(check.name) for check in self.checks)
        for check in self.checks:
            found, _, rest = check.detail.partition("\n")
            if found and check.status == "FAIL":
                before = first.setdefault(found, check.name)
                if before != check.name:
                    found, rest = f"same as in {before}", rest.rpartition("\n")[2]
            detail = "\n".join(filter(None, (found, rest))).replace("\n", "\n" + " " * (width + 9))
            lines.append(f"  {check.status}  {check.name:<{width}}  {detail}".rstrip())
        return "\n".join(lines)


def run_check(
    name: str, make: Callable[[], Layer], in_shape: Shape, *, batch: int = 3, backend: str | Backend = "cpu"
) -> Check:
    """Run one named check on the layer that `make()` returns; anything it raises is a failure of the layer.

    Raises
    ------
    CompileError, KernelError
        If a kernel does not compile, or names something that its layer does not have.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HostWarning)  # a layer without a kernel is no failure
            CHECKS[name](Case(make, tuple(in_shape), batch, backend))
    except Skip as why:
        return Check(name, "SKIP", str(why))
    except (CompileError, KernelError):
        raise  # there is nothing to check
    except CheckFailed as failure:
        return Check(name, "FAIL", str(failure))
    except Exception as error:  # any mistake of the layer's is a finding
        known = isinstance(error, MinetError)  # whose message names the place
        found = str(error) if known else f"{type(error).__name__} at {line_of(error)}: {error}"
        promise = (CHECKS[name].__doc__ or "").partition("\n")[0]
        return Check(name, "FAIL", f"{found}\nthe contract: {promise}")
    return Check(name, "PASS")


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
        if check.status == "SKIP":
            pytest.skip(check.detail)
        if check.status == "FAIL":
            pytest.fail(f"{make()!r} on {in_shape}: {name}: {check.detail}", pytrace=False)

    return conformance

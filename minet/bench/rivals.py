"""The rivals: which libraries are compared with minet, in which variants, on which cases."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from minet.bench.cases import Case
from minet.core.errors import MinetError

INSTALL = 'pip install "minet-layers[bench]"; in a checkout: pip install -e ".[bench]"'


class Rival(NamedTuple):
    """A contender: its name, module, variant, the package it needs, and the cases it can run."""

    name: str
    module: str
    variant: str
    package: str
    can: Callable[[Case], bool] = lambda case: True
    on_card: bool = False
    on_cpu: bool = True


def _in_torch(case: Case) -> bool:
    return not case.is_own or hasattr(case.own_class(), "in_torch")


def _in_numpy(case: Case) -> bool:
    return case.is_own and hasattr(case.own_class(), "fprop_numpy")


def _separable(case: Case) -> bool:
    """Whether it is a Gaussian that is two in one dimension."""
    window, shape = case.settings.get("window"), case.settings.get("shape")
    flat = shape == "full" or (isinstance(window, tuple) and 1 in window)
    return (case.layer == "GaussianPool" and not flat) or case.layer == "gaussian_inception"


def _dcls(case: Case) -> bool:
    return case.layer == "GaussianPool" and case.settings.get("edge") == "zero" and case.is_plain


def _scipy(case: Case) -> bool:
    if case.layer == "GaussianPool":
        return case.settings.get("kernels", 1) == 1 and case.is_plain
    return case.layer in ("MaxPool", "AvgPool") and case.is_plain


COMPILED = "torch-compiled"  # in the fastest memory format of those above it
RIVALS = [
    Rival("numpy", "contender_minet", "numpy", "numpy", _in_numpy),
    Rival("torch-nchw", "contender_torch", "nchw", "torch", _in_torch, on_card=True),
    Rival("torch-channels_last", "contender_torch", "channels_last", "torch", _in_torch, on_card=True),
    Rival("torch-separable", "contender_torch", "separable+channels_last", "torch", _separable, on_card=True),
    Rival("dcls", "contender_dcls", "channels_last", "DCLS", _dcls),
    Rival("scipy", "contender_scipy", "", "scipy", _scipy),
    Rival(COMPILED, "contender_torch", "compiled", "torch", _in_torch),
    *(  # on a card in both formats at once: that takes less time than one after the other
        Rival(f"{COMPILED}-{form}", "contender_torch", f"compiled+{form}", "torch", _in_torch, True, False)
        for form in ("nchw", "channels_last")
    ),
]


def chosen(against: Iterable[str] | None, backend: str) -> tuple[list[Rival], list[str]]:
    """Return the rivals asked for, or all installed ones if None, and the packages that are missing.

    A name also selects its variants, so "torch" is every variant of PyTorch; "none" selects no rival.

    Raises
    ------
    MinetError
        If there is no rival of that name, or it is not installed.
    """
    able = [rival for rival in RIVALS if (rival.on_card if backend == "cuda" else rival.on_cpu)]
    names = [name.strip() for name in against or () if name.strip()]
    for name in names:
        if name != "none" and not any(_matches(rival, name) for rival in able):
            known = ", ".join(dict.fromkeys(["torch", *(rival.name for rival in able), "none"]))
            raise MinetError(f"--against {name}: no such rival on {backend}", f"the rivals are: {known}")
    wanted = [r for r in able if against is None or any(_matches(r, name) for name in names)]
    absent = list(dict.fromkeys(rival.package for rival in wanted if not installed(rival.package)))
    if absent and against is not None:
        raise MinetError(f"not installed: {', '.join(absent)}", INSTALL)
    return [rival for rival in wanted if rival.package not in absent], absent


def _matches(rival: Rival, name: str) -> bool:
    return rival.name == name or rival.name.startswith(f"{name}-")


def installed(package: str) -> str:
    """Return the version of a package; empty if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""

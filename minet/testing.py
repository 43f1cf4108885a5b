"""The conformance kit: drive any layer on plain arrays, and hold it to the contract, check by check.

`run` computes one fprop and bprop. `check_layer` puts a layer through the named checks of
`minet.conformance`. `layer_checks` makes the same checks pytest cases::

    from minet.testing import layer_checks
    test_conformance = layer_checks(MyLayer)  # uses MyLayer.examples()

Conformance proves that a layer keeps the contract and that bprop is the derivative of fprop; it does not
know the formula. Beside it a layer wants hand-computed values and an independent oracle.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minet import backends
from minet.backends import Backend
from minet.backends.compiled import CompileError
from minet.backends.host import HostWarning, check_kernels
from minet.backends.launcher import KernelError
from minet.blame import blaming, place
from minet.conformance import CHECKS
from minet.containers import Sequential
from minet.errors import MinetError
from minet.layer import Layer, Named, Shape, is_shape
from minet.net import Net
from minet.rig import Case, CheckFailed, Skip
from minet.settings import is_whole

__all__ = ["CHECKS", "Check", "Report", "Run", "check_layer", "layer_checks", "run", "run_check"]


@dataclass
class Run:
    """What `run` computed, as NumPy arrays of its own.

    Attributes
    ----------
    y, dx : ndarray (K, P, Q, N) and (C, H, W, N); dx is None without a dy
    grads, state : dict of str to ndarray
        By the layer's own names; for a container by path, such as ``"0/conv.w"``.
    """

    y: np.ndarray
    dx: np.ndarray | None
    grads: Named
    state: Named


def run(
    layer: Layer | Iterable[Any],
    x: np.ndarray,
    dy: np.ndarray | None = None,
    *,
    params: dict[str, Any] | None = None,
    beta_y: float = 0.0,
    y0: np.ndarray | None = None,
    beta_dx: float = 0.0,
    dx0: np.ndarray | None = None,
    train: bool = True,
    seed: int = 0,
    step: int = 0,
    backend: str | Backend = "cpu",
    dtype: str | None = None,
) -> Run:
    """One fprop, and one bprop if `dy` is given, of a layer or container on NumPy arrays in CHWN.

    The layer itself is left unbound and unchanged: a clone of it runs.

    Parameters
    ----------
    layer : Layer, or list of layers
    x : ndarray (C, H, W, N)
    dy : ndarray (K, P, Q, N), optional
    params : dict, optional
        Values that replace initial ones, by the layer's own names (by path for a container).
    beta_y, y0, beta_dx, dx0 :
        ``y <- beta_y*y0 + f(x)`` and ``dx <- beta_dx*dx0 + J^T dy``; where y0 or dx0 is not given, the
        destination holds NaN, which a beta of 0 must not let through.
    train : bool
    seed, step : int
        Decide initial values and draws.
    dtype : str, optional
        "float32" or "float64"; float64 if x is, float32 otherwise.
    """
    x = np.asarray(x)
    if x.ndim != 4:
        raise MinetError(f"x must be (C, H, W, N), got shape {x.shape}")
    dtype = dtype or ("float64" if x.dtype == np.float64 else "float32")
    graph = layer if isinstance(layer, Layer) else Sequential(*layer)
    net = Net(graph.clone(), x.shape[:3], x.shape[3], backend=backend, seed=seed, dtype=dtype)
    be, graph = net.be, net.graph
    net.clock.step = step
    _set_params(net, params or {})
    native_x = be.array(np.array(x, dtype, order="C"))
    y = _destination(net, (*net.output_shape, net.batch), y0, "y0")
    with blaming():
        graph.fprop(native_x, y, beta_y, train)
    dx = None
    if dy is not None:
        dx = _destination(net, x.shape, dx0, "dx0")
        if np.shape(dy) != y.shape:
            raise MinetError(f"dy must have y's shape {y.shape}, got {np.shape(dy)}")
        with blaming():
            graph.bprop(native_x, be.array(np.array(dy, dtype, order="C")), dx, beta_dx)

    def out(array: Any) -> np.ndarray:
        return np.array(be.get(array))

    grads = Named(
        {name: out(grad) for name, grad in _short(net, net.grads).items()} if dy is not None else {}
    )
    states = {
        f"{node.full_path}.{name}": node.s[name]
        for node in graph.walk()
        for name, state in node.state(*net.shapes[node]).items()
        if not state.scratch
    }
    state = Named({name: out(value) for name, value in _short(net, states).items()})
    return Run(out(y), None if dx is None else out(dx), grads, state)


def _short(net: Net, by_path: dict[str, Any]) -> dict[str, Any]:
    """A lone layer's arrays go by their own names."""
    return by_path if net.graph.children else {path.rpartition(".")[2]: a for path, a in by_path.items()}


def _set_params(net: Net, params: dict[str, Any]) -> None:
    known = _short(net, net.params) | net.params
    for name, value in params.items():
        if name not in known:
            raise MinetError(
                f"there is no parameter {name!r}", f"the parameters are: {', '.join(known) or 'none'}"
            )
        value = np.asarray(value, net.be.dtype)
        if value.shape not in ((), known[name].shape):
            raise MinetError(f"{name} has shape {known[name].shape}, got {value.shape}")
        net.be.copy(np.array(np.broadcast_to(value, known[name].shape)), known[name])


def _destination(net: Net, shape: Shape, first: np.ndarray | None, name: str) -> Any:
    if first is not None and np.shape(first) != tuple(shape):
        raise MinetError(f"{name} must have shape {tuple(shape)}, got {np.shape(first)}")
    return net.be.array(np.array(np.full(shape, np.nan) if first is None else first, net.be.dtype, order="C"))


@dataclass
class Check:
    """The outcome of one check: "PASS", "FAIL" or "SKIP", with what was expected and found, or why not."""

    name: str
    status: str
    detail: str = ""


@dataclass
class Report:
    """The outcome of all checks of one layer. `ok` is False if any failed."""

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
        """How many checks came out "PASS", "FAIL" and "SKIP"."""
        return Counter(check.status for check in self.checks)

    def __str__(self) -> str:
        lines, told = [self.title], dict[str, str]()
        width = max(len(check.name) for check in self.checks)
        for check in self.checks:
            found, _, rest = check.detail.partition("\n")
            if found and check.status == "FAIL":
                before = told.setdefault(found, check.name)
                if before != check.name:
                    found, rest = f"the same as in {before}", rest.rpartition("\n")[2]
            detail = "\n".join(filter(None, (found, rest))).replace("\n", "\n" + " " * (width + 9))
            lines.append(f"  {check.status}  {check.name:<{width}}  {detail}".rstrip())
        return "\n".join(lines)


def run_check(
    name: str, make: Callable[[], Layer], in_shape: Shape, *, batch: int = 3, backend: str | Backend = "cpu"
) -> Check:
    """One named check of the layer that `make()` gives; anything that it raises is a failure of the layer.

    Raises
    ------
    CompileError, KernelError
        If a kernel does not compile, or asks for what its layer has not.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HostWarning)  # for a layer without a kernel that is no failure
            CHECKS[name](Case(make, tuple(in_shape), batch, backend))
    except Skip as why:
        return Check(name, "SKIP", str(why))
    except (CompileError, KernelError):
        raise  # there is nothing to check
    except CheckFailed as failure:
        return Check(name, "FAIL", str(failure))
    except Exception as error:  # a layer's own mistake of any kind is what the kit looks for
        known = isinstance(error, MinetError)  # which says itself where it comes from
        found = str(error) if known else f"{type(error).__name__} at {place(error)}: {error}"
        promise = (CHECKS[name].__doc__ or "").partition("\n")[0]
        return Check(name, "FAIL", f"{found}\nthe promise: {promise}")
    return Check(name, "PASS")


def check_layer(
    make: Callable[[], Layer], in_shape: Shape, *, batch: int = 3, backend: str | Backend = "cpu"
) -> Report:
    """Every check of the kit.

    Parameters
    ----------
    make : callable
        Gives a new layer at each call, such as ``lambda: PReLU()`` or the class itself.
    in_shape : tuple of int
        ``(C, H, W)``; best with H != W, and windows that neither equal their stride nor the image.
    batch : int
    backend : str or Backend
    """
    layer = make() if callable(make) else make
    if not callable(make) or not isinstance(layer, Layer):
        found = f"make() gave {layer!r}" if callable(make) else f"make is {make!r}"
        hint = "check_layer(lambda: PReLU(), (3, 4, 5))"
        raise MinetError(f"check_layer wants what makes a layer; {found}", hint)
    if not is_shape(in_shape) or not is_whole(batch) or batch < 1:
        raise layer.error(f"cannot be checked on {in_shape!r}, batch {batch!r}", "in_shape is (C, H, W)")
    name = backend if isinstance(backend, str) else backend.name
    if isinstance(backend, str) and (why := backends.missing(backend)):
        raise MinetError(why)
    check_kernels(backend, layer)
    title = f"{layer!r} on {tuple(in_shape)}, batch {batch}, {name}"
    return Report(title, [run_check(name, make, in_shape, batch=batch, backend=backend) for name in CHECKS])


def layer_checks(cls: type[Layer], *, backend: str = "cpu") -> Callable[..., None]:
    """A pytest test function with a case for each of the class's examples and each check."""
    import pytest

    cases = []
    for make, in_shape in cls.examples():
        label = f"{make()!r}{tuple(in_shape)}".replace(" ", "")
        cases += [pytest.param(make, in_shape, name, id=f"{name}-{label}") for name in CHECKS]
    if not cases:
        raise NotImplementedError(f"{cls.__name__}.examples() gives nothing to check")

    @pytest.mark.parametrize(("make", "in_shape", "name"), cases)
    def conformance(make: Callable[[], Layer], in_shape: Shape, name: str) -> None:
        check = run_check(name, make, in_shape, backend=backend)
        if check.status == "SKIP":
            pytest.skip(check.detail)
        if check.status == "FAIL":
            pytest.fail(f"{make()!r} on {in_shape}: {name}: {check.detail}", pytrace=False)

    return conformance

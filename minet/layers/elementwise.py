"""Elementwise: a layer from an expression."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from minet.core.errors import MinetError
from minet.core.expression import formula
from minet.core.layer import Array, Init, Layer, Param, Shape, State, update

BLOCKS = 32  # most blocks of threads per channel, one partial sum each


class Elementwise(Layer):
    """``y = f(x)``, element by element, for an `f` given as text, such as ``"x * sigmoid(b * x)"``.

    From the expression, SymPy takes the derivatives with respect to ``x`` and to each parameter. minet writes
    one loop and one kernel from them for each direction, compiles them once per machine, and shows them with
    `source`.

    An expression has numbers, ``pi``, ``x``, parameters, ``+ - * / **`` and ``abs cos erf exp expm1 log log1p
    max min relu sigmoid sin softplus sqrt tanh``, and ``where(condition, a, b)``, which may also be written
    ``a if condition else b``. A condition compares numbers; ``and``, ``or``, ``not`` join conditions. Where
    the expression has a kink, the slope is that of the side that the condition names; at ``max(x, 0)`` and
    ``relu(x)`` it is 0, at ``abs(x)`` too. Weight decay does not apply to parameters.

    Shapes: ``(C, H, W)`` to ``(C, H, W)``; parameters are ``(C,)``, or ``(1,)`` if shared.

    Parameters
    ----------
    expression : str
    shared : bool or list of str
        Whether parameters have one value for all channels, or the names of those that do.
    **params : float, array_like or callable
        The parameters' initial values, by name: a number, one for each channel, or ``init(shape, rng)``.

    Raises
    ------
    LayerError
        If the expression cannot be read or differentiated, has no finite value for the initial parameters, or
        does not match the parameters; if a name or a setting is not allowed; if SymPy is not installed.
    """

    in_place = True

    def __init__(
        self, expression: str, /, *, shared: bool | Iterable[str] = False, **params: ArrayLike | Init
    ) -> None:
        self.init: dict[str, Init | np.ndarray] = {
            name: value if callable(value) else np.asarray(value) for name, value in params.items()
        }
        for name, init in self.init.items():
            numbers = isinstance(init, np.ndarray) and init.dtype.kind in "fiu" and init.size
            if not callable(init) and not (numbers and np.isfinite(init).all()):
                found = f"{name} must be finite numbers or init(shape, rng), got {params[name]!r}"
                raise self.error(found, f"{name}=1.0")
        names = (list(self.init) if shared else []) if isinstance(shared, bool) else shared
        if not isinstance(names, (list, tuple, set, frozenset)) or not all(n in [*self.init] for n in names):
            found = f"shared must be True, False or names of parameters, got {shared!r}"
            raise self.error(found, f"the parameters are: {', '.join(self.init) or 'none'}")
        self.shared = tuple(name for name in self.init if name in names)
        self.by_channel = len(self.shared) < len(self.init)
        try:
            values = {name: _extremes(init) for name, init in self.init.items()}
            self.formula = formula(expression, values)
        except MinetError as error:
            raise self.error(error.message, error.hint) from None

    def out_shape(self, in_shape: Shape) -> Shape:
        return in_shape

    def params(self, in_shape: Shape) -> dict[str, Param]:
        shapes = {name: (1 if name in self.shared else in_shape[0],) for name in self.init}
        return {name: Param(shapes[name], init, decay=False) for name, init in self.init.items()}

    def source(self, backend: str = "cpu") -> str:
        """What was written for the expression: loops in Numba ("cpu"), CUDA kernels ("cuda"), or "numpy"."""
        if backend == "numpy":
            from minet.core.expression import plain

            return plain.source(self.formula)
        if backend == "cpu":
            from minet.loops.elementwise import source
        elif backend == "cuda":
            from minet.core.expression.cuda import source
        else:
            known = 'source("cpu"), source("cuda") or source("numpy")'
            raise self.error(f"there is no source for {backend!r}", known)
        return source(self.formula, self.shared)

    # -- on the cpu -------------------------------------------------------------------------------

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        from minet.loops.elementwise import loops

        kernel = loops(self.formula, self.shared).elementwise_fprop
        kernel(x.reshape(self._rows(x)), y.reshape(self._rows(y)), *self.p.values(), beta)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        from minet.loops.elementwise import loops

        kernel = loops(self.formula, self.shared).elementwise_bprop
        above = dy.reshape(self._rows(dy))
        out = above[:0] if dx is None else dx.reshape(above.shape)
        arrays = *self.p.values(), *self.g.values()
        kernel(x.reshape(above.shape), None if dx is dy else above, out, *arrays, beta)

    def fprop_numpy(self, x: Array, y: Array, beta: float, train: bool) -> None:
        (value,) = self._plain("fprop", x)
        update(y, value, beta)

    def bprop_numpy(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        slope, *terms = self._plain("bprop", x, dy)
        for grad, term in zip(self.g.values(), terms, strict=True):
            grad += term.reshape(grad.size, -1).sum(axis=1, dtype=np.float64)
        if dx is not None:
            update(dx, slope, beta)

    def _plain(self, phase: str, *images: Array) -> Sequence[np.ndarray]:
        from minet.core.expression.plain import functions

        with np.errstate(all="ignore"):  # also of the branch that is not chosen
            found = functions(self.formula)[phase](
                *images, *(p[:, None, None, None] for p in self.p.values())
            )
        return [np.broadcast_to(each, images[0].shape) for each in found]

    def _rows(self, image: Array) -> Shape:
        """The shape (rows, elements) of an image for the loops: a row in which no parameter changes."""
        return (len(image) if self.by_channel else 1, -1)

    # -- on a GPU ---------------------------------------------------------------------------------

    def constants(self) -> dict[str, Any]:
        return {"LANES": 4}

    def state_gpu(self, in_shape: Shape, out_shape: Shape) -> dict[str, State]:
        if not self.init:
            return {}
        C, count = in_shape[0], len(self.init)
        return {
            "sums": State((count, C, BLOCKS), per_sample=False, scratch=True),
            "came": State((C + 1,), "uint32", per_sample=False),  # blocks of a channel, and of all
        }

    def fprop_gpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        C, H, W, N = x.shape
        self._launch("elementwise_fprop", size=H * W * N, rows=C, x=x, y=y, beta=beta)

    def bprop_gpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        C, H, W, N = x.shape
        grid: dict[str, Any] = {"size": H * W * N, "rows": C}
        if self.init:
            blocks = max(1, min(BLOCKS, H * W * N >> 12))
            grid = {"grid": (blocks, min(C, 1 << 15), 1), "block": (256, 1, 1)}
        elif dx is None:
            return
        self._launch("elementwise_bprop", **grid, x=x, dy=dy, dx=dx, beta=beta)

    def _launch(self, name: str, **values: Any) -> None:
        from minet.core.expression.cuda import file

        values |= {f"{name}_all": value for name, value in self.p.items()}
        values |= {f"{name}_grad": grad for name, grad in self.g.items()}
        self.be.launch(self, name, file=file(self.formula, self.shared), **values)

    @classmethod
    def examples(cls) -> Iterable[tuple[Callable[[], Layer], Shape]]:
        yield lambda: Elementwise("x * sigmoid(b * x)", b=1.0), (3, 7, 6)
        yield lambda: Elementwise("where(x > 0, x, a * x)", a=[0.25, -0.5]), (2, 1, 1)
        yield lambda: Elementwise("a * tanh(x) + exp(-((x - b) ** 2))", a=1.5, b=0.3, shared=["a"]), (3, 4, 5)
        yield lambda: Elementwise("0.5 * x * (1 + erf(x / sqrt(2)))"), (3, 7, 6)


def _extremes(init: Init | np.ndarray) -> tuple[float, ...]:
    """The least and the greatest initial value; nothing is known of those that are drawn."""
    return () if callable(init) else (float(init.min()), float(init.max()))

"""A minet layer, or a graph of them, as a torch.nn.Module."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.autograd.forward_ad import unpack_dual
from torch.nn.parameter import is_lazy

from minet.core.containers import Sequential
from minet.core.errors import MinetError
from minet.core.graph import shapes_of
from minet.core.layer import Layer
from minet.torch import layout as layouts
from minet.torch.ops import fprop, fprop_drawn
from minet.torch.part import Part
from minet.torch.program import draws
from minet.torch.spec import DTYPES, Spec

FORMS = (None, layouts.NCHW, layouts.NHWC, layouts.CHWN)


class Module(Part):
    """Layers of minet as a module on images (N, C, H, W), of any batch size and memory format.

    It computes where its parameters are: on the cpu, in float32 or float64, or on a CUDA device, in float32.
    Its input must be there, in their dtype. Under ``torch.autocast`` it computes in float32, and its output
    is float32, whatever the input. On a CUDA device it works in PyTorch's current stream and memory, and its
    kernels are compiled by nvcc at the first call; after that, forward and backward can be
    captured in CUDA graphs.

    Parameters have minet's names for them, and get shapes and values at the first input, as those of
    ``torch.nn.LazyConv2d``, or at once if `in_shape` is given. minet computes on their memory. Those with
    bounds, such as GaussianPool's ``log_sigma``, are clipped to them at each call: what a step has moved out
    is back before it is used. Those that the layer does not learn have ``requires_grad=False``.

    Random draws follow ``torch.manual_seed``. They are the same when a checkpoint computes them again.

    The output lies in memory as the input does, NCHW or channels last; with ``layout="chwn"`` as minet's
    arrays do, (C, H, W, N), still with the shape (N, C, H, W). An input that lies so is used where it is: a
    chain of such modules copies nothing.

    A gradient cannot be differentiated again, there are no forward-mode derivatives, and ``torch.func`` does
    not apply. What ``torch.export`` makes computes in the same process alone. Autograd does not see what
    ``module.layer`` or `minet.torch.load` writes: do it after backward and before the next call.

    Parameters
    ----------
    graph : Layer
        Not bound; its settings are copied.
    in_shape : (C, H, W), optional
    layout : {"nchw", "nhwc", "chwn"}, optional
    backend : {"auto", "cpu", "emu"}
        auto computes where the input is. emu runs the CUDA kernels on the cpu, slowly, to test them.
    device, dtype : optional
        Of the parameters.

    Raises
    ------
    MinetError
        If a setting is not one of these, a layer is bound, or the shape does not fit; at a call, if the
        input's number of axes, dtype, device or channels do not fit, or ``torch.func`` transforms it.
    """

    layout: str | None = None

    def __init__(
        self, graph: Layer, in_shape: Any = None, *, layout: str | None = None, backend: str = "auto",
        device: Any = None, dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        if layout not in FORMS:
            raise MinetError(f"layout must be one of {', '.join(map(repr, FORMS))}, got {layout!r}")
        spec = Spec(graph, backend)
        super().__init__(spec.graph, device, dtype or torch.get_default_dtype())
        self._spec, self.layout, self._draws = spec, layout, False
        infer: Any = getattr(self, "_infer_parameters")  # noqa: B009  # LazyModuleMixin's, on a type of its own
        self._initialize_hook = self.register_forward_pre_hook(infer, with_kwargs=True)
        if in_shape is not None:
            infer(self, (tuple(in_shape) if isinstance(in_shape, Iterable) else (in_shape,),))

    def initialize_parameters(self, x: Any) -> None:
        """Give parameters and running statistics their shapes and first values, for an input or (C, H, W)."""
        if not isinstance(x, tuple):
            self._check(x)
            kind = x.device.type
            x = self._spec.check(x, [], kind != "meta" and torch.is_autocast_enabled(kind))
        graph = self._layer
        graph.configure(x)
        shapes = shapes_of(graph, tuple(map(int, x)))
        seed = int(torch.randint(2**32, (), device="cpu")) if any(map(is_lazy, self.parameters())) else 0
        self._in_shape = shapes[graph][0]
        self._draws = draws(graph, self._in_shape)
        for part, layer in zip(self.parts(), graph.walk(), strict=True):
            part.begin(*shapes[layer], seed)
            if part is not self:  # whose hooks are removed by LazyModuleMixin
                part.done()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The output for images (N, C, H, W)."""
        if not torch.compiler.is_compiling():
            self._check(x)
        params, running = self._arrays()
        draw = torch.randint(2**62, (), device="cpu") if self.training and self._draws else None
        operator = fprop if draw is None else fprop_drawn
        layout = self.layout or (layouts.NHWC if layouts.form_of(x) == layouts.NHWC else layouts.NCHW)
        y, _, news = operator(x, params, running, draw, self.training, layout, self._spec.handle)
        if news:  # in training
            with torch.no_grad():
                for old, new in zip(running, news, strict=True):
                    old.copy_(new)
        return y

    def _check(self, x: Any) -> None:
        """Raise unless it is a tensor, outside what PyTorch does to functions that it has formulas for."""
        if not isinstance(x, torch.Tensor):
            if isinstance(x, torch.fx.Proxy):
                hint = "a torch.fx.Tracer whose is_leaf_module is true of a minet.torch.Module"
                raise self._layer.error("is one node of a graph, which torch.fx does not look into", hint)
            what = f"takes a tensor (N, C, H, W), got {type(x).__name__}"
            raise self._layer.error(what, "torch.as_tensor(x)")
        if unpack_dual(x).tangent is not None:
            raise self._layer.error("has no forward-mode derivative", "torch.autograd.grad goes backward")
        active = torch._C._are_functorch_transforms_active()
        if active and any(map(is_functorch_wrapped_tensor, (x, *self.parameters()))):
            hint = "torch.autograd.grad; of vmap: a batch, or a loop"
            raise self._layer.error("cannot be transformed by torch.func", hint)

    def _arrays(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """All parameters, within their bounds, and all running statistics, in the layers' order."""
        params, running = [], []
        for part in self.parts():
            params += part.learned()
            running += [getattr(part, name) for name in part._running]
        return params, running

    @property
    def layer(self) -> Any:
        """The minet layer, bound to the parameters' memory: ``module.layer.sigma`` reads and sets them."""
        if hasattr(self, "_initialize_hook"):
            raise self._layer.error("has no parameters before its first input", "or give in_shape=(C, H, W)")
        params, running = self._arrays()
        for found in (*params, *running):
            if found.is_floating_point() and found.dtype not in DTYPES:
                what = f"is bound to float32 or float64, not to {found.dtype}"
                raise self._layer.error(what, "module.float()")
        return self._spec.attached(self._in_shape, params, running)


def module(
    layer_or_list: Layer | Iterable[Any], in_shape: Any = None, *, layout: str | None = None,
    backend: str = "auto", device: Any = None, dtype: torch.dtype | None = None,
) -> Module:  # fmt: skip
    """A layer, or a list of layers one after another, as a `Module`.

    Examples
    --------
    >>> block = module([Conv(32, 3, pad=1), PReLU(), GaussianPool(3, stride=2, pad=1)])
    >>> y = block(torch.randn(8, 3, 32, 32))
    """
    if isinstance(layer_or_list, Layer):
        graph = layer_or_list
    elif isinstance(layer_or_list, (list, tuple)):
        graph = Sequential(*layer_or_list)
    else:
        hint = "module(GaussianPool(5)), or module([Conv(32, 3), PReLU()])"
        raise MinetError(f"module takes a layer of minet or a list of them, got {layer_or_list!r:.80}", hint)
    return Module(graph, in_shape, layout=layout, backend=backend, device=device, dtype=dtype)

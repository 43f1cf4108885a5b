"""The twin of a bound net in PyTorch: modules with the same mathematics and the same parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from minet.bench.torch_modules import Branches, GaussianPool, Own, StochasticPool, own_pad, padded
from minet.core.layer import Layer


class Translation:
    """The twin of a bound net.

    Attributes
    ----------
    module : Module
    order : array
        minet's number of each output channel of the module.
    """

    def __init__(self, graph: Layer, channels: int, separable: bool = False) -> None:
        self.separable = separable
        self._undo: dict[str, tuple[torch.nn.Parameter, Callable[[np.ndarray], np.ndarray]]] = {}
        self.module, self.order = self._twin(graph, np.arange(channels))

    def gradients(self) -> dict[str, np.ndarray]:
        """Return gradients by their paths in the net, in the net's channel order."""
        return {
            path: undo(p.grad.cpu().numpy()) for path, (p, undo) in self._undo.items() if p.grad is not None
        }

    def _twin(self, layer: Any, order: np.ndarray) -> tuple[torch.nn.Module, np.ndarray]:
        name = type(layer).__name__
        code = getattr(self, f"_{name.lower()}", None)
        if code is None and hasattr(layer, "in_torch"):
            code = self._own
        if code is None:
            raise NotImplementedError(f"there is no PyTorch twin of {name}")
        return code(layer, order)

    def _take(self, layer: Layer, name: str, axis: int = 0, order: np.ndarray | None = None) -> np.ndarray:
        """Return a parameter of the layer, with the channels along an axis in the module's order."""
        value = np.array(layer.be.get(layer.p[name]))
        return value if order is None else np.ascontiguousarray(np.take(value, order, axis))

    def _give(
        self, layer: Layer, name: str, parameter: Any, value: np.ndarray,
        axis: int = 0, order: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        """Set a module's parameter, and note how to turn its gradient into the layer's."""
        parameter.data = torch.from_numpy(value)
        back = None if order is None else np.argsort(order)
        path, shape = f"{layer.full_path}.{name}", tuple(layer.p[name].shape)
        self._undo[path] = (
            parameter,
            lambda g: (g if back is None else np.take(g.reshape(value.shape), back, axis)).reshape(shape),
        )

    def _own(self, layer: Any, order: np.ndarray) -> tuple[torch.nn.Module, np.ndarray]:
        if not np.array_equal(order, np.arange(len(order))):
            raise NotImplementedError(f"{type(layer).__name__}.in_torch needs channels in minet's order")
        own = Own(layer)
        for name in layer.p:
            self._give(layer, name, getattr(own, name), self._take(layer, name))
        return own, np.arange(layer.bound_shapes[1][0])

    def _sequential(self, layer: Any, order: np.ndarray) -> tuple[torch.nn.Module, np.ndarray]:
        parts = []
        for child in layer.children:
            part, order = self._twin(child, order)
            parts.append(part)
        return torch.nn.Sequential(*parts), order

    def _concat(self, layer: Any, order: np.ndarray) -> tuple[torch.nn.Module, np.ndarray]:
        parts, orders, start = [], [], 0
        for child in layer.children:
            part, out = self._twin(child, order)
            parts.append(part)
            orders.append(out + start)
            start += len(out)
        return Branches(parts), np.concatenate(orders)

    def _conv(self, layer: Any, order: np.ndarray) -> tuple[torch.nn.Module, np.ndarray]:
        groups, win, pad = layer.groups, layer.window, own_pad(layer.window)
        if groups > 1:
            if not np.array_equal(order, np.arange(len(order))):
                raise NotImplementedError(
                    "the PyTorch twin of Conv in groups needs channels in minet's order"
                )
            order = np.arange(len(order) // groups)
        w = self._take(layer, "w", 1, order)
        conv = torch.nn.Conv2d(
            w.shape[1] * groups, len(w), win.size, win.stride, pad or 0, win.dilation, groups,
            bias="b" in layer.p,
        )  # fmt: skip
        self._give(layer, "w", conv.weight, w, 1, order)
        if "b" in layer.p:
            self._give(layer, "b", conv.bias, self._take(layer, "b"))
        return conv if pad else padded(win, conv), np.arange(len(w))

    def _linear(self, layer: Any, order: np.ndarray) -> tuple[torch.nn.Module, np.ndarray]:
        flat = self._take(layer, "w")
        w = np.ascontiguousarray(flat.reshape(len(flat), len(order), -1)[:, order])
        linear = torch.nn.Linear(flat.shape[1], len(flat), bias="b" in layer.p)
        self._give(layer, "w", linear.weight, w, 1, order)
        linear.weight.data = linear.weight.data.reshape(flat.shape)
        if "b" in layer.p:
            self._give(layer, "b", linear.bias, self._take(layer, "b"))
        return torch.nn.Sequential(torch.nn.Flatten(), linear), np.arange(len(flat))

    def _gaussianpool(self, layer: Any, order: np.ndarray) -> tuple[torch.nn.Module, np.ndarray]:
        if layer.normalize != "sum" or not layer.per_channel:
            raise NotImplementedError(
                "the PyTorch twin of GaussianPool needs normalize='sum', per_channel=True"
            )
        values = {name: self._take(layer, name, 0, order) for name in layer.parts.values()}
        pool = GaussianPool(layer, values, self.separable)
        for name, value in values.items():
            self._give(layer, name, getattr(pool, name), value, 0, order)
        by_kernel = np.stack([order + j * len(order) for j in range(layer.kernels)])
        return pool if own_pad(pool.window) else padded(pool.window, pool), by_kernel.T.reshape(-1)

    def _prelu(self, layer: Any, order: np.ndarray) -> tuple[torch.nn.Module, np.ndarray]:
        a = self._take(layer, "a", 0, None if layer.shared else order)
        prelu = torch.nn.PReLU(len(a))
        self._give(layer, "a", prelu.weight, a, 0, None if layer.shared else order)
        return prelu, order

    def _batchnorm(self, layer: Any, order: np.ndarray) -> tuple[torch.nn.Module, np.ndarray]:
        norm = torch.nn.BatchNorm2d(len(order), layer.eps, 1 - layer.momentum)
        self._give(layer, "gamma", norm.weight, self._take(layer, "gamma", 0, order), 0, order)
        self._give(layer, "shift", norm.bias, self._take(layer, "shift", 0, order), 0, order)
        return norm, order

    def _lrn(self, layer: Any, order: np.ndarray) -> tuple[torch.nn.Module, np.ndarray]:
        if not np.array_equal(order, np.arange(len(order))):
            raise NotImplementedError("the PyTorch twin of LRN needs channels in minet's order")
        return torch.nn.LocalResponseNorm(layer.size, layer.alpha, layer.beta, layer.k), order

    def _relu(self, layer: Any, order: np.ndarray) -> tuple[torch.nn.Module, np.ndarray]:
        return torch.nn.ReLU(), order

    def _softmax(self, layer: Any, order: np.ndarray) -> tuple[torch.nn.Module, np.ndarray]:
        return torch.nn.Softmax(1), order

    def _maxpool(self, layer: Any, order: np.ndarray) -> tuple[torch.nn.Module, np.ndarray]:
        win = layer.window
        if not own_pad(win, half=True):  # then the padding does what PyTorch's ceil_mode would
            win = win.on(layer.bound_shapes[0])
        pad = own_pad(win, half=True)
        pool = torch.nn.MaxPool2d(win.size, win.stride, pad or 0, win.dilation, ceil_mode=win.ceil)
        return pool if pad else padded(win, pool, -np.inf), order

    def _avgpool(self, layer: Any, order: np.ndarray) -> tuple[torch.nn.Module, np.ndarray]:
        if layer.out:
            return torch.nn.AdaptiveAvgPool2d(layer.out), order
        win = layer.window or layer.window_on(layer.bound_shapes[0])
        if not own_pad(win, half=True) or win.dilation != (1, 1):
            raise NotImplementedError("PyTorch's AvgPool2d has no dilation, and not all pads")
        return torch.nn.AvgPool2d(win.size, win.stride, win.pad, win.ceil, layer.count_pad), order

    def _stochasticpool(self, layer: Any, order: np.ndarray) -> tuple[torch.nn.Module, np.ndarray]:
        if layer.window.dilation != (1, 1):
            raise NotImplementedError("the PyTorch twin of StochasticPool has no dilation")
        return StochasticPool(layer.window.on(layer.bound_shapes[0])), order

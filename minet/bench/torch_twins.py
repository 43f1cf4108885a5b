"""PyTorch modules with the same mathematics as minet's layers, made from a bound net.

GaussianPool is a depthwise conv2d with weights made from mean and log_sigma. It is divided by the sum of the
weights inside the image, which renormalises the edges exactly as minet does; `separable` makes it two
one-dimensional ones. StochasticPool compares running sums over the window's taps with a uniform number, and
gathers what it picks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]

from minet.core.layer import Layer
from minet.core.window import Window


class GaussianPool(torch.nn.Module):
    """Gaussian pooling whose kernels of one channel are neighbours, as conv2d's groups need."""

    def __init__(self, layer: Any, mean: np.ndarray, log_sigma: np.ndarray, separable: bool) -> None:
        super().__init__()
        self.window, self.separable, self.exact = layer.window, separable, layer.edge == "exact"
        self.mean = torch.nn.Parameter(torch.from_numpy(mean))
        self.log_sigma = torch.nn.Parameter(torch.from_numpy(log_sigma))
        for axis, length in enumerate(layer.bound_shapes[0][1:]):
            taps = np.arange(self.window.size[axis])
            starts = np.arange(self.window.outputs(axis, length)) * self.window.stride[axis]
            at = starts[:, None] + taps - self.window.pad[axis]
            inside = ((at >= 0) & (at < length)).astype(np.float32)
            self.register_buffer(f"offset{axis}", torch.from_numpy(taps - (len(taps) - 1) / 2).float())
            self.register_buffer(f"inside{axis}", torch.from_numpy(inside))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        (SY, SX), (PY, PX) = self.window.stride, self.window.pad
        rows = []
        for axis in (0, 1):
            at = getattr(self, f"offset{axis}") - self.mean[..., axis, None]
            rows.append(torch.softmax(-0.5 * (at / self.log_sigma[..., axis, None].exp()) ** 2, -1))
        down, right = (row.reshape(-1, 1, row.shape[-1]) for row in rows)
        if self.separable:
            y = F.conv2d(x, down[..., None], stride=(SY, 1), padding=(PY, 0), groups=x.shape[1])
            y = F.conv2d(y, right[:, :, None], stride=(1, SX), padding=(0, PX), groups=y.shape[1])
        else:
            w = down[..., :, None] * right[..., None, :]
            y = F.conv2d(x, w, stride=(SY, SX), padding=(PY, PX), groups=x.shape[1])
        if not self.exact:
            return y
        sides: Any = ((down, self.inside0), (right, self.inside1))
        inner = [1 / (row[:, 0] @ inside.T) for row, inside in sides]
        return y * (inner[0][:, :, None] * inner[1][:, None, :])


class StochasticPool(torch.nn.Module):
    def __init__(self, window: Window) -> None:
        super().__init__()
        self.window = window

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, (R, S), stride, pad = x.relu(), *self.window[:3]
        a = F.pad(a, (pad[1], pad[1], pad[0], pad[0]))  # avg_pool2d's own has a fault: docs/gpu.md, Measuring
        if not self.training:
            total, squares = (F.avg_pool2d(v, (R, S), stride, divisor_override=1) for v in (a, a * a))
            return squares / total.clamp_min(1e-20)
        P, Q = ((n - size) // step + 1 for n, size, step in zip(a.shape[2:], (R, S), stride, strict=True))
        with torch.no_grad():
            taps = [
                a[..., r :: stride[0], s :: stride[1]][..., :P, :Q] for r in range(R) for s in range(S)
            ]  # fmt: skip
            total = taps[0]
            for tap in taps[1:]:
                total = total + tap
            mark, running = torch.rand_like(total) * total, torch.zeros_like(total)
            picked = torch.zeros_like(total, dtype=torch.int64)
            for tap in taps:
                running = running + tap
                picked += running <= mark
            picked = picked.clamp_max(R * S - 1)  # a window without a positive value: every tap is 0
            down = torch.arange(P, device=x.device)[:, None] * stride[0] + picked // S
            right = torch.arange(Q, device=x.device) * stride[1] + picked % S
            at = down * a.shape[3] + right
        return a.flatten(2).gather(2, at.flatten(2)).unflatten(2, (P, Q))


class Own(torch.nn.Module):
    """A layer outside minet: its in_torch(x, **parameters) on images (N, C, H, W)."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.compute = layer.in_torch
        for name, value in layer.p.items():
            setattr(self, name, torch.nn.Parameter(torch.from_numpy(np.array(layer.be.get(value)))))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.compute(x, **dict(self.named_parameters()))


class Branches(torch.nn.Module):
    def __init__(self, parts: list[torch.nn.Module]) -> None:
        super().__init__()
        self.parts = torch.nn.ModuleList(parts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([part(x) for part in self.parts], 1)


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
        w, win = self._take(layer, "w", 1, order), layer.window
        conv = torch.nn.Conv2d(
            w.shape[1], len(w), win.size, win.stride, win.pad, win.dilation, bias="b" in layer.p
        )
        self._give(layer, "w", conv.weight, w, 1, order)
        if "b" in layer.p:
            self._give(layer, "b", conv.bias, self._take(layer, "b"))
        return conv, np.arange(len(w))

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
        values = {name: self._take(layer, name, 0, order) for name in ("mean", "log_sigma")}
        pool = GaussianPool(layer, values["mean"], values["log_sigma"], self.separable)
        for name, value in values.items():
            self._give(layer, name, getattr(pool, name), value, 0, order)
        by_kernel = np.stack([order + j * len(order) for j in range(layer.kernels)])
        return pool, by_kernel.T.reshape(-1)

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

    def _maxpool(self, layer: Any, order: np.ndarray) -> tuple[torch.nn.Module, np.ndarray]:
        return torch.nn.MaxPool2d(*layer.window[:3]), order

    def _avgpool(self, layer: Any, order: np.ndarray) -> tuple[torch.nn.Module, np.ndarray]:
        window = layer.window_on(layer.bound_shapes[0])
        size, stride, pad = window[:3]
        return torch.nn.AvgPool2d(size, stride, pad, count_include_pad=False), order

    def _stochasticpool(self, layer: Any, order: np.ndarray) -> tuple[torch.nn.Module, np.ndarray]:
        return StochasticPool(layer.window), order

"""A net as a module of PyTorch's own layers, for the layers that both have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from minet.core.containers import Concat, Sequential, Sum
from minet.core.errors import MinetError
from minet.core.layer import Layer
from minet.core.window import Window
from minet.torch.weights import RENAMED, graph_of

Twin = Callable[[Any], nn.Module]


class Branches(nn.Module):
    """Branches on one input, their outputs joined along the channels, or added up."""

    def __init__(self, parts: list[nn.Module], add: bool) -> None:
        super().__init__()
        self.add = add
        for i, part in enumerate(parts):
            self.add_module(str(i), part)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outs = [part(x) for part in self.children()]
        if not self.add:
            return torch.cat(outs, 1)
        total: torch.Tensor = outs[0]
        for out in outs[1:]:
            total = total + out
        return total


class Linear(nn.Linear):
    """A linear layer between images: (N, C, H, W) to (N, K, 1, 1)."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input.flatten(1))[..., None, None]


class Conv2d(nn.Conv2d):
    """A convolution whose pads differ on the two sides: (left, right, top, bottom)."""

    sides: tuple[int, int, int, int]

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(nn.functional.pad(input, self.sides))


def to_torch(net: Any) -> nn.Module:
    """A copy of a net, or of a `Module`, made of PyTorch's layers, with its parameters and statistics.

    Images are (N, C, H, W), and outputs too: those of Linear are (N, K, 1, 1). ``state_dict()`` has PyTorch's
    names under the net's paths: ``2/1/conv.w`` is ``2.1.weight``.

    Raises
    ------
    MinetError
        If PyTorch has no such layer; all of them are listed.
    """
    graph = graph_of(net)
    missing = [layer for layer in graph.walk() if not layer.children and _twin(layer) is None]
    missing += [layer for layer in graph.walk() if layer.children and not isinstance(layer, BRANCHED)]
    if missing:
        listed = ", ".join(f"{layer.path}:{layer!r}" if layer.path else repr(layer) for layer in missing)
        raise MinetError(
            f"PyTorch has no layer for {listed}", "minet.torch.module(...) makes modules of all layers"
        )
    made: dict[Layer, nn.Module] = {}
    module = _made(graph, made)
    return module.to(torch.float64) if graph.be.dtype == np.float64 else module


def _made(layer: Layer, made: dict[Layer, nn.Module]) -> nn.Module:
    parts = [_made(child, made) for child in layer.children]
    if isinstance(layer, Sequential):
        return nn.Sequential(*parts)
    if layer.children:
        return Branches(parts, add=isinstance(layer, Sum))
    twin = _twin(layer)
    assert twin is not None
    module = made[layer] = twin(layer)
    for name, value in {**layer.p, **layer.s}.items():
        target = RENAMED.get(name, name)
        if layer.tied and name in layer.p:
            setattr(module, target, getattr(made[layer.tied], target))
        elif (found := getattr(module, target, None)) is not None:
            own = np.array(layer.be.get(value)).reshape(tuple(found.shape))
            found.data = torch.from_numpy(own)
    return module


BRANCHED = (Sequential, Concat, Sum)


def _twin(layer: Any) -> Twin | None:
    """What makes PyTorch's layer of this one; None if there is none with the same mathematics."""
    twin = TWINS.get(type(layer).__name__)
    if type(layer).__name__ == "AvgPool" and not _averages(layer):
        return None
    return twin


def _conv(layer: Any) -> nn.Module:
    (C, *_), window = layer.bound_shapes[0], layer.window
    alike = window.pad == window.behind
    conv = (nn.Conv2d if alike else Conv2d)(
        C, layer.maps, window.size, window.stride, window.pad if alike else 0, window.dilation,
        layer.groups, bias=layer.bias,
    )  # fmt: skip
    if isinstance(conv, Conv2d):
        conv.sides = _sides(window)
    return conv


def _max_pool(layer: Any) -> nn.Module:
    window = layer.window
    if not _fits(window):
        window = window.on(layer.bound_shapes[0])  # whose padding does what PyTorch's ceil_mode would
        pool = nn.MaxPool2d(window.size, window.stride, 0, window.dilation)
        return nn.Sequential(nn.ConstantPad2d(_sides(window), -torch.inf), pool)
    return nn.MaxPool2d(window.size, window.stride, window.pad, window.dilation, ceil_mode=window.ceil)


def _avg_pool(layer: Any) -> nn.Module:
    window = layer.window
    if window is None:
        return nn.AdaptiveAvgPool2d(layer.out or 1)
    if not _fits(window):
        return nn.Sequential(nn.ConstantPad2d(_sides(window), 0.0), nn.AvgPool2d(window.size, window.stride))
    return nn.AvgPool2d(window.size, window.stride, window.pad, window.ceil, layer.count_pad)


def _averages(layer: Any) -> bool:
    """Whether PyTorch can average as this layer does: without a dilation, and with its pads."""
    window = layer.window
    if window is None:
        return True
    return window.dilation == (1, 1) and (_fits(window) or (layer.count_pad and not window.ceil))


def _fits(window: Window) -> bool:
    """Whether PyTorch's pools take the pad: alike on both sides, and at most half of the window."""
    half = all(2 * pad <= size for pad, size in zip(window.pad, window.size, strict=True))
    return half and window.pad == window.behind


def _sides(window: Window) -> tuple[int, int, int, int]:
    (top, left), (bottom, right) = window.pad, window.behind
    return left, right, top, bottom


TWINS: dict[str, Twin] = {
    "AvgPool": _avg_pool,
    "BatchNorm": lambda layer: nn.BatchNorm2d(layer.bound_shapes[0][0], layer.eps, 1 - layer.momentum),
    "Conv": _conv,
    "Dropout": lambda layer: nn.Dropout(layer.rate),
    "Identity": lambda layer: nn.Identity(),
    "LRN": lambda layer: nn.LocalResponseNorm(layer.size, layer.alpha, layer.beta, layer.k),
    "Linear": lambda layer: Linear(layer.p.w.shape[1], layer.units, bias=layer.bias),
    "MaxPool": _max_pool,
    "PReLU": lambda layer: nn.PReLU(layer.p.a.size),
    "ReLU": lambda layer: nn.ReLU(),
    "Softmax": lambda layer: nn.Softmax(1),
}

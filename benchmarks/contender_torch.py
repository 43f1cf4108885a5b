"""PyTorch as a contender, "nchw" or "channels_last": the same mathematics, from the same parameters.

GaussianPool is a depthwise conv2d whose weights are made from mean and log_sigma, divided by the same
convolution of an image of ones, which renormalises the edges exactly as minet does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.cases import Case, inputs
from benchmarks.contender_minet import Phases, Results, net_of
from minet.layer import Layer

NAMES = {"weight": "w", "bias": "b"}  # of parameters here, and in minet


class GaussianPool(torch.nn.Module):
    """Kernel-minor inside (channel c's kernels are neighbours), as conv2d's groups want it."""

    def __init__(self, window: Any, stride: Any, pad: Any, mean: np.ndarray, log_sigma: np.ndarray) -> None:
        super().__init__()
        self.window, self.stride, self.pad = window, stride, pad
        self.mean = torch.nn.Parameter(torch.from_numpy(mean.copy()))
        self.log_sigma = torch.nn.Parameter(torch.from_numpy(log_sigma.copy()))
        for axis, size in enumerate(window):
            self.register_buffer(f"offset{axis}", torch.arange(size) - (size - 1) / 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        channels = x.shape[1]
        rows = []
        for axis in (0, 1):
            at = getattr(self, f"offset{axis}") - self.mean[..., axis, None]
            rows.append(torch.softmax(-0.5 * (at / self.log_sigma[..., axis, None].exp()) ** 2, -1))
        w = (rows[0][..., :, None] * rows[1][..., None, :]).reshape(-1, 1, *self.window)
        y = F.conv2d(x, w, stride=self.stride, padding=self.pad, groups=channels)
        ones = torch.ones(1, channels, *x.shape[2:], dtype=x.dtype)
        return y / F.conv2d(ones, w, stride=self.stride, padding=self.pad, groups=channels)


def _kernel_minor(kernels: int, channels: int) -> np.ndarray:
    """Where minet's channel j*C + c stands in c*J + j order."""
    return np.arange(kernels * channels).reshape(kernels, channels).T.reshape(-1)


def translate(layer: Layer, order: np.ndarray) -> tuple[torch.nn.Module, np.ndarray]:
    """A module for a bound minet layer, and the order of its output: minet's number of each channel."""
    name = type(layer).__name__
    if name in ("Sequential", "Concat"):
        parts, orders, start = [], [], 0
        for child in layer.children:
            part, out = translate(child, order)
            parts.append(part)
            if name == "Sequential":
                order = out
            else:
                orders.append(out + start)
                start += len(out)
        if name == "Sequential":
            return torch.nn.Sequential(*parts), order
        return Branches(parts), np.concatenate(orders)
    if name == "Conv":
        w, b = np.array(layer.p.w), np.array(layer.p.b)
        conv = torch.nn.Conv2d(w.shape[1], w.shape[0], w.shape[2:], layer.window.stride, layer.window.pad)
        conv.weight.data, conv.bias.data = torch.from_numpy(w[:, order]), torch.from_numpy(b)
        return conv, np.arange(len(w))
    if name == "GaussianPool":
        win, kernels = layer.window, layer.p.mean.shape[1]
        mean, log_sigma = (np.array(layer.p[n])[order] for n in ("mean", "log_sigma"))
        pool = GaussianPool(win.size, win.stride, win.pad, mean, log_sigma)
        minor = np.concatenate([order + j * len(order) for j in range(kernels)])
        return pool, minor[_kernel_minor(kernels, len(order))]
    if name == "MaxPool":
        return torch.nn.MaxPool2d(layer.window.size, layer.window.stride, layer.window.pad), order
    if name == "PReLU":
        prelu = torch.nn.PReLU(len(order))
        prelu.weight.data = torch.from_numpy(np.array(layer.p.a)[order])
        return prelu, order
    if name == "Linear":
        w = np.array(layer.p.w).reshape(len(layer.p.w), len(order), -1)[:, order].reshape(len(layer.p.w), -1)
        linear = torch.nn.Linear(w.shape[1], w.shape[0])
        linear.weight.data, linear.bias.data = torch.from_numpy(w), torch.from_numpy(np.array(layer.p.b))
        return torch.nn.Sequential(torch.nn.Flatten(), linear), np.arange(len(w))
    raise NotImplementedError(f"no PyTorch twin for {name}")


class Branches(torch.nn.Module):
    def __init__(self, parts: list[torch.nn.Module]) -> None:
        super().__init__()
        self.parts = torch.nn.ModuleList(parts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([part(x) for part in self.parts], 1)


def build(case: Case, variant: str) -> tuple[Phases, Results]:
    """The phases to time, by name, and a function that gives the results to compare, in minet's layout."""
    torch.set_num_threads(2)
    net, _ = net_of(case)
    order = np.arange(case.shape[0])
    module, order = translate(net.graph, order)
    memory = torch.channels_last if variant == "channels_last" else torch.contiguous_format
    module = module.to(memory_format=memory)
    back = np.argsort(order)
    x_np, target_np = inputs(case, net.output_shape)

    def tensor(chwn: np.ndarray) -> torch.Tensor:
        nchw = torch.from_numpy(np.ascontiguousarray(chwn.transpose(3, 0, 1, 2)))
        return nchw.contiguous(memory_format=memory)

    def chwn(t: torch.Tensor) -> np.ndarray:
        return t.detach().numpy().transpose(1, 2, 3, 0)

    x = tensor(x_np)
    if case.is_model:
        labels = torch.from_numpy(target_np)
        solver = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

        def gradients() -> None:
            solver.zero_grad()
            F.cross_entropy(module(x), labels).backward()

        def step() -> None:
            gradients()
            solver.step()

        def results() -> dict[str, np.ndarray]:
            gradients()
            first = next(m for m in module.modules() if isinstance(m, torch.nn.Conv2d))
            w = first.weight.grad.numpy()
            return {"y": module(x).detach().numpy().T[:, None, None, :], "0/conv.w": np.array(w)}

        return {"step": step}, results
    x.requires_grad_(True)
    target = tensor(target_np[order])

    def fprop() -> torch.Tensor:
        return module(x)

    def both() -> None:
        x.grad = None
        module.zero_grad()
        fprop().backward(target)

    def results_of_layer() -> dict[str, np.ndarray]:
        both()
        grads = {NAMES.get(name, name): p.grad.numpy() for name, p in module.named_parameters()}
        return {"y": chwn(fprop())[back], "dx": chwn(x.grad), **grads}

    return {"fprop": fprop, "fprop+bprop": both}, results_of_layer

"""PyTorch modules with the same mathematics as minet's layers, where PyTorch has none of its own.

GaussianPool is a depthwise conv2d with weights made from its parameters. It is divided by the sum of the
weights inside the image, which renormalises the edges exactly as minet does; `separable` makes it two
one-dimensional ones. A readout of whole maps is a product of matrices. StochasticPool compares running sums
over the window's taps with a uniform number, and gathers what it picks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]

from minet.core.window import Pair, Window


def sides(window: Window) -> tuple[int, int, int, int]:
    """Return the pads left, right, above and below, in PyTorch's order."""
    (top, left), (below, right) = window.pad, window.behind
    return left, right, top, below


def own_pad(window: Window, half: bool = False) -> Pair | None:
    """Return the pad if PyTorch takes it: alike on both sides, and in pooling at most `half` a window."""
    fits = not half or all(2 * pad <= size for pad, size in zip(window.pad, window.size, strict=True))
    return window.pad if fits and window.pad == window.behind else None


def padded(window: Window, module: torch.nn.Module, outside: float = 0.0) -> torch.nn.Module:
    """Return the module behind a padding of its own, for pads that it does not take."""
    return torch.nn.Sequential(torch.nn.ConstantPad2d(sides(window), outside), module)


class GaussianPool(torch.nn.Module):
    """Gaussian pooling whose kernels of one channel are neighbours, as conv2d's groups need."""

    mean: torch.nn.Parameter
    log_sigma: torch.nn.Parameter
    correlation: torch.nn.Parameter

    def __init__(self, layer: Any, values: dict[str, np.ndarray], separable: bool) -> None:
        super().__init__()
        in_shape = layer.bound_shapes[0]
        self.window: Window = layer.window_on(in_shape)
        self.whole, self.full, self.separable = layer.window is None, layer.full, separable
        self.exact = layer.edge == "exact" and not self.whole
        for name, value in values.items():
            self.register_parameter(name, torch.nn.Parameter(torch.from_numpy(value)))
        for axis, length in enumerate(in_shape[1:]):
            taps = np.arange(self.window.size[axis])
            starts = np.arange(self.window.outputs(axis, length)) * self.window.stride[axis]
            at = starts[:, None] + taps * self.window.dilation[axis] - self.window.pad[axis]
            inside = ((at >= 0) & (at < length)).astype(np.float32)
            self.register_buffer(f"offset{axis}", torch.from_numpy(taps - (len(taps) - 1) / 2).float())
            self.register_buffer(f"inside{axis}", torch.from_numpy(inside))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        down, right = (
            (getattr(self, f"offset{axis}") - self.mean[..., axis, None])
            / self.log_sigma[..., axis, None].exp()
            for axis in (0, 1)
        )  # distances from the mean in standard deviations: (C, J, R) and (C, J, S)
        if self.full:
            return self._full(x, down, right)
        down, right = (torch.softmax(-0.5 * at**2, -1) for at in (down, right))
        if self.whole and self.separable:
            rows = torch.einsum("nchw,cjw->nchj", x, right)
            return torch.einsum("nchj,cjh->ncj", rows, down).flatten(1)[..., None, None]
        if self.whole:
            return self._readout(x, down[..., :, None] * right[..., None, :])
        down, right = (row.flatten(0, 1)[:, None] for row in (down, right))
        if self.separable:
            y = self._conv(self._conv(x, down[..., None], axes=(1, 0)), right[:, :, None], axes=(0, 1))
        else:
            y = self._conv(x, down[..., :, None] * right[..., None, :])
        if not self.exact:
            return y
        both: Any = ((down, self.inside0), (right, self.inside1))
        inner = [1 / (row[:, 0] @ inside.T) for row, inside in both]
        return y * (inner[0][:, :, None] * inner[1][:, None, :])

    def _full(self, x: torch.Tensor, down: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        u, v, rho = down[..., :, None], right[..., None, :], self.correlation[..., None, None]
        square = (u * u - 2 * rho * u * v + v * v) / (1 - rho * rho)
        w = torch.softmax(-0.5 * square.flatten(2), -1).view(square.shape)
        if self.whole:
            return self._readout(x, w)
        w = w.flatten(0, 1)
        y, insides = self._conv(x, w[:, None]), [getattr(self, f"inside{axis}") for axis in (0, 1)]
        return y / (insides[0] @ w @ insides[1].T) if self.exact else y

    def _conv(self, x: torch.Tensor, w: torch.Tensor, axes: Pair = (1, 1)) -> torch.Tensor:
        """Convolve each channel with its weights (K, 1, R, S), with the window's geometry along some axes."""
        win, pad = self.window, own_pad(self.window) or (0, 0)
        stride, step = (
            [n if on else 1 for n, on in zip(both, axes, strict=True)] for both in (win.stride, win.dilation)
        )
        return F.conv2d(
            x, w, None, stride, [n * on for n, on in zip(pad, axes, strict=True)], step, x.shape[1]
        )

    def _readout(self, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return torch.einsum("nchw,cjhw->ncj", x, w).flatten(1)[..., None, None]


class StochasticPool(torch.nn.Module):
    """Stochastic pooling under a window without dilation."""

    def __init__(self, window: Window) -> None:
        super().__init__()
        self.window = window

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, (R, S), stride = x.relu(), *self.window[:2]
        a = F.pad(a, sides(self.window))  # avg_pool2d's own has a fault: docs/gpu.md, Measuring
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

"""DCLS as a contender for GaussianPool: Khalfaoui-Hassani et al., arXiv 2306.00817, the package DCLS.

Its Gaussians are those of ``edge="zero"``: normalised over the whole window, with zeros around the image.
Each of its J*C output channels has one Gaussian and a weight, fixed at 1 here. Its sigma is ``|SIG| + 0.27``.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from minet.bench.cases import Case, inputs
from minet.bench.contender_minet import net_of
from minet.bench.timers import Built, HostWatch

SMALLEST = 0.27  # what DCLS adds to |SIG|


def build(case: Case, variant: str, backend: str) -> Built:
    """Build the case in the memory format `variant`."""
    logging.disable(logging.WARNING)  # it warns at length that there is no CUDA
    from DCLS.construct.modules import Dcls2d  # pyright: ignore[reportMissingImports]

    watch = HostWatch()
    net, _ = net_of(case)
    layer: Any = net.graph
    C, kernels = case.shape[0], layer.kernels
    size, stride, pad = layer.window[:3]  # square: DCLS centres others differently
    module = Dcls2d(
        C, kernels * C, 1, stride=stride, padding=pad, dilated_kernel_size=size, groups=C, bias=False,
        version="gauss", use_implicit_gemm=False,
    )  # fmt: skip
    sigma = np.exp(np.array(layer.p.log_sigma))
    centre = (size[0] - 1) / 2 - size[0] // 2

    def theirs(values: np.ndarray) -> torch.Tensor:
        """Convert (C, J, 2) in the order (y, x) to (2, C*J, 1, 1) in the order (x, y)."""
        return torch.from_numpy(values.reshape(-1, 2).T[::-1].reshape(2, -1, 1, 1).astype(np.float32))

    def ours(gradient: torch.Tensor | None) -> np.ndarray:
        assert gradient is not None
        return gradient.numpy().reshape(2, C, kernels)[::-1].transpose(1, 2, 0)

    module.P.data, module.SIG.data = theirs(np.array(layer.p.mean) + centre), theirs(sigma - SMALLEST)
    module.weight.data.fill_(1.0)
    module.weight.requires_grad_(False)
    memory = torch.channels_last if variant == "channels_last" else torch.contiguous_format
    x_np, target_np = inputs(case, net.output_shape)
    minor = np.arange(kernels * C).reshape(kernels, C).T.reshape(-1)  # minet's number of each channel
    del net

    def tensor(chwn: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(chwn.transpose(3, 0, 1, 2))).contiguous(
            memory_format=memory
        )

    x, target = tensor(x_np).requires_grad_(True), tensor(target_np[minor])

    def both() -> torch.Tensor:
        x.grad = None
        module.zero_grad()
        y = module(x)
        y.backward(target)
        return y

    def results() -> dict[str, np.ndarray]:
        y = both()
        assert x.grad is not None
        return {
            "y": y.detach().numpy().transpose(1, 2, 3, 0)[np.argsort(minor)],
            "dx": x.grad.numpy().transpose(1, 2, 3, 0),
            "gaussian_pool.mean": ours(module.P.grad),
            "gaussian_pool.log_sigma": ours(module.SIG.grad) * sigma,
        }

    return Built({"fprop": lambda: module(x), "fprop+bprop": both}, results, watch)

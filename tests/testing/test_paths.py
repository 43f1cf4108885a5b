"""The paths that layers choose by shape: each keeps the whole contract, on a shape that is seen to take it.

A formula is tested in its layer's file. Here it is what surrounds the formula, on each path: beta, slices,
gradients that add up, other batches, threads in other orders.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

import minet.layers.conv_tiles
import minet.loops.conv.conv
import minet.loops.conv.conv_depthwise
import minet.loops.conv.gemm
import minet.loops.conv.winograd
import minet.loops.conv.winograd_dw
import minet.loops.gaussian_pool_weights
from minet import Layer, Net
from minet.backends import launcher
from minet.backends.cuda import CUDA
from minet.backends.emulator import Emulator
from minet.backends.launcher import Launcher
from minet.layers import (
    LRN,
    AvgPool,
    BatchNorm,
    Conv,
    Dropout,
    GaussianPool,
    Linear,
    MaxPool,
    PReLU,
    ReLU,
    StochasticPool,
)  # fmt: skip
from minet.testing import CHECKS, run_check

Ran = dict[str, dict[str, Any]]  # what was called or launched, with its last call's arguments by name


@dataclass
class Path:
    """A path by its name, a layer and a shape that take it, and what shows that they did."""

    name: str
    make: Callable[[], Layer]
    in_shape: tuple[int, int, int]
    batch: int
    taken: Callable[[Ran], bool]

    def __str__(self) -> str:
        return f"{self.make().stem()}:_{self.name.replace(' ', '_')}"


def in_pairs(ran: Ran) -> bool:
    return {"multiply_pairs", "multiply_pair_dots"} <= set(ran)


ON_CPU = [
    Path("rows of y", lambda: Conv(4, 3, stride=2, pad=1), (3, 7, 6), 3,
         lambda ran: "panels" in ran and "conv_flat" not in ran and not in_pairs(ran)),
    Path("one flat row", lambda: Conv(4, 3, pad=1), (3, 7, 6), 1, lambda ran: "conv_flat" in ran),
    Path("one flat row, dilated", lambda: Conv(4, (3, 2), pad=(0, 1), dilation=(2, 3), bias=False),
         (3, 9, 7), 1, lambda ran: "conv_flat" in ran),
    Path("pairs, 3 wide", lambda: Conv(33, (4, 3), pad=(2, 1)), (33, 3, 4), 16, in_pairs),
    Path("pairs, 5 wide", lambda: Conv(32, (1, 5), pad=(0, 2)), (128, 2, 5), 16, in_pairs),
    Path("maps in groups", lambda: Conv(70, 1), (70, 3, 4), 3,
         lambda ran: ran["panels"]["down"] > 1 and ran["dots"]["M"] > minet.loops.conv.gemm.GROUP),
    Path("channels in blocks", lambda: Conv(5, 3, pad=1), (70, 4, 5), 3,
         lambda ran: ran["panels"]["v"].channels < 5 * 14 and ran["dots"]["v"].channels < 70),
    Path("a line for each tap", lambda: Conv(3, 3, stride=2), (2, 7, 9), 3,
         lambda ran: ran["dots"]["v"].lines == 3),
    Path("sums in shares", lambda: Conv(3, 3), (2, 9, 8), 33, lambda ran: len(ran["dots"]["partial"]) > 1),
    Path("groups tap by tap", lambda: Conv(6, (2, 3), stride=2, pad=((0, 1), (1, 1)), groups=3),
         (6, 5, 7), 65, lambda ran: "weigh" in ran and len(ran["weigh_back"]["partial"]) > 1),
    Path("products of groups", lambda: Conv(18, 2, groups=2), (18, 3, 4), 3,
         lambda ran: ran["panels"]["M"] == 9),
    Path("a vector", lambda: Linear(5), (3, 2, 4), 1, lambda ran: "rows_dot" in ran),
    Path("blocks of a lone channel", lambda: GaussianPool(3, 1, 1, kernels=2), (1, 41, 5), 2,
         lambda ran: ran["gaussian_pool_bprop"]["blocks"] > 1),
]  # fmt: skip
CALLED = {
    minet.loops.conv.conv: ("conv_flat",),
    minet.loops.conv.winograd: ("multiply_pairs",),
    minet.loops.conv.winograd_dw: ("multiply_pair_dots",),
    minet.loops.conv.conv_depthwise: ("weigh", "weigh_back"),
    minet.loops.conv.gemm: ("panels", "dots", "rows_dot"),
    minet.loops.gaussian_pool_weights: ("gaussian_pool_bprop",),
    Emulator: ("load",),
    CUDA: ("load",),
}
ON_GPU = [
    Path("4 lanes of max pooling", lambda: MaxPool(3, stride=2, pad=1), (2, 7, 6), 4,
         lambda ran: ran["max_pool_bprop"]["LANES"] == 4),
    Path("a lane of max pooling", lambda: MaxPool(3, stride=(2, 5), pad=1), (2, 7, 9), 4,
         lambda ran: ran["max_pool_bprop"]["LANES"] == 1),
    Path("4 lanes of stochastic pooling", lambda: StochasticPool(3, stride=2, pad=1), (2, 7, 6), 4,
         lambda ran: ran["stochastic_pool_fprop"]["LANES"] == 4),
    Path("4 lanes of average pooling, in bands", lambda: AvgPool(3, stride=2, pad=1), (2, 9, 6), 4,
         lambda ran: ran["avg_pool_bprop"]["LANES"] == 4 and ran["avg_pool_bprop"]["bands"] > 1),
    Path("average pooling in one band", lambda: AvgPool(9, stride=1, pad=4), (2, 7, 6), 4,
         lambda ran: ran["avg_pool_bprop"]["LANES"] == ran["avg_pool_bprop"]["bands"] == 1),
    Path("2 lanes of Gaussians, in bands", lambda: GaussianPool(3, 1, 1, kernels=2), (2, 9, 6), 4,
         lambda ran: ran["gaussian_pool_bprop"]["LANES"] == 2 and ran["gaussian_pool_bprop"]["grid"][1] > 1),
    Path("Gaussians in one band", lambda: GaussianPool(5, 2, 4, per_channel=False), (2, 7, 6), 3,
         lambda ran: ran["gaussian_pool_bprop"]["LANES"] == ran["gaussian_pool_bprop"]["grid"][1] == 1),
    Path("tables apart", lambda: GaussianPool((2, 15), 1, (1, 14), kernels=7), (2, 3, 6), 4,
         lambda ran: "gaussian_pool_weights" in ran and ran["gaussian_pool_bprop"]["APART"] == 1),
    Path("an axis after the other", lambda: GaussianPool((1, 16), 1, (0, 15)), (2, 3, 6), 4,
         lambda ran: "gaussian_pool_axes_second" in ran and ran["gaussian_pool_axes_second"]["LANES"] == 2),
    Path("each tap of a tilted Gaussian", lambda: GaussianPool(3, 1, 1, shape="full"), (2, 5, 6), 4,
         lambda ran: ran["gaussian_pool_full_shares"]["LANES"] == 2),
    Path("shares of a channel", lambda: BatchNorm(), (2, 53, 55), 4,
         lambda ran: ran["batch_norm_slopes"]["grid"][0] > 1 and ran["batch_norm_bprop"]["LANES"] == 4),
    Path("slabs of maps", lambda: LRN(3), (29, 3, 2), 4,
         lambda ran: ran["lrn_bprop"]["slabs"] > 1 and ran["lrn_bprop"]["LANES"] == 2),
    Path("4 lanes of dropout", lambda: Dropout(0.3), (2, 7, 6), 4,
         lambda ran: ran["dropout_fprop"]["LANES"] == ran["dropout_bprop"]["LANES"] == 4),
    Path("blocks of a channel", lambda: PReLU(), (2, 53, 55), 4,
         lambda ran: ran["prelu_bprop"]["grid"][0] > 1 and ran["prelu_bprop"]["LANES"] == 4),
    Path("blocks of channels that share", lambda: PReLU(shared=True), (3, 53, 55), 3,
         lambda ran: ran["prelu_bprop"]["grid"][0] > 1 and ran["prelu_bprop"]["SLOPES"] == 1),
    Path("rows summed in shares", lambda: Conv(2, 1, groups=2), (2, 53, 55), 3,
         lambda ran: ran["sum_rows"]["length"] == 2),
    Path("sums of many shares", lambda: Conv(2, 1), (2, 27, 29), 3,
         lambda ran: ran["conv_gather"]["z1"] > 32 and ran["conv_gather"]["pieces"] == 2),
    Path("a product tap by tap", lambda: Conv(17, 3, stride=2), (33, 5, 4), 3,
         lambda ran: not ran["conv_gather"]["FLAT"] and not ran["conv_dw"]["FLAT"]),
    Path("4 lanes of groups tap by tap", lambda: Conv(6, (2, 3), stride=2, pad=1, groups=3), (6, 5, 7), 4,
         lambda ran: ran["conv_depthwise_dx"]["LANES"] == 4 and ran["conv_depthwise_dw"]["grid"][0] > 1),
    Path("products of groups", lambda: Conv(18, 2, groups=2), (66, 3, 4), 4,
         lambda ran: ran["conv_gather"]["GROUPED"] and not ran["conv_dw"]["FLAT"]),
    Path("large tiles of a product", lambda: Conv(17, 2), (16, 3, 4), 4,
         lambda ran: ran["conv_gather"]["BM"] == 128 and ran["conv_gather"]["LANES"] == 4),
    Path("a sum of weights in turns", lambda: Conv(2, 2), (1, 27, 28), 3,
         lambda ran: ran["conv_dw"]["z0"] > 0),
    Path("64-bit positions", lambda: ReLU(), (2, 7, 6), 3, lambda ran: ran["load"]["constants"]["WIDE"] == 1),
]  # fmt: skip
SMALLER = {  # limits brought down to where small shapes meet them
    "large tiles of a product": (minet.layers.conv_tiles, "image_tile", lambda maps, positions: "large"),
    "sums of many shares": (minet.layers.conv_tiles, "PIECE", 1024),
    "a sum of weights in turns": (minet.layers.conv_tiles, "MULTIPROCESSORS", 0),  # a share at a time
    "64-bit positions": (launcher, "WIDE", 1),
}


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Ran:
    """What is called and launched from now on."""
    noted: Ran = {}

    def noting(name: str, function: Any) -> Callable[..., Any]:
        signature = inspect.signature(getattr(function, "py_func", function))

        def call(*args: Any, **kwargs: Any) -> Any:
            given = signature.bind(*args, **kwargs).arguments
            if function is launch:
                noted[given["name"]] = given["constants"] | given["values"] | {"grid": given.get("grid")}
            else:
                noted[name] = given
            return function(*args, **kwargs)

        return call

    launch = Launcher.call
    monkeypatch.setattr(Launcher, "call", noting("call", launch))
    for module, names in CALLED.items():
        for name in names:
            monkeypatch.setattr(module, name, noting(name, getattr(module, name)))
    return noted


def keeps_the_contract(path: Path, backend: str, ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    if path.name in SMALLER:
        monkeypatch.setattr(*SMALLER[path.name])
    net = Net(path.make(), path.in_shape, path.batch, backend=backend)
    net.fprop(net.be.zeros((*path.in_shape, path.batch)), train=True)
    net.bprop(net.be.zeros((*net.output_shape, path.batch)), net.be.zeros((*path.in_shape, path.batch)))
    if not path.taken(ran):
        pytest.fail(f"not taken; what ran: {', '.join(ran)}", pytrace=False)
    names = [name for name in CHECKS if backend != "cpu" or not name.startswith("parity")]
    for name in names:  # up to the first that fails: with an endless loop each takes long
        check = run_check(name, path.make, path.in_shape, batch=path.batch, backend=backend)
        assert check.status != "FAIL", check.detail


@pytest.mark.slow
@pytest.mark.parametrize("path", ON_CPU, ids=str)
def test_on_the_cpu(path, ran, monkeypatch):
    keeps_the_contract(path, "cpu", ran, monkeypatch)


@pytest.mark.sweep(2)
@pytest.mark.parametrize("path", ON_GPU, ids=str)
def test_on_a_gpu(path, gpu_backend, ran, monkeypatch):
    keeps_the_contract(path, gpu_backend, ran, monkeypatch)

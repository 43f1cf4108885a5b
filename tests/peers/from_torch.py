"""The sample inputs of PyTorch's operators (`OpInfo`), which its own tests use, as minet's layers.

A function here has the name and the parameters of one in `torch.nn.functional`. It returns the layer, how
arrays are laid out for it, and which tensors it learns, or it raises `Unmet`.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any
from unittest import mock

import numpy as np
import torch
from peers import Case, Inputs, LossCase, Unmet, argmax, elements, image, images, rows

from minet import Layer, SoftmaxCrossEntropy
from minet.layers import LRN, AvgPool, BatchNorm, Conv, Linear, MaxPool, PReLU, ReLU


@dataclass
class Met:
    """A layer, how images are laid out for it, and the sample's tensors that are its parameters and state."""

    layer: Layer
    lay: Callable[[np.ndarray], np.ndarray]
    params: dict[str, torch.Tensor] = field(default_factory=dict)
    state: dict[str, torch.Tensor] = field(default_factory=dict)
    train: bool = True


def max_pool2d(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    return Met(MaxPool(kernel_size, stride, padding, dilation, ceil_mode), batch_of(x))


def avg_pool2d(
    x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None
):
    if divisor_override is not None:
        raise Unmet("a divisor of the sum, `divisor_override`")
    layer = AvgPool(kernel_size, stride or None, both(padding), ceil=ceil_mode, count_pad=count_include_pad)
    return Met(layer, batch_of(x))


def adaptive_avg_pool2d(x, output_size):
    out = (size or of_x for size, of_x in zip(both(output_size), x.shape[-2:], strict=True))
    return Met(AvgPool(out=tuple(out)), batch_of(x))


def conv2d(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    maps, _, *window = weight.shape
    pad = 0 if padding == "valid" else padding
    layer = Conv(maps, window, stride, pad, dilation, groups, bias is not None)
    return Met(layer, batch_of(x), learned(w=weight, b=bias))


def prelu(x, weight):
    not_empty(x)
    lay = images if x.ndim > 1 else elements
    return Met(PReLU(shared=weight.numel() == 1), lay, {"a": weight})


def relu(x):
    return Met(ReLU(), elements)


def local_response_norm(x, size, alpha=1e-4, beta=0.75, k=1.0):
    not_empty(x)
    return Met(LRN(size, alpha, beta, k), images)


def batch_norm(x, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    not_empty(x)
    if training and not 0 < momentum <= 1:
        raise Unmet("`momentum` of 0 or less in training")
    layer = BatchNorm(1 - momentum if training else 0.9, eps)
    running = learned(running_mean=running_mean, running_var=running_var)
    return Met(layer, images, learned(gamma=weight, shift=bias), running, training)


def linear(x, weight, bias=None):
    not_empty(x)
    return Met(Linear(len(weight), bias is not None), rows, learned(w=weight, b=bias))


def cross_entropy(x, target, weight=None, reduction="mean", ignore_index=-100):
    if reduction != "mean":
        raise Unmet("a sum, or each position's loss, instead of the mean")
    if weight is not None and (weight < 0).any():
        raise Unmet("negative weights of classes")
    if target.is_floating_point():
        labels = images(target.detach().numpy())
        if not np.allclose(labels.sum(axis=0), 1):
            raise Unmet("targets that do not add up to 1")
    else:
        labels = images(target.where(target != ignore_index, -1).numpy()[:, None])
    weights = None if weight is None else weight.numpy()
    return LossCase(SoftmaxCrossEntropy(weights=weights), images(x.detach().numpy()), labels)


def both(size):
    """PyTorch's one or two numbers as two."""
    return tuple(size) * (2 // len(size)) if isinstance(size, tuple) else (size, size)


def batch_of(x):
    return images if x.ndim == 4 else image


def learned(**tensors):
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def not_empty(x):
    if not x.numel():
        raise Unmet("an empty batch or image")


TRANSLATED = (
    max_pool2d, avg_pool2d, adaptive_avg_pool2d, conv2d, prelu, relu, local_response_norm, batch_norm, linear,
    cross_entropy,
)  # fmt: skip
OPS = {translate.__name__: translate for translate in TRANSLATED}


@cache
def inputs(op: str) -> Inputs:
    """All inputs of an op, in float64."""
    info = next(info for info in op_db() if info.name == f"nn.functional.{op}" and not info.variant_test_name)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        samples = list(info.sample_inputs("cpu", torch.float64, requires_grad=True))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # of a few pixels' time, most would go into handing them over
    try:
        return Inputs(op, {label(i, s): partial(case, op, info, s, seed=i) for i, s in enumerate(samples)})
    finally:
        torch.set_num_threads(threads)


def label(i: int, sample: Any) -> str:
    """A sample, with tensors as their shapes."""
    args, kwargs = ", ".join(map(shown, sample.args)), {k: shown(v) for k, v in sample.kwargs.items()}
    return f"sample {i}, x {shown(sample.input)}, {args}, {kwargs}"


def shown(value: Any) -> str:
    return f"{tuple(value.shape) if isinstance(value, torch.Tensor) else value}"


@cache
def op_db() -> list[Any]:
    with mock.patch.object(torch.backends, "disable_global_flags"), mock.patch.dict(os.environ):
        from torch.testing._internal.common_methods_invocations import op_db

    return op_db


def case(op: str, info: Any, sample: Any, seed: int) -> Case | LossCase:
    """A sample as minet runs it, with PyTorch's values, and its gradients for a dy of random numbers."""
    x = sample.input
    met = OPS[op](x, *sample.args, **sample.kwargs)
    if isinstance(met, LossCase):
        value = info(x, *sample.args, **sample.kwargs)
        (dy,) = torch.autograd.grad(value, x)
        met.expected = {"loss": value.detach().numpy(), "dy": images(dy.numpy())}
        return met

    lay, before = met.lay, {name: tensor.numpy().copy() for name, tensor in met.state.items()}
    for tensor in met.params.values():
        tensor.requires_grad_()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Using padding='same' with even kernel lengths")  # of its speed
        outs = info(x, *sample.args, **sample.kwargs)
    y, *indices = outs if isinstance(outs, tuple) else (outs,)
    dy = torch.from_numpy(np.random.default_rng(seed).standard_normal(y.shape))
    dx, *grads = (grad.numpy() for grad in torch.autograd.grad(y, [x, *met.params.values()], dy))
    expected = {"y": lay(y.detach().numpy()), "dx": lay(dx)}
    for (name, tensor), grad in zip(met.params.items(), grads, strict=True):
        expected[f"d{name}"] = grad.reshape(-1) if tensor.ndim < 2 else grad
    if met.train:
        expected |= {name: tensor.numpy() for name, tensor in met.state.items()}
    if indices:
        at = lay(indices[0].numpy())
        expected["argmax"] = argmax(met.layer.window, *np.divmod(at, x.shape[-1]))
    params = {
        name: tensor.detach().numpy().reshape(expected[f"d{name}"].shape)
        for name, tensor in met.params.items()
    }
    return Case(met.layer, lay(x.detach().numpy()), lay(dy.numpy()), params, before, met.train, expected)

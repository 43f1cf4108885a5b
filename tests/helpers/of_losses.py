"""What tests of losses share: logits from rows, central differences, a loss on a GPU, PyTorch's values."""

import math

import numpy as np
import pytest

from minet import backends


def logits(rows, dtype=float):
    """K rows of N values, shaped like a net's output."""
    y = np.array(rows, dtype)
    return y.reshape(len(y), 1, 1, -1)


def check_gradient(loss, y, labels):
    dy = np.full_like(y, np.nan)
    loss.loss_cpu(y, labels, dy)
    for index in np.ndindex(y.shape):
        step = np.zeros_like(y)
        step[index] = 1e-6
        slope = (loss.loss_cpu(y + step, labels) - loss.loss_cpu(y - step, labels)) / 2e-6
        assert dy[index] == pytest.approx(slope, abs=1e-8)


def on(be, loss, y, labels):
    """The loss and dy from a kernel, given y in float32 and a dy of NaN."""
    assert be.how(type(loss), "loss")[0] == "method"
    y = be.array(np.array(y, np.float32))
    dy = be.array(np.full(y.shape, np.nan, np.float32))
    loss = loss.on(be)
    value = be.run(loss, "loss", y, labels, dy)
    assert be.run(loss, "loss", y, labels) == value or math.isnan(value)  # without a dy
    return value, be.get(dy)


def in_float64(loss, y, labels):
    """The loss and dy from the cpu, in float64."""
    be = backends.get("cpu", "float64")
    y, dy = np.array(y, np.float64), np.full(np.shape(y), np.nan)
    return be.run(loss.on(be), "loss", y, labels, dy), dy


def of_torch(function, y, labels):
    """The value of a PyTorch loss and dy; what is (K, P, Q, N) here is (N, K, P, Q) there."""
    torch = pytest.importorskip("torch")
    y = torch.tensor(np.moveaxis(y, -1, 0).copy(), dtype=torch.float64, requires_grad=True)
    labels = torch.tensor(np.moveaxis(labels, -1, 0).copy())
    labels = labels.double() if labels.is_floating_point() else labels.long()
    value = function(y, labels)
    value.backward()
    return value.item(), np.moveaxis(y.grad.numpy(), 0, -1)

"""Arrays that a net's callers give it: predictions for images, and checks."""

from __future__ import annotations

from typing import Any

import numpy as np

from minet.core.errors import MinetError
from minet.core.layer import Array
from minet.core.node import LayerError


def predict(net: Any, images: np.ndarray) -> np.ndarray:
    """Outputs for any number of images, a batch at a time; `Net.predict` says more."""
    images = np.asarray(images)
    if images.shape == net.input_shape:
        single: np.ndarray = predict(net, images[np.newaxis])[0]
        return single
    _check(net, images)
    with net.lock:
        net.steps.settle()
        out = np.empty((len(images), *net.output_shape), net.be.dtype)
        x = np.zeros((*net.input_shape, net.batch), net.be.dtype)
        for start in range(0, len(images), net.batch):
            part = images[start : start + net.batch]
            x[..., : len(part)] = part.transpose(1, 2, 3, 0)
            y = net.be.get(net._fprop(net.be.taken(x, net.memory.x), train=False))
            out[start : start + len(part)] = y[..., : len(part)].transpose(3, 0, 1, 2)
    return out[:, :, 0, 0] if net.output_shape[1:] == (1, 1) else out


def _check(net: Any, images: np.ndarray) -> None:
    """Raise unless these are images for the net."""
    if images.ndim != 4 or images.shape[1:] != net.input_shape:
        expected = ("M", *net.input_shape)
        raise LayerError(f"predict takes images (M, C, H, W) = {expected}, got {images.shape}")
    if not np.can_cast(images.dtype, net.be.dtype, "same_kind"):
        raise not_real("predict takes images", images)


def checked_dy(net: Any, dy: Any, dx: Array | None) -> Array:
    """The output's delta for `Net.bprop`, in memory of its own if dx would overwrite it."""
    dy = net.be.array(dy)
    for name, given, like in (("dy", dy, net.y), ("dx", dx, net.x)):
        if given is not None and (given.shape, given.dtype) != (like.shape, like.dtype):
            what, got = f"{like.shape} of {like.dtype}", f"{given.shape} of {given.dtype}"
            raise MinetError(f"{name} must be {what}, got {got}")
    if dx is None:
        return dy
    if not dx.flags.c_contiguous:
        raise MinetError("dx must be C-contiguous", "use np.empty(x.shape, x.dtype)")
    if net.be.overlap(dx, net.x):
        raise MinetError("dx is the net's own x, which bprop reads", "use another array for dx")
    return net.be.duplicate(dy) if net.be.overlap(dx, dy) else dy


def not_real(what: str, given: Any) -> LayerError:
    """The error about values that would not stay what they are among floating numbers."""
    return LayerError(
        f"{what} of real numbers, got {np.asarray(given).dtype}", "give a floating type, such as float32"
    )

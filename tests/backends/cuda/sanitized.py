"""Layers with kernel faults that only a sanitizer or the emulator's checks find: y and dx are right."""

from __future__ import annotations

from minet import Layer, update


class Overrun(Layer):
    """``y = x``, but the kernel reads one element too many."""

    def out_shape(self, in_shape):
        return in_shape

    def fprop_cpu(self, x, y, beta, train):
        update(y, x, beta)

    def bprop_cpu(self, x, dy, dx, beta):
        if dx is not None:
            update(dx, dy, beta)

    @classmethod
    def examples(cls):
        yield cls, (2, 3, 4)


class Shifted(Overrun):
    """``y = x``, but the kernel shifts a number by more bits than it has."""


class Sound(Overrun):
    """``y = x``, without a fault."""

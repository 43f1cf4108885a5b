"""Runs layers on arrays that end, or begin, at memory which nobody may touch.

``python fenced.py behind float32``

A kernel that reads or writes one number too far dies of it. The last line printed is the layer.
"""

import ctypes
import math
import mmap
import sys

import numpy as np

from minet import Net, layers
from minet.backends.cpu import CPU

PAGE, NOTHING = mmap.PAGESIZE, 0  # PROT_NONE
libc = ctypes.CDLL(None, use_errno=True)


class Fenced(CPU):
    """A cpu whose arrays have no neighbours on one side, not even padding, as a caller's may have none."""

    def __init__(self, side, dtype):
        super().__init__(dtype)
        self.side = side

    def empty(self, shape, dtype=None):
        dtype = np.dtype(dtype or self.dtype)
        count = math.prod(shape)
        size = count * dtype.itemsize
        pages = -(-size // PAGE) + 1
        memory = np.frombuffer(mmap.mmap(-1, pages * PAGE), np.uint8)
        behind = self.side == "behind"
        fence = memory.ctypes.data + (pages - 1) * PAGE * behind
        assert libc.mprotect(ctypes.c_void_p(fence), ctypes.c_size_t(PAGE), NOTHING) == 0
        start = (pages - 1) * PAGE - size if behind else PAGE
        return memory[start : start + size].view(dtype).reshape(shape)


def cases():
    from test_paths import ON_CPU

    for cls in layers.all_layers():
        for make, in_shape in cls.examples():
            for batch in (1, 3, 16, 35):
                yield make, in_shape, batch
    for path in ON_CPU:
        yield path.make, path.in_shape, path.batch


def main(side, dtype):
    for make, in_shape, batch in cases():
        print(make(), in_shape, batch, flush=True)
        net = Net(make(), in_shape, batch, backend=Fenced(side, dtype))
        for train in (True, False):
            net.fprop(net.be.zeros((*in_shape, batch)), train=train)
            dy = net.be.zeros((*net.output_shape, batch))
            net.bprop(dy, net.be.zeros((*in_shape, batch)))
    print("no fence was touched")


if __name__ == "__main__":
    main(*sys.argv[1:])

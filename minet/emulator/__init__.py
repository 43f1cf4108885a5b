"""CUDA kernels that anyone wrote, on the CPU, thread by thread: to test them without a GPU.

    kernel = RawKernel("add.cu", "add")
    kernel((4,), (256,), (x, y, np.int32(x.size)))

It is for tests, and far too slow for anything else. docs/emulator.md shows how it is used.
"""

from __future__ import annotations

from minet.emulator.raw_kernel import RawKernel

__all__ = ["RawKernel"]

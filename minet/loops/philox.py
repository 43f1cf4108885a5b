"""Philox4x32-10: four random 32-bit words from a key and a counter, without state.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 3.3;
constants and test vectors from Random123 (kat_vectors). Twin of kernels/philox.cuh.
"""

import numpy as np
from numba import njit

M0, M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)  # multipliers
W0, W1 = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)  # key increments: golden ratio, sqrt(3) - 1
LOW, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


@njit(inline="always")
def philox(k0, k1, c0, c1, c2, c3):
    """Return the four uint32 words for key (k0, k1) and counter (c0, c1, c2, c3), all uint32."""
    k0, k1 = np.uint32(k0), np.uint32(k1)
    c0, c1, c2, c3 = np.uint32(c0), np.uint32(c1), np.uint32(c2), np.uint32(c3)
    for _ in range(10):
        product0 = M0 * np.uint64(c0)
        product1 = M1 * np.uint64(c2)
        c0, c2 = (
            np.uint32(product1 >> HALF) ^ c1 ^ k0,
            np.uint32(product0 >> HALF) ^ c3 ^ k1,
        )
        c1, c3 = np.uint32(product1 & LOW), np.uint32(product0 & LOW)
        k0, k1 = np.uint32(k0 + W0), np.uint32(k1 + W1)
    return c0, c1, c2, c3


@njit(inline="always")
def uniform(word):
    """Return a float32 in [0, 1) from the word's upper 24 bits: exact, and the same on every backend."""
    return np.float32(word >> np.uint32(8)) * np.float32(2.0**-24)


@njit(inline="always")
def words(k0, k1, step, block):
    """Return the words of elements 4*block .. 4*block + 3 at a training step."""
    block, step = np.uint64(block), np.uint64(step)
    return philox(k0, k1, block & LOW, block >> HALF, step & LOW, step >> HALF)

"""Dropout: mask = word >= threshold; y = x * mask / (1 - rate); dx = dy * mask / (1 - rate).

Order:    flat; element i of (C, H, W, N) takes word i % 4 of Philox block i // 4 at the training step. Of a
          part of a batch, it is the element that i is in the whole batch.
Parallel: over blocks of fixed size; the mask of a block is drawn first, then used from cache.
Bytes:    per element in float32: 9 forward, 9 backward, 4 more if beta is not 0.
Bits:     the mask comes from comparing integers, so it is the same on every backend.
Source:   Srivastava et al., "Dropout", JMLR 15, 2014, scaled in training ("inverted").
"""

import numpy as np
from numba import prange

from minet.loops import kernel, parallel_kernel
from minet.loops.philox import words

BLOCK = 1 << 12  # elements; a multiple of 4


@kernel()
def draw(mask, first, k0, k1, step, threshold):
    """The mask of elements first .. first + mask.size - 1; first is a multiple of 4."""
    for quad in range(mask.size // 4):
        w0, w1, w2, w3 = words(k0, k1, step, first // 4 + quad)
        mask[4 * quad] = w0 >= threshold
        mask[4 * quad + 1] = w1 >= threshold
        mask[4 * quad + 2] = w2 >= threshold
        mask[4 * quad + 3] = w3 >= threshold
    done = mask.size // 4 * 4
    w0, w1, w2, _ = words(k0, k1, step, (first + done) // 4)
    rest = np.uint32(w0), np.uint32(w1), np.uint32(w2)
    for i in range(mask.size - done):
        mask[done + i] = rest[i] >= threshold


@kernel()
def draw_part(mask, first, part, k0, k1, step, threshold):
    """The mask of elements first .. first + mask.size - 1 of a part (N, its first sample, all samples)."""
    N, start, whole = part
    done = 0
    while done < mask.size:
        row, n = divmod(first + done, N)
        size, element = min(N - n, mask.size - done), row * whole + start + n
        head = min(-element % 4, size)  # up to the next block
        if head:
            w0, w1, w2, w3 = words(k0, k1, step, element // 4)
            block = np.uint32(w0), np.uint32(w1), np.uint32(w2), np.uint32(w3)
            for i in range(head):
                mask[done + i] = block[element % 4 + i] >= threshold
        draw(mask[done + head : done + size], element + head, k0, k1, step, threshold)
        done += size


@parallel_kernel()
def dropout_fprop(x, y, mask, k0, k1, step, threshold, scale, beta, part):
    """y <- beta*y + scale * mask * x, on flat arrays; sets mask. `part` is that of `draw_part`, or None."""
    scale, beta, threshold = x.dtype.type(scale), x.dtype.type(beta), np.uint32(threshold)
    for block in prange((x.size + BLOCK - 1) // BLOCK):
        first = np.intp(block) * BLOCK
        here = slice(first, min(first + BLOCK, x.size))
        into, out, keep = x[here], y[here], mask[here]
        if part is None:
            draw(keep, first, k0, k1, step, threshold)
        else:
            draw_part(keep, first, part, k0, k1, step, threshold)
        for i in range(into.size):
            value = into[i] * (scale * keep[i])
            out[i] = value if beta == 0 else beta * out[i] + value


@parallel_kernel()
def dropout_bprop(dy, dx, mask, scale, beta):
    """dx <- beta*dx + scale * mask * dy, on flat arrays. If dy is None, it is in dx and is overwritten."""
    scale, beta = dx.dtype.type(scale), dx.dtype.type(beta)
    for block in prange((dx.size + BLOCK - 1) // BLOCK):
        first = np.intp(block) * BLOCK
        part = slice(first, min(first + BLOCK, dx.size))
        out, keep = dx[part], mask[part]
        delta = out if dy is None else dy[part]
        for i in range(delta.size):
            value = delta[i] * (scale * keep[i])
            out[i] = value if beta == 0 else beta * out[i] + value

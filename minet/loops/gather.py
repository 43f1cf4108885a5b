"""Make a batch of images: x[c, h, w, n] = (image[order[n], c, row, column] - mean[c]) / std[c].

Images are picked, shifted by `moves[n, :2]`, mirrored if `moves[n, 2]`, and normalised in one pass; x is 0
beyond the image.

Order:    images (., C, H, W), x (C, H, W, N).
Parallel: no; a thread of the loader runs it during the training step.
Bytes:    each element of the images is read once, and 4 bytes are written for each x.
Source:   textbook.
"""

from numba import njit


# One Numba call rather than NumPy calls for each image: a worker that takes and releases the interpreter lock
# a hundred times a batch would wait each time for a main thread that is busy with Python. No fastmath.
@njit(cache=True, nogil=True, error_model="numpy")
def gather(images, order, moves, mean, std, x):
    C, H, W, N = x.shape
    for first in range(0, N, 16):  # a cache line of 16 float32, written whole from 16 cached images
        for c in range(C):
            for h in range(H):
                for w in range(W):
                    for n in range(first, min(first + 16, N)):
                        row = h + moves[n, 0]
                        column = (W - 1 - w if moves[n, 2] else w) + moves[n, 1]
                        if 0 <= row < H and 0 <= column < W:
                            x[c, h, w, n] = (images[order[n], c, row, column] - mean[c]) / std[c]
                        else:
                            x[c, h, w, n] = 0

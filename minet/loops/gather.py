"""Make a batch of images: x[c, h, w, n] = (image[order[n], c, row, column] - mean[c]) / std[c].

Images are picked, moved, mirrored, cut, brightened and normalised in one pass. With ``(a, b, m) =
moves[n]``, ``row = h + a`` and ``column = (W-1-w if m else w) + b``. x is 0 where that lies outside
``inside[n]``, and where it lies in one of ``holes[n]``: each is (top, bottom, left, right) in the image as
it is stored. A pixel is first multiplied by ``gain[n]``, to at most `most`.

Order:    images (., C, H', W'), x (C, H, W, N).
Parallel: no; the loader's threads run it during the training step, each for a batch of its own.
Bytes:    each element of the images is read once, and 4 bytes are written for each x.
Source:   textbook; squares are turned in registers, as in layout.py.
"""

from llvmlite import ir
from numba import types

from minet.loops import intrinsic, kernel, scratch
from minet.loops.simd.lanes import Lanes, address
from minet.loops.simd.tile import VECS, bits, clear_lanes, copy_lanes, save, spread, turn, vector


# One Numba call rather than NumPy calls for each image: a worker that takes and releases the interpreter lock
# a hundred times a batch would wait each time for a main thread that is busy with Python.
@kernel()
def gather(images, order, moves, inside, holes, gain, most, mean, std, x):
    C, H, W, N = x.shape
    _, _, height, width = images.shape
    pixels, flat = images.reshape(-1), x.reshape(-1)
    lanes = 64 // x.itemsize
    pitch = -(-W // lanes) * lanes
    rows, square = scratch(lanes * pitch, x), scratch(VECS * lanes * lanes, x)
    for c in range(C):
        for h in range(H):  # of all images, so that x is written from end to end
            for first in range(0, N, lanes):  # a cache line of it
                here = min(lanes, N - first)
                for k in range(here):
                    n, at = first + k, k * pitch
                    row, shift, back = h + moves[n, 0], moves[n, 1], moves[n, 2] != 0
                    lo, hi = 0, 0
                    if inside[n, 0] <= row < inside[n, 1]:
                        lo, hi = span(inside[n, 2], inside[n, 3], W, shift, back)
                    if hi - lo < W:
                        for w in range(0, W, lanes):
                            clear_lanes(rows, at + w)
                    start = ((order[n] * C + c) * height + row) * width + shift
                    if hi - lo < lanes:
                        for w in range(lo, hi):
                            pixel = min(pixels[start + (W - 1 - w if back else w)] * gain[n], most)
                            rows[at + w] = (pixel - mean[c]) / std[c]
                    else:
                        w = lo
                        while w < hi:
                            w = min(w, hi - lanes)  # the last vector begins in the one before
                            place = address(pixels, start + (W - lanes - w if back else w))
                            normalise(place, back, gain[n], most, mean[c], std[c], address(rows, at + w))
                            w += lanes
                    for one in range(holes.shape[1]):
                        if holes[n, one, 0] <= row < holes[n, one, 1]:
                            lo, hi = span(holes[n, one, 2], holes[n, one, 3], W, shift, back)
                            for w in range(lo, hi):
                                rows[at + w] = 0
                y = (c * H + h) * W * N + first
                if here < lanes:
                    for w in range(W):
                        for k in range(here):
                            flat[y + w * N + k] = rows[k * pitch + w]
                    continue
                for w in range(0, W, lanes):
                    turn(rows, w, pitch, lanes - 1, square, 0)
                    for j in range(min(lanes, W - w)):
                        copy_lanes(square, VECS * j * lanes, flat, y + (w + j) * N)


@kernel(inline="always")
def span(left, right, W, shift, back):
    """Which w have columns from `left` to before `right`; the first, and the one behind the last."""
    first, last = (W - right + shift, W - left + shift) if back else (left - shift, right - shift)
    lo = min(max(first, 0), W)
    return lo, min(max(last, lo), W)


@intrinsic
def normalise(typing, place, back, gain, most, mean, std, out):
    """Write a vector to address `out`: ``(min(pixel * gain, most) - mean) / std`` of those at `place`.

    In the opposite order if `back`. All is computed in float32.
    """

    def code(context, builder, sig, args):
        place, back, *numbers, out = args
        kind = vector(Lanes(sig.args[-1].dtype))
        single = ir.VectorType(ir.FloatType(), kind.count)
        stored = place.type.pointee
        pixels = builder.load(builder.bitcast(place, ir.VectorType(stored, kind.count).as_pointer()))
        pixels.align = 1 if isinstance(stored, ir.IntType) else 4
        if isinstance(stored, ir.IntType):
            pixels = builder.uitofp(pixels, single)
        gain, most, mean, std = (spread(builder, single, number) for number in numbers)
        pixels = builder.fmul(pixels, gain)
        pixels = builder.select(builder.fcmp_ordered("<", pixels, most), pixels, most)
        pixels = builder.fdiv(builder.fsub(pixels, mean), std)
        order = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), list(reversed(range(kind.count))))
        reverse = builder.shuffle_vector(pixels, pixels, order)
        pixels = builder.select(back, reverse, pixels)
        save(builder, pixels if bits(kind) == 32 else builder.fpext(pixels, kind), out)
        return context.get_dummy_value()

    number = types.float32
    return types.void(place, types.boolean, number, number, number, number, out), code

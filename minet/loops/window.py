"""The positions that a sliding window meets along one axis, as all pooling kernels need them."""

from minet.loops import kernel


@kernel()
def span(p, window, stride, pad, size):
    """Return the half-open range of input positions inside both the image and the window of output p."""
    start = p * stride - pad
    return max(start, 0), min(start + window, size)


@kernel()
def covering(h, window, stride, pad, count):
    """Return the half-open range of those of `count` outputs whose windows contain input position h."""
    return max((h + pad - window + stride) // stride, 0), min((h + pad) // stride + 1, count)

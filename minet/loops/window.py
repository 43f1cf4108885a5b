"""Which positions a sliding window meets, along one axis: what the pooling kernels have in common."""

from minet.loops import kernel


@kernel()
def span(p, window, stride, pad, size):
    """First and one past the last input position inside both the image and the window of output p."""
    start = p * stride - pad
    return max(start, 0), min(start + window, size)


@kernel()
def covering(h, window, stride, pad, count):
    """First and one past the last of `count` outputs whose windows hold input position h."""
    return max((h + pad - window + stride) // stride, 0), min((h + pad) // stride + 1, count)

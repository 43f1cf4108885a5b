"""Sums along a row in an order that the source fixes: in lanes of float64, four vectors at a time.

A sum that is left to LLVM (`reassoc`) is reordered as its vectoriser likes, and that differs between the
process that compiles a kernel and those that load it from the cache. Here nothing is left to choose: elements
go to the lanes of a few vectors in turn; vectors, then lanes, are added in a tree. Elements are widened to
float64 first, so that a long sum keeps its digits.
Source: as ``tile.py``.
"""

import numpy as np
from llvmlite import ir
from numba import types

from minet.loops import intrinsic, kernel
from minet.loops.simd.lanes import Lanes, ahead, read, some
from minet.loops.simd.tile import multiply_add, spread, vector

WIDE = Lanes(types.float64)
LANES = 8  # of a vector of float64


@intrinsic
def widened(typing, place, part):
    """The first `part` elements at an address as float64, and zeros; LANES of them, if None."""

    def code(context, builder, sig, args):
        double = context.get_value_type(WIDE)
        element = ir.FloatType() if sig.args[0].dtype.bitwidth == 32 else ir.DoubleType()
        value = read(builder, ir.VectorType(element, LANES), args[0], some(sig.args[1], args[1]))
        return value if value.type == double else builder.fpext(value, double)

    return WIDE(place, part), code


@intrinsic
def zeros(typing):
    """A vector of zeros."""
    return WIDE(), lambda context, builder, sig, args: ir.Constant(vector(WIDE), None)


@intrinsic
def plus(typing, a, b):
    """``a + b``."""
    return WIDE(a, b), lambda context, builder, sig, args: builder.fadd(*args)


@intrinsic
def less(typing, a, scalar):
    """``a - scalar``."""

    def code(context, builder, sig, args):
        return builder.fsub(args[0], spread(builder, args[0].type, args[1]))

    return WIDE(a, types.float64), code


@intrinsic
def plus_product(typing, total, a, b):
    """``total + a * b``, rounded once."""
    return WIDE(total, a, b), lambda context, builder, sig, args: multiply_add(
        builder, args[1], args[2], args[0]
    )


@intrinsic
def unless_positive(typing, a, x):
    """The elements of a where x is not above 0, or is NaN; zeros elsewhere."""

    def code(context, builder, sig, args):
        zero = ir.Constant(args[0].type, None)
        return builder.select(builder.fcmp_ordered(">", args[1], zero), zero, args[0])

    return WIDE(a, x), code


@intrinsic
def first_lanes(typing, a, part):
    """The first `part` elements of a, and zeros."""

    def code(context, builder, sig, args):
        index = ir.VectorType(ir.IntType(64), LANES)
        lane = ir.Constant(index, list(range(LANES)))
        here = builder.icmp_signed("<", lane, spread(builder, index, args[1]))
        return builder.select(here, args[0], ir.Constant(args[0].type, None))

    return WIDE(a, types.int64), code


@intrinsic
def across(typing, a):
    """The sum of a vector's elements: neighbours first, in a tree."""

    def code(context, builder, sig, args):
        value = args[0]
        while value.type.count > 1:
            half = value.type.count // 2
            index = ir.VectorType(ir.IntType(32), half)
            even, odd = (ir.Constant(index, list(range(k, 2 * half, 2))) for k in (0, 1))
            value = builder.fadd(*(builder.shuffle_vector(value, value, lanes) for lanes in (even, odd)))
        return builder.extract_element(value, ir.IntType(32)(0))

    return types.float64(a), code


@kernel
def sum_row(a, n):
    """The sum of n elements from an address on."""
    s0, s1, s2, s3 = zeros(), zeros(), zeros(), zeros()
    i = 0
    while i + 4 * LANES <= n:
        s0 = plus(s0, widened(ahead(a, i), None))
        s1 = plus(s1, widened(ahead(a, i + LANES), None))
        s2 = plus(s2, widened(ahead(a, i + 2 * LANES), None))
        s3 = plus(s3, widened(ahead(a, i + 3 * LANES), None))
        i += 4 * LANES
    while i < n:
        s0 = plus(s0, widened(ahead(a, i), min(n - i, LANES)))
        i += LANES
    return across(plus(plus(s0, s1), plus(s2, s3)))


@kernel
def sum_squares(a, n, centre):
    """The sum of ``(a[i] - centre)**2``."""
    s0, s1, s2, s3 = zeros(), zeros(), zeros(), zeros()
    i = 0
    while i + 4 * LANES <= n:
        d0, d1 = less(widened(ahead(a, i), None), centre), less(widened(ahead(a, i + LANES), None), centre)
        d2 = less(widened(ahead(a, i + 2 * LANES), None), centre)
        d3 = less(widened(ahead(a, i + 3 * LANES), None), centre)
        s0, s1, s2, s3 = (
            plus_product(s0, d0, d0),
            plus_product(s1, d1, d1),
            plus_product(s2, d2, d2),
            plus_product(s3, d3, d3),
        )
        i += 4 * LANES
    while i < n:
        part = min(n - i, LANES)
        d0 = first_lanes(less(widened(ahead(a, i), part), centre), part)
        s0 = plus_product(s0, d0, d0)
        i += LANES
    return across(plus(plus(s0, s1), plus(s2, s3)))


@kernel
def sum_and_moment(d, x, n, centre):
    """The sums of ``d[i]`` and of ``d[i] * (x[i] - centre)``."""
    s0, s1, t0, t1 = zeros(), zeros(), zeros(), zeros()
    i = 0
    while i + 2 * LANES <= n:
        d0, d1 = widened(ahead(d, i), None), widened(ahead(d, i + LANES), None)
        s0, s1 = plus(s0, d0), plus(s1, d1)
        t0 = plus_product(t0, d0, less(widened(ahead(x, i), None), centre))
        t1 = plus_product(t1, d1, less(widened(ahead(x, i + LANES), None), centre))
        i += 2 * LANES
    while i < n:
        part = min(n - i, LANES)
        d0 = widened(ahead(d, i), part)
        s0 = plus(s0, d0)
        t0 = plus_product(t0, d0, first_lanes(less(widened(ahead(x, i), part), centre), part))
        i += LANES
    return across(plus(s0, s1)), across(plus(t0, t1))


@kernel
def sum_products(a, b, n):
    """The sum of ``a[i] * b[i]``."""
    s0, s1, s2, s3 = zeros(), zeros(), zeros(), zeros()
    i = 0
    while i + 4 * LANES <= n:
        s0 = plus_product(s0, widened(ahead(a, i), None), widened(ahead(b, i), None))
        s1 = plus_product(s1, widened(ahead(a, i + LANES), None), widened(ahead(b, i + LANES), None))
        s2 = plus_product(s2, widened(ahead(a, i + 2 * LANES), None), widened(ahead(b, i + 2 * LANES), None))
        s3 = plus_product(s3, widened(ahead(a, i + 3 * LANES), None), widened(ahead(b, i + 3 * LANES), None))
        i += 4 * LANES
    while i < n:
        part = min(n - i, LANES)
        s0 = plus_product(s0, widened(ahead(a, i), part), widened(ahead(b, i), part))
        i += LANES
    return across(plus(plus(s0, s1), plus(s2, s3)))


@kernel
def sum_products_unless_positive(d, x, n):
    """The sum of ``d[i] * x[i]`` over those x that are not above 0."""
    s0, s1 = zeros(), zeros()
    i = 0
    while i + 2 * LANES <= n:
        x0, x1 = widened(ahead(x, i), None), widened(ahead(x, i + LANES), None)
        s0 = plus_product(s0, unless_positive(widened(ahead(d, i), None), x0), unless_positive(x0, x0))
        s1 = plus_product(
            s1, unless_positive(widened(ahead(d, i + LANES), None), x1), unless_positive(x1, x1)
        )
        i += 2 * LANES
    while i < n:
        part = min(n - i, LANES)
        x0 = widened(ahead(x, i), part)
        s0 = plus_product(s0, unless_positive(widened(ahead(d, i), part), x0), unless_positive(x0, x0))
        i += LANES
    return across(plus(s0, s1))


@kernel
def add_shares(shares, out):
    """Add the sums of rows of shares, (rows, blocks): a row has its own number of `out`, or all rows one."""
    for k in range(out.size):
        total = np.float64(0)
        for row in range(k, len(shares), out.size):
            for share in shares[row]:
                total += share
        out[k] += total

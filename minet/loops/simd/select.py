"""Elements selected from several vectors, with marks of where they come from: max and stochastic pooling.

A mark is a small integer. Addresses are those of ``lanes.py``. Nothing here is subject to fastmath.
"""

import math

from llvmlite import ir
from numba import types
from numba.extending import models, register_model

from minet.loops import intrinsic
from minet.loops.simd.lanes import along, read, some, write
from minet.loops.simd.tile import bits, multiply_add, spread, vector


class Marks(types.Type):
    """A mark for each element of a vector of that dtype, as a value that lives in a register."""

    def __init__(self, dtype):
        self.dtype = dtype
        super().__init__(f"Marks({dtype})")


@register_model(Marks)
class MarksModel(models.PrimitiveModel):
    def __init__(self, manager, marks):
        super().__init__(manager, marks, numbers(vector(marks)))


def numbers(kind):
    """Return the type of a vector of integers, as many and as wide as the elements of another vector."""
    return ir.VectorType(ir.IntType(bits(kind)), kind.count)


def resized(builder, number, kind):
    """Convert an integer, or a vector of them, to a type of more or fewer bits."""
    here, there = (getattr(k, "element", k).width for k in (number.type, kind))
    if here == there:
        return number
    return builder.trunc(number, kind) if there < here else builder.zext(number, kind)


def spread_mark(builder, kind, mark):
    return spread(builder, kind, resized(builder, mark, kind.element))


@intrinsic
def marked(typing, lanes, mark):
    """Return the same mark for all elements of a vector."""
    marks = Marks(lanes.dtype)

    def code(context, builder, sig, args):
        return spread_mark(builder, context.get_value_type(marks), args[1])

    return marks(lanes, mark), code


@intrinsic
def larger(typing, best, marks, other, mark):
    """Return the larger elements of two vectors, and their marks; those of `other` have `mark`.

    The first of equals wins; NaN wins over any number.
    """

    def code(context, builder, sig, args):
        best, marks, other, mark = args
        wins = builder.fcmp_ordered(">", other, best)
        wins = builder.or_(wins, builder.fcmp_unordered("uno", other, other))
        mark = spread_mark(builder, marks.type, mark)
        values = builder.select(wins, other, best), builder.select(wins, mark, marks)
        return context.make_tuple(builder, sig.return_type, values)

    return types.Tuple((best, marks))(best, marks, best, mark), code


@intrinsic
def positive_lanes(typing, lanes):
    """Return max(x, 0); NaN stays NaN."""

    def code(context, builder, sig, args):
        zero = ir.Constant(args[0].type, None)
        return builder.select(builder.fcmp_ordered("<=", args[0], zero), zero, args[0])

    return lanes(lanes), code


@intrinsic
def threshold(typing, u, total):
    """Return u * total, and zeros; both NaN where the total is not finite, so that comparisons fail."""

    def code(context, builder, sig, args):
        u, total = args
        infinite, nan = (ir.Constant(u.type, [value] * u.type.count) for value in (math.inf, math.nan))
        finite = builder.fcmp_ordered("<", total, infinite)
        values = builder.fmul(u, total), ir.Constant(u.type, None)
        values = [builder.select(finite, value, nan) for value in values]
        return context.make_tuple(builder, sig.return_type, values)

    return types.Tuple((u, u))(u, u), code


@intrinsic
def draw(typing, a, mark, t, running, value, marks):
    """Take positive elements a, and their mark, until the running sum exceeds t; add them to that sum."""

    def code(context, builder, sig, args):
        a, mark, t, running, value, marks = args
        takes = builder.fcmp_ordered(">", a, ir.Constant(a.type, None))
        takes = builder.and_(takes, builder.fcmp_ordered("<=", running, t))
        mark = spread_mark(builder, marks.type, mark)
        values = builder.fadd(running, a), builder.select(takes, a, value), builder.select(takes, mark, marks)
        return context.make_tuple(builder, sig.return_type, values)

    return types.Tuple((a, a, marks))(a, mark, a, a, a, marks), code


@intrinsic
def put_marks(typing, marks, place, part):
    """Write the first `part` marks, or all if None, to an address, as integers of the type there."""

    def code(context, builder, sig, args):
        marks, place, part = args
        marks = resized(builder, marks, ir.VectorType(place.type.pointee, marks.type.count))
        write(builder, marks, place, some(sig.args[2], part))
        return context.get_dummy_value()

    return types.void(marks, place, part), code


@intrinsic
def add_marked(typing, out, src, marks, n, mark, beta):
    """out[i] <- beta*out[i] + src[i] where marks[i] is the mark, for i < n."""

    def code(context, builder, sig, args):
        out, src, marks, n, mark, beta = args
        kind = vector(sig.args[0])
        stored, zero = ir.VectorType(marks.type.pointee, kind.count), ir.Constant(kind, None)
        scale, keep = spread(builder, kind, beta), builder.fcmp_unordered("!=", beta, beta.type(0))
        mark = spread_mark(builder, numbers(kind), mark)

        def advance(i, part, old):
            to = builder.gep(out, [i])
            found = resized(builder, read(builder, stored, builder.gep(marks, [i]), part), mark.type)
            hit = builder.icmp_signed("==", found, mark)
            total = builder.select(hit, read(builder, kind, builder.gep(src, [i]), part), zero)
            if old:
                total = multiply_add(builder, scale, read(builder, kind, to, part), total)
            write(builder, total, to, part)

        with builder.if_else(keep) as (old, new):
            with old:
                along(builder, n, kind, lambda i, part: advance(i, part, old=True))
            with new:
                along(builder, n, kind, lambda i, part: advance(i, part, old=False))
        return context.get_dummy_value()

    return types.void(out, src, marks, types.int64, types.int64, beta), code

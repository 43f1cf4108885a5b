"""Vector registers as values, for rows too short for the loops that LLVM makes of scalar code.

Such a loop asks first whether arrays overlap, and then takes four vectors at a time: for a row of 16
elements that is slower than the work. Here a kernel says itself what goes through registers. `Lanes` are K
vectors as one value. What lies in memory is given by an `address`, which unlike an array costs no reference
count. `part` is None, or how many elements of a vector are meant: the others read as 0 and are not written.
Source: as ``tile.py``.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from .tile import BYTES, load, multiply_add, row, save, spread, vector

LONG = ir.IntType(64)


class Lanes(types.Type):
    """`count` vectors, as a value that lives in registers."""

    def __init__(self, dtype, count):
        self.dtype, self.count = dtype, count
        super().__init__(f"Lanes({dtype}, {count})")


@register_model(Lanes)
class LanesModel(models.PrimitiveModel):
    def __init__(self, manager, lanes):
        super().__init__(manager, lanes, ir.ArrayType(vector(lanes), lanes.count))


def each(builder, lanes):
    return [builder.extract_value(lanes, k) for k in range(lanes.type.count)]


def together(builder, vectors):
    lanes = ir.Constant(ir.ArrayType(vectors[0].type, len(vectors)), ir.Undefined)
    for k, value in enumerate(vectors):
        lanes = builder.insert_value(lanes, value, k)
    return lanes


def masked(builder, what, kind, place, part, *value):
    """A load or a store of the first `part` elements of a vector."""
    index = ir.VectorType(ir.IntType(32), kind.count)
    lane = ir.Constant(index, list(range(kind.count)))
    mask = builder.icmp_signed("<", lane, spread(builder, index, builder.trunc(part, ir.IntType(32))))
    place, align = builder.bitcast(place, kind.as_pointer()), ir.IntType(32)(BYTES // kind.count)
    args = [*value, place, align, mask] if value else [place, align, mask, ir.Constant(kind, None)]
    result = ir.VoidType() if value else kind
    name = f"llvm.masked.{what}.v{kind.count}f{8 * BYTES // kind.count}.p0"
    code = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(result, [arg.type for arg in args]), name
    )
    return builder.call(code, args)


def read(builder, kind, place, part):
    return load(builder, kind, place) if part is None else masked(builder, "load", kind, place, part)


def given(sig, args):
    """The last argument: a number, or None."""
    return None if isinstance(sig.args[-1], types.NoneType) else args[-1]


@intrinsic
def address(typing, array, at):
    """Where ``array[at]`` lies; None of None.

    The array must live as long as that is used. Numba frees what a kernel has allocated after the last line
    that mentions it, but not before the end of a loop that does.
    """
    if isinstance(array, types.NoneType):
        return types.none(array, at), lambda context, builder, sig, args: context.get_dummy_value()

    def code(context, builder, sig, args):
        array = context.make_array(sig.args[0])(context, builder, args[0])
        return builder.gep(array.data, [args[1]])

    return types.CPointer(array.dtype)(array, types.int64), code


@intrinsic
def ahead(typing, place, count):
    """The address so many elements further on; what is none stays what it is."""
    if not isinstance(place, types.CPointer):
        return place(place, count), lambda context, builder, sig, args: args[0]
    return place(place, types.int64), lambda context, builder, sig, args: builder.gep(args[0], [args[1]])


@intrinsic
def width(typing, place):
    """Elements of a vector: a constant, which ``BYTES // array.itemsize`` is not."""
    lanes = vector(Lanes(place.dtype, 1)).count
    return types.int64(place), lambda context, builder, sig, args: LONG(lanes)


@intrinsic(prefer_literal=True)
def no_lanes(typing, place, count):
    """`count` vectors of zeros."""
    lanes = Lanes(place.dtype, count.literal_value)

    def code(context, builder, sig, args):
        return ir.Constant(context.get_value_type(lanes), None)

    return lanes(place, count), code


@intrinsic
def get_lanes(typing, place, part):
    """The vector at an address."""
    lanes = Lanes(place.dtype, 1)

    def code(context, builder, sig, args):
        return together(builder, [read(builder, vector(lanes), args[0], given(sig, args))])

    return lanes(place, part), code


@intrinsic
def put_lanes(typing, lanes, place, part):
    """Write a vector to an address."""

    def code(context, builder, sig, args):
        value, part = builder.extract_value(args[0], 0), given(sig, args)
        if part is None:
            save(builder, value, args[1])
        else:
            masked(builder, "store", vector(lanes), args[1], part, value)
        return context.get_dummy_value()

    return types.void(lanes, place, part), code


@intrinsic
def get_rows(typing, like, place, pitch, last, part):
    """As many vectors as `like` has: number k from ``k * pitch`` on; then the last one again."""

    def code(context, builder, sig, args):
        _, place, pitch, last, _ = args
        places = (builder.gep(place, [row(builder, k, last, pitch)]) for k in range(like.count))
        return together(builder, [read(builder, vector(like), at, given(sig, args)) for at in places])

    return like(like, place, types.int64, types.int64, part), code


@intrinsic
def get_column(typing, like, weight, step, last):
    """As many vectors as `like` has, all lanes of number k from ``k * step`` on; then zeros.

    In place of the address there may be one number, for all k.
    """

    def code(context, builder, sig, args):
        _, weight, step, last = args
        kind, vectors = vector(like), []
        for k in range(like.count):
            value = weight
            if isinstance(sig.args[1], types.CPointer):
                value = builder.load(builder.gep(weight, [row(builder, k, last, step)]))
            value = builder.select(builder.icmp_signed("<=", last.type(k), last), value, kind.element(0))
            vectors.append(spread(builder, kind, value))
        return together(builder, vectors)

    return like(like, weight, types.int64, types.int64), code


@intrinsic
def add_to_column(typing, totals, place, step, last):
    """Add the sum of vector k's elements to what lies ``k * step`` on, for k up to the last."""

    def code(context, builder, sig, args):
        totals, place, step, last = args
        kind, to = vector(sig.args[0]), sig.args[1].dtype
        name = f"llvm.vector.reduce.fadd.v{kind.count}f{8 * BYTES // kind.count}"
        scalar = ir.FunctionType(kind.element, [kind.element, kind])
        reduce = cgutils.get_or_insert_function(builder.module, scalar, name)
        for k, value in enumerate(each(builder, totals)):
            total = builder.call(reduce, [kind.element(0), value], fastmath=["reassoc"])
            total = context.cast(builder, total, sig.args[0].dtype, to)
            with builder.if_then(builder.icmp_signed("<=", last.type(k), last), likely=True):
                at = builder.gep(place, [builder.mul(step, step.type(k))])
                builder.store(builder.fadd(builder.load(at), total), at)
        return context.get_dummy_value()

    return types.void(totals, place, types.int64, types.int64), code


@intrinsic
def scaled(typing, lanes, factor, more):
    """``factor * lanes + more``, of one vector each."""

    def code(context, builder, sig, args):
        kind = vector(lanes)
        left, right = (builder.extract_value(args[n], 0) for n in (0, 2))
        return together(builder, [multiply_add(builder, spread(builder, kind, args[1]), left, right)])

    return lanes(lanes, lanes.dtype, lanes), code


@intrinsic
def combined(typing, weights, rows):
    """One vector: the sum of rows times weights."""

    def code(context, builder, sig, args):
        total, *rest = zip(*(each(builder, arg) for arg in args), strict=True)
        total = builder.fmul(*total)
        for pair in rest:
            total = multiply_add(builder, *pair, total)
        return together(builder, [total])

    return Lanes(rows.dtype, 1)(weights, rows), code


@intrinsic
def add_each(typing, totals, factor, rows):
    """Totals, to each of which its row is added, times one vector."""

    def code(context, builder, sig, args):
        totals, rows = each(builder, args[0]), each(builder, args[2])
        factor = builder.extract_value(args[1], 0)
        pairs = zip(rows, totals, strict=True)
        return together(builder, [multiply_add(builder, factor, *pair) for pair in pairs])

    return totals(totals, factor, rows), code

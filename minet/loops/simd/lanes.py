"""Vector registers as values, for rows too short for the loops that LLVM makes of scalar code.

Such a loop first checks whether arrays overlap, and then takes four vectors at a time: for a row of 16
elements that takes longer than the work itself. Here a kernel controls what goes through registers: `sweep`
handles a whole row; `get_lanes`, `scaled` and `put_lanes` one vector. Places in memory are given by an
`address`, which unlike an array costs no reference count.
Source: as ``tile.py``.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import models, register_model

from minet.loops import intrinsic
from minet.loops.simd.tile import bits, load, multiply_add, row, save, spread, vector


class Lanes(types.Type):
    """A vector, as a value that lives in a register."""

    def __init__(self, dtype):
        self.dtype = dtype
        super().__init__(f"Lanes({dtype})")


@register_model(Lanes)
class LanesModel(models.PrimitiveModel):
    def __init__(self, manager, lanes):
        super().__init__(manager, lanes, vector(lanes))


@intrinsic
def address(typing, array, at):
    """Return the address of ``array[at]``; None if the array is None.

    The array must live as long as the address is used. Numba frees an array that a kernel allocated after the
    last line that mentions it, but not before the end of a loop that does.
    """
    if isinstance(array, types.NoneType):
        return types.none(array, at), lambda context, builder, sig, args: context.get_dummy_value()

    def code(context, builder, sig, args):
        array = context.make_array(sig.args[0])(context, builder, args[0])
        return builder.gep(array.data, [args[1]])

    return types.CPointer(array.dtype)(array, types.int64), code


@intrinsic
def ahead(typing, place, count):
    """Return the address `count` elements further on; what is not an address stays as it is."""
    if not isinstance(place, types.CPointer):
        return place(place, count), lambda context, builder, sig, args: args[0]
    return place(place, types.int64), lambda context, builder, sig, args: builder.gep(args[0], [args[1]])


@intrinsic
def get_lanes(typing, place):
    """Return the vector at an address."""
    lanes = Lanes(place.dtype)
    return lanes(place), lambda context, builder, sig, args: load(builder, vector(lanes), args[0])


@intrinsic
def put_lanes(typing, lanes, place):
    """Write a vector to an address."""

    def code(context, builder, sig, args):
        save(builder, *args)
        return context.get_dummy_value()

    return types.void(lanes, place), code


@intrinsic
def get_some(typing, place, part):
    """Return the first `part` elements of the vector at an address, then zeros; all if `part` is None."""
    lanes = Lanes(place.dtype)

    def code(context, builder, sig, args):
        return read(builder, vector(lanes), args[0], some(sig.args[1], args[1]))

    return lanes(place, part), code


@intrinsic
def put_some(typing, lanes, place, part):
    """Write the first `part` elements of a vector to an address; all if `part` is None."""

    def code(context, builder, sig, args):
        lanes, place, part = args
        write(builder, lanes, place, some(sig.args[2], part))
        return context.get_dummy_value()

    return types.void(lanes, place, part), code


@intrinsic
def no_lanes(typing, place):
    """Return a vector of zeros, of the type at an address."""
    lanes = Lanes(place.dtype)
    return lanes(place), lambda context, builder, sig, args: ir.Constant(vector(lanes), None)


@intrinsic
def scaled(typing, lanes, factor, more):
    """Return ``factor * lanes + more``."""

    def code(context, builder, sig, args):
        return multiply_add(builder, spread(builder, vector(lanes), args[1]), args[0], args[2])

    return lanes(lanes, lanes.dtype, lanes), code


@intrinsic
def multiplied(typing, lanes, others, more):
    """Return ``lanes * others + more``, element by element."""
    return lanes(lanes, lanes, lanes), lambda context, builder, sig, args: multiply_add(builder, *args)


@intrinsic(prefer_literal=True)
def sweep(typing, taps, out, src, pitch, n, last, w, step, beta, d, g):
    """Do `combine` of ``rows.py`` for at most `taps` rows, a literal; `last` is the index of the last one.

    Rows after the last repeat it, with a weight of 0.
    """
    count, dtype = taps.literal_value, src.dtype

    def code(context, builder, sig, args):
        _, out, src, pitch, n, last, w, step, beta, d, g = args
        has_out, has_d = (not isinstance(sig.args[k], types.NoneType) for k in (1, 9))
        kind = vector(sig.args[2])
        there = [builder.icmp_signed("<=", last.type(k), last) for k in range(count)]
        weights = []
        for k in range(count if has_out else 0):
            weight = w
            if isinstance(sig.args[6], types.CPointer):
                weight = builder.load(builder.gep(w, [row(builder, k, last, step)]))
            weights.append(spread(builder, kind, builder.select(there[k], weight, kind.element(0))))
        places = [builder.gep(src, [row(builder, k, last, pitch)]) for k in range(count)]
        slopes = [
            cgutils.alloca_once_value(builder, ir.Constant(kind, None)) for _ in range(count if has_d else 0)
        ]
        keep = builder.fcmp_unordered("!=", beta, beta.type(0))
        scale = spread(builder, kind, beta)

        def advance(i, part, old):
            rows = [read(builder, kind, builder.gep(place, [i]), part) for place in places]
            if has_out:
                total, at = builder.fmul(weights[0], rows[0]), builder.gep(out, [i])
                for weight, one in zip(weights[1:], rows[1:], strict=True):
                    total = multiply_add(builder, weight, one, total)
                if old:
                    total = multiply_add(builder, scale, read(builder, kind, at, part), total)
                write(builder, total, at, part)
            if has_d:
                delta = read(builder, kind, builder.gep(d, [i]), part)
                for slope, one in zip(slopes, rows, strict=True):
                    builder.store(multiply_add(builder, delta, one, builder.load(slope)), slope)

        if has_out:
            with builder.if_else(keep) as (old, new):
                with old:
                    along(builder, n, kind, lambda i, part: advance(i, part, old=True))
                with new:
                    along(builder, n, kind, lambda i, part: advance(i, part, old=False))
        else:
            along(builder, n, kind, lambda i, part: advance(i, part, old=False))
        for k, slope in enumerate(slopes):
            total = context.cast(builder, add_up(builder, builder.load(slope)), dtype, sig.args[10].dtype)
            with builder.if_then(there[k]):
                at = builder.gep(g, [builder.mul(step, step.type(k))])
                builder.store(builder.fadd(builder.load(at), total), at)
        return context.get_dummy_value()

    long = types.int64
    return types.void(taps, out, src, long, long, long, w, long, beta, d, g), code


def some(kind, part):
    """Convert an argument `part` to what `read` and `write` take."""
    return None if isinstance(kind, types.NoneType) else part


def along(builder, n, kind, advance):
    """Go along n elements: `advance` gets the start of each vector, and the size of a last partial one."""
    whole = builder.and_(n, n.type(-kind.count))
    with cgutils.for_range_slice(builder, n.type(0), whole, n.type(kind.count), n.type) as (i, _):
        advance(i, None)
    with builder.if_then(builder.icmp_signed("<", whole, n)):
        advance(whole, builder.sub(n, whole))


def read(builder, kind, place, part):
    """Read a vector, or its first `part` elements and zeros."""
    return load(builder, kind, place) if part is None else masked(builder, "load", kind, place, part)


def write(builder, value, place, part):
    """Write a vector, or its first `part` elements."""
    if part is None:
        save(builder, value, place)
    else:
        masked(builder, "store", value.type, place, part, value)


def masked(builder, what, kind, place, part, *value):
    """Load or store the first `part` elements of a vector."""
    index = ir.VectorType(ir.IntType(32), kind.count)
    lane = ir.Constant(index, list(range(kind.count)))
    mask = builder.icmp_signed("<", lane, spread(builder, index, builder.trunc(part, ir.IntType(32))))
    place, align = builder.bitcast(place, kind.as_pointer()), ir.IntType(32)(bits(kind) // 8)
    args = [*value, place, align, mask] if value else [place, align, mask, ir.Constant(kind, None)]
    kinds = [arg.type for arg in args]
    return call(builder, f"masked.{what}", ir.VoidType() if value else kind, kinds, kind, args, ".p0")


def add_up(builder, value):
    """Return the sum of a vector's elements."""
    kind = value.type
    args = [kind.element(0), value]
    return call(
        builder, "vector.reduce.fadd", kind.element, [kind.element, kind], kind, args, fastmath=["reassoc"]
    )


def call(builder, what, result, kinds, kind, args, suffix="", **options):
    """Call one of LLVM's functions for vectors of that kind."""
    letter = "i" if isinstance(kind.element, ir.IntType) else "f"
    name = f"llvm.{what}.v{kind.count}{letter}{bits(kind)}{suffix}"
    code = cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, kinds), name)
    return builder.call(code, args, **options)

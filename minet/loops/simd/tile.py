"""A tile of a matrix product in vector registers: a type that Numba lacks, and its operations.

Numba leaves vectorisation to LLVM, and LLVM does not keep a block of sums in registers while a loop runs
around it: the product then waits for loads and stores. These few operations do it explicitly, for
``conv/gemm.py``. Each appends LLVM instructions with a `builder`; `sig` has the Numba types of the `args`.
Source: Goto, van de Geijn, "Anatomy of high-performance matrix multiplication", ACM TOMS 34(3), 2008.
"""

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import models, register_model

from minet.loops import intrinsic

# Vectors of 64 bytes on every CPU: if registers are shorter, LLVM uses several for one vector.
BYTES = 64
# A tile is ROWS x VECS vectors. 16 of them fill half of AVX-512's registers and hide the
# latency of two multiply-adds a cycle; 4 fill 8 registers of AVX2, or 16 of NEON.
ROWS, VECS = (8, 2) if binding.get_host_cpu_features().get("avx512f") else (2, 2)


class Tile(types.Type):
    """ROWS * VECS vectors, as a value that lives in registers."""

    def __init__(self, dtype):
        self.dtype = dtype
        super().__init__(f"Tile({dtype}, {ROWS * VECS})")


@register_model(Tile)
class TileModel(models.PrimitiveModel):
    def __init__(self, manager, tile):
        super().__init__(manager, tile, ir.ArrayType(vector(tile), ROWS * VECS))


def vector(tile):
    bits = tile.dtype.bitwidth
    return ir.VectorType(ir.FloatType() if bits == 32 else ir.DoubleType(), 8 * BYTES // bits)


def pointer(context, builder, kind, array, index):
    data = context.make_array(kind)(context, builder, array).data
    return builder.gep(data, [index])


def load(builder, kind, at, index=0):
    at = builder.gep(at, [ir.IntType(64)(index)])
    value = builder.load(builder.bitcast(at, kind.as_pointer()))
    value.align = bits(kind) // 8
    return value


def bits(kind):
    """Return the bits of an element of a vector."""
    return getattr(kind.element, "width", 64 if isinstance(kind.element, ir.DoubleType) else 32)


def row(builder, k, last, step):
    """Return the distance to row k of a tile; rows after the last repeat it, and are not used."""
    k = last.type(k)
    return builder.mul(step, builder.select(builder.icmp_signed("<", k, last), k, last))


def save(builder, value, at, index=0):
    at = builder.gep(at, [ir.IntType(64)(index)])
    builder.store(value, builder.bitcast(at, value.type.as_pointer())).align = bits(value.type) // 8


def spread(builder, kind, scalar):
    """Return a vector with the scalar in every lane."""
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.IntType(32)(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), kind.count), None))


def multiply_add(builder, left, right, total):
    kind = total.type
    name = f"llvm.fma.v{kind.count}f{8 * BYTES // kind.count}"
    fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * 3), name)
    return builder.call(fma, [left, right, total])


def add_products(builder, tile, products):
    """Add products of two vectors to the vectors of a tile."""
    for n, (left, right) in enumerate(products):
        total = multiply_add(builder, left, right, builder.extract_value(tile, n))
        tile = builder.insert_value(tile, total, n)
    return tile


@intrinsic
def take(typing, counter):
    """Return ``counter[0]`` and add one to it, atomically."""

    def code(context, builder, sig, args):
        at = pointer(context, builder, sig.args[0], args[0], ir.IntType(64)(0))
        return builder.atomic_rmw("add", at, ir.IntType(64)(1), "monotonic")

    return types.int64(counter), code


@intrinsic
def zero_tile(typing, array):
    """Return a tile of zeros of the array's dtype."""
    tile = Tile(array.dtype)
    return tile(array), lambda context, builder, sig, args: ir.Constant(context.get_value_type(tile), None)


@intrinsic
def get_tile(typing, array, index):
    """Return the tile that is contiguous at ``array[index]``."""
    tile = Tile(array.dtype)

    def code(context, builder, sig, args):
        kind = vector(tile)
        at = pointer(context, builder, sig.args[0], *args)
        value = ir.Constant(context.get_value_type(tile), None)
        for n in range(ROWS * VECS):
            value = builder.insert_value(value, load(builder, kind, at, n * kind.count), n)
        return value

    return tile(array, types.intp), code


@intrinsic
def plus_tile(typing, tile, other):
    """Return the sum of two tiles."""

    def code(context, builder, sig, args):
        tile, other = args
        for n in range(ROWS * VECS):
            total = builder.fadd(builder.extract_value(tile, n), builder.extract_value(other, n))
            tile = builder.insert_value(tile, total, n)
        return tile

    return tile(tile, tile), code


@intrinsic
def rows_tile(typing, array, index, last):
    """Return a tile whose row k holds ``array[index + k]``."""
    tile = Tile(array.dtype)

    def code(context, builder, sig, args):
        array, index, last = args
        kind = vector(tile)
        value = ir.Constant(context.get_value_type(tile), None)
        for k in range(ROWS):
            at = builder.add(index, row(builder, k, last, index.type(1)))
            lanes = spread(builder, kind, builder.load(pointer(context, builder, sig.args[0], array, at)))
            for v in range(VECS):
                value = builder.insert_value(value, lanes, k * VECS + v)
        return value

    return tile(array, types.intp, types.intp), code


@intrinsic
def add_outer(typing, tile, a, where, ai, b, bi):
    """Return ``tile[k, :] + a[where[k] + ai] * b[bi : bi + VECS vectors]``."""

    def code(context, builder, sig, args):
        tile, a, where, ai, b, bi = args
        kind = vector(sig.args[0])
        b = pointer(context, builder, sig.args[4], b, bi)
        rights = [load(builder, kind, b, v * kind.count) for v in range(VECS)]
        products = []
        for k in range(ROWS):
            at = builder.load(pointer(context, builder, sig.args[2], where, ai.type(k)))
            scalar = builder.load(pointer(context, builder, sig.args[1], a, builder.add(at, ai)))
            left = spread(builder, kind, scalar)
            products += [(left, right) for right in rights]
        return add_products(builder, tile, products)

    n = types.intp
    return tile(tile, a, where, n, b, n), code


@intrinsic
def turn(typing, a, ai, step, last, b, bi):
    """Transpose a square block, a vector wide: ``b[bi + VECS*j vectors + k] = a[ai + k*step + j]``.

    Rows k after the last repeat it. Blocks of 1, 2, 4 ... lanes change places across the diagonal.
    """

    def code(context, builder, sig, args):
        a, ai, step, last, b, bi = args
        kind = vector(Tile(sig.args[0].dtype))
        rows = []
        for k in range(kind.count):
            at = builder.add(ai, row(builder, k, last, step))
            rows.append(load(builder, kind, pointer(context, builder, sig.args[0], a, at)))
        index = ir.VectorType(ir.IntType(32), kind.count)
        size = 1
        while size < kind.count:
            own = [n if not n & size else n - size + kind.count for n in range(kind.count)]
            other = [n + size if not n & size else n + kind.count for n in range(kind.count)]
            for k in range(kind.count):
                if not k & size:
                    pair = rows[k], rows[k + size]
                    rows[k], rows[k + size] = (
                        builder.shuffle_vector(*pair, ir.Constant(index, lanes)) for lanes in (own, other)
                    )
            size *= 2
        to = pointer(context, builder, sig.args[4], b, bi)
        for j, values in enumerate(rows):
            save(builder, values, to, j * VECS * kind.count)
        return context.get_dummy_value()

    n = types.intp
    return types.void(a, n, n, n, b, n), code


@intrinsic
def copy_lanes(typing, a, ai, b, bi):
    """Copy ``b[bi : bi + a vector] = a[ai : ...]``: LLVM's own code for short runs is many times slower."""

    def code(context, builder, sig, args):
        source, to = (pointer(context, builder, sig.args[n], args[n], args[n + 1]) for n in (0, 2))
        save(builder, load(builder, vector(Tile(sig.args[0].dtype)), source), to)
        return context.get_dummy_value()

    return types.void(a, types.intp, b, types.intp), code


@intrinsic
def clear_lanes(typing, b, bi):
    """Set ``b[bi : bi + a vector] = 0``."""

    def code(context, builder, sig, args):
        save(
            builder,
            ir.Constant(vector(Tile(sig.args[0].dtype)), None),
            pointer(context, builder, sig.args[0], *args),
        )
        return context.get_dummy_value()

    return types.void(b, types.intp), code


@intrinsic
def put_tile(typing, tile, out, oi, step):
    """Write ``out[oi + k*step : ... + VECS vectors] = tile[k, :]``."""

    def code(context, builder, sig, args):
        tile, out, oi, step = args
        kind = vector(sig.args[0])
        for n in range(ROWS * VECS):
            at = builder.add(oi, builder.mul(step, step.type(n // VECS)))
            to = pointer(context, builder, sig.args[1], out, at)
            save(builder, builder.extract_value(tile, n), to, n % VECS * kind.count)
        return context.get_dummy_value()

    return types.void(tile, out, types.intp, types.intp), code


@intrinsic
def merge_tile(typing, tile, beta, out, oi, step):
    """Write ``out[...] = beta * out[...] + tile[k, :]``, where `put_tile` writes."""

    def code(context, builder, sig, args):
        tile, beta, out, oi, step = args
        kind = vector(sig.args[0])
        beta = spread(builder, kind, beta)
        for n in range(ROWS * VECS):
            at = builder.add(oi, builder.mul(step, step.type(n // VECS)))
            to = pointer(context, builder, sig.args[2], out, at)
            old = load(builder, kind, to, n % VECS * kind.count)
            value = multiply_add(builder, beta, old, builder.extract_value(tile, n))
            save(builder, value, to, n % VECS * kind.count)
        return context.get_dummy_value()

    return types.void(tile, tile.dtype, out, types.intp, types.intp), code

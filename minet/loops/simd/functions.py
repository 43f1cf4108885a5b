"""Exponentials and their relatives in float32, of which LLVM makes SIMD code, with the loops around them.

A call of the C library keeps a loop scalar. These have no branches, no tables and no conversion to integers
that a NaN could not take: a power of two is shifted into its bits. They are right to three units in the last
place, infinities and NaN included; a result below the smallest normal number may be 0. float64
is for reference: there, and for what is not here, the C library computes.
Source: Moshier, "Methods and Programs for Mathematical Functions", 1989 (Cephes: expf, logf, tanhf);
          erf's two polynomials are Norbert Juffa's.
"""

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import overload

from minet.loops import MATH, intrinsic

OPTIONS: Any = {"fastmath": MATH, "error_model": "numpy", "nogil": True, "forceinline": True}
single = np.float32
INFINITY, NAN, ZERO, HALF, ONE, TWO = map(single, (math.inf, math.nan, 0, 0.5, 1, 2))
ROUND = single(3 << 22)  # plus this, a float32 is a whole number, which the lowest bits hold
LOG2_E, LN2, LN2_REST = single(1.44269504), single(0.693359375), single(-2.12194440e-4)
LEAST = single(1.17549435e-38)  # that has all its bits


@intrinsic
def two_to(typing, n):
    """2**n of a whole number from -126 to 127 to which ROUND was added."""

    def code(context, builder, sig, args):
        bits, kind = ir.IntType(32), ir.FloatType()
        power = builder.shl(builder.bitcast(args[0], bits), bits(23))
        return builder.bitcast(builder.add(power, bits(0x3F800000)), kind)

    return types.float32(n), code


@intrinsic
def exponent(typing, x):
    """The whole number e for which x / 2**e is from sqrt(1/2) to sqrt(2)."""

    def code(context, builder, sig, args):
        bits = ir.IntType(32)
        above = builder.sub(builder.bitcast(args[0], bits), bits(0x3F3504F3))
        return builder.sitofp(builder.ashr(above, bits(23)), ir.FloatType())

    return types.float32(x), code


@intrinsic
def mantissa(typing, x):
    """x / 2**exponent(x)."""

    def code(context, builder, sig, args):
        bits = ir.IntType(32)
        x = builder.bitcast(args[0], bits)
        power = builder.ashr(builder.sub(x, bits(0x3F3504F3)), bits(23))
        return builder.bitcast(builder.sub(x, builder.shl(power, bits(23))), ir.FloatType())

    return types.float32(x), code


def in_single(library):
    """Decorate a float32 version of a function of the C library, which computes the other types."""

    def decorate(function):
        def choose(x):
            return function if x == types.float32 else library

        overload(function, jit_options=OPTIONS)(choose)
        return function

    return decorate


@in_single(lambda x: math.exp(x))
def exp(x):
    """e**x."""
    x = single(-104) if x < single(-104) else single(89) if x > single(89) else x
    n = x * LOG2_E + ROUND - ROUND
    r = x - n * LN2 - n * LN2_REST
    p = single(1.9875691500e-4) * r + single(1.3981999507e-3)
    p = ((p * r + single(8.3334519073e-3)) * r + single(4.1665795894e-2)) * r + single(1.6666665459e-1)
    p = (p * r + single(5.0000001201e-1)) * (r * r) + r + ONE
    half = n * HALF + ROUND  # in two steps: 2**128 and what is below LEAST have no such bits
    return p * two_to(half) * two_to(n - (half - ROUND) + ROUND)


@in_single(lambda x: math.log(x))
def log(x):
    """The natural logarithm."""
    tiny = x < LEAST
    scaled = x * single(1 << 23) if tiny else x
    e = exponent(scaled) - (single(23) if tiny else ZERO)
    f = mantissa(scaled) - ONE
    p = single(7.0376836292e-2) * f - single(1.1514610310e-1)
    p = ((p * f + single(1.1676998740e-1)) * f - single(1.2420140846e-1)) * f + single(1.4249322787e-1)
    p = ((p * f - single(1.6668057665e-1)) * f + single(2.0000714765e-1)) * f - single(2.4999993993e-1)
    p = (p * f + single(3.3333331174e-1)) * f * (f * f) + LN2_REST * e - HALF * (f * f)
    value = LN2 * e + (f + p)
    value = x if not x < INFINITY else value  # infinity and NaN
    return value if x > ZERO else -INFINITY if x == ZERO else NAN


@in_single(lambda x: math.log1p(x))
def log1p(x):
    """log(1 + x)."""
    u = ONE + x
    lost = ((u - ONE) - x) / u  # relative to u, what rounding it has added
    return log(u) - (lost if u > ZERO and u < INFINITY else ZERO)


@in_single(lambda x: math.expm1(x))
def expm1(x):
    """exp(x) - 1."""
    t = tanh(HALF * x)
    return TWO * t / (ONE - t) if abs(x) < ONE else exp(x) - ONE


@in_single(lambda x: math.tanh(x))
def tanh(x):
    """The hyperbolic tangent."""
    z = x * x
    p = single(-5.70498872745e-3) * z + single(2.06390887954e-2)
    p = ((p * z - single(5.37397155531e-2)) * z + single(1.33314422036e-1)) * z - single(3.33332819422e-1)
    far = ONE - TWO / (exp(TWO * abs(x)) + ONE)
    return x + x * (z * p) if abs(x) < single(0.625) else far if x > ZERO else -far


@in_single(lambda x: 1 / (1 + math.exp(-x)))
def sigmoid(x):
    """1 / (1 + exp(-x))."""
    return ONE / (ONE + exp(-x))


@in_single(lambda x: max(x, 0.0) + math.log1p(math.exp(-abs(x))))
def softplus(x):
    """log(1 + exp(x)), without an exponential that overflows."""
    return (ZERO if x < ZERO else x) + log1p(exp(-abs(x)))


@in_single(lambda x: math.erf(x))
def erf(x):
    """The error function."""
    t, s = abs(x), x * x
    p = single(-5.96761703e-4) * s + single(4.99119423e-3)
    p = ((p * s - single(2.67681349e-2)) * s + single(1.12819925e-1)) * s - single(3.76125336e-1)
    near = (p * s + single(1.28379166e-1)) * x + x
    q = (single(-1.72853470e-5) * t + single(3.83197126e-4)) * s + single(-3.88396438e-3) * t
    q = (q + single(2.42546219e-2)) * t - single(1.06777877e-1)
    q = ((q * t - single(6.34846687e-1)) * t - single(1.28717512e-1)) * t - t
    far = ONE - exp(q)
    return near if t < single(0.927734375) else far if x > ZERO else -far

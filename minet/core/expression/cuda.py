"""The CUDA kernels of an expression."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from minet.core.expression import Formula
from minet.core.expression.printing import Cuda, filled, statements, title
from minet.core.files import kept

FLAT = """\
$title
//
// Order:   flat; each element by itself.   Threads: one per LANES elements.
// Bytes:   8 per element forward, 12 backward, and 4 more if beta is not 0.
// Source:  written by minet for "$text".
#include "minet.cuh"

$helpers
extern "C" __global__ void elementwise_fprop(const float *x, float *y, int C, int H, int W, int N,
                                             float beta) {
    FOR_ALL(i, (count_t)C * H * W * N / LANES) {
        Samples values = ((const Samples *)x)[i];
        EACH_LANE(l) {
            float value = values.of[l];
            $parts_of_y
            values.of[l] = $y;
        }
        put(y + i * LANES, values, beta);
    }
}

extern "C" __global__ void elementwise_bprop(const float *x, const float *dy, float *dx, int C, int H, int W,
                                             int N, float beta) {
    FOR_ALL(i, (count_t)C * H * W * N / LANES) {
        Samples ${values}deltas = ((const Samples *)dy)[i];
        EACH_LANE(l) {
            float ${value}delta = deltas.of[l];
            $parts_of_dx
            deltas.of[l] = $dx;
        }
        put(dx + i * LANES, deltas, beta);
    }
}
"""
ROWS = """\
$title
//
// Order:   rows x[c] of M = H*W*N elements.
// Threads: one per LANES elements, a row of blocks per c. In bprop a block strides through its row and sums
//          its share of each gradient into sums[c][block]; the last block of a gradient adds up the shares.
// Bytes:   8 per element forward, 12 backward, and 4 more if beta is not 0.
// Source:  written by minet for "$text".
#include "minet.cuh"

$helpers
extern "C" __global__ void elementwise_fprop(const float *x, float *y,
                                             $params,
                                             int C, int H, int W, int N, float beta) {
    count_t M = (count_t)H * W * N;
    FOR_ROWS(c, C) {
        $scalars_of_y
        FOR_EACH(i, M / LANES) {
            Samples values = ((const Samples *)(x + c * M))[i];
            EACH_LANE(l) {
                float value = values.of[l];
                $parts_of_y
                values.of[l] = $y;
            }
            put(y + c * M + i * LANES, values, beta);
        }
    }
}

extern "C" __global__ void elementwise_bprop(const float *x, const float *dy, float *dx,
                                             $params,
                                             $grads, float *sums, unsigned *came,
                                             int C, int H, int W, int N, float beta) {
    count_t M = (count_t)H * W * N;
    $all_shares
    FOR_ROWS(c, C) {
        $scalars_of_dx
        $totals
        FOR_EACH(i, M / LANES) {
            Samples ${values}deltas = ((const Samples *)(dy + c * M))[i];
            EACH_LANE(l) {
                float ${value}delta = deltas.of[l];
                $parts_of_dx
                $terms
                deltas.of[l] = $dx;
            }
            if (dx) put(dx + c * M + i * LANES, deltas, beta);
        }
        $shares
    }
}
"""
HELPERS = {
    "sigmoid": [
        "__device__ __forceinline__ float sigmoid(float t) { return __fdividef(1.0f, 1.0f + expf(-t)); }",
    ],
    "softplus": [
        "__device__ __forceinline__ float softplus(float t) {",
        "    return fmaxf(t, 0.0f) + log1pf(expf(-fabsf(t))); // a NaN comes through the second part",
        "}",
    ],
    "add_shares": [
        "// *out += the sum of the shares, in a fixed order.",
        "__device__ __forceinline__ void add_shares(const float *shares, int count, float *out) {",
        "    float total = 0;",
        "    for (int i = threadIdx.x; i < count; i += blockDim.x) total += shares[i];",
        "    total = block_sum(total);",
        "    if (threadIdx.x == 0) *out += total;",
        "}",
    ],
}


@cache
def file(formula: Formula, shared: tuple[str, ...]) -> Path:
    """The .cu file with the text of `source`, in minet's cache folder."""
    return kept("elementwise", ".cu", source(formula, shared))


def source(formula: Formula, shared: tuple[str, ...]) -> str:
    """The text of a .cu file.

    Parameters
    ----------
    formula : Formula
    shared : tuple of str
        The parameters that have one number for all channels.
    """
    names = list(formula.grads)
    printer = Cuda({"x": "value", "dy": "delta"} | {name: f"{name}_c" for name in names})
    declare, end = ("float ", "bool "), ";"
    parts_of_y, [y] = statements(printer, [formula.y], declare, end)
    parts_of_dx, [dx, *grads] = statements(printer, [formula.dx, *formula.grads.values()], declare, end)
    scalars = [f"float {name}_c = {name}_all[{'0' if name in shared else 'c'}];" for name in names]
    below = [*parts_of_dx, dx, *grads]
    reads_x = _uses("value", below)  # nvcc warns of what is declared and not used
    shares = _shares(names, shared)
    image = "(x + c * M)" if names else "x"
    used = [name for name in HELPERS if name in printer.used or (name == "add_shares" and names)]
    return filled(
        ROWS if names else FLAT,
        title=[f"// {line}" for line in title(formula)],
        text=formula.text,
        helpers=[line for name in used for line in [*HELPERS[name], ""]],
        params=", ".join(f"const float *{name}_all" for name in names),
        grads=", ".join(f"float *{name}_grad" for name in names),
        scalars_of_y=scalars,
        scalars_of_dx=[line for line in scalars if _uses(line.split()[1], below)],
        parts_of_y=parts_of_y,
        y=y,
        totals=[f"float {name}_total = 0;" for name in names],
        values=f"values = ((const Samples *){image})[i], " if reads_x else "",
        value="value = values.of[l], " if reads_x else "",
        parts_of_dx=parts_of_dx,
        terms=[f"{name}_total += {grad};" for name, grad in zip(names, grads, strict=True)],
        dx=dx,
        all_shares=["count_t shares = (count_t)C * gridDim.x;"] if _uses("shares", shares) else [],
        shares=shares,
    )


def _shares(names: list[str], shared: tuple[str, ...]) -> list[str]:
    """Lines that write a block's shares of the gradients, and the last block's, which adds them up."""
    lines, row, whole = [], [], []
    for k, name in enumerate(names):
        shares = f"{k} * shares + " if k else ""
        lines.append(f"{name}_total = block_sum({name}_total);")
        lines.append(f"if (threadIdx.x == 0) sums[{shares}c * gridDim.x + blockIdx.x] = {name}_total;")
        if name in shared:
            whole.append(f"    add_shares(sums{f' + {k} * shares' if k else ''}, shares, {name}_grad);")
        else:
            row.append(f"    add_shares(sums + {shares}c * gridDim.x, gridDim.x, {name}_grad + c);")
    lines += ["if (last_block(came + c, gridDim.x)) {", *row, "}"] if row else []
    lines += ["if (last_block(came + C, shares)) {", *whole, "}"] if whole else []
    return lines


def _uses(name: str, lines: list[str]) -> bool:
    return any(re.search(rf"\b{name}\b", line) for line in lines)

"""Elementwise's loops: written for each expression, kept in minet's cache folder, imported from there.

Numba keeps their machine code beside them, as it does for the loops in this folder.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from minet.core.expression import Formula
from minet.core.expression.printing import Python, filled, statements, title
from minet.core.files import kept
from minet.loops import forget_stale

C_LIBRARY = ("cos", "sin", "sqrt")  # the others are in simd/functions.py; abs is Python's
TEMPLATE = '''\
"""Elementwise loops.

$title

Order:    rows x[c] of M elements, in blocks of fixed size$of_rows.
Parallel: over (c, block).$share
Bytes:    per element in float32: 8 forward, 12 backward, 4 more if beta is not 0.
Source:   written by minet for "$text".
"""

$imports

BLOCK = 1 << 13  # elements; the same on every machine, so that bits repeat


@parallel_kernel()
def elementwise_fprop(x, y, ${params}beta):
    """y <- beta*y + f(x), on (C, M) arrays."""
    C, M = x.shape
    real = x.dtype.type
    beta = real(beta)
    blocks = (M + BLOCK - 1) // BLOCK
    for index in prange(C * blocks):
        c, block = divmod(np.intp(index), blocks)
        part = slice(block * BLOCK, min((block + 1) * BLOCK, M))
        into, out = x[c, part], y[c, part]
        $scalars
        for m in range(into.size):
            value = into[m]
            $parts_of_y
            result = $y
            out[m] = result if beta == 0 else beta * out[m] + result


@parallel_kernel()
def elementwise_bprop(x, dy, dx, ${params}${grads}beta):
    """dx <- beta*dx + dy * f'(x), unless dx is empty; gradients of parameters are added to.

    If dy is None, it is in dx and is overwritten: as two arrays they would keep LLVM from using SIMD.
    """
    C, M = x.shape
    real = x.dtype.type
    beta = real(beta)
    blocks = (M + BLOCK - 1) // BLOCK
    $sums
    for index in prange(C * blocks):
        c, block = divmod(np.intp(index), blocks)
        part = slice(block * BLOCK, min((block + 1) * BLOCK, M))
        into, above = x[c, part], dx[c, part] if dy is None else dy[c, part]
        out = dx[c, part] if dx.size else np.empty(into.size, x.dtype)
        $scalars
        $terms
        for m in range(into.size):
            value, delta = into[m], above[m]
            $parts_of_dx
            $each_term
            result = $dx
            out[m] = result if beta == 0 else beta * out[m] + result
        $add_up
    $totals
'''


def source(formula: Formula, shared: tuple[str, ...]) -> str:
    """The text of an expression's loops in Numba.

    Parameters
    ----------
    formula : Formula
    shared : tuple of str
        The parameters that have one number for all rows.
    """
    names = list(formula.grads)
    count = len(names)
    printer = Python({"x": "value", "dy": "delta"} | {name: f"{name}_c" for name in names})
    parts_of_y, [y] = statements(printer, [formula.y], ("", ""), "")
    parts_of_dx, [dx, *grads] = statements(printer, [formula.dx, *formula.grads.values()], ("", ""), "")
    sums = [
        f"for k in range({count}):  # in a loop, as `terms` must live as long as its address is used",
        "    sums[k, c, block] = sum_row(address(terms, k * into.size), into.size)",
    ]
    return filled(
        TEMPLATE,
        title=title(formula),
        of_rows="; a channel is a row" if set(names) - set(shared) else "; the whole array is one row",
        share=" Gradients are summed by blocks, in float64, as ``simd/sums.py`` does." if names else "",
        text=formula.text,
        imports=_imports(printer.used, bool(names)),
        params="".join(f"{name}_all, " for name in names),
        grads="".join(f"{name}_grad, " for name in names),
        scalars=[f"{name}_c = {name}_all[{'0' if name in shared else 'c'}]" for name in names],
        parts_of_y=parts_of_y,
        y=y,
        sums=[f"sums = np.empty(({count}, C, blocks), np.float64)"] if names else [],
        terms=[f"terms = np.empty(({count}, into.size), x.dtype)"] if names else [],
        parts_of_dx=parts_of_dx,
        each_term=[f"terms[{k}, m] = {grad}" for k, grad in enumerate(grads)],
        dx=dx,
        add_up=sums if names else [],
        totals=[f"add_shares(sums[{k}], {name}_grad)" for k, name in enumerate(names)],
    )


def _imports(used: Collection[str], with_sums: bool) -> list[str]:
    library, own = ([n for n in sorted(used) if (n in C_LIBRARY) == c and n != "abs"] for c in (True, False))
    lines = [f"from math import {', '.join(library)}", ""] if library else []
    lines += ["import numpy as np", "from numba import prange", "", "from minet.loops import parallel_kernel"]
    lines += [f"from minet.loops.simd.functions import {', '.join(own)}"] if own else []
    if with_sums:
        lines += ["from minet.loops.simd.lanes import address"]
        lines += ["from minet.loops.simd.sums import add_shares, sum_row"]
    return lines


@cache
def loops(formula: Formula, shared: tuple[str, ...]) -> ModuleType:
    """The module with the text of `source`: ``elementwise_fprop`` and ``elementwise_bprop``."""
    return _module(source(formula, shared))


@cache
def _module(text: str) -> ModuleType:
    """Import a text from a file that is the same in every process, so its kernels are compiled only once."""
    path = kept("elementwise", ".py", text)
    forget_stale(path.parent, Path(__file__).parent)
    spec = spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = module_from_spec(spec)
    sys.modules[path.stem] = module  # where Numba and pickle look for a function
    spec.loader.exec_module(module)
    return module

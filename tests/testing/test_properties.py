"""Random graphs of all layers keep the contract at any nesting."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import assume, given, note, settings
from hypothesis import strategies as st

from minet import Concat, Layer, LayerError, Net, Sequential, Sum
from minet.core.layer import Shape
from minet.layers import BatchNorm, all_layers
from minet.testing import run_check

CHECKS = (
    "untouched", "poison", "beta_y", "beta_dx", "slices", "bprop_reads_y", "accumulate", "gradient",
    "need_dx", "determinism", "evaluation", "batch_sizes", "bprop_again", "save_load", "draws",
)  # fmt: skip
SHAPES = [(2, 7, 6), (3, 4, 5), (1, 6, 1), (4, 1, 1)]
DEPTH = 3
FEW, MANY = 20, 120  # graphs

Made = tuple[Callable[[], Layer], Shape]  # a function that makes a graph, and its output shape


@cache
def fitting(in_shape: Shape) -> dict[type[Layer], list[Made]]:
    """Return the examples of each class that accept this input."""
    found: dict[type[Layer], list[Made]] = {}
    for cls in all_layers():
        if cls is BatchNorm and in_shape[1:] == (1, 1):
            continue  # at a batch of 1 it refuses to train
        for make, _ in cls.examples():
            try:
                net = Net(make(), in_shape, 1)
            except LayerError:
                continue
            found.setdefault(cls, []).append((make, net.output_shape))
    return found


@st.composite
def leaves(draw: st.DrawFn, in_shape: Shape) -> Made:
    found = fitting(in_shape)
    cls = draw(st.sampled_from(list(found)))
    return draw(st.sampled_from(found[cls]))


@st.composite
def nested(draw: st.DrawFn, in_shape: Shape, depth: int) -> Made:
    """A leaf, or a container of graphs; branches of the wrong shape are replaced by leaves."""
    if depth < DEPTH and (not depth or draw(st.booleans())):
        return draw(leaves(in_shape))
    kind, count = draw(st.sampled_from([Sequential, Concat, Sum])), draw(st.sampled_from([2, 3, 1]))
    if kind is Sequential:
        makers, shape = [], in_shape
        for _ in range(count):
            make, shape = draw(nested(shape, depth - 1))
            makers.append(make)
        return lambda: Sequential(*(make() for make in makers)), shape
    parts = [draw(nested(in_shape, depth - 1))]
    first = parts[0][1]
    same = (lambda shape: shape[1:] == first[1:]) if kind is Concat else (lambda shape: shape == first)
    substitutes = [made for several in fitting(in_shape).values() for made in several if same(made[1])]
    for _ in range(count - 1):
        part = draw(nested(in_shape, depth - 1))
        parts.append(part if same(part[1]) else draw(st.sampled_from(substitutes or parts)))
    channels = sum(shape[0] for _, shape in parts) if kind is Concat else first[0]
    return lambda: kind(*(make() for make, _ in parts)), (channels, *first[1:])


@st.composite
def cases(draw: st.DrawFn) -> tuple[Callable[[], Layer], Shape]:
    in_shape = draw(st.sampled_from(SHAPES))
    make, out_shape = draw(nested(in_shape, DEPTH))
    assume(out_shape[0] <= 24)
    return make, in_shape


@pytest.mark.parametrize("graphs", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def test_random_graphs_keep_the_contract(graphs: int) -> None:
    seen: set[type[Layer]] = set()
    done: set[str] = set()

    @settings(max_examples=graphs)
    @given(cases(), st.integers(1, 4))
    def holds(case: tuple[Callable[[], Layer], Shape], batch: int) -> None:
        make, in_shape = case
        text = f"{make()!r} on {in_shape}, batch {batch}"
        if text in done:  # hypothesis repeats cases
            return
        note(text)
        seen.update(type(layer) for layer in make().walk())
        for name in CHECKS:
            check = run_check(name, make, in_shape, batch=batch)
            skipped = name == "draws" and check.status == "SKIP"
            assert skipped or check.status == "PASS", f"{name}: {check.detail}"
        done.add(text)

    holds()
    assert graphs < MANY or {Sequential, Concat, Sum, *all_layers()} <= seen


@pytest.mark.parametrize("in_shape", SHAPES)
def test_every_class_fits_somewhere(in_shape: Shape) -> None:
    assert len(fitting(in_shape)) > len(all_layers()) / 2

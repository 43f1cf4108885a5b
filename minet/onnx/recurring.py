"""What recurs in a graph of layers, as the functions of a model file.

Runs of layers that begin or end with their only Conv or Linear become lists, ``*conv_relu(64, 3)``; Concats
and Sums become blocks. The parameters of a function are the numbers in which its places differ.
"""

from __future__ import annotations

import inspect
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from minet.core.containers import Concat, Container, Sequential
from minet.core.layer import Layer
from minet.core.naming import stem_of

RUNS = ("Conv", "Linear", "BatchNorm", "Elementwise", "ReLU", "PReLU", "Dropout")  # what runs are made of
LONGEST, ROUNDS, WORTH = 5, 3, 2  # of a run; how many kinds of runs; the layers that one must save
SHORT = {"batch_norm": "norm", "elementwise": "scale"}  # layers in the names of functions


@dataclass(eq=False)
class Call:
    """A call of a layer's class or of a function: its settings, and which of them it need not be given."""

    name: str
    settings: dict[str, Any]
    usual: dict[str, Any] = field(default_factory=dict)
    listed: bool = False  # whether it gives a list of layers

    @property
    def key(self) -> Any:
        """What must be the same for two calls to be one place in a function: all but numbers."""
        fixed = {k: v for k, v in self.settings.items() if isinstance(v, str | bool) or v is None}
        return self.name, tuple(fixed.items()), tuple(sorted(self.settings.keys() - fixed.keys()))

    def calls(self) -> Iterator[Call]:
        yield self


@dataclass(eq=False)
class Block:
    """A Concat or a Sum, with its branches."""

    name: str
    branches: list[Items]

    @property
    def key(self) -> Any:
        return self.name, tuple(tuple(item.key for item in branch) for branch in self.branches)

    def calls(self) -> Iterator[Call]:
        for branch in self.branches:
            for item in branch:
                yield from item.calls()


Items: TypeAlias = list["Call | Block"]


@dataclass
class Function:
    """A function: its layers, and its parameters with the values that they need not be given."""

    name: str
    usual: dict[str, Any]
    body: Block | Items


class Recurring:
    """Finds what recurs, in runs first and then in blocks."""

    def __init__(self) -> None:
        self.functions: list[Function] = []
        self._sequences: list[Items] = []

    def item(self, layer: Layer) -> Call | Block:
        """A layer as an item of a sequence."""
        if isinstance(layer, Container):
            branches = [
                [self.item(one) for one in (part.layers if isinstance(part, Sequential) else [part])]
                for part in layer.layers
            ]
            self._sequences += branches
            return Block(type(layer).__name__, branches)
        return Call(type(layer).__name__, *_settings(layer))

    def find_runs(self, items: Items) -> None:
        """Make functions of the runs of layers that recur most."""
        self._sequences.append(items)
        for _ in range(ROUNDS):
            counts: Counter[Any] = Counter()
            for sequence in self._sequences:
                for _, run in _runs(sequence):
                    counts[tuple(call.key for call in run)] += 1
            found = [(len(key) - 1, count, key) for key, count in counts.items() if count > 1]
            if not found:
                return
            length, count, key = max(
                found, key=lambda one: (one[0] * (one[1] - 1), one[0], one[2][0][0] in RUNS[:2])
            )
            if length * (count - 1) < WORTH:
                return
            self._make_run(key)

    def _make_run(self, key: Any) -> None:
        places: list[tuple[Items, int, list[Call]]] = []
        for sequence in self._sequences:
            end = 0
            for start, run in _runs(sequence):
                if start >= end and tuple(call.key for call in run) == key:
                    places.append((sequence, start, run))
                    end = start + len(run)
        name = "_".join(SHORT.get(stem, stem) for stem in (stem_of(call.name) for call in places[0][2]))
        calls = self._function(name, [run for *_, run in places], listed=True)
        for (sequence, start, run), call in reversed(list(zip(places, calls, strict=True))):
            sequence[start : start + len(run)] = [call]

    def with_blocks(self, items: Items) -> Items:
        """The items, in which blocks that recur are calls of functions; the innermost first."""
        levels: dict[int, list[tuple[Items, int]]] = defaultdict(list)

        def visit(items: Items) -> int:
            deepest = 0
            for i, item in enumerate(items):
                if isinstance(item, Block):
                    depth = 1 + max(visit(branch) for branch in item.branches)
                    levels[depth].append((items, i))
                    deepest = max(deepest, depth)
            return deepest

        visit(items)
        for _, places in sorted(levels.items()):
            groups: dict[Any, list[tuple[Items, int]]] = defaultdict(list)
            for sequence, i in places:
                groups[sequence[i].key].append((sequence, i))
            for group in groups.values():
                if len(group) > 1:
                    blocks = [sequence[i] for sequence, i in group]
                    assert isinstance(blocks[0], Block)
                    made = self._function(_block_name(blocks[0]), blocks)
                    for (sequence, i), call in zip(group, made, strict=True):
                        sequence[i] = call
        return items

    def _function(self, name: str, places: list[Any], listed: bool = False) -> list[Call]:
        """Make a function of what stands in several places; return its calls, one for each."""
        known = {function.name for function in self.functions}
        name = next(n for i in itertools.count(1) if (n := f"{name}_{i}" if i > 1 else name) not in known)
        calls = [
            [call for item in (place if listed else [place]) for call in item.calls()] for place in places
        ]
        # A column has the value of one setting in all places; columns that are alike share a parameter.
        columns: dict[tuple[Any, ...], list[tuple[Call, str]]] = {}
        for same in zip(*calls, strict=True):
            for setting in same[0].settings:
                values = tuple(call.settings[setting] for call in same)
                if len(set(map(repr, values))) > 1:
                    columns.setdefault(values, []).append((same[0], setting))
        names = {values: where[0][1].rstrip("0123456789") for values, where in columns.items()}
        stems, numbers = Counter(names.values()), Counter[str]()
        named, usual = {}, {}
        for values, where in columns.items():
            stem = names[values]
            numbers[stem] += 1
            named[f"{stem}{numbers[stem]}" if stems[stem] > 1 else stem] = values
            usuals = {repr(call.usual.get(s, Layer)): call.usual.get(s, Layer) for call, s in where}
            found = next(iter(usuals.values()))
            usual[list(named)[-1]] = found if len(usuals) == 1 and found in values else Layer
        order = sorted(named, key=lambda parameter: usual[parameter] is not Layer)
        body = _with_parameters(places[0], {id(c): c for c in calls[0]}, columns, list(named))
        self.functions.append(Function(name, {parameter: usual[parameter] for parameter in order}, body))
        given = {parameter: value for parameter, value in usual.items() if value is not Layer}
        return [
            Call(name, {parameter: named[parameter][i] for parameter in order}, given, listed)
            for i in range(len(places))
        ]


@dataclass(frozen=True)
class Parameter:
    """A parameter of the function, in place of a number."""

    name: str

    def __repr__(self) -> str:
        return self.name


def _with_parameters(place: Any, calls: dict[int, Call], columns: dict[Any, Any], names: list[str]) -> Any:
    """The first place, with the parameters in place of its numbers; they stay in the others."""
    new = {key: dict(call.settings) for key, call in calls.items()}
    for where, name in zip(columns.values(), names, strict=True):
        for call, setting in where:
            new[id(call)][setting] = Parameter(name)

    def copied(item: Call | Block) -> Call | Block:
        if isinstance(item, Call):
            return Call(item.name, new[id(item)], item.usual, item.listed)
        return Block(item.name, [[copied(one) for one in branch] for branch in item.branches])

    return [copied(item) for item in place] if isinstance(place, list) else copied(place)


def _runs(items: Items) -> Iterator[tuple[int, list[Call]]]:
    """The runs of layers, not of functions, and their places."""
    for start in range(len(items)):
        run: list[Call] = []
        for item in items[start : start + LONGEST]:
            if not isinstance(item, Call) or item.listed or item.name not in RUNS:
                break
            run.append(item)
            found = [call.name in RUNS[:2] for call in run]
            if len(run) > 1 and sum(found) == 1 and (found[0] or found[-1]):
                yield start, list(run)


def _settings(layer: Layer) -> tuple[dict[str, Any], dict[str, Any]]:
    """A layer's settings, all of them, and those that it has by itself."""
    args, given = layer._call
    signature = inspect.signature(type(layer))
    bound = signature.bind(*args, **given)
    bound.apply_defaults()
    settings, usual = dict(bound.arguments), {}
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            settings.pop(name)  # of a layer that takes no settings
        elif parameter.kind is parameter.VAR_KEYWORD:
            settings |= settings.pop(name)
        elif parameter.default is not parameter.empty:
            usual[name] = parameter.default
    settings.pop("init", None)  # the weights come from a file
    return settings, usual


def _block_name(block: Block) -> str:
    alone = [branch[0].name for branch in block.branches if len(branch) == 1]
    if block.name == Concat.__name__:
        return "dense" if "Identity" in alone else "inception" if len(block.branches) > 2 else "concat"
    return "residual" if "Identity" in alone else "projection"

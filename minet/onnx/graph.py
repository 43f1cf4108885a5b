"""A graph of nodes taken apart into sequences and branches: the series-parallel reduction.

Tensors are points, layers are edges between them. Two edges in a row, with nothing else at the point
between them, are one sequence; edges from one point to one join are its branches. If one edge remains, the
graph is made of Sequential, Concat and Sum. Each step removes an edge, so the work grows with the graph.

Source: Valdes, Tarjan & Lawler, "The recognition of series parallel digraphs", SIAM J. Comput. 11, 1982.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from minet.core.containers import Container, Sequential, Sum
from minet.core.errors import MinetError
from minet.core.layer import Layer
from minet.layers import Identity

Point: TypeAlias = str | tuple[str, str]  # a tensor by its name, or a join: "join" and its output


@dataclass
class Leaf:
    """A layer, with the arrays of its parameters and persistent state, and the node that it came from."""

    layer: Layer
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    node: str = ""


@dataclass
class Branches:
    """Sequences from one point to one join."""

    kind: type[Container]
    parts: list[list[Item]]


Item: TypeAlias = Leaf | Branches


@dataclass(eq=False)
class Edge:
    """What lies between two points; `ports` are the join's inputs that it reaches, if it ends at one.

    If `parts` is not empty, these branches are all of `items`, by their ports: others may join them.
    """

    start: Point
    end: Point
    items: list[Item]
    ports: tuple[int, int] = (0, 1)
    parts: list[tuple[int, list[Item]]] = field(default_factory=list)


class Parts:
    """The edges of a graph, and its reduction to one."""

    def __init__(self) -> None:
        self.joins: dict[Point, tuple[type[Container], str]] = {}
        self.into: dict[Point, dict[Edge, None]] = defaultdict(dict)  # sets that keep their order
        self.out_of: dict[Point, dict[Edge, None]] = defaultdict(dict)

    def line(self, start: str, end: str, items: list[Item]) -> None:
        """Add layers from one tensor to another."""
        self._add(Edge(start, end, items))

    def join(self, kind: type[Container], node: str, starts: list[str], end: str) -> None:
        """Add a node that makes one tensor of several, in their order."""
        point = "join", end
        self.joins[point] = kind, node
        for i, start in enumerate(starts):
            self._add(Edge(start, point, [], (i, i + 1)))
        self._add(Edge(point, end, []))

    def _add(self, edge: Edge) -> None:
        self.into[edge.end][edge] = self.out_of[edge.start][edge] = None

    def _remove(self, edge: Edge) -> None:
        del self.into[edge.end][edge], self.out_of[edge.start][edge]

    def reduced(self, start: str, end: str) -> list[Item]:
        """All of the graph between two tensors as one sequence.

        Raises
        ------
        MinetError
            If it is not series-parallel; the message names the node where that shows.
        """
        self._prune(end)
        waiting: list[Point] = list(
            reversed(self.into)
        )  # the last is taken first, so that sequences grow at their ends
        while waiting:
            point = waiting.pop()
            if point in self.joins and len(self.into[point]) > 1:
                waiting += self._merge(point)
            if point in (start, end) or len(self.into[point]) != 1 or len(self.out_of[point]) != 1:
                continue
            (before,), (after,) = self.into[point], self.out_of[point]
            self._remove(before)
            self._remove(after)
            before.items.extend(after.items)
            self._add(Edge(before.start, after.end, before.items, after.ports))
            waiting += [after.end, before.start]
        for _, node in (self.joins[point] for point in self.joins if len(self.into[point]) > 1):
            raise MinetError(
                f"the branches of {node} do not all begin at one place: the graph is not series-parallel",
                "a net of minet is made of Sequential, Concat and Sum; branches must not cross",
            )
        whole = next(iter(self.out_of[start]), Edge(start, end, []))
        return whole.items

    def _prune(self, end: str) -> None:
        """Remove what leads nowhere."""
        waiting = [point for point in self.into if not self.out_of[point]]
        while waiting:
            point = waiting.pop()
            if point != end and not self.out_of[point]:
                for edge in list(self.into.get(point, ())):
                    self._remove(edge)
                    waiting.append(edge.start)

    def _merge(self, point: Point) -> list[Point]:
        """Make one edge of those from one place, of a Concat only of neighbours; return the places."""
        kind = self.joins[point][0]
        runs: list[list[Edge]] = []
        last: dict[Point, list[Edge]] = {}  # each place's latest run
        for edge in sorted(self.into[point], key=lambda edge: edge.ports):
            run = last.get(edge.start)
            if run is not None and (kind is Sum or run[-1].ports[1] == edge.ports[0]):
                run.append(edge)
            else:
                runs.append([edge])
                last[edge.start] = runs[-1]
        runs = [run for run in runs if len(run) > 1]
        for run in runs:
            for edge in run:
                self._remove(edge)
            parts = [part for edge in run for part in edge.parts or [(edge.ports[0], edge.items)]]
            parts.sort(key=lambda part: part[0])
            branches, ports = (
                Branches(kind, [items for _, items in parts]),
                (run[0].ports[0], run[-1].ports[1]),
            )
            self._add(Edge(run[0].start, point, [branches], ports, parts))
        return [run[0].start for run in runs]


def built(items: list[Item], arrays: dict[int, Leaf], depth: int = 0) -> Layer:
    """The layers of a sequence as one layer; `arrays` gets each layer's leaf, by the layer's id."""
    layers = [_layer(item, arrays, depth) for item in items] or [Identity()]
    return layers[0] if len(layers) == 1 and depth else Sequential(*layers)


def _layer(item: Item, arrays: dict[int, Leaf], depth: int) -> Layer:
    if isinstance(item, Leaf):
        arrays[id(item.layer)] = item
        return item.layer
    return item.kind(*(built(part, arrays, depth + 1) for part in item.parts))

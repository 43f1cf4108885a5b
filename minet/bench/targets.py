"""The targets of every row, in one table; rows that miss theirs are marked, and listed at the end.

A ratio is the fastest rival's time over minet's. A share is that of the roofline (`minet.bench.counts`): 0.5
is within two times the time of a copy. Memory is minet's peak over the lowest of the rivals'. "ms" is
minet's time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from minet.bench.cases import Case, layer


@dataclass(frozen=True)
class Target:
    """A target for rows of some layers: at least `least`, or at most `most`, of `what`."""

    layers: tuple[str, ...]
    phases: tuple[str, ...]
    what: str  # "ratio", "share", "memory" or "ms"
    least: float = 0.0
    most: float = float("inf")
    where: Callable[[Case], bool] = lambda case: True

    def applies(self, case: Case, phase: str) -> bool:
        return case.layer in self.layers and phase in self.phases and self.where(case)

    def __str__(self) -> str:
        return f"{self.what} {f'>= {self.least:g}' if self.least else f'<= {self.most:g}'}"


@dataclass(frozen=True)
class Beside:
    """A limit on minet's time for a row: at most `most` times a rival's best, or minet's, for another."""

    name: str
    row: Callable[[Case], bool]
    other: Callable[[Case], bool]
    rival: bool
    most: float


def _window(case: Case) -> int:
    """Return the side of a plain window, 0 of any other."""
    return int(case.settings["window"]) if case.is_plain else 0


def _readout(case: Case) -> bool:
    return case.settings.get("window", 0) is None


def _is(name: str, **settings: Any) -> Callable[[Case], bool]:
    return lambda case: case == layer(name, case.shape, **settings)


ALONE, BOTH, GAUSSIAN = ("fprop", "bprop"), ("fprop+bprop",), ("GaussianPool",)
SIMPLE = ("MaxPool", "AvgPool", "StochasticPool", "PReLU")
POOLS = ("GaussianPool", "MaxPool", "AvgPool", "StochasticPool")

CPU = [
    Target(GAUSSIAN, BOTH, "ratio", 3.0, where=lambda c: _window(c) >= 5 and c.settings["kernels"] == 3),
    Target(GAUSSIAN, BOTH, "ratio", 2.0, where=lambda c: not c.is_plain),
    Target(GAUSSIAN, BOTH, "ratio", 1.5, where=lambda c: c.shape[3] >= 16),
    Target(GAUSSIAN, BOTH, "share", 0.5, where=lambda c: _window(c) == 3),
    Target(GAUSSIAN, ("fprop", *BOTH), "share", 0.5, where=_readout),
    Target(SIMPLE, BOTH, "ratio", 2.0),
    Target(SIMPLE, BOTH, "share", 0.5),
    Target(("Conv",), BOTH, "ratio", 1.5, where=lambda c: _window(c) == 1),
    Target(("Conv",), BOTH, "ratio", 1.0, where=lambda c: _window(c) > 1),
    Target(("Conv",), BOTH, "ratio", 1.5, where=lambda c: c.settings.get("groups") == c.shape[0]),
    Target(("gaussian_inception",), ("step",), "ratio", 3.0),
    Target(("gaussian_inception",), ("step",), "memory", most=0.6),
    Target(("cifar10_zeiler",), ("step",), "ratio", 1.0),
    Target(("gaussian_inception", "cifar10_zeiler"), ("inference",), "ratio", 1.0),
]
CUDA = [
    Target((*POOLS, "PReLU", "ReLU", "BatchNorm", "LRN", "Conv"), ALONE, "ratio", 1.0),
    Target(POOLS, ALONE, "share", 0.8, where=lambda c: c.shape[3] == 128 and _window(c) == 3),
    Target(POOLS, ALONE, "share", 0.65, where=lambda c: c.shape[3] == 128 and _window(c) == 11),
    Target(("gaussian_inception", "cifar10_zeiler"), ("step",), "ratio", 1.0),
    Target(("gaussian_inception",), ("step",), "ms", most=1.3),
]

ONE, THREE, FULL, DIAGONAL = (
    _is("GaussianPool", window=11, stride=2, kernels=1),
    _is("GaussianPool", window=11, stride=2, kernels=3),
    _is("GaussianPool", window=7, stride=2, kernels=1, shape="full"),
    _is("GaussianPool", window=7, stride=2, kernels=1),
)
AVERAGE = _is("AvgPool", window=11, stride=2)
CPU_BESIDE = [Beside("full against diagonal, 7x7 s2", FULL, DIAGONAL, False, 6.0)]
CUDA_BESIDE = [
    Beside("GaussianPool against the rival's AvgPool, 11x11 s2", ONE, AVERAGE, True, 1.0),
    Beside("three kernels against one, 11x11 s2", THREE, ONE, False, 1.5),
]


def missed(backend: str, case: Case, phase: str, found: dict[str, float | None]) -> list[str]:
    """Return the targets that a row misses, the hardest of each kind; what was not measured cannot miss."""
    lines: dict[str, str] = {}
    for target in sorted(CUDA if backend == "cuda" else CPU, key=lambda target: target.least):
        value = found.get(target.what)
        if target.applies(case, phase) and value is not None and not target.least <= value <= target.most:
            lines[target.what] = f"{target.what} {value:.2f}, target {str(target).partition(' ')[2]}"
    return list(lines.values())


def ratio_wanted(backend: str, case: Case, phase: str) -> float:
    """Return the largest ratio that a row should reach; 0 if it has no such target."""
    table = CUDA if backend == "cuda" else CPU
    return max((t.least for t in table if t.what == "ratio" and t.applies(case, phase)), default=0.0)


def beside(backend: str, rows: list[dict[str, Any]]) -> list[tuple[str, float, float]]:
    """Return, for each pair of rows that were both timed: its name, the ratio of times, and the limit."""
    found = []
    for pair in CUDA_BESIDE if backend == "cuda" else CPU_BESIDE:
        for row in rows:
            case = Case.from_dict(row["case"])
            if not row["minet"] or not pair.row(case):
                continue
            for other in rows:
                like = Case.from_dict(other["case"])
                time = other["best"] if pair.rival else other["minet"]
                same = (like.shape, other["phase"]) == (case.shape, row["phase"])
                if pair.other(like) and same and time:
                    name = f"{pair.name} {'x'.join(map(str, case.shape))}, {row['phase']}"
                    found.append((name, row["minet"] / time, pair.most))
    return found

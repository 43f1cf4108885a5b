"""A model of a training step on many ranks, by a step on few and by the network between them.

    step(P) = compute + what of the sums of gradients is left when bprop ends + the gather of the loss.

A sum of n bytes over P ranks, of which each sends and receives at once, takes at least

    2 ceil(log2 P) alpha + 2 (P-1)/P n/bandwidth    by halving and doubling (Rabenseifner),
    2 (P-1)        alpha + 2 (P-1)/P n/bandwidth    round a ring,

Thakur, Rabenseifner and Gropp, "Optimization of collective communication operations in MPICH", International
Journal of High Performance Computing Applications 19(1), 2005; their third term, the additions, is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

SEEN = 75e-6  # seconds from the end of a message until a rank that sleeps for 20 us sees it: Linux adds 50 us
COUNTS = tuple(2**i for i in range(11))  # ranks, 1 to 1024


@dataclass(frozen=True)
class Network:
    """What carries messages: `alpha` seconds for any, and bytes a second each way and rank.

    Attributes
    ----------
    most : int
        The ranks that have been joined by such a network; a prediction beyond is for comparison.
    """

    name: str
    alpha: float
    bandwidth: float
    source: str = ""
    most: int = 1 << 20


# Assumptions, each rank with a port of its own. The sources are in docs/scaling.md.
NETWORKS = (
    Network(
        "10 GbE, TCP", 20e-6, 1.18e9, "latency: twice Larsen et al. 2009; line rate less frames, IP and TCP"
    ),
    Network("100 GbE, RDMA", 2.7e-6, 12.0e9, "NCCL: a network's step, NET_BW"),
    Network("InfiniBand NDR", 2.7e-6, 48.0e9, "NCCL: a network's step, four times NET_BW"),
    Network("NVLink 4", 3.4e-6, 371e9, "NCCL: NVLink's step, 18 links of SM90_NVLINK_BW", most=256),
)


@dataclass(frozen=True)
class Step:
    """A training step of one rank, by itself.

    Attributes
    ----------
    images : int
        The batch of one rank.
    fixed, each : float
        Seconds: computing n images takes ``fixed + each * n``.
    bprop : float
        The share of these in bprop.
    buckets : tuple of (float, float)
        Bytes of a bucket, and the share of bprop after which it leaves, in their order.
    beside : bool
        Whether sums are made beside bprop; else they begin at its end.
    """

    images: int
    fixed: float
    each: float
    bprop: float
    buckets: tuple[tuple[float, float], ...]
    beside: bool = True

    def compute(self, images: float) -> float:
        """Seconds of fprop, loss, bprop and update."""
        return self.fixed + self.each * images

    @property
    def bytes(self) -> float:
        return sum(size for size, _ in self.buckets)


def allreduce(P: int, size: float, network: Network) -> float:
    """Seconds of a sum over P ranks, by the faster of the two ways."""
    messages = min(2 * math.ceil(math.log2(P)), 2 * (P - 1))
    return messages * network.alpha + 2 * (P - 1) / P * size / network.bandwidth


def tree(P: int, size: float, network: Network) -> float:
    """Seconds of a sum up a binomial tree and down again, where every message is whole."""
    return 2 * math.ceil(math.log2(P)) * (network.alpha + size / network.bandwidth)


def gather(P: int, size: float, network: Network) -> float:
    """Seconds in which each rank gets all others' `size` bytes, by doubling; until a rank sees it."""
    return math.ceil(math.log2(P)) * network.alpha + (P - 1) * size / network.bandwidth + SEEN


Sums: TypeAlias = Callable[[int, float, Network], float]


def exposed(step: Step, compute: float, P: int, network: Network, sums: Sums = allreduce) -> float:
    """Seconds of the sums after the end of bprop: one after another, each not before its bucket is done."""
    bprop = step.bprop * compute
    done = 0.0 if step.beside else bprop
    for size, ready in step.buckets:
        done = max(done, ready * bprop) + sums(P, size, network) + SEEN
    return max(0.0, done - bprop)


def seconds(
    step: Step,
    P: int,
    network: Network,
    weak: bool = False,
    sums: Sums = allreduce,
    compute: float | None = None,
) -> float | None:
    """Seconds of a step on P ranks; None if they are more than images.

    Parameters
    ----------
    weak : bool
        Whether each rank has a batch of its own, which is weak scaling; else they share one, strong scaling.
    sums : callable
        `allreduce` or `tree`.
    compute : float, optional
        Seconds of a rank's computing, if they were measured.
    """
    images = step.images if weak else step.images / P
    if images < 1:
        return None
    own = step.compute(images) if compute is None else compute
    if P == 1:
        return own
    # The gather of how many labels count is sent before fprop and waited for after the loss.
    counts = max(0.0, gather(P, 8, network) - (1 - step.bprop) * own)
    return own + counts + exposed(step, own, P, network, sums) + gather(P, 24, network)


def efficiency(
    step: Step, P: int, network: Network, weak: bool = False, sums: Sums = allreduce
) -> float | None:
    """The share of P times one rank's images a second that P ranks reach."""
    took = seconds(step, P, network, weak, sums)
    return None if took is None else step.compute(step.images) / took / (1 if weak else P)


@dataclass(frozen=True)
class Case:
    """A row of the table for each network: which step, how it is shared, and how it is summed."""

    name: str
    step: Step
    weak: bool = True
    networks: tuple[Network, ...] = NETWORKS
    sums: Sums = allreduce


def cases(core: Step) -> list[Case]:
    """What is predicted, from a step that was measured on one core.

    On a card, the step of gaussian_inception at batch 128 on an H200 (docs/gpu.md): captured, and launched
    one by one, as it is with ranks now, with sums after bprop. That two thirds are bprop is assumed, as bprop
    multiplies twice where fprop does once.
    """
    card = replace(core, images=128, fixed=0.91e-3, each=0.0, bprop=2 / 3)
    now = replace(card, fixed=7.8e-3, beside=False)
    return [
        Case("one batch for all, a core each", core, weak=False, networks=NETWORKS[:3]),
        Case("a batch each, a core each", core, networks=NETWORKS[:3]),
        Case("the same, by a binomial tree", core, networks=NETWORKS[:1], sums=tree),
        Case("a batch each, a card each, captured", card),
        Case("a card each, as it is now", now),
    ]


def table(core: Step, counts: tuple[int, ...] = (2, 4, 8, 16, 64, 256, 1024)) -> str:
    """Efficiencies as a table in Markdown; in parentheses where no such network has so many ranks."""
    lines = [f"| step | network | {' | '.join(map(str, counts))} |", f"|---|---|{'---:|' * len(counts)}"]
    for case in cases(core):
        for network in case.networks:
            cells = []
            for P in counts:
                found = efficiency(case.step, P, network, case.weak, case.sums)
                text = "" if found is None else f"{found:.2f}"
                cells.append(f"({text})" if network.most < P else text)
            lines.append(f"| {case.name} | {network.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def described(core: Step) -> str:
    """What the predictions of a core rest on."""
    ready = ", ".join(f"{size:,.0f} bytes after {share:.2f}" for size, share in core.buckets)
    return (
        f"a core: {core.fixed * 1e3:.1f} ms and {core.each * 1e3:.3f} ms an image, "
        f"{core.bprop:.2f} of it bprop, of which leave: {ready}"
    )


def plot(path: Path, core: Step) -> None:
    """Draw efficiency against ranks as SVG, with a panel for each way of sharing."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from minet.core.files import write_whole
    from minet.train.plots import HUES, STYLE, as_svg

    shown = [case for case in cases(core) if case.sums is allreduce]
    with mpl.rc_context({**STYLE, "svg.fonttype": "none"}):
        figure = Figure(figsize=(2.9 * len(shown), 3.2), layout="constrained")
        panels = figure.subplots(1, len(shown), sharey=True)
        for axes, case in zip(panels, shown, strict=True):
            for hue, network in zip(HUES, case.networks, strict=False):
                found = [
                    (P, efficiency(case.step, P, network, case.weak)) for P in COUNTS if network.most >= P
                ]
                points = [point for point in found if point[1] is not None]
                axes.semilogx(*zip(*points, strict=True), "o-", base=2, ms=3, color=hue, label=network.name)
            axes.set_title(case.name, loc="left", fontsize=8)
            axes.set_xticks([1, 4, 16, 64, 256, 1024], ["1", "4", "16", "64", "256", "1024"])
            axes.minorticks_off()
            axes.set_xlabel("ranks")
            axes.set_ylim(0, 1.05)
        panels[0].set_ylabel("efficiency")
        handles, labels = panels[-1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=len(labels), frameon=False, fontsize=8)
        write_whole(path, as_svg(figure).encode())

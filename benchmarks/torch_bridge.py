"""minet's GaussianPool as a module of PyTorch, transpositions included: `python -m benchmarks.torch_bridge`.

It is timed against PyTorch's forms of the same mathematics (`minet.bench.torch_modules`), eager and compiled,
and against minet without the bridge. Each contender runs in a process of its own, its results are compared
with minet's first, and figures are medians over rounds. ``--small`` shows within a minute that it runs. On a
card (``--backend cuda``) the times are the card's; what a call takes with all of Python stands beside it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from minet.bench.cases import Case, inputs, layer
from minet.bench.compare import differs, wrong
from minet.bench.contender_minet import net_of
from minet.bench.process import environment
from minet.bench.timers import Built, HostWatch, measure, torch_watch

SHAPE, SMALL = (64, 32, 32, 128), (4, 8, 8, 8)  # (C, H, W, N)
ROUNDS = 5
OURS = {"module, nchw": "nchw", "module, channels last": "nhwc", "module, chwn": "chwn"}
THEIRS = {
    f"torch, {kind}": kind
    for kind in (
        "nchw", "channels_last", "separable+nchw", "separable+channels_last", "compiled+nchw",
        "compiled+separable+nchw", "compiled+channels_last",
    )
}  # fmt: skip
PHASES = ("fprop", "fprop+bprop")
TARGET = 3.0  # times as fast as PyTorch's best form


def case_of(shape: tuple[int, int, int, int]) -> Case:
    """Return the case: 5x5, three kernels, as many outputs as inputs."""
    return layer("GaussianPool", shape, window=5, stride=1, kernels=3)


def build(case: Case, form: str, device: str) -> Built:
    """Return the module as a contender, with its images in that layout."""
    import torch

    import minet.torch
    from minet.torch import layout as layouts

    net, _ = net_of(case)
    module = minet.torch.GaussianPool(
        **case.settings, in_shape=case.shape[:3], layout="chwn" if form == "chwn" else None, device=device
    )
    for name, value in net.params.items():
        module.get_parameter(name.rpartition(".")[2]).data.copy_(torch.from_numpy(np.array(value)))
    x_np, target_np = inputs(case, net.output_shape)

    def tensor(chwn: np.ndarray) -> Any:
        given = torch.from_numpy(chwn).to(device).permute(3, 0, 1, 2)
        out = layouts.empty(given, tuple(given.shape), form)
        return out.copy_(given)

    x, target = tensor(x_np).requires_grad_(), tensor(target_np)

    def both() -> Any:
        x.grad = None
        module.zero_grad()
        y = module(x)
        y.backward(target)
        return y

    def results() -> dict[str, np.ndarray]:
        y, grads = both(), module.named_parameters()
        images = {"y": y.detach(), "dx": x.grad}
        arrays = {name: image.cpu().numpy().transpose(1, 2, 3, 0) for name, image in images.items()}
        wanted = {name: p.grad for name, p in grads if p.grad is not None}
        return arrays | {f"gaussian_pool.{name}": grad.cpu().numpy() for name, grad in wanted.items()}

    watch: Any = torch_watch(torch) if device == "cuda" else HostWatch()
    return Built({"fprop": lambda: module(x), "fprop+bprop": both}, results, watch)


def run(name: str, shape: tuple[int, int, int, int], file: str, backend: str) -> dict[str, float]:
    """Compute a contender's results into a file, then return milliseconds by phase."""
    case = case_of(shape)
    if name in OURS:
        built = build(case, OURS[name], backend)
    elif name in THEIRS:
        from minet.bench import contender_torch

        built = contender_torch.build(case, THEIRS[name], backend)
    else:
        from minet.bench import contender_minet

        built = contender_minet.build(case, "", backend)
    np.savez(file, **built.results())  # type: ignore[arg-type]
    on_card = backend == "cuda"
    times = {phase: 1e3 * measure(built.watch, built.phases[phase], queued=on_card) for phase in PHASES}
    if on_card:
        times |= {f"{p}, wall": 1e3 * measure(built.watch, built.phases[p], queued=False) for p in PHASES}
    return times


def main() -> None:
    """Print the medians, and how many times as fast as PyTorch's best form each is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--small", action="store_true", help="a small input, once")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"by default {ROUNDS}")
    parser.add_argument("--backend", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("contenders", nargs="*", metavar="CONTENDER", help="by default all")
    parser.add_argument("--one", nargs=2, metavar=("CONTENDER", "FILE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    shape, rounds = (SMALL, 1) if given.small else (SHAPE, given.rounds)
    if given.one:
        print(json.dumps(run(given.one[0], shape, given.one[1], given.backend)))
        return
    names = given.contenders or ["minet", *OURS, *THEIRS]
    if unknown := [name for name in names if name not in ("minet", *OURS, *THEIRS)]:
        parser.error(f"no contender is called {unknown[0]!r}; they are: minet, {', '.join((*OURS, *THEIRS))}")
    times: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder, f"{i}.npz") for i, name in enumerate(names)}
        for round_ in range(rounds):
            for name in names:
                command = [sys.executable, "-m", "benchmarks.torch_bridge", "--one", name, str(files[name])]
                command += ["--backend", given.backend, *["--small"] * given.small]
                done = subprocess.run(
                    command,
                    capture_output=True,
                    text=True,
                    env=environment(),
                    check=False,
                )
                if done.returncode:
                    sys.exit(f"{name} failed:\n{done.stderr}")
                times[name].append(json.loads(done.stdout.splitlines()[-1]))
                if round_ == 0 and (fault := fault_of(case_of(shape), files[names[0]], files[name])):
                    sys.exit(f"{name} computes something else: {fault}")
    report(times, shape)


def fault_of(case: Case, ours: Path, theirs: Path) -> str:
    """Return what is wrong with a contender's results; empty if nothing is."""
    return wrong(case, theirs) or differs(case, ours, theirs)


def report(times: dict[str, list[dict[str, float]]], shape: tuple[int, int, int, int]) -> None:
    """Print the table."""
    phases = list(next(iter(times.values()))[0])
    medians = {n: {p: float(np.median([t[p] for t in found])) for p in phases} for n, found in times.items()}
    theirs = [name for name in THEIRS if name in medians]
    best = {phase: min((medians[name][phase] for name in theirs), default=float("nan")) for phase in phases}
    C, H, W, N = shape
    print(
        f"GaussianPool 5x5, three kernels, on ({N}, {C}, {H}, {W}); x: times as fast as PyTorch's best form"
    )
    print("".ljust(32) + "".join(f"{phase + ', ms':>22}{'x':>8}" for phase in phases))
    for name, found in medians.items():
        cells = "".join(f"{found[phase]:22.3g}{best[phase] / found[phase]:8.2f}" for phase in phases)
        print(name.ljust(32) + cells)
    if "module, nchw" not in medians or not theirs:
        return
    ours = best["fprop+bprop"] / medians["module, nchw"]["fprop+bprop"]
    print(f"forward and backward in NCHW: {ours:.2f} times PyTorch's best form; the target is {TARGET:g}")


if __name__ == "__main__":
    main()

"""minet as a contender: build a case to run and time."""

from __future__ import annotations

import os
from typing import Any

import numba  # noqa: F401 - before memory is measured
import numpy as np

import minet.layers
from minet import backends
from minet.backends import Backend
from minet.bench.cases import Case, inputs
from minet.bench.copy_loop import copy
from minet.bench.counts import bytes_moved, operations
from minet.bench.timers import Built, HostWatch, pycuda_watch
from minet.core.net import Net
from minet.train import modelfile

DRAWS = ("StochasticPool", "Dropout")  # layers whose training mode is random


def net_of(case: Case, backend: str | Backend = "cpu") -> tuple[Net, Any]:
    """Return the case's net, whose initial parameters every contender copies, and a model's solver."""
    if case.is_model:
        model = modelfile.load(case.layer, **case.settings)
        net = Net(model.net(), case.shape[:3], case.shape[3], loss=model.loss, backend=backend)
        return net, model.solver()
    if case.is_own:
        layer = list(case.own_class().examples())[case.settings["example"]][0]()
    else:
        layer = getattr(minet.layers, case.layer)(**case.settings)
    return Net(layer, case.shape[:3], case.shape[3], backend=backend), None


def compile_elsewhere(case: Case) -> None:
    """Run the case once in another process: memory that compilers keep would count as the net's."""
    if child := os.fork():
        os.waitpid(child, 0)
        return
    try:
        built = compiled(case, "cpu")
        built.results()
        for phase in built.phases.values():
            phase()
    finally:
        os._exit(0)  # any error is reported by the measurement itself


def build(case: Case, variant: str, backend: str) -> Built:
    """Build the case on that backend, in the variant "numpy" with fprop_numpy and bprop_numpy."""
    if case.is_model and backend == "cpu" and hasattr(os, "fork"):
        compile_elsewhere(case)
    return compiled(case, backend, variant == "numpy")


def compiled(case: Case, backend: str, plain: bool = False) -> Built:
    """Build the case; kernels that are not in Numba's cache are compiled in this process."""
    copy(np.ones(1), np.ones(1))  # the first kernel makes Numba import most of itself
    be: Any = backends.get(backend)
    watch: Any = pycuda_watch(be) if be.name == "cuda" else HostWatch()
    net, solver = net_of(case, be)
    if plain:
        layer: Any = net.graph
        vars(layer).update(fprop_cpu=layer.fprop_numpy, bprop_cpu=layer.bprop_numpy)
    x_host, target = inputs(case, net.output_shape)
    x = native(be, x_host)
    facts = {
        "bytes": {phase: bytes_moved(net, phase) for phase in case.phases_on(backend)},
        "operations": {phase: operations(net, phase) for phase in case.phases_on(backend)},
        "planned_mib": net.peak_nbytes / 2**20,
        "device": getattr(be, "device_name", ""),
    }
    if case.is_model:
        phases = {
            "step": lambda: net.start_step(x, target, solver),
            "inference": lambda: net.graph.fprop(x, net.y, 0.0, False),
        }

        def results() -> dict[str, np.ndarray]:
            """Compute in evaluation, which draws nothing."""
            net.fprop(x, train=False)
            arrays = {"y": np.array(be.get(net.y))}
            if case.infer:
                return arrays
            be.run(net.loss, "loss", net.y, target, net.dy)
            net.bprop(net.dy)
            return arrays | gradients(net)

        return Built(phases, results, watch, facts)

    dy, dx = native(be, target), be.empty(x.shape)

    # The layer by itself, without the copy of x that net.fprop keeps.
    def fprop(train: bool = True) -> None:
        net.graph.fprop(x, net.y, 0.0, train)

    def bprop() -> None:
        be.fill(net.flat_grads, 0.0)
        net.graph.bprop(x, dy, dx, 0.0)

    def both(train: bool = True) -> None:
        fprop(train)
        bprop()

    def results_of_layer() -> dict[str, np.ndarray]:
        draws = case.layer in DRAWS
        both(train=not draws)
        arrays = {"y": np.array(be.get(net.y)), "dx": np.array(be.get(dx)), **gradients(net)}
        if draws:
            both()  # leaves the state of training mode for the timed bprop
            arrays["drawn"] = np.array(be.get(net.y))
        return arrays

    phases_of_layer = {
        "fprop": fprop,
        "bprop": bprop,
        "fprop+bprop": both,
    }
    return Built(phases_of_layer, results_of_layer, watch, facts)


def native(be: Any, values: np.ndarray) -> Any:
    """Copy the values to backend memory that starts on a cache line, as a net's arrays do."""
    array = be.empty(values.shape)
    be.copy(values, array)
    return array


def gradients(net: Net) -> dict[str, np.ndarray]:
    return {path: np.array(net.be.get(grad)) for path, grad in net.grads.items()}

"""minet as a contender: one case, ready to be run and timed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

import minet.layers
from benchmarks.cases import Case, inputs
from minet import Net, modelfile

Phases: TypeAlias = dict[str, Callable[[], Any]]
Results: TypeAlias = Callable[[], dict[str, np.ndarray]]


def net_of(case: Case) -> tuple[Net, Any]:
    """The case's net with its first parameters, which every contender takes over, and its solver if any."""
    if case.is_model:
        model = modelfile.load(case.layer, **case.settings)
        return Net(model.net(), case.shape[:3], case.shape[3], loss=model.loss), model.solver()
    return Net(getattr(minet.layers, case.layer)(**case.settings), case.shape[:3], case.shape[3]), None


def build(case: Case, variant: str) -> tuple[Phases, Results]:
    """The phases to time, by name, and a function that gives the results to compare."""
    net, solver = net_of(case)
    x, target = inputs(case, net.output_shape)
    if case.is_model:

        def gradients() -> dict[str, np.ndarray]:
            net.train_step(x, target, _Still())
            return {"y": np.array(net.y)} | {path: np.array(grad) for path, grad in net.grads.items()}

        return {"step": lambda: net.train_step(x, target, solver)}, gradients
    dx = net.be.empty(x.shape)

    def both() -> None:
        net.fprop(x, train=True)
        net.bprop(target, dx)

    def results() -> dict[str, np.ndarray]:
        both()
        grads = {path.rpartition(".")[2]: np.array(grad) for path, grad in net.grads.items()}
        return {"y": np.array(net.y), "dx": np.array(dx), **grads}

    return {"fprop": lambda: net.fprop(x, train=True), "fprop+bprop": both}, results


class _Still:
    """A solver that leaves the parameters alone, to look at a step's gradients."""

    def update(self, net: Net) -> None:
        pass

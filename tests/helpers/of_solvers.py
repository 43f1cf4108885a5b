"""What tests of solvers share: as much of a net as a solver sees."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from minet import Param, backends
from minet.core.memory import Slot, padded_nbytes


def net_of(be, *values, grads=None, **param):
    """Parameters ``0/layer.w``, ``1/layer.w``, ... of these values on a backend, laid out as in a net."""
    be = be if isinstance(be, backends.Backend) else backends.get(be)
    values = [np.array(value, be.dtype) for value in values]
    sizes = [padded_nbytes(value.shape, be.dtype) // be.dtype.itemsize for value in values]
    flat_params, flat_grads = be.zeros((sum(sizes),)), be.zeros((sum(sizes),))
    slots = []
    for i, value in enumerate(values):
        place = Slot(f"{i}/layer.w", Param(value.shape, **param), value, None, sum(sizes[:i])).place
        slots.append(replace(place.__self__, value=place(flat_params), grad=place(flat_grads)))
        be.copy(value, slots[-1].value)
    verdict = be.zeros((2,), "float64") if be.judges else None
    memory = SimpleNamespace(flat_params=flat_params, flat_grads=flat_grads, verdict=verdict)
    net = SimpleNamespace(be=be, slots=slots, memory=memory)
    if grads is not None:
        give(net, *grads)
    return net


def give(net, *grads):
    """Set the gradients."""
    for slot, grad in zip(net.slots, grads, strict=True):
        net.be.copy(np.array(grad, net.be.dtype), slot.grad)


def values_of(net):
    """The parameters, as NumPy arrays."""
    return [np.array(net.be.get(slot.value)) for slot in net.slots]


def bits(net, solver):
    """All that an update changes, as bytes."""
    state = {name: np.array(net.be.get(array)) for name, array in solver.state(net).items()}
    return {name: array.tobytes() for name, array in state.items()}, [v.tobytes() for v in values_of(net)]


def by_formula(kind, w, grads, rates, decay=0.0, momentum=0.0, nesterov=False, betas=(0.9, 0.999), eps=1e-8):
    """w after these gradients, in float64: "sgd", "adam" or "adamw"."""
    w, m, v = np.array(w, float), 0.0, 0.0
    for t, (g, rate) in enumerate(zip(grads, rates, strict=True), 1):
        g = np.array(g, float) + (decay * w if kind != "adamw" else 0)
        if kind == "sgd":
            v = momentum * v + g
            w = w - rate * (g + momentum * v if nesterov else v)
            continue
        w = w * (1 - rate * decay) if kind == "adamw" else w
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        w = w - rate * m / (1 - betas[0] ** t) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
    return w

"""The checks of the batch: its size, and what its samples have to do with each other."""

from __future__ import annotations

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from minet.testing.harness import CheckFailed, Skip
from minet.torch.kit.contract import both
from minet.torch.kit.place import told
from minet.torch.kit.rig import Case, Rig, modules_only, named, phase, registry, same

CHECKS, check = registry()
ODD = 7


@check
def batch_sizes(case: Case) -> None:
    """A batch of one and batches of any odd size work, and give as many results."""
    tensors = [given for given in case.inputs if isinstance(given, torch.Tensor)]
    if len(tensors) == len(case.inputs):
        raise Skip("a tensor is passed as it is, whatever the batch")
    # A result may have as many rows as a tensor has, whatever the batch.
    alike = any(given.dim() and len(given) == case.batch for given in tensors)
    for train in case.modes:
        usual = Rig(case).forward(train=train)
        per_sample = [not alike and y.dim() and len(y) == case.batch for y in usual]
        for n in (1, ODD):
            rig = Rig(case, batch=n)
            try:
                got = both(rig, train)
            except Exception as error:
                if train and n == 1 and isinstance(error, ValueError):
                    continue  # refused, as batch normalisation does: one sample has no variance
                if tensors:
                    raise Skip("a tensor is passed as it is, whatever the batch") from None
                raise
            for name, value in got.items():
                if not np.isfinite(value).all():
                    cause = "a statistic divides by N - 1"
                    raise CheckFailed(f"{name} is not finite at N = {n}", cause, phase(name))
            outputs = [value for name, value in got.items() if name.startswith("y")]
            for value, whole in zip(outputs, per_sample, strict=False):
                if whole and len(value) != n:
                    found = f"y has shape {value.shape} at N = {n}"
                    raise CheckFailed(found, "a batch size is fixed in forward: x.view(32, ...)", "fprop")
            _after_another(case, n, train, outputs)


def _after_another(case: Case, n: int, train: bool, expected: list[np.ndarray]) -> None:
    """Fail unless an object that has seen a batch of the usual size takes one of n."""
    rig = Rig(case, batch=n)
    said, cause = f"at N = {n} after N = {case.batch}, ", "forward keeps on self what fits one batch: a mask"
    try:
        rig.forward([x.clone() for x in rig.inputs(case.batch)], train)
        found = named(rig.forward(train=train))
    except Exception as error:
        raise CheckFailed(f"{said}{told(error)}", cause, "fprop") from error
    same(found, dict(zip(found, expected, strict=True)), cause, None, said)


@check
def samples(case: Case) -> None:
    """In evaluation the results of a sample do not depend on the rest of the batch."""
    modules_only(case, "evaluation mode")
    if not all(isinstance(given, tuple) for given in case.inputs):
        raise Skip("a tensor is passed as it is, whatever the batch")
    whole = Rig(case, batch=ODD)
    outputs = whole.forward(train=False)
    if not all(y.dim() and len(y) == ODD for y in outputs):
        raise Skip("an output has no batch axis")
    dy = whole.grad_outputs(outputs)
    together = whole.both(False, dy=dy)
    mine = [f"{name}.grad" for name in whole.names]
    for n in (0, ODD - 1):
        one = Rig(case, batch=1)
        with torch.no_grad():
            for x, every in zip(one.x, whole.x, strict=True):
                x.copy_(every[n : n + 1])
        for y, usual in zip(one.forward(train=False), outputs, strict=True):
            if y.shape[1:] != usual.shape[1:]:
                found = f"{tuple(usual.shape)} at N = {ODD}, {tuple(y.shape)} at N = 1"
                raise Skip(f"an output compares samples: its shape is {found}")
        alone = one.both(False, dy=[d[n : n + 1] for d in dy])
        expected = {
            name: value[n : n + 1] for name, value in together.items() if name.startswith("y") or name in mine
        }
        cause = "statistics of the batch in evaluation, an index that mixes samples, or a fixed batch size"
        same(alone, expected, cause, None, f"sample {n} alone: ")

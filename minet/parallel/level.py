"""Running statistics: of each rank its own in training, and between steps their mean."""

from __future__ import annotations

from typing import Any

import numpy as np


def level(ranks: Any, net: Any) -> None:
    """Set running statistics to their mean over the ranks, each of which has seen its share."""
    net.steps.settle()
    arrays = {path: np.asarray(net.be.get(array)) for path, array in net.persistent.items()}
    arrays = {path: values for path, values in arrays.items() if values.dtype.kind == "f"}
    if not arrays:
        return
    mine = np.concatenate([values.reshape(-1) for values in arrays.values()]).astype(np.float64)
    every = ranks.numbers(mine, "the running statistics")
    means = np.where((every == every[0]).all(axis=0), every[0], every.mean(axis=0))
    start = 0
    for path, values in arrays.items():
        part = means[start : start + values.size].reshape(values.shape).astype(values.dtype)
        net.be.copy(part, net.persistent[path])
        start += values.size

"""What a net makes of each class of a test set: `minet eval --by-class`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from minet.core.errors import MinetError
from minet.core.net import Net
from minet.data.batches import Batches
from minet.data.dataset import Dataset
from minet.train.number_text import percent_text

MISTAKES = 3  # other classes that a row names


def confusion(net: Net, data: Dataset) -> NDArray[np.int64]:
    """How many images of each class (rows) the net takes for each (columns); unknown labels count nowhere.

    Raises
    ------
    MinetError
        If the labels are not class numbers, one for each image, or the net has not an output for each class.
    """
    K = net.output_shape[0]
    if data.labels.ndim != 1 or net.output_shape[1:] != (1, 1) or (data.classes or 0) > K:
        raise MinetError(
            f"{data.name}: its labels are not the classes of the net, which has outputs {net.output_shape}",
            "leave out --by-class",
        )
    counts = np.zeros((K, K), np.int64)
    for x, labels in Batches(data, net.batch, train=False, dtype=net.be.dtype).epoch(0):
        guessed = net.be.get(net.fprop(x)).reshape(K, -1).argmax(axis=0)
        known = labels >= 0  # what fills up the last batch is -1 as well
        np.add.at(counts, (labels[known], guessed[known]), 1)
    return counts


def table(counts: NDArray[np.int64], names: tuple[str, ...] | None) -> str:
    """A line for each class that has images: its accuracy, and what it is most often taken for."""
    called = [names[i] if names and i < len(names) else str(i) for i in range(len(counts))]
    rows = [("class", "images", "accuracy", "taken for")]
    for label in np.flatnonzero(counts.sum(axis=1)).tolist():
        total, right = int(counts[label].sum()), int(counts[label, label])
        others = [
            i for i in np.argsort(-counts[label], kind="stable").tolist() if i != label and counts[label, i]
        ]
        mistakes = ", ".join(f"{called[i]} {counts[label, i]:,}" for i in others[:MISTAKES])
        rows.append((called[label], f"{total:,}", percent_text(right / total), mistakes))
    first, second, third = (max(len(row[i]) for row in rows) for i in range(3))
    lines = (f"{a:<{first}}  {b:>{second}}  {c:>{third}}  {d}" for a, b, c, d in rows)
    return "\n".join(line.rstrip() for line in lines)

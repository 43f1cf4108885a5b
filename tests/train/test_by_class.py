"""Accuracy by class: counts and their table, on a net whose outputs are its input."""

import numpy as np
import pytest

from minet import MeanSquaredError, MinetError, Net, SoftmaxCrossEntropy
from minet.data import Dataset
from minet.layers import Conv, Identity
from minet.train.by_class import confusion, table

GUESSES = np.array([0, 2, 2, 1, 1, 1, 0, 2, 3])
LABELS = np.array([0, 2, 1, 1, 1, -1, 0, 0, 0])
SEEN = np.eye(4, dtype=np.float32)[GUESSES][:, :, None, None]


@pytest.mark.parametrize("batch", [1, 4, 9, 20])
def test_counts(batch):
    net = Net([Identity()], (4, 1, 1), batch, SoftmaxCrossEntropy())
    counts = confusion(net, Dataset(SEEN, LABELS))
    assert counts.tolist() == [[2, 0, 1, 1], [0, 2, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]


def test_the_table_names_classes_and_mistakes():
    counts = np.array([[2000, 3, 40, 1], [0, 5, 0, 0], [0, 0, 0, 0], [7, 7, 7, 9]])
    assert table(counts, ("cat", "puma", "lynx")).splitlines() == [
        "class  images  accuracy  taken for",
        "cat     2,044   97.85 %  lynx 40, puma 3, 3 1",
        "puma        5  100.00 %",
        "3          30   30.00 %  cat 7, puma 7, lynx 7",
    ]


def test_without_classes_it_is_refused():
    net = Net([Identity()], (4, 1, 1), 3, SoftmaxCrossEntropy())
    with pytest.raises(MinetError, match="mine: its labels are not the classes of the net"):
        confusion(net, Dataset(SEEN, np.zeros((9, 4)), name="mine"))
    with pytest.raises(MinetError, match=r"outputs \(4, 1, 1\)\n  hint: leave out --by-class"):
        confusion(net, Dataset(SEEN, LABELS, classes=5))
    maps = Net([Conv(2, 1)], (4, 2, 1), 3, MeanSquaredError())
    with pytest.raises(MinetError, match="not the classes"):
        confusion(maps, Dataset(np.zeros((2, 4, 2, 1)), [0, 1]))

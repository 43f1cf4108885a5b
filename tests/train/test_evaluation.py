"""Evaluation by itself: a net and data that do not fit are refused before anything is computed."""

import numpy as np
import pytest

from minet import MeanSquaredError, MinetError, Net, SoftmaxCrossEntropy
from minet.data import Dataset
from minet.layers import Linear
from minet.train.evaluation import evaluate

DATA = Dataset(np.ones((10, 1, 2, 2)), np.arange(10))


@pytest.mark.parametrize(
    ("loss", "data", "found"),
    [
        (None, DATA, r"^this net has no loss to measure\n  hint: Net\(\.\.\., loss="),
        (MeanSquaredError(), DATA, r"^data set: targets must have the output's shape"),
        (SoftmaxCrossEntropy(), DATA, r"^data set: label 3 at index 3 is not one of the 3 classes"),
        (SoftmaxCrossEntropy(), Dataset(np.ones((2, 1, 3, 3)), [0, 1]), r"its images are \(1, 3, 3\)"),
        (SoftmaxCrossEntropy(), (np.ones((2, 1, 2, 2)), [0, 1]), "is not a Dataset"),
    ],
)
def test_data_that_does_not_fit(loss, data, found):
    with pytest.raises(MinetError, match=found):
        evaluate(Net([Linear(3)], (1, 2, 2), 4, loss), data)

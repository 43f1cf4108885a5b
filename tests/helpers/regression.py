"""A model file for tests: a regression, to the centre of a digit's ink, in pixels (y, x)."""

import numpy as np

from minet import SGD, MeanSquaredError, Sequential, data
from minet.layers import Linear, ReLU

input_shape = (1, 8, 8)
batch, epochs, loss = 32, 2, MeanSquaredError()


def net(width=8):
    return Sequential(Linear(width), ReLU(), Linear(2))


def solver(lr=0.05):
    return SGD(lr, momentum=0.9)


def centres(digits):
    ink = digits.images[:, 0].astype(float)
    rows, columns = np.mgrid[-3.5:4, -3.5:4]
    targets = [(ink * way).sum(axis=(1, 2)) / ink.sum(axis=(1, 2)) for way in (rows, columns)]
    return data.Dataset(
        digits.images, np.transpose(targets), mean=digits.mean, std=digits.std, name=digits.name
    )


def datasets(limit=96):
    return centres(data.digits("train", limit=limit)), centres(data.digits("test", limit=80))

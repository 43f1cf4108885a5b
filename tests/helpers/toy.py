"""A model file for tests: a net small enough to train in a blink, with dropout and running statistics."""

from minet import SGD, Cosine, Sequential, SoftmaxCrossEntropy, data
from minet.layers import BatchNorm, Dropout, Linear, PReLU

input_shape = (1, 8, 8)
batch, epochs, loss = 32, 2, SoftmaxCrossEntropy()


def net(width=8, rate=0.2):
    return Sequential(Linear(width), BatchNorm(), PReLU(), Dropout(rate), Linear(10))


def solver(lr=0.05, epochs=epochs):
    return SGD(lr, momentum=0.9, schedule=Cosine(epochs))


def datasets(limit=96, crop=1):
    return data.digits("train", limit=limit, crop=crop), data.digits("test", limit=limit)

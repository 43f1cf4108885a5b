"""Handwritten digits with generalised-mean pooling: windows in the middle, the whole map at the end.

The powers are learned, one for each map. Source: Radenović et al., arXiv 1711.02512. Data: Alpaydin and
Kaynak, https://doi.org/10.24432/C50P49.
"""

from gem_pool import GemPool
from minet import SGD, Cosine, Sequential, SoftmaxCrossEntropy, data
from minet.layers import Conv, Linear, ReLU

input_shape = (1, 8, 8)
batch, epochs, loss = 32, 10, SoftmaxCrossEntropy()


def net(width=16, power=3.0):
    return Sequential(
        Conv(width, 3, pad=1),
        ReLU(),
        GemPool(3, stride=2, pad=1, power=power),
        Conv(2 * width, 3, pad=1),
        ReLU(),
        GemPool(power=power),
        Linear(10),
    )


def solver(lr=0.05, epochs=epochs):
    return SGD(lr, momentum=0.9, weight_decay=5e-4, schedule=Cosine(epochs))


def datasets(crop=1):
    return data.digits("train", crop=crop), data.digits("test")

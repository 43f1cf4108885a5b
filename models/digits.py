"""Handwritten digits of 8x8 pixels, in seconds: Gaussian pooling branches, PReLU and stochastic pooling.

Each map is pooled by two Gaussian kernels of learned position and size, as parallel branches that write into
slices of one output. Sources: Zeiler and Fergus, arXiv 1207.0151 (Gaussian pooling) and 1301.3557 (stochastic
pooling); He et al., arXiv 1502.01852 (PReLU). Data: Alpaydin and Kaynak, https://doi.org/10.24432/C50P49.
"""

from minet import SGD, Concat, Cosine, Sequential, SoftmaxCrossEntropy, data
from minet.layers import Conv, GaussianPool, Linear, PReLU, ReLU, StochasticPool

input_shape = (1, 8, 8)
batch, epochs, loss = 32, 10, SoftmaxCrossEntropy()


def net(width=16):
    return Sequential(
        Conv(width, 3, pad=1),
        PReLU(),
        Concat(GaussianPool(3, stride=1, pad=1, sigma=0.6), GaussianPool(5, stride=1, pad=2, sigma=1.2)),
        Conv(2 * width, 3, pad=1),
        ReLU(),
        StochasticPool(2),
        Linear(10),
    )


def solver(lr=0.05, epochs=epochs):
    return SGD(lr, momentum=0.9, weight_decay=5e-4, schedule=Cosine(epochs))


def datasets(crop=1):
    return data.digits("train", crop=crop), data.digits("test")

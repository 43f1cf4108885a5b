"""MNIST: over 98 % in one epoch, with two convolutions and two Gaussian kernels per map.

Is one pooling kernel per map enough? ``minet compare mnist --set kernels=1,2,3 --seeds 3`` tells. Other
settings: ``pool`` (max, avg, stochastic or gaussian), and ``learn=False``, which leaves the Gaussians as they
start. Max pooling diverges at the default rate: compare it at ``lr=0.005``.
Data: LeCun et al. (1998), "Gradient-based learning applied to document recognition".
"""

from typing import Literal

from minet import SGD, Cosine, Sequential, SoftmaxCrossEntropy, data
from minet.layers import AvgPool, Conv, GaussianPool, Linear, MaxPool, PReLU, StochasticPool

input_shape = (1, 28, 28)
batch, epochs, loss = 64, 5, SoftmaxCrossEntropy()
POOLS = {"max": MaxPool, "avg": AvgPool, "stochastic": StochasticPool}


def net(width=16, pool: Literal["max", "avg", "stochastic", "gaussian"] = "gaussian", kernels=2, learn=True):
    def first_pool():
        if pool == "gaussian":
            return GaussianPool(4, stride=2, pad=1, kernels=kernels, learn=learn)
        return POOLS[pool](4, stride=2, pad=1)

    return Sequential(
        Conv(width, 5, pad=2),
        PReLU(),
        first_pool(),
        Conv(2 * width, 3, pad=1),
        PReLU(),
        MaxPool(2),
        Linear(10),
    )


def solver(lr=0.02, epochs=epochs):
    return SGD(lr, momentum=0.9, weight_decay=1e-4, schedule=Cosine(epochs))


def datasets(limit=None):
    return data.mnist("train", limit=limit), data.mnist("test", limit=limit)

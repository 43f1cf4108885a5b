"""CIFAR-10 with several learned Gaussian kernels per map instead of each pooling layer.

Is one pooling kernel per map enough? ``minet compare cifar10_gaussian --set kernels=1,2,3`` tells. Other
settings: ``pool`` (max, avg, stochastic or gaussian), and ``learn=False``, which leaves the Gaussians as they
start. Gaussian pooling: Zeiler and Fergus, arXiv 1207.0151. Data: Krizhevsky (2009), shifted by up to 4
pixels and mirrored.
"""

from typing import Literal

from minet import SGD, Cosine, Sequential, SoftmaxCrossEntropy, data
from minet.layers import AvgPool, BatchNorm, Conv, GaussianPool, Linear, MaxPool, PReLU, StochasticPool

input_shape = (3, 32, 32)
batch, epochs, loss = 128, 30, SoftmaxCrossEntropy()
POOLS = {"max": MaxPool, "avg": AvgPool, "stochastic": StochasticPool}


def net(width=32, pool: Literal["max", "avg", "stochastic", "gaussian"] = "gaussian", kernels=2, learn=True):
    def pooling():
        if pool == "gaussian":
            return GaussianPool(5, stride=2, pad=2, kernels=kernels, learn=learn)
        return POOLS[pool](5, stride=2, pad=2)

    def stage(maps):
        return Sequential(Conv(maps, 3, pad=1, bias=False), BatchNorm(), PReLU(), pooling())

    return Sequential(stage(width), stage(2 * width), stage(4 * width), AvgPool(), Linear(10))


def solver(lr=0.1, epochs=epochs):
    return SGD(lr, momentum=0.9, weight_decay=5e-4, schedule=Cosine(epochs))


def datasets(flip=True, crop=4, limit=None):
    return data.cifar10("train", flip=flip, crop=crop, limit=limit), data.cifar10("test", limit=limit)

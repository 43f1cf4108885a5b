"""The net of Zeiler and Fergus (2013), "Stochastic pooling for regularization", arXiv 1301.3557, on CIFAR-10.

Three 5x5 convolutions of 64 maps, each with ReLU, 3x3 pooling of stride 2 and response normalisation, and one
softmax layer. The paper trains for 280 epochs. ``minet compare cifar10_zeiler --set
pool=avg,max,stochastic,gaussian`` makes its table, with Gaussian pooling beside it. For those ``kernels=2``
gives two kernels per map, and ``learn=False`` leaves them as they start. From each epoch of ``cuts`` on the
rate is a tenth of what it was: shorter trainings need earlier ones.
"""

from typing import Literal

from minet import SGD, Sequential, SoftmaxCrossEntropy, Step, data
from minet.layers import LRN, AvgPool, Conv, GaussianPool, Linear, MaxPool, ReLU, StochasticPool

input_shape = (3, 32, 32)
batch, epochs, loss = 128, 280, SoftmaxCrossEntropy()
POOLS = {"max": MaxPool, "avg": AvgPool, "stochastic": StochasticPool}


def net(pool: Literal["max", "avg", "stochastic", "gaussian"] = "stochastic", maps=64, kernels=1, learn=True):
    def pooling():
        if pool == "gaussian":
            return GaussianPool(3, stride=2, pad=1, kernels=kernels, learn=learn)
        return POOLS[pool](3, stride=2, pad=1)

    def stage():
        return Sequential(Conv(maps, 5, pad=2), ReLU(), pooling(), LRN())

    return Sequential(stage(), stage(), stage(), Linear(10))


def solver(lr=0.01, weight_decay=1e-3, cuts=(200, 260)):
    return SGD(lr, momentum=0.9, weight_decay=weight_decay, schedule=Step(dict.fromkeys(cuts, 0.1)))


def datasets(limit=None):
    return data.cifar10("train", limit=limit), data.cifar10("test", limit=limit)

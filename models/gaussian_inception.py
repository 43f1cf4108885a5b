"""Inception blocks with a branch of Gaussian kernels: parallel branches write into slices of one output.

The blocks are those of Szegedy et al., "Going deeper with convolutions", arXiv 1409.4842, cut down to three
branches; the pooling branch has three learned Gaussian kernels per map (Zeiler and Fergus, arXiv 1207.0151).
"""

from minet import SGD, Concat, Cosine, Sequential, SoftmaxCrossEntropy, data
from minet.layers import Conv, GaussianPool, Linear, MaxPool, PReLU

input_shape = (3, 32, 32)
batch, epochs, loss = 128, 30, SoftmaxCrossEntropy()


def block(maps):
    return Concat(
        [Conv(maps, 1), PReLU()],
        [Conv(maps // 2, 1), PReLU(), Conv(maps, 3, pad=1), PReLU()],
        [GaussianPool(5, stride=1, pad=2, kernels=3), Conv(maps, 1), PReLU()],
    )


def net():
    return Sequential(
        Conv(64, 5, pad=2),
        PReLU(),
        GaussianPool(3, stride=2, pad=1),
        block(32),
        GaussianPool(3, stride=2, pad=1),
        block(64),
        MaxPool(3, stride=2, pad=1),
        Linear(10),
    )


def solver(lr=0.01, epochs=epochs):
    return SGD(lr, momentum=0.9, weight_decay=5e-4, schedule=Cosine(epochs))


def datasets(flip=True, crop=4, limit=None):
    return data.cifar10("train", flip=flip, crop=crop, limit=limit), data.cifar10("test", limit=limit)

"""GoogLeNet with batch normalisation, on CIFAR-10: nine Inception blocks whose branches share one output.

The rows of `net` are those of table 1 in Szegedy et al., "Going deeper with convolutions", arXiv 1409.4842.
Each convolution is followed by batch normalisation, as in Ioffe and Szegedy, arXiv 1502.03167, and the
sizes of pools are rounded up, as in the original. For images of 32x32 the first convolution has a window of
3x3 instead of 7x7 and no stride, and the pool after it is left out. There are no auxiliary classifiers.

Try ``--set width=0.25``, a quarter of all maps, and ``kernels=2``: then that many learned Gaussians for
each map (Zeiler and Fergus, arXiv 1207.0151) take the place of max pooling inside the blocks. ``minet
summary googlenet_bn`` shows which channels of its block's output each branch writes.
"""

from minet import SGD, Concat, Cosine, Sequential, SoftmaxCrossEntropy, data
from minet.layers import AvgPool, BatchNorm, Conv, Dropout, GaussianPool, Linear, MaxPool, ReLU

input_shape = (3, 32, 32)
batch, epochs, loss = 128, 60, SoftmaxCrossEntropy()


def net(width=1.0, kernels=0, dropout=0.4):
    def conv(maps, window):
        return Sequential(
            Conv(max(round(width * maps), 1), window, pad=window // 2, bias=False), BatchNorm(), ReLU()
        )

    def pool():
        return GaussianPool(3, stride=1, pad=1, kernels=kernels) if kernels else MaxPool(3, stride=1, pad=1)

    def inception(n1x1, n3x3_reduce, n3x3, n5x5_reduce, n5x5, pool_proj):
        return Concat(
            conv(n1x1, 1),
            [conv(n3x3_reduce, 1), conv(n3x3, 3)],
            [conv(n5x5_reduce, 1), conv(n5x5, 5)],
            [pool(), conv(pool_proj, 1)],
        )

    return Sequential(
        conv(64, 3),
        conv(64, 1),
        conv(192, 3),
        MaxPool(3, stride=2, ceil=True),  # to 16x16
        inception(64, 96, 128, 16, 32, 32),  # 3a
        inception(128, 128, 192, 32, 96, 64),  # 3b
        MaxPool(3, stride=2, ceil=True),  # to 8x8
        inception(192, 96, 208, 16, 48, 64),  # 4a
        inception(160, 112, 224, 24, 64, 64),  # 4b
        inception(128, 128, 256, 24, 64, 64),  # 4c
        inception(112, 144, 288, 32, 64, 64),  # 4d
        inception(256, 160, 320, 32, 128, 128),  # 4e
        MaxPool(3, stride=2, ceil=True),  # to 4x4
        inception(256, 160, 320, 32, 128, 128),  # 5a
        inception(384, 192, 384, 48, 128, 128),  # 5b
        AvgPool(),
        Dropout(dropout),
        Linear(10),
    )


def solver(lr=0.1, epochs=epochs):
    return SGD(lr, momentum=0.9, weight_decay=5e-4, schedule=Cosine(epochs))


def datasets(flip=True, crop=4, limit=None):
    return data.cifar10("train", flip=flip, crop=crop, limit=limit), data.cifar10("test", limit=limit)

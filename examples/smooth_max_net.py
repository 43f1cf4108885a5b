"""Handwritten digits of 8x8 pixels: a Gaussian and three smooth maxima pool each map, in parallel."""

from minet import SGD, Concat, Cosine, Sequential, SoftmaxCrossEntropy, data
from minet.layers import Conv, GaussianPool, Linear, PReLU
from smooth_max import SmoothMax

input_shape = (1, 8, 8)
batch, epochs, loss = 32, 10, SoftmaxCrossEntropy()


def net(width=16):
    return Sequential(
        Conv(width, 3, pad=1),
        PReLU(),
        Concat(
            GaussianPool(3, stride=1, pad=1),
            SmoothMax(3, stride=1, pad=1, sharpness=1),
            SmoothMax(3, stride=1, pad=1, sharpness=4),
            SmoothMax(3, stride=1, pad=1, sharpness=16),
        ),
        Conv(2 * width, 3, pad=1),
        PReLU(),
        SmoothMax(2),
        Linear(10),
    )


def solver(lr=0.01, epochs=epochs):
    return SGD(lr, momentum=0.9, schedule=Cosine(epochs))


def datasets():
    return data.digits("train"), data.digits("test")

"""A small net for handwritten digits of 8x8 pixels, which trains in seconds.

The default arguments of its functions are the model's settings: `--set width=24` changes one for a run.
A layer of your own that lies beside this file is imported by its name: `from my_layer import MyLayer`.
"""

from minet import SGD, Cosine, Sequential, SoftmaxCrossEntropy, data
from minet.layers import Conv, Linear, MaxPool, PReLU

input_shape = (1, 8, 8)
batch, epochs, loss = 32, 10, SoftmaxCrossEntropy()


def net(width=16):
    return Sequential(
        Conv(width, 3, pad=1),
        PReLU(),
        MaxPool(2),
        Conv(2 * width, 3, pad=1),
        PReLU(),
        MaxPool(2),
        Linear(10),
    )


def solver(lr=0.05, epochs=epochs):
    return SGD(lr, momentum=0.9, weight_decay=5e-4, schedule=Cosine(epochs))


def datasets():
    return data.digits("train"), data.digits("test")

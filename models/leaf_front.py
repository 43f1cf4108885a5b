"""Ten kinds of sound in noise, through a learned front end whose low-pass filters are Gaussian pools.

The front end is that of LEAF (Zeghidour et al., arXiv 2101.08596): a bank of complex filters, their squared
modulus, on each channel a Gaussian low-pass of learned width, sampled every 10 ms, and a compression, here
a logarithm. The filters start as Gabor wavelets on the mel scale. The sounds are made here: one second
each, of random pitch, tempo and phase, under white noise that is as strong.

``minet train leaf_front --seed 1`` reaches 95.4 % on 1,000 sounds that it was not trained on; with ``--set
learn=False``, which keeps the front end as it starts, 83.4 %; with ``causal=True``, where a frame hears
nothing that comes after it, 97.5 %.
"""

import numpy as np

from minet import SGD, Cosine, Layer, Sequential, SoftmaxCrossEntropy, data, update
from minet.layers import AvgPool, BatchNorm, Conv, GaussianPool, Linear, ReLU

RATE = 4000  # samples a second
TIME = np.arange(RATE) / RATE
WINDOW, HOP = 101, 40  # samples: 25 ms and 10 ms

input_shape = (1, 1, RATE)
batch, epochs, loss = 32, 8, SoftmaxCrossEntropy()


class SquaredModulus(Layer):
    """``y[k] = x[2k]^2 + x[2k+1]^2``: the energy of complex numbers whose parts are neighbours.

    Shapes: ``(2K, H, W)`` to ``(K, H, W)``.
    """

    def out_shape(self, in_shape):
        if in_shape[0] % 2:
            raise self.error(f"takes pairs of maps, got {in_shape[0]}")
        return (in_shape[0] // 2, *in_shape[1:])

    def fprop_cpu(self, x, y, beta, train):
        update(y, x[::2] ** 2 + x[1::2] ** 2, beta)

    def bprop_cpu(self, x, dy, dx, beta):
        if dx is not None:
            update(dx, 2 * x * np.repeat(dy, 2, axis=0), beta)

    def to_onnx(self, graph, x):
        maps, squares = self.bound_shapes[0][0], graph.add("Mul", x, x)
        # From map 0 and from map 1 on, every second one.
        return graph.add("Add", *(graph.add("Slice", squares, [i], [maps], [1], [2]) for i in (0, 1)))

    @classmethod
    def examples(cls):
        yield cls, (4, 1, 7)


class Log(Layer):
    """``y = log(x + floor)`` of energies; below 0, where none is, x counts as 0."""

    def __init__(self, floor=1e-3):
        self.floor = floor

    def out_shape(self, in_shape):
        return in_shape

    def constants(self):
        return {"FLOOR": self.floor}  # of log.cu

    def fprop_cpu(self, x, y, beta, train):
        update(y, np.log(np.maximum(x, 0) + self.floor), beta)

    def bprop_cpu(self, x, dy, dx, beta):
        if dx is not None:
            update(dx, (x > 0) * dy / (np.maximum(x, 0) + self.floor), beta)

    def to_onnx(self, graph, x):
        return graph.add("Log", graph.add("Add", graph.add("Relu", x), self.floor))

    @classmethod
    def examples(cls):
        yield lambda: cls(0.5), (3, 1, 6)


def gabor(shape, rng):
    """Cosines and sines under a Gaussian window, (2K, 1, 1, WINDOW), at K frequencies on the mel scale."""
    low, high = (np.log1p(hertz / 700) for hertz in (100, 1800))
    edges = 700 * np.expm1(np.linspace(low, high, shape[0] // 2 + 2))
    hertz, width = edges[1:-1, None], (edges[2:] - edges[:-2])[:, None] / 2
    time = (np.arange(WINDOW) - WINDOW // 2) / RATE
    wave = np.exp(2j * np.pi * hertz * time - (np.pi * width * time) ** 2 / 2)
    wave /= np.linalg.norm(wave, axis=1, keepdims=True)
    return np.stack([wave.real, wave.imag], axis=1).reshape(shape)


def net(filters=16, maps=32, causal=False, learn=True):
    pad = (0, 0), (WINDOW - 1, 0) if causal else (WINDOW // 2, WINDOW // 2)
    front = Sequential(
        Conv(2 * filters, (1, WINDOW), pad=pad, bias=False, init=gabor),
        SquaredModulus(),
        GaussianPool((1, WINDOW), stride=(1, HOP), pad=pad, sigma=(1, 20), learn={"sigma"}),
        Log(),
    )
    return Sequential(
        front if learn else front.freeze(),
        BatchNorm(),
        Conv(maps, (1, 9), stride=(1, 2)),
        BatchNorm(),
        ReLU(),
        Conv(maps, (1, 9), stride=(1, 2)),
        BatchNorm(),
        ReLU(),
        AvgPool(),
        Linear(10),
    )


def solver(lr=0.05, epochs=epochs):
    return SGD(lr, momentum=0.9, weight_decay=1e-4, schedule=Cosine(epochs))


def tone(hertz):
    """A sine whose frequency may change."""
    return np.sin(2 * np.pi * np.cumsum(hertz + 0 * TIME) / RATE)


SOUNDS = (  # of a pitch in Hz, and of the beats that have passed
    lambda pitch, beats: tone(pitch),
    lambda pitch, beats: tone(pitch * (1 + 0.03 * np.sin(2 * np.pi * beats))),  # vibrato
    lambda pitch, beats: tone(pitch * 2 ** (TIME - 0.5)),  # rises by an octave
    lambda pitch, beats: tone(pitch * 2 ** (0.5 - TIME)),  # falls
    lambda pitch, beats: tone(pitch) * (1 + np.sin(2 * np.pi * beats)),  # swells
    lambda pitch, beats: tone(pitch) * (1 + np.sin(14 * np.pi * beats)),  # rattles, seven times as fast
    lambda pitch, beats: tone(pitch) + tone(1.5 * pitch),  # a fifth
    lambda pitch, beats: tone(pitch * np.where(beats % 1 < 0.5, 1, 1.5)),  # the same in turn
    lambda pitch, beats: tone(pitch) * (beats % 1 < 0.1),  # ticks
    lambda pitch, beats: tone(pitch) * np.exp(-6 * (beats % 1)),  # plucked
)


def sounds(name, count, snr, seed):
    """As many sounds of each kind, with unit power, under noise that is `snr` dB weaker."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % len(SOUNDS)
    pitches, tempos = 250 * 4 ** rng.random(count), 3 + 3 * rng.random(count)
    clean = np.array([
        SOUNDS[label](pitch, tempo * TIME + rng.random())
        for label, pitch, tempo in zip(labels, pitches, tempos, strict=True)
    ])  # fmt: skip
    clean /= np.sqrt((clean**2).mean(axis=1, keepdims=True))
    noisy = clean + 10 ** (-snr / 20) * rng.standard_normal(clean.shape)
    return data.Dataset(noisy[:, None, None], labels, classes=len(SOUNDS), name=name)


def datasets(count=2000, snr=0.0):
    return sounds("sounds train", count, snr, seed=1), sounds("sounds test", count // 2, snr, seed=2)

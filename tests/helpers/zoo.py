"""A zoo of broken layers: each breaks one promise of the contract, as neon or somebody once did.

`breaks` names the check of the conformance kit that must catch it, `also` the others that it fails with it.
The layers at the top are correct and pass every check; each broken one is made from them by one mistake.
Try ``minet check tests/helpers/zoo.py:BetaIgnored``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numba
import numpy as np

from minet import Layer, Param, State, update
from minet.core.layer import Array, Shape
from minet.core.rng import generator, uniform


class Specimen(Layer):
    """A layer for the kit to judge."""

    breaks: str = ""
    also: tuple[str, ...] = ()


# -- correct ----------------------------------------------------------------------------------------


class Toy(Specimen):
    """``y = a * tanh(x)``, one `a` for each channel: a parameter."""

    def out_shape(self, in_shape: Shape) -> Shape:
        return in_shape

    def params(self, in_shape: Shape) -> dict[str, Param]:
        return {"a": Param((in_shape[0], 1, 1, 1), 0.7)}

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        update(y, self.p.a * np.tanh(x), beta)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        self.g.a += (dy * np.tanh(x)).sum(axis=(1, 2, 3), keepdims=True)
        if dx is not None:
            update(dx, dy * self.slope(x), beta)

    def slope(self, x: Array) -> Array:
        return self.p.a * (1 - np.tanh(x) ** 2)

    @classmethod
    def examples(cls) -> Iterable[tuple[Callable[[], Layer], Shape]]:
        yield cls, (4, 6, 5)


class Tallest(Specimen):
    """The largest value of each column of a map, at its lowest row: state in integers."""

    def out_shape(self, in_shape: Shape) -> Shape:
        return in_shape[0], 1, in_shape[2]

    def state(self, in_shape: Shape, out_shape: Shape) -> dict[str, State]:
        return {"row": State(out_shape, "int32")}

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        self.s.row[...] = x.argmax(axis=1)[:, None]
        update(y, np.take_along_axis(x, self.s.row, axis=1), beta)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        if dx is not None:
            spread = np.zeros_like(dx)
            np.put_along_axis(spread, self.s.row.astype("int32"), dy, axis=1)
            update(dx, spread, beta)

    @classmethod
    def examples(cls) -> Iterable[tuple[Callable[[], Layer], Shape]]:
        yield cls, (2, 300, 2)


class Centre(Specimen):
    """x minus its channel's mean, the batch's in training and a running one otherwise: persistent state."""

    def out_shape(self, in_shape: Shape) -> Shape:
        return in_shape

    def state(self, in_shape: Shape, out_shape: Shape) -> dict[str, State]:
        return {"mean": State((in_shape[0], 1, 1, 1), per_sample=False, persistent=True)}

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        mean = x.mean(axis=(1, 2, 3), keepdims=True)
        if train:
            self.s.mean[...] = 0.9 * self.s.mean + 0.1 * mean
        update(y, x - (mean if train else self.s.mean), beta)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        if dx is not None:
            update(dx, dy - dy.mean(axis=(1, 2, 3), keepdims=True) if self.train else dy, beta)

    @classmethod
    def examples(cls) -> Iterable[tuple[Callable[[], Layer], Shape]]:
        yield cls, (4, 6, 5)


class Noise(Specimen):
    """In training, each element times a random number in [-0.5, 2.5); a bool keeps the sign."""

    def out_shape(self, in_shape: Shape) -> Shape:
        return in_shape

    def state(self, in_shape: Shape, out_shape: Shape) -> dict[str, State]:
        return {"factor": State(in_shape), "negative": State(in_shape, "bool")}

    def draw(self, shape: Shape) -> np.ndarray:
        return 3 * uniform(self.key, self.clock.step, shape) - 0.5

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        factor = self.draw(x.shape) if train else np.ones(x.shape)
        self.s.factor[...], self.s.negative[...] = np.abs(factor), factor < 0
        update(y, x * np.where(self.s.negative, -self.s.factor, self.s.factor), beta)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        if dx is not None:
            update(dx, dy * np.where(self.s.negative, -self.s.factor, self.s.factor), beta)

    @classmethod
    def examples(cls) -> Iterable[tuple[Callable[[], Layer], Shape]]:
        yield cls, (4, 6, 5)


class KeepsState(Toy):
    """Toy, which keeps ``1 - tanh(x)^2`` for bprop: state for each sample."""

    def state(self, in_shape: Shape, out_shape: Shape) -> dict[str, State]:
        return {"flat": State(in_shape)}

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        super().fprop_cpu(x, y, beta, train)
        self.s.flat[...] = 1 - np.tanh(x) ** 2

    def slope(self, x: Array) -> Array:
        return self.p.a * self.s.flat

    @classmethod
    def examples(cls) -> Iterable[tuple[Callable[[], Layer], Shape]]:
        yield cls, (4, 6, 5)


class TwoVersions(Toy):
    """Toy, whose fprop has a faster version next to the one in NumPy."""

    def fprop_numpy(self, x: Array, y: Array, beta: float, train: bool) -> None:
        super().fprop_cpu(x, y, beta, train)

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        for c in range(len(x)):
            update(y[c], self.p.a[c] * np.tanh(x[c]), beta)

    @classmethod
    def examples(cls) -> Iterable[tuple[Callable[[], Layer], Shape]]:
        yield cls, (4, 6, 5)


# -- beta and memory --------------------------------------------------------------------------------


class EdgeUnwritten(Toy):
    """The loop over rows ends one row early."""

    breaks = "shape"
    also = ("poison", "beta_y", "gradient", "gradient_eval", "batch_sizes", "bad_shapes")

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        for h in range(x.shape[1] - 1):
            update(y[:, h], self.p.a[:, 0] * np.tanh(x[:, h]), beta)


class DxNeverCleared(Toy):
    """bprop adds to dx, and relies on the caller to have cleared it."""

    breaks = "poison"
    also = ("beta_dx", "gradient", "gradient_eval", "batch_sizes", "bad_shapes")

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        super().bprop_cpu(x, dy, None, beta)
        if dx is not None:
            dx += dy * self.slope(x)


class TimesZero(Toy):
    """``0 * y`` is not 0 if y holds NaN: neon's CPU backend let it through, its GPU did not."""

    breaks = "poison"
    also = ("beta_y", "gradient", "gradient_eval", "batch_sizes", "bad_shapes")

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        y *= beta
        y += self.p.a * np.tanh(x)


class TimesZeroInEval(Toy):
    """The same, in evaluation only."""

    breaks = "poison"
    also = ("beta_y", "gradient_eval")

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        if train:
            super().fprop_cpu(x, y, beta, train)
        else:
            y[...] = beta * y + self.p.a * np.tanh(x)


class StaleScratch(Toy):
    """Accumulates in scratch that it has not cleared."""

    breaks = "poison"
    also = ("resize", "gradient", "gradient_eval", "batch_sizes", "bad_shapes")

    def state(self, in_shape: Shape, out_shape: Shape) -> dict[str, State]:
        return {"total": State(in_shape, scratch=True)}

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        self.s.total += self.p.a * np.tanh(x)
        update(y, self.s.total, beta)


class BetaIgnored(Toy):
    """As a branch of Sum it overwrites the branches before it: neon#433 kept only the last path."""

    breaks = "beta_y"

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        y[...] = self.p.a * np.tanh(x)


class BetaIgnoredInEval(Toy):
    """fprop has two paths, and only one of them uses beta."""

    breaks = "beta_y"

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        update(y, self.p.a * np.tanh(x), beta if train else 0.0)


class BetaTakenForOne(Toy):
    """Any beta but 0 counts as 1."""

    breaks = "beta_y"

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        update(y, self.p.a * np.tanh(x), 1.0 if beta else 0.0)


class BetaDxIgnored(Toy):
    """neon's activations had no beta in bprop."""

    breaks = "beta_dx"

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        super().bprop_cpu(x, dy, dx, 0.0)


class BetaOnError(Toy):
    """neon's Dropout put beta on the error, not on the delta."""

    breaks = "beta_dx"

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        super().bprop_cpu(x, dy, None, beta)
        if dx is not None:
            dx[...] = dy * self.slope(x) + beta * dy


class BetaOnGradient(Toy):
    """beta is for dx alone; here it reaches the parameter's gradient too."""

    breaks = "accumulate"
    also = ("need_dx",)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        self.g.a *= beta
        super().bprop_cpu(x, dy, dx, beta)


class GradientOverwritten(Toy):
    """``=`` instead of ``+=``: a twin's share is lost."""

    breaks = "accumulate"
    also = ("need_dx",)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        self.g.a[...] = 0
        super().bprop_cpu(x, dy, dx, beta)


class GradientOverwrittenAtOne(Toy):
    """``=`` instead of ``+=`` where beta is 1, as in a branch."""

    breaks = "accumulate"

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        if beta == 1:
            self.g.a[...] = 0
        super().bprop_cpu(x, dy, dx, beta)


class BeyondItsSlice(Toy):
    """Writes the whole array that y is a slice of."""

    breaks = "slices"

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        whole = y if y.base is None else y.base
        update(whole[: len(x)], self.p.a * np.tanh(x), beta)


class ErrorScaled(Toy):
    """neon's pooling scaled the caller's error in place, so the next branch got a part of it."""

    breaks = "untouched"
    also = ("resize", 
        "slices", "bprop_reads_y", "gradient", "gradient_eval", "determinism", "batch_sizes", "bprop_again",
    )  # fmt: skip

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        super().bprop_cpu(x, dy, None, beta)
        dy *= self.slope(x)
        if dx is not None:
            update(dx, dy, beta)


class InPlace(Tallest):
    """Marks in x the elements that it has used."""

    breaks = "untouched"
    also = ("resize", 
        "slices", "bprop_reads_y", "gradient", "gradient_eval", "evaluation", "batch_sizes", "save_load",
    )  # fmt: skip

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        super().fprop_cpu(x, y, beta, train)
        np.put_along_axis(x, self.s.row.astype("int64"), -1e9, axis=1)


class InPlaceInEval(Toy):
    """Scales dy in place, in evaluation alone."""

    breaks = "untouched"
    also = ("batch_sizes", "bprop_again")

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        if not self.train:
            dy *= 0.5
        super().bprop_cpu(x, dy, dx, beta)


class OutOfPlace(Toy):
    """Declares that dx may be dy, but sums over dy after dx is written."""

    breaks = "in_place"
    in_place = True

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        if dx is not None:
            update(dx, dy * self.slope(x), beta)
        super().bprop_cpu(x, dy, None, beta)


class TanhFromY(Toy):
    """``1 - y*y`` saves a tanh, but under Sum y is no longer this layer's alone."""

    breaks = "bprop_reads_y"

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        super().fprop_cpu(x, y, beta, train)
        self.y = y

    def slope(self, x: Array) -> Array:
        return self.p.a - self.y**2 / self.p.a


# -- derivatives ------------------------------------------------------------------------------------


class ByteArgmax(Tallest):
    """neon kept positions as bytes: in windows of more than 256 cells the delta went astray."""

    breaks = "gradient"
    also = ("gradient_eval",)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        self.s.row[...] = self.s.row.astype("uint8")
        super().bprop_cpu(x, dy, dx, beta)


class WrongAtTheEdge(Specimen):
    """The mean over three rows, over two at the edge; the derivative assumes three everywhere."""

    breaks = "gradient"
    also = ("gradient_eval",)

    def out_shape(self, in_shape: Shape) -> Shape:
        return in_shape

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        rows = range(x.shape[1])
        update(y, np.stack([x[:, max(h - 1, 0) : h + 2].mean(axis=1) for h in rows], axis=1), beta)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        if dx is not None:
            rows = range(x.shape[1])
            update(dx, np.stack([dy[:, max(h - 1, 0) : h + 2].sum(axis=1) / 3 for h in rows], axis=1), beta)

    @classmethod
    def examples(cls) -> Iterable[tuple[Callable[[], Layer], Shape]]:
        yield cls, (2, 6, 5)


class ParameterForgotten(Toy):
    """neon's gradient checks covered inputs only, so wrong weight gradients went unnoticed."""

    breaks = "gradient"
    also = ("gradient_eval",)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        super().bprop_cpu(x, dy, dx, beta)
        self.g.a -= 0.1 * (dy[:, 0] * np.tanh(x[:, 0])).sum(axis=(1, 2))[:, None, None, None]


class GradientTwice(Toy):
    """bprop adds the parameter's gradient twice."""

    breaks = "gradient"
    also = ("gradient_eval",)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        super().bprop_cpu(x, dy, None, beta)
        super().bprop_cpu(x, dy, dx, beta)


class RedrawnMask(Noise):
    """Draws again in bprop."""

    breaks = "gradient"

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        if dx is not None:
            noise = generator(1, self.path).normal(1.0, 0.5, x.shape) if self.train else 1.0
            update(dx, dy * noise, beta)


class TrainDerivative(Centre):
    """Uses the training derivative in evaluation too."""

    breaks = "gradient_eval"
    also = ("batch_sizes",)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        if dx is not None:
            update(dx, dy - dy.mean(axis=(1, 2, 3), keepdims=True), beta)


class StatisticsHeldConstant(Centre):
    """Forgets that in training the mean depends on x."""

    breaks = "gradient"

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        if dx is not None:
            update(dx, dy, beta)


class NoDxNoGradient(Toy):
    """Returns before the parameter's gradient if dx is not needed, so the first layer never learns."""

    breaks = "need_dx"

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        if dx is not None:
            super().bprop_cpu(x, dy, dx, beta)


class NoDxOverwrites(Toy):
    """``=`` instead of ``+=`` where dx is None: the share of a twin is lost."""

    breaks = "need_dx"

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        if dx is None:
            self.g.a[...] = 0
        super().bprop_cpu(x, dy, dx, beta)


class CountsOnDx(Toy):
    """Writes to a dx that is None."""

    breaks = "need_dx"

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        super().bprop_cpu(x, dy, dx, beta)
        dx[...] += 0


class HalfPrecision(Toy):
    """Sums in float16, to save memory."""

    breaks = "float32"

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        short = np.float16 if self.be.dtype == np.float32 else np.float64
        self.g.a += (dy * np.tanh(x)).sum(axis=(1, 2, 3), keepdims=True, dtype=short)
        if dx is not None:
            update(dx, dy * self.slope(x), beta)


class Cancels(Toy):
    """The difference of two large sums."""

    breaks = "float32"

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        super().bprop_cpu(x, dy, dx, beta)
        axes = (1, 2, 3)
        self.g.a += (dy * (x + 1e4)).sum(axes, keepdims=True) - (dy * x).sum(axes, keepdims=True)
        self.g.a -= 1e4 * dy.sum(axes, keepdims=True)


class SmoothMaximum(Specimen):
    """``log(mean(exp(x)))`` over each map, the maximum not subtracted: exp(100) is infinite in float32."""

    breaks = "magnitude"

    def out_shape(self, in_shape: Shape) -> Shape:
        return in_shape[0], 1, 1

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        update(y, np.log(np.exp(x).mean(axis=(1, 2), keepdims=True)), beta)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        if dx is not None:
            share = np.exp(x)
            update(dx, dy * share / share.sum(axis=(1, 2), keepdims=True), beta)

    @classmethod
    def examples(cls) -> Iterable[tuple[Callable[[], Layer], Shape]]:
        yield cls, (2, 6, 5)


class PowerMean(SmoothMaximum):
    """``mean(|x|^24)^(1/24)`` over each map: the power of 0.01 is 0 in float32."""

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        update(y, self.mean(x) ** (1 / 24), beta)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        if dx is not None:
            with np.errstate(divide="ignore", invalid="ignore"):
                outer = self.mean(x) ** (1 / 24 - 1) / (x.shape[1] * x.shape[2])
                update(dx, dy * outer * x**23, beta)

    def mean(self, x: Array) -> Array:
        return (x**24).mean(axis=(1, 2), keepdims=True)


class OtherLoops(TwoVersions):
    """The faster version takes one channel's parameter for all."""

    breaks = "numpy_version"

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        update(y, self.p.a[0] * np.tanh(x), beta)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        self.g.a[0] += (dy * np.tanh(x)).sum()
        if dx is not None:
            update(dx, dy * self.p.a[0] * (1 - np.tanh(x) ** 2), beta)


# -- randomness, modes, sizes -----------------------------------------------------------------------


class SumsInAnyOrder(Toy):
    """Adds up in the order that threads arrive in, as atomics do: the last bits differ each time."""

    breaks = "determinism"
    also = ("bprop_again",)
    arrival = np.random.default_rng(0)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        terms = (dy * np.tanh(x)).reshape(len(x), -1)
        for i in self.arrival.permutation(terms.shape[1]):
            self.g.a[:, 0, 0, 0] += terms[:, i]
        if dx is not None:
            update(dx, dy * self.slope(x), beta)

    @classmethod
    def examples(cls) -> Iterable[tuple[Callable[[], Layer], Shape]]:
        yield cls, (16, 6, 5)


class SumsByThread(Toy):
    """One partial sum for each thread: the last bits depend on the number of threads."""

    breaks = "determinism"

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        terms = (dy * np.tanh(x)).reshape(len(x), -1)
        for part in np.array_split(terms, numba.get_num_threads(), axis=1):
            self.g.a[:, 0, 0, 0] += part.sum(axis=1)
        if dx is not None:
            update(dx, dy * self.slope(x), beta)

    @classmethod
    def examples(cls) -> Iterable[tuple[Callable[[], Layer], Shape]]:
        yield cls, (16, 6, 5)


class GlobalRandom(Noise):
    """Draws from NumPy's global generator."""

    breaks = "determinism"
    also = ("resize", 
        "poison", "beta_y", "beta_dx", "slices", "bprop_reads_y", "gradient", "float32",
    )  # fmt: skip

    def draw(self, shape: Shape) -> np.ndarray:
        return np.random.normal(1.0, 0.5, shape)


class LastBatchLeftOver(Centre):
    """Subtracts the mean of the previous batch, so a second run of the same batch differs."""

    breaks = "determinism"
    also = ("resize", "slices", "gradient")
    before: Array | float = 0.0

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        update(y, x - self.before if train else x, beta)
        if train:
            self.before = x.mean(axis=(1, 2, 3), keepdims=True)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        if dx is not None:
            update(dx, dy, beta)


class SharedSlope(Toy):
    """Keeps its slope in the class, where the next layer of the class overwrites it."""

    breaks = "determinism"
    kept: Array | None = None

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        super().fprop_cpu(x, y, beta, train)
        SharedSlope.kept = super().slope(x)

    def slope(self, x: Array) -> Array:
        return self.kept


class SameInEachLayer(Noise):
    """Draws by the seed alone: the masks of two layers are the same."""

    breaks = "draws"

    def draw(self, shape: Shape) -> np.ndarray:
        return 3 * uniform((self.key[0], 0), self.clock.step, shape) - 0.5


class SameForEachSeed(Noise):
    """Draws by the path alone: another seed changes nothing."""

    breaks = "draws"

    def draw(self, shape: Shape) -> np.ndarray:
        return 3 * uniform((0, self.key[1]), self.clock.step, shape) - 0.5


class SameAtEachStep(Noise):
    """Draws the same mask for ever."""

    breaks = "draws"

    def draw(self, shape: Shape) -> np.ndarray:
        return 3 * uniform(self.key, 0, shape) - 0.5


class SameEverywhere(Noise):
    """Draws from a generator with a seed of its own."""

    breaks = "draws"

    def draw(self, shape: Shape) -> np.ndarray:
        return generator(7, "").normal(1.0, 0.5, shape)


class SameInEachPart(Noise):
    """Draws by the number of the step: the parts of a batch draw the same."""

    breaks = "draws"

    def draw(self, shape: Shape) -> np.ndarray:
        return 3 * uniform(self.key, int(self.clock.step), shape) - 0.5


class NumbersAlone(Noise):
    """Seeds NumPy's generator, which takes no step of a part of a batch."""

    breaks = "draws"

    def draw(self, shape: Shape) -> np.ndarray:
        return np.random.default_rng([*self.key, self.clock.step]).normal(1.0, 0.5, shape)


class DrawsInEval(Noise):
    """Adds its noise in evaluation too."""

    breaks = "evaluation"
    also = ("batch_sizes", "save_load")

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        super().fprop_cpu(x, y, beta, True)


class StatisticsInEval(Centre):
    """Keeps gathering statistics in evaluation."""

    breaks = "evaluation"
    also = ("gradient_eval",)

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        super().fprop_cpu(x, y, beta, train)
        if not train:
            self.s.mean[...] = 0.9 * self.s.mean + 0.1 * x.mean(axis=(1, 2, 3), keepdims=True)


class BatchInEval(Specimen):
    """A sample's output depends on the rest of the batch, in evaluation too."""

    breaks = "batch_sizes"

    def out_shape(self, in_shape: Shape) -> Shape:
        return in_shape

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        update(y, x - x.mean(axis=(1, 2, 3), keepdims=True), beta)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        if dx is not None:
            update(dx, dy - dy.mean(axis=(1, 2, 3), keepdims=True), beta)

    @classmethod
    def examples(cls) -> Iterable[tuple[Callable[[], Layer], Shape]]:
        yield cls, (4, 6, 5)


class OthersMean(Centre):
    """Divides by N - 1: a batch of one gave neon's users trouble (neon#47)."""

    breaks = "batch_sizes"

    def others(self, x: Array) -> Array:
        with np.errstate(invalid="ignore", divide="ignore"):
            return (x.sum(axis=3, keepdims=True) - x) / np.float32(x.shape[3] - 1)

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        update(y, x - self.others(x) if train else x, beta)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        if dx is not None:
            update(dx, dy - self.others(dy) if self.train else dy, beta)


class HiddenMean(Centre):
    """Keeps its running mean where checkpoints do not find it."""

    breaks = "save_load"
    mean: Array | float = 0.0

    def state(self, in_shape: Shape, out_shape: Shape) -> dict[str, State]:
        return {}

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        mean = x.mean(axis=(1, 2, 3), keepdims=True)
        if train:
            self.mean = 0.9 * self.mean + 0.1 * mean
        update(y, x - (mean if train else self.mean), beta)


class HiddenCount(Toy):
    """Counts its steps where checkpoints do not find it."""

    breaks = "save_load"

    def __init__(self) -> None:
        self.steps = 0

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        self.steps += train
        self.scale = np.float32(1 if self.steps < 1000 else 0.5)
        update(y, self.scale * self.p.a * np.tanh(x), beta)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        super().bprop_cpu(x, self.scale * dy, dx, beta)


class ConsumesState(KeepsState):
    """bprop multiplies its state in place: a second one gives something else."""

    breaks = "bprop_again"

    def slope(self, x: Array) -> Array:
        self.s.flat *= self.p.a
        return self.s.flat


class KeepsScratch(KeepsState):
    """Leaves in scratch what bprop needs; another layer may have written there."""

    breaks = "bprop_again"

    def state(self, in_shape: Shape, out_shape: Shape) -> dict[str, State]:
        return {"flat": State(in_shape, scratch=True)}


class StatisticsInBprop(Centre):
    """Updates its running mean once more in bprop, which may run several times."""

    breaks = "bprop_again"

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        if self.train:
            self.s.mean[...] = 0.9 * self.s.mean + 0.1 * x.mean(axis=(1, 2, 3), keepdims=True)
        super().bprop_cpu(x, dy, dx, beta)


class FirstBatchSize(Toy):
    """Keeps a private buffer of the first batch's size."""

    breaks = "resize"

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        self.buffer = self.__dict__.get("buffer", np.empty_like(x))
        np.tanh(x, out=self.buffer)
        update(y, self.p.a * self.buffer, beta)


class HalvesAnything(Specimen):
    """The mean of two rows; out_shape accepts a single row too."""

    breaks = "bad_shapes"

    def out_shape(self, in_shape: Shape) -> Shape:
        c, h, w = in_shape
        return c, max(h // 2, 1), w

    def fprop_cpu(self, x: Array, y: Array, beta: float, train: bool) -> None:
        update(y, x.reshape(len(x), -1, 2, *x.shape[2:]).mean(axis=2), beta)

    def bprop_cpu(self, x: Array, dy: Array, dx: Array | None, beta: float) -> None:
        if dx is not None:
            update(dx, np.repeat(dy / 2, 2, axis=1), beta)

    @classmethod
    def examples(cls) -> Iterable[tuple[Callable[[], Layer], Shape]]:
        yield cls, (2, 6, 5)


class WrongError(Toy):
    """Raises something other than a LayerError, so the message does not name the layer."""

    breaks = "bad_shapes"

    def out_shape(self, in_shape: Shape) -> Shape:
        assert in_shape[1] > 1
        return in_shape


RIGHT = (Toy, Tallest, Centre, Noise, TwoVersions, KeepsState)
BROKEN = [cls for cls in list(globals().values()) if getattr(cls, "breaks", "")]

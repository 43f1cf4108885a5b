"""The cases to time: layers on shapes that matter, and the training step and inference of two models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from minet.core.files import run_file
from minet.core.layer import Layer, LayerError
from minet.core.naming import relative

Sizes: TypeAlias = tuple[int, int, int, int]  # (C, H, W, N)


@dataclass(frozen=True)
class Case:
    """A layer with its settings on an input, or the training step or inference of a model.

    Attributes
    ----------
    name : str
        The row's name, by which the command line selects cases.
    layer : str
        A class of minet.layers, FILE.py:CLASS, or the name of a model file.
    shape : tuple of int
        (C, H, W, N).
    settings : dict
        The class's arguments, or the model's settings; of a FILE.py:CLASS, the number of one of its examples.
    infer : bool
        For a model: inference instead of a training step.
    """

    name: str
    layer: str
    shape: Sizes
    settings: dict[str, Any] = field(default_factory=dict)
    infer: bool = False

    @property
    def is_own(self) -> bool:
        """Whether it is a layer outside minet."""
        return ".py:" in self.layer

    @property
    def is_model(self) -> bool:
        return self.layer[0].islower() and not self.is_own

    @property
    def is_plain(self) -> bool:
        """Whether it has a square window, padded alike on all sides, and nothing that few libraries know."""
        numbers = (self.settings.get("window"), self.settings.get("pad", 0))
        return all(isinstance(number, int) for number in numbers) and not self.settings.keys() & RARE

    def own_class(self) -> type[Layer]:
        """Run the file of a layer outside minet, and return its class."""
        file, _, name = self.layer.rpartition(":")
        found: type[Layer] = getattr(run_file(Path(file)), name)
        return found

    def phases_on(self, backend: str) -> tuple[str, ...]:
        """Return the phases to time; on a card, bprop of a layer is also timed alone."""
        if self.is_model:
            return ("inference",) if self.infer else ("step",)
        return ("fprop", "fprop+bprop") if backend == "cpu" else ("fprop", "bprop", "fprop+bprop")

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Case:
        """Return what was `as_dict`, also by way of JSON, which makes lists of tuples."""
        settings = {name: _tuple(value) for name, value in values["settings"].items()}
        return cls(**{**values, "shape": tuple(values["shape"]), "settings": settings})


def _tuple(value: Any) -> Any:
    return tuple(map(_tuple, value)) if isinstance(value, (tuple, list)) else value


def _sizes(value: Any) -> str:
    return "x".join(map(str, value if isinstance(value, tuple) else (value, value)))


def layer(name: str, shape: Sizes, /, **settings: Any) -> Case:
    """Return a layer's case; odd windows are padded so that they are centred, unless a pad is given."""
    words = [_sizes(settings["window"])] if settings.get("window") else []
    words += ["readout"] if "window" in settings and not words else []
    if "pad" in settings:
        padded = [f"pad {settings['pad']}"]
    else:
        padded, pad = [], _centring(settings.get("window"), settings.get("dilation", 1))
        settings |= {"pad": pad} if pad else {}
    stride = settings.get("stride")
    words += [f"s{_sizes(stride) if isinstance(stride, tuple) else stride}"] if stride else []
    words += padded
    words += [f"dilated {settings['dilation']}"] if "dilation" in settings else []
    words += ["ceil"] if settings.get("ceil") else []
    words += [f"adaptive to {_sizes(settings['out'])}"] if "out" in settings else []
    words += [f"k{settings['kernels']}"] if "kernels" in settings else []
    words += [settings["shape"]] if "shape" in settings else []
    words += [f"to {settings['maps']}"] if "maps" in settings else []
    words += [f"g{settings['groups']}"] if "groups" in settings else []
    words += ["zero edge"] if settings.get("edge") == "zero" else []
    return Case(" ".join([name, *words, "x".join(map(str, shape))]), name, shape, settings)


def _centring(window: Any, dilation: int) -> Any:
    """Return the pad that centres a window; 0 if its sides are even, or if there is none."""
    if isinstance(window, tuple):
        return tuple(_centring(size, dilation) for size in window)
    return dilation * (window // 2) if window and window % 2 else 0


def model(name: str, batch: int, infer: bool = False) -> Case:
    """Return the case of a model's training step, or inference, on images of 3x32x32."""
    phase = "inference" if infer else "step"
    return Case(f"{name} {phase} 3x32x32x{batch}", name, (3, 32, 32, batch), infer=infer)


RARE = {"dilation", "ceil", "out", "shape"}  # settings of pooling layers
LARGE, MIDDLE, SMALL = (64, 32, 32, 128), (128, 16, 16, 128), (96, 8, 8, 128)
WIDE, WIDER, ONE = (32, 64, 64, 32), (16, 128, 128, 16), (64, 32, 32, 1)
SOUND = (40, 1, 16000, 32)  # LEAF's filters of one second at 16 kHz
SHAPES = (LARGE, MIDDLE, SMALL, WIDE, WIDER, ONE)
WINDOWS, STRIDES, KERNELS = (2, 3, 5, 7, 11), (1, 2), (1, 3)

MODELS = [
    model("gaussian_inception", 128),
    model("cifar10_zeiler", 128),
    model("gaussian_inception", 1, infer=True),
    model("cifar10_zeiler", 1, infer=True),
]

DEFAULT = [
    layer("GaussianPool", LARGE, window=3, stride=2, kernels=1),
    layer("GaussianPool", LARGE, window=5, stride=1, kernels=3),
    layer("GaussianPool", LARGE, window=5, stride=2, kernels=1, edge="zero"),
    layer("GaussianPool", LARGE, window=7, stride=2, kernels=1),
    layer("GaussianPool", LARGE, window=7, stride=2, kernels=1, shape="full"),
    layer("GaussianPool", LARGE, window=11, stride=2, kernels=1),
    layer("GaussianPool", LARGE, window=11, stride=2, kernels=3),
    layer("GaussianPool", LARGE, window=None, kernels=4),
    layer("GaussianPool", MIDDLE, window=5, stride=1, kernels=3),
    layer("GaussianPool", MIDDLE, window=5, stride=1, kernels=1, dilation=2),
    layer("GaussianPool", WIDER, window=7, stride=2, kernels=1),
    layer("GaussianPool", SOUND, window=(1, 401), stride=(1, 160), kernels=1),
    layer("GaussianPool", ONE, window=5, stride=1, kernels=3),
    layer("MaxPool", LARGE, window=3, stride=2),
    layer("MaxPool", LARGE, window=3, stride=2, pad=0, ceil=True),
    layer("MaxPool", LARGE, window=3, stride=1, pad=1, dilation=2),  # PyTorch pads by half a window at most
    layer("MaxPool", MIDDLE, window=2, stride=2),
    layer("AvgPool", LARGE, window=3, stride=2),
    layer("AvgPool", LARGE, window=11, stride=2),
    layer("AvgPool", LARGE, out=8),
    layer("StochasticPool", LARGE, window=3, stride=2),
    layer("PReLU", LARGE),
    layer("ReLU", LARGE),
    layer("BatchNorm", LARGE),
    layer("LRN", LARGE),
    layer("Conv", MIDDLE, window=1, maps=64),
    layer("Conv", MIDDLE, window=3, maps=128),
    layer("Conv", SMALL, window=5, maps=96),
    layer("Conv", LARGE, window=3, maps=64, groups=64),
    layer("Conv", LARGE, window=3, maps=64, groups=64, stride=2),
    layer("Conv", MIDDLE, window=5, maps=128, groups=128),
    layer("Conv", MIDDLE, window=3, maps=128, groups=32),
    *MODELS,
]


def product() -> Iterator[Case]:
    """Yield every layer on every shape, with every window, stride and number of kernels that fits."""
    for shape in SHAPES:
        for window in (w for w in WINDOWS if w <= shape[1]):
            for stride in STRIDES:
                for kernels in KERNELS:
                    yield layer("GaussianPool", shape, window=window, stride=stride, kernels=kernels)
                yield layer("GaussianPool", shape, window=window, stride=stride, kernels=1, edge="zero")
                for name in ("MaxPool", "AvgPool", "StochasticPool"):
                    yield layer(name, shape, window=window, stride=stride)
        for name in ("PReLU", "ReLU", "BatchNorm", "LRN"):
            yield layer(name, shape)
        for window in (1, 3, 5):
            yield layer("Conv", shape, window=window, maps=shape[0])
        for window in (3, 5):
            for stride in STRIDES:
                yield layer("Conv", shape, window=window, maps=shape[0], groups=shape[0], stride=stride)


def chosen(words: list[str], everything: bool = False) -> list[Case]:
    """Return the usual cases, or the whole product, whose names contain one of the words; all if no words."""
    cases = {case.name: case for case in [*DEFAULT, *(product() if everything else ())]}
    return [case for name, case in cases.items() if not words or any(word in name for word in words)]


def own(file: Path, cls: type[Layer], shape: Sizes) -> list[Case]:
    """Return a case for each example of a layer outside minet that takes images of this shape.

    Raises
    ------
    LayerError
        If none does.
    """
    cases, refused = dict[str, Case](), None
    for number, (make, _) in enumerate(cls.examples()):
        layer = make()
        try:
            layer.configure(shape[:3])
        except LayerError as error:
            refused = error
            continue
        name = f"{layer!r} {'x'.join(map(str, shape))}"
        cases.setdefault(name, Case(name, f"{relative(file)}:{cls.__name__}", shape, {"example": number}))
    if refused and not cases:
        raise refused
    return list(cases.values())


def inputs(case: Case, out_shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the x (C, H, W, N) of all contenders, and dy for a layer or class numbers for a model."""
    draw = np.random.Generator(np.random.Philox(key=2015))
    x = draw.standard_normal(case.shape, np.float32)
    if case.is_model:
        return x, draw.integers(0, out_shape[0], case.shape[3])
    return x, draw.standard_normal((*out_shape, case.shape[3]), np.float32)

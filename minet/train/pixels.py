"""Pixels: how a training set's images became a net's input, kept in checkpoints for later images."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minet.core.errors import MinetError
from minet.core.files import FileError
from minet.core.settings import is_real, is_whole
from minet.data.checks import first_different
from minet.data.dataset import Dataset
from minet.data.parts import middle

FACT = "pixels"  # of a checkpoint


@dataclass(frozen=True)
class Pixels:
    """What a net expects of images, and what its classes are called.

    Attributes
    ----------
    mean, std : list of float
        One per channel: input to the net is ``(image - mean) / std``.
    white : float or None
        What a white pixel is stored as; None if it is not known.
    names : list of str or None
        The classes' names; None if they have none.
    stored, window : list of int or None
        With `Crop`, height and width of the stored images, and of their middle, which is the input.
    """

    mean: list[float]
    std: list[float]
    white: float | None = None
    names: list[str] | None = None
    stored: list[int] | None = None
    window: list[int] | None = None

    @classmethod
    def of(cls, data: Dataset) -> Pixels:
        """Those of a training set."""
        names = None if data.names is None else list(data.names)
        cut = [list(data.images.shape[2:]), list(data.image_shape[1:])]
        sizes = cut if cut[0] != cut[1] else [None, None]
        return cls(data.mean.tolist(), data.std.tolist(), data.white, names, *sizes)

    @classmethod
    def none(cls, channels: int) -> Pixels:
        """Those of images that are input as they are."""
        return cls([0.0] * channels, [1.0] * channels)

    @classmethod
    def from_facts(cls, file: str | Path, facts: dict[str, Any], channels: int) -> Pixels | None:
        """Those in a checkpoint's facts, which may come from anywhere; None if it is too old to have any."""
        kept = facts.get(FACT)
        if kept is None:
            return None
        mean, std, white, names, *cut = (
            kept.get(name) for name in ("mean", "std", "white", "names", "stored", "window")
        )
        numbers = [isinstance(a, list) and len(a) == channels and all(map(is_real, a)) for a in (mean, std)]
        words = names is None or (isinstance(names, list) and all(isinstance(one, str) for one in names))
        known = white is None or (is_real(white) and white > 0)
        sizes = cut == [None, None] or all(_is_size(one) for one in cut)
        fits = sizes and (cut[0] is None or all(a >= b for a, b in zip(*cut, strict=True)))
        if not (all(numbers) and words and known and fits and all(number > 0 for number in std)):
            raise FileError(f"{file}: its {FACT} are {kept!r:.60}", "minet never writes this")
        return cls(mean, std, white, names, *cut)

    @property
    def facts(self) -> dict[str, Any]:
        """What a checkpoint says."""
        return {FACT: asdict(self)}

    @property
    def plain(self) -> bool:
        """Whether images are the net's input as they are."""
        return not any(self.mean) and all(number == 1 for number in self.std)

    def normalize(self, images: ArrayLike) -> NDArray[np.float32]:
        """The net's input for images ``(N, C, H, W)``, as `Dataset.normalize` makes it."""
        column = (slice(None), None, None)
        mean, std = np.array(self.mean, np.float32)[column], np.array(self.std, np.float32)[column]
        seen = np.asarray(images, np.float32)
        return ((middle(seen, tuple(self.window)) if self.window else seen) - mean) / std

    def shape(self, net: tuple[int, ...]) -> tuple[int, ...]:
        """(C, H, W) of images for a net with this input shape."""
        return (net[0], *self.stored) if self.stored else net

    def applied(self, train: Dataset, data: Dataset, file: str | Path) -> Dataset:
        """A test set with these values in place of those of the training set, as that is now.

        One that has values of its own keeps them: it may hold other units.

        Raises
        ------
        MinetError
            If its classes have other names, or come in another order: labels would not mean the same.
        """
        if self.names and data.names and self.names != list(data.names):
            label, then, now = first_different(self.names, data.names)
            raise MinetError(
                f"{data.name}: label {label} is {now!r}, and was {then!r} when {file} was trained",
                f"classes={tuple(self.names)!r:.200}",
            )
        shared = np.array_equal(train.mean, data.mean) and np.array_equal(train.std, data.std)
        return data.replaced(mean=self.mean, std=self.std) if shared else data

    def name(self, label: int) -> str:
        """What a class is called: by its number if it has no name."""
        return self.names[label] if self.names and label < len(self.names) else str(label)


def _is_size(value: Any) -> bool:
    """Whether a value is [height, width]."""
    return isinstance(value, list) and len(value) == 2 and all(is_whole(one) and one > 0 for one in value)

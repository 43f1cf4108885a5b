"""Pixels: how a training set's images became a net's input, kept in checkpoints for later images."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minet.core.files import FileError
from minet.core.settings import is_real
from minet.data.dataset import Dataset

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
    """

    mean: list[float]
    std: list[float]
    white: float | None = None
    names: list[str] | None = None

    @classmethod
    def of(cls, data: Dataset) -> Pixels:
        """Those of a training set."""
        names = None if data.names is None else list(data.names)
        return cls(data.mean.tolist(), data.std.tolist(), data.white, names)

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
        mean, std, white, names = (kept.get(name) for name in ("mean", "std", "white", "names"))
        numbers = [isinstance(a, list) and len(a) == channels and all(map(is_real, a)) for a in (mean, std)]
        words = names is None or (isinstance(names, list) and all(isinstance(one, str) for one in names))
        known = white is None or (is_real(white) and white > 0)
        if not (all(numbers) and words and known and all(number > 0 for number in std)):
            raise FileError(f"{file}: its {FACT} are {kept!r:.60}", "minet never writes this")
        return cls(mean, std, white, names)

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
        return (np.asarray(images, np.float32) - mean) / std

    def name(self, label: int) -> str:
        """What a class is called: by its number if it has no name."""
        return self.names[label] if self.names and label < len(self.names) else str(label)

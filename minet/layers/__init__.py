"""The layers, one file each. `from minet.layers import Conv, PReLU` imports just those files."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from minet.core.layer import Layer
from minet.core.naming import stem_of


def stems() -> list[str]:
    """The names of the layer files in this package."""
    return [module.name for module in pkgutil.iter_modules(__path__)]


def __getattr__(name: str) -> Any:
    if name == "__all__":  # what `from minet.layers import *` takes
        return __dir__()
    # A layer's class is found by the stem of its name, so a new file need not be listed anywhere.
    stem = stem_of(name) if name[:1].isupper() else name
    if stem not in stems():
        raise AttributeError(f"minet.layers has no {name!r}; there is no file {stem}.py")
    return getattr(importlib.import_module(f"{__name__}.{stem}"), name)


def __dir__() -> list[str]:
    return [cls.__name__ for cls in all_layers()]


def all_layers() -> list[type[Layer]]:
    """The layer classes of this package, in the order of their files."""
    found = []
    for stem in stems():
        module = importlib.import_module(f"{__name__}.{stem}")
        found += [
            value
            for value in vars(module).values()
            if isinstance(value, type) and issubclass(value, Layer) and value.__module__ == module.__name__
        ]
    return found

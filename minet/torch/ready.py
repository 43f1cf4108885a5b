"""A module class for each layer class, found by the layer's name: none of them is listed anywhere."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

from minet import layers
from minet.core.containers import Concat, Sequential, Sum
from minet.core.layer import Layer
from minet.core.naming import did_you_mean
from minet.torch.modules import Module

CONTAINERS: dict[str, type[Layer]] = {cls.__name__: cls for cls in (Sequential, Concat, Sum)}
OPTIONS = ("in_shape", "layout", "backend", "device", "dtype")


def names() -> list[str]:
    """The names of all classes."""
    return [*CONTAINERS, *(cls.__name__ for cls in layers.all_layers())]


@cache
def ready(name: str) -> type[Module]:
    """The module class of the layer of that name.

    Raises
    ------
    AttributeError
        If there is no such layer.
    """
    cls = CONTAINERS.get(name)
    if cls is None:
        if not name[:1].isupper() or not hasattr(layers, name):
            hint = did_you_mean(name, names())
            raise AttributeError(f"minet.torch has no {name!r}" + (f"; {hint}" if hint else ""))
        cls = getattr(layers, name)
    return of(cls)


def of(cls: type[Layer]) -> type[Module]:
    """A module class that takes the settings of a layer class, and those of `Module` by name."""

    def __init__(self: Module, *args: Any, **kwargs: Any) -> None:
        options = {key: kwargs.pop(key) for key in OPTIONS if key in kwargs}
        Module.__init__(self, cls(*args, **kwargs), **options)

    own = list(inspect.signature(cls).parameters.values())
    named = [p for p in own if p.kind != p.VAR_KEYWORD]
    more = [p for p in inspect.signature(Module).parameters.values() if p.name in OPTIONS]
    more = [p.replace(kind=p.KEYWORD_ONLY) for p in more]
    signature = inspect.Signature([*named, *more, *(p for p in own if p.kind == p.VAR_KEYWORD)])
    room = "minet" if cls.__name__ in CONTAINERS else "minet.layers"
    about = f"""The layer `{room}.{cls.__name__}` as a module.

It takes images (N, C, H, W), and besides the layer's settings, by name, those of `minet.torch.Module`, which
says what is common to all modules. Of the layer:

{inspect.getdoc(cls)}
"""
    members = {
        "__init__": __init__,
        "__doc__": about,
        "__module__": "minet.torch",
        "__signature__": signature,
    }
    return type(cls.__name__, (Module,), members)

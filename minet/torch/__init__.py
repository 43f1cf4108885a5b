"""The door to PyTorch: minet's layers as modules, weights both ways.

``minet.torch.GaussianPool(5, stride=2)``, and so on for each layer of `minet.layers`, is a torch.nn.Module;
`module` makes one of a layer or a list of layers. `load` reads a state_dict into a net, `to_torch` makes a
module of PyTorch's own layers.
"""

from __future__ import annotations

import importlib
from typing import Any

from minet.core.errors import MinetError

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    if error.name != "torch":
        raise
    raise MinetError("PyTorch is not installed", "pip install 'minet-layers[torch]'") from None

# Where things are; what is not here is a layer's name.
PUBLIC = {
    "Layer": "layer",
    "Module": "modules",
    "load": "weights",
    "module": "modules",
    "to_torch": "convert",
}

__all__ = list(PUBLIC)


def __getattr__(name: str) -> Any:
    if name in PUBLIC:
        found = getattr(importlib.import_module(f"{__name__}.{PUBLIC[name]}"), name)
    elif not name[:1].isupper():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    else:
        from minet.torch.ready import ready

        found = ready(name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    from minet.torch.ready import names

    return sorted({*PUBLIC, *names()})

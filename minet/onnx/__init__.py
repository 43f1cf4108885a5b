"""Networks as ONNX files: `export` writes one, `load` reads one.

The package onnx is imported when they are called.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

WHERE = {"export": "export_net", "load": "load_net"}  # the public names, and the modules that define them

__all__ = [*WHERE]


def __getattr__(name: str) -> Any:
    if name not in WHERE:
        raise AttributeError(f"minet.onnx has no {name!r}; it has {', '.join(WHERE)}")
    return getattr(import_module(f"{__name__}.{WHERE[name]}"), name)

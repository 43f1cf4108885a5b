"""Layer files: the layers to check that a file, or a name, stands for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

from minet.errors import MinetError
from minet.layer import Layer, Shape
from minet.modelfile import close, run_file

Example = tuple[Callable[[], Layer], Shape]


def examples(text: str) -> Iterator[Example]:
    """Every example of every layer class that `text` stands for.

    Parameters
    ----------
    text : str
        ``path/to/file.py`` or ``path/to/file.py:Class``; without ``.py`` a layer of minet's own, by its stem
        or its class: ``gaussian_pool``, ``GaussianPool``.

    Raises
    ------
    MinetError
        If there is nothing to check: no such file, class or name, or a class without examples().
    """
    found = [(cls, _examples(cls)) for cls in classes(text)]
    return ((make, shape) for _, pairs in found for make, shape in pairs)


def classes(text: str) -> list[type[Layer]]:
    """The layer classes that `text` stands for, in the order in which they are defined."""
    file, colon, name = text.rpartition(":")
    if not (colon and name.isidentifier()):
        file, name = text, ""
    if not file.endswith(".py"):
        return _own(text)
    module = run_file(Path(file))
    defined = {cls.__name__: cls for cls in _layers(module)}
    if not defined:
        raise MinetError(f"{file}: defines no layer", "class MyLayer(Layer): ...")
    if not name:
        bases = {base for cls in defined.values() for base in cls.__mro__[1:]}
        # A class that others here build on is theirs to prove, unless it has examples of its own.
        return [cls for cls in defined.values() if cls not in bases or "examples" in vars(cls)]
    if name not in defined:
        raise MinetError(
            f"{file}: has no layer {name}; it has {', '.join(defined)}", close(name, list(defined))
        )
    return [defined[name]]


def _own(name: str) -> list[type[Layer]]:
    """Layers and containers of minet, by class or by stem."""
    from minet import containers, layers

    known = {cls.__name__: cls for cls in [*layers.all_layers(), *containers.Container.__subclasses__()]}
    chosen = [cls for cls in known.values() if name in (cls.__name__, cls.stem())]
    if not chosen:
        hint = close(name, list(known)) or "a file of your own needs its ending: path/to/layer.py"
        raise MinetError(f"there is no layer {name!r}; the layers are: {', '.join(known)}", hint)
    return chosen


def _layers(module: ModuleType) -> list[type[Layer]]:
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Layer) and value.__module__ == module.__name__
    ]


def _examples(cls: type[Layer]) -> list[Example]:
    hint = "@classmethod def examples(cls): yield lambda: cls(...), (3, 7, 6)"
    try:
        pairs = [(make, tuple(shape)) for make, shape in cls.examples()]
    except NotImplementedError:
        raise MinetError(f"{cls.__name__} has no examples() to be checked on", hint) from None
    except Exception as error:
        raise MinetError(f"{cls.__name__}.examples() fails: {type(error).__name__}: {error}", hint) from error
    if not pairs:
        raise MinetError(f"{cls.__name__}.examples() gives nothing", hint)
    return pairs

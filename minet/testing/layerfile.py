"""Layer files: find the layers to check from a file or a name."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from minet.core.errors import MinetError
from minet.core.files import run_file
from minet.core.layer import Layer, is_shape
from minet.core.naming import defined, did_you_mean, relative
from minet.testing.examples import Example, examples


def all_examples(text: str) -> Iterator[Example]:
    """Return every example of every layer class that `text` names.

    Parameters
    ----------
    text : str
        ``path/to/file.py`` or ``path/to/file.py:Class``; without ``.py``, one of minet's own layers by
        stem or class: ``gaussian_pool``, ``GaussianPool``.

    Raises
    ------
    MinetError
        If there is nothing to check: no such file, class or name, or a class without examples().
    """
    found = [examples_of(cls) for cls in classes(text)]
    return (pair for pairs in found for pair in pairs)


def classes(text: str) -> list[type[Layer]]:
    """Return the layer classes that `text` names, in order of definition."""
    file, colon, name = text.partition(".py:")
    if not (colon or text.endswith(".py")):
        return _own(text)
    file = f"{file}.py" if colon else text
    if colon and not name.isidentifier():
        raise MinetError(
            f"{text!r} needs a class name after the colon, got {name!r}",
            f"{file}:MyLayer, or {file} for all its layers",
        )
    module = _imported(Path(file)) or run_file(Path(file))
    defined = {cls.__name__: cls for cls in _layers(module)}
    if not defined:
        raise MinetError(f"{file}: defines no layer", "class MyLayer(Layer): ...")
    if not name:
        bases = {base for cls in defined.values() for base in cls.__mro__[1:]}
        # A base class of others in the file is checked through them, unless it has its own examples.
        return [cls for cls in defined.values() if cls not in bases or "examples" in vars(cls)]
    if name not in defined:
        raise MinetError(
            f"{file}: has no layer {name}; it has {', '.join(defined)}", did_you_mean(name, list(defined))
        )
    return [defined[name]]


def _imported(path: Path) -> ModuleType | None:
    """Return the module of one of minet's own files; running it again would define other classes."""
    from minet import layers

    if path.is_file() and path.resolve().parent == Path(layers.__path__[0]).resolve():
        return importlib.import_module(f"minet.layers.{path.stem}")
    return None


def _own(name: str) -> list[type[Layer]]:
    """Return minet's own layers or containers of that class name or stem."""
    from minet import layers
    from minet.core import containers

    known = {cls.__name__: cls for cls in [*layers.all_layers(), *containers.Container.__subclasses__()]}
    chosen = [cls for cls in known.values() if name in (cls.__name__, cls.stem())]
    if not chosen:
        hint = did_you_mean(name, list(known)) or "name a file with its ending: path/to/layer.py"
        raise MinetError(f"there is no layer {name!r}; the layers are: {', '.join(known)}", hint)
    return chosen


def _layers(module: ModuleType) -> list[type[Layer]]:
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Layer) and value.__module__ == module.__name__
    ]


def examples_of(cls: type[Layer]) -> list[Example]:
    """Return a class's examples after trying each: a function that makes a layer, and its input shape."""
    plain: type = cls
    file, line = defined(plain)

    def error(what: str) -> MinetError:
        where = f"{relative(file)}:{line}: " if file else ""
        hint = "@classmethod def examples(cls): yield lambda: cls(...), (3, 7, 6)"
        return MinetError(f"{where}{cls.__name__}{what}", hint)

    try:
        given = list(examples(cls))
    except NotImplementedError:
        raise error(" has no examples() to check") from None
    except (Exception, SystemExit) as why:
        raise error(f".examples() fails: {type(why).__name__}: {why}") from why
    if not given:
        raise error(".examples() yields nothing")
    for pair in given:
        if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
            raise error(f".examples() yields {pair!r:.60}, not a pair of a function and a shape")
        make, shape = pair
        if isinstance(make, Layer) or not callable(make):
            raise error(f".examples() yields {make!r:.60} itself, not a function that makes it")
        if not is_shape(shape):
            raise error(f".examples() yields the shape {shape!r:.60}, not (C, H, W)")
        try:
            layer = make()
        except (Exception, SystemExit) as why:
            raise error(f".examples() yields a function that fails: {type(why).__name__}: {why}") from why
        if not isinstance(layer, Layer):
            raise error(f".examples() yields a function that returns {layer!r:.60}, not a layer")
    return [(make, tuple(shape)) for make, shape in given]

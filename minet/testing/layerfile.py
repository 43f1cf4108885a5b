"""Layer files: the layers to check that a file, or a name, stands for."""

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
    found = [examples_of(cls) for cls in classes(text)]
    return (pair for pairs in found for pair in pairs)


def classes(text: str) -> list[type[Layer]]:
    """The layer classes that `text` stands for, in the order in which they are defined."""
    file, colon, name = text.partition(".py:")
    if not (colon or text.endswith(".py")):
        return _own(text)
    file = f"{file}.py" if colon else text
    if colon and not name.isidentifier():
        raise MinetError(
            f"{text!r} wants the name of a class after the colon, got {name!r}",
            f"{file}:MyLayer, or {file} for all that it has",
        )
    module = _imported(Path(file)) or run_file(Path(file))
    defined = {cls.__name__: cls for cls in _layers(module)}
    if not defined:
        raise MinetError(f"{file}: defines no layer", "class MyLayer(Layer): ...")
    if not name:
        bases = {base for cls in defined.values() for base in cls.__mro__[1:]}
        # A class that others here build on is theirs to prove, unless it has examples of its own.
        return [cls for cls in defined.values() if cls not in bases or "examples" in vars(cls)]
    if name not in defined:
        raise MinetError(
            f"{file}: has no layer {name}; it has {', '.join(defined)}", did_you_mean(name, list(defined))
        )
    return [defined[name]]


def _imported(path: Path) -> ModuleType | None:
    """The module of a file that belongs to minet: run a second time, its classes would be other ones."""
    from minet import layers

    if path.is_file() and path.resolve().parent == Path(layers.__path__[0]).resolve():
        return importlib.import_module(f"minet.layers.{path.stem}")
    return None


def _own(name: str) -> list[type[Layer]]:
    """Layers and containers of minet, by class or by stem."""
    from minet import layers
    from minet.core import containers

    known = {cls.__name__: cls for cls in [*layers.all_layers(), *containers.Container.__subclasses__()]}
    chosen = [cls for cls in known.values() if name in (cls.__name__, cls.stem())]
    if not chosen:
        hint = did_you_mean(name, list(known)) or "a file of your own needs its ending: path/to/layer.py"
        raise MinetError(f"there is no layer {name!r}; the layers are: {', '.join(known)}", hint)
    return chosen


def _layers(module: ModuleType) -> list[type[Layer]]:
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Layer) and value.__module__ == module.__name__
    ]


def examples_of(cls: type[Layer]) -> list[Example]:
    """A class's examples, each of them tried: what makes a layer, and the shape of its input."""
    plain: type = cls
    file, line = defined(plain)

    def error(what: str) -> MinetError:
        where = f"{relative(file)}:{line}: " if file else ""
        hint = "@classmethod def examples(cls): yield lambda: cls(...), (3, 7, 6)"
        return MinetError(f"{where}{cls.__name__}{what}", hint)

    try:
        given = list(examples(cls))
    except NotImplementedError:
        raise error(" has no examples() to be checked on") from None
    except (Exception, SystemExit) as why:
        raise error(f".examples() fails: {type(why).__name__}: {why}") from why
    if not given:
        raise error(".examples() gives nothing")
    for pair in given:
        if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
            raise error(f".examples() gives {pair!r:.60}, not a pair of what makes a layer and a shape")
        make, shape = pair
        if isinstance(make, Layer) or not callable(make):
            raise error(f".examples() gives {make!r:.60} itself, not what makes it at each call")
        if not is_shape(shape):
            raise error(f".examples() gives the shape {shape!r:.60}, not (C, H, W)")
        try:
            layer = make()
        except (Exception, SystemExit) as why:
            raise error(f".examples() gives a maker that fails: {type(why).__name__}: {why}") from why
        if not isinstance(layer, Layer):
            raise error(f".examples() gives a maker of {layer!r:.60}, not of a layer")
    return [(make, tuple(shape)) for make, shape in given]

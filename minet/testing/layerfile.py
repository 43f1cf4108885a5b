"""Layer files: find the layers and losses to check from a file or a name."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from minet.core.errors import MinetError
from minet.core.files import run_file
from minet.core.layer import Layer, is_shape
from minet.core.loss import Loss
from minet.core.naming import defined, did_you_mean, relative
from minet.core.node import Node
from minet.testing.examples import examples
from minet.testing.losses import check_loss, usual_examples
from minet.testing.report import Report
from minet.testing.runner import check_layer

AnyExample = tuple[Any, ...]  # (make, in_shape) of a layer, (make, out_shape, labels) of a loss


def all_examples(text: str) -> Iterator[AnyExample]:
    """Return every example of every class that `text` names.

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


def classes(text: str, others: Callable[[ModuleType], Any] | None = None) -> list[Any]:
    """Return the classes of layers and losses that `text` names, in order of definition.

    `others` finds what else a file has to check, by name, as `minet.torch.kit.find.subjects`.
    """
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
    defined: dict[str, Any] = {cls.__name__: cls for cls in _nodes(module)}
    more = others(module) if others else None
    if not defined and not more:
        others_too = "layer, loss, torch module, autograd Function or custom op"
        what = "layer or loss" if more is None else others_too
        raise MinetError(f"{file}: defines no {what}", "class MyLayer(Layer): ...")
    if not name:
        bases = {base for cls in defined.values() for base in cls.__mro__[1:]}
        # A base class of others in the file is checked through them, unless it has its own examples.
        found = [cls for cls in defined.values() if cls not in bases or "examples" in vars(cls)]
        return [*found, *(one for one in (more.unnamed() if more else ()) if one.pairs or not found)]
    defined |= more or {}
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


def _own(name: str) -> list[type[Node]]:
    """Return minet's own layers, containers or losses of that class name or stem."""
    from minet import layers
    from minet.core import containers, loss

    losses = [cls for cls in vars(loss).values() if isinstance(cls, type) and cls is not Loss]
    own = [*layers.all_layers(), *containers.Container.__subclasses__(), *losses]
    known: dict[str, type[Node]] = {cls.__name__: cls for cls in own}
    chosen = [cls for cls in known.values() if name in (cls.__name__, cls.stem())]
    if not chosen:
        hint = did_you_mean(name, list(known)) or "name a file with its ending: path/to/layer.py"
        raise MinetError(f"there is no layer {name!r}; the layers are: {', '.join(known)}", hint)
    return chosen


def _nodes(module: ModuleType) -> list[type[Node]]:
    found = (
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, (Layer, Loss))
    )
    return [cls for cls in found if cls.__module__ == module.__name__ and not inspect.isabstract(cls)]


def check_example(cls: type[Node], example: AnyExample, backend: Any) -> Report:
    """Run all checks on one of a class's examples."""
    make, shape, *labels = example
    if issubclass(cls, Loss):
        return check_loss(make, shape, *labels, backend=backend)
    return check_layer(make, shape, backend=backend)


def examples_of(cls: type[Node]) -> list[AnyExample]:
    """Return a class's examples after trying each: a function that makes it, a shape, and a loss's labels."""
    plain: type = cls
    file, line = defined(plain)
    of_loss = issubclass(cls, Loss)
    size, kind, base = (3, "loss", Loss) if of_loss else (2, "layer", Layer)

    def error(what: str) -> MinetError:
        where = f"{relative(file)}:{line}: " if file else ""
        ends = "(5, 1, 1), np.array([0, 4, 2])" if of_loss else "(3, 7, 6)"
        return MinetError(
            f"{where}{cls.__name__}{what}", f"@classmethod def examples(cls): yield lambda: cls(...), {ends}"
        )

    try:
        given = list(_declared(cls))
    except NotImplementedError:
        raise error(" has no examples() to check") from None
    except (Exception, SystemExit) as why:
        raise error(f".examples() fails: {type(why).__name__}: {why}") from why
    if not given:
        raise error(".examples() yields nothing")
    for example in given:
        if not (isinstance(example, (tuple, list)) and len(example) == size):
            parts = "a function, a shape and labels" if of_loss else "a pair of a function and a shape"
            raise error(f".examples() yields {example!r:.60}, not {parts}")
        make, shape = example[:2]
        if isinstance(make, Node) or not callable(make):
            raise error(f".examples() yields {make!r:.60} itself, not a function that makes it")
        if not is_shape(shape):
            raise error(
                f".examples() yields the shape {shape!r:.60}, not {'(K, P, Q)' if of_loss else '(C, H, W)'}"
            )
        try:
            node = make()
        except (Exception, SystemExit) as why:
            raise error(f".examples() yields a function that fails: {type(why).__name__}: {why}") from why
        if not isinstance(node, base):
            raise error(f".examples() yields a function that returns {node!r:.60}, not a {kind}")
    return [(make, tuple(shape), *labels) for make, shape, *labels in given]


def _declared(cls: type[Node]) -> Iterable[AnyExample]:
    """The examples of a class; for a loss without, the usual ones that it accepts."""
    if not issubclass(cls, Loss):
        return examples(cls)  # type: ignore[arg-type]
    try:
        return list(cls.examples())
    except NotImplementedError:
        if found := list(usual_examples(cls)):
            return found
        raise

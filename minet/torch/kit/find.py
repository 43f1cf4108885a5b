"""What a Python file has for the kit: torch modules, autograd Functions, custom ops, and their examples."""

from __future__ import annotations

import inspect
import re
from types import ModuleType
from typing import Any

import torch  # pyright: ignore[reportMissingImports]

from minet.core.errors import MinetError
from minet.core.naming import relative
from minet.torch.kit.place import is_op, told
from minet.torch.kit.rig import seeded
from minet.torch.kit.subject import Example, Subject

Shapes = tuple[tuple[int, ...], ...]


class Found(dict[str, Subject]):
    """The subjects of a file, by name."""

    file: str = ""
    shapes: Shapes = ()

    def unnamed(self) -> list[Subject]:
        """Those that are meant where the file alone is named.

        With examples, those that have some; a part of others needs none. With ``--input``, the one module,
        or else the one function.
        """
        if not self.shapes:
            return [one for one in self.values() if one.pairs] or list(self.values())[:1]
        modules = [one for one in self.values() if one.is_module]
        bases = {base for one in modules for base in one.value.__mro__[1:]}
        modules = [one for one in modules if one.value not in bases]
        meant = modules or list(self.values())
        if len(meant) > 1:
            names = ", ".join(one.name for one in meant)
            hint = f"minet check {self.file}:{meant[0].name} --input ..."
            raise MinetError(f"{self.file}: has {names}, and --input is for one of them", hint)
        return meant


def subjects(module: ModuleType, shapes: Shapes = ()) -> Found:
    """What a file has for the kit; with `shapes`, those of the inputs instead of examples.

    Raises
    ------
    MinetError
        If the file's own ``examples()`` fails, or yields something else.
    """
    found = Found()
    found.file, found.shapes = relative(str(module.__file__)), shapes
    for name, value in vars(module).items():
        home = value._init_fn.__module__ if is_op(value) else getattr(value, "__module__", "")
        ours = isinstance(value, type) and issubclass(value, (torch.nn.Module, torch.autograd.Function))
        if home == module.__name__ and (ours or is_op(value)):
            found[name] = Subject(name, value, getattr(value, "examples", None) if ours else None, shapes)
    function = vars(module).get("examples")
    if not shapes and inspect.isfunction(function) and not function.__code__.co_argcount:
        _share(function, found)
    return found


def _share(function: Any, found: Found) -> None:
    """Give each subject its share of what the file's own ``examples()`` yield."""
    whole = Subject("examples", function)
    try:
        with seeded():
            given = list(function())
    except (Exception, SystemExit) as why:
        hint = "def examples(): yield lambda: MyModule(), (3, 7, 6)"
        raise MinetError(f"{found.file}: examples() fails: {told(why)}", hint) from why
    shares: dict[str, list[Example]] = {}
    for example in given:
        make, inputs = whole.tried(example)
        shares.setdefault(_owner(make(), found), []).append((make, inputs))
    for name, share in shares.items():
        one = found.setdefault(name, Subject(name, function))
        examples = [*(one.pairs() if one.pairs else ()), *((make, *inputs) for make, inputs in share)]
        one.pairs = examples.copy


def _owner(made: Any, found: Found) -> str:
    """The name of the subject that an example makes; of another file's class, that of the class."""
    of = getattr(made, "__self__", None)
    for name, one in found.items():
        if one.value in (made, of, type(made)):
            return name
    functions = [name for name, one in found.items() if not one.is_module]
    if inspect.isfunction(made) and len(functions) == 1:  # it calls the only one there is
        return functions[0]
    return type(made).__name__ if isinstance(made, torch.nn.Module) else getattr(made, "__name__", "examples")


def parsed(text: str) -> Shapes:
    """The shapes in ``3x32x32`` or ``3x32x32,10``.

    Raises
    ------
    MinetError
        If it is not that.
    """
    parts = text.replace(" ", "").split(",")
    if not all(re.fullmatch(r"[1-9]\d{0,8}(x[1-9]\d{0,8})*", part) for part in parts):
        hint = "the shape of one sample without the batch: --input 3x32x32; of two inputs, --input 3x32x32,10"
        raise MinetError(f"--input {text}: is not a shape", hint)
    return tuple(tuple(map(int, part.split("x"))) for part in parts)

"""A module, Function or op of a file, and its examples, each tried before any check begins."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch  # pyright: ignore[reportMissingImports]

from minet.core.errors import MinetError
from minet.core.naming import defined, relative
from minet.testing.report import Report
from minet.torch.check import check_module, is_input
from minet.torch.kit.place import is_op, told
from minet.torch.kit.rig import Input, seeded

Example = tuple[Callable[[], Any], tuple[Input, ...]]


@dataclass
class Subject:
    """What is checked under one name.

    Attributes
    ----------
    value : type, CustomOpDef or function
        The class or op; for what a file's ``examples()`` make of others' classes, that function.
    pairs : callable, optional
        Yields the examples: a function that makes it, and the shapes of its inputs.
    shapes : tuple of tuple of int
        Those of ``--input``, instead of examples.
    """

    name: str
    value: Any
    pairs: Callable[[], Iterable[Any]] | None = None
    shapes: tuple[tuple[int, ...], ...] = ()

    @property
    def __name__(self) -> str:
        return self.name

    @property
    def is_module(self) -> bool:
        return isinstance(self.value, type) and issubclass(self.value, torch.nn.Module)

    @property
    def call(self) -> str:
        """What a function that makes it holds, as typed."""
        if self.is_module:
            return f"{self.name}(...)"
        return f"{self.name}.apply" if isinstance(self.value, type) else self.name

    def error(self, what: str, hint: str = "") -> MinetError:
        file, line = defined(self.value._init_fn if is_op(self.value) else self.value)
        where = f"{relative(file)}:{line}: " if file else ""
        usual = f"def examples(): yield lambda: {self.call}, (3, 7, 6)  # without the batch"
        return MinetError(f"{where}{self.name}{what}", hint or usual)

    def examples(self) -> list[Example]:
        """Its examples, each tried; or one of the shapes that were given.

        Raises
        ------
        MinetError
            If there are none, or one is not a function that makes it and the shapes of its inputs.
        """
        if self.shapes:
            return [(self._maker(), self.shapes)]
        if self.pairs is None:
            hint = f"--input 3x32x32; or in the file: def examples(): yield lambda: {self.call}, (3, 32, 32)"
            raise self.error(" has no examples() to check", hint)
        try:
            with seeded():
                given = list(self.pairs())
        except (Exception, SystemExit) as why:
            raise self.error(f": examples() fails: {told(why)}") from why
        if not given:
            raise self.error(": examples() yields nothing")
        return [self.tried(example) for example in given]

    def tried(self, example: Any) -> Example:
        """An example that is what it must be."""
        if not (isinstance(example, (tuple, list)) and len(example) > 1):
            raise self.error(f": examples() yields {_line(example)}, not a function and an input's shape")
        make, *inputs = example
        if isinstance(make, torch.nn.Module) or not callable(make) or is_op(make):
            raise self.error(f": examples() yields {_line(make)} itself, not a function that makes it")
        for given in inputs:
            if not is_input(given):
                raise self.error(f": examples() yields the shape {_line(given)}, not one in whole numbers")
        try:
            made = make()
        except (Exception, SystemExit) as why:
            raise self.error(f": examples() yields a function that fails: {told(why)}") from why
        if not callable(made):
            raise self.error(f": examples() yields a function that returns {_line(made)}, not a module")
        return make, tuple(x if isinstance(x, torch.Tensor) else tuple(map(int, x)) for x in inputs)

    def _maker(self) -> Callable[[], Any]:
        """What makes it without examples, tried on the shapes that were given."""
        make: Any = self.value if self.is_module else lambda: getattr(self.value, "apply", self.value)
        shown = ",".join("x".join(map(str, shape)) for shape in self.shapes)
        try:
            call = make()
        except (Exception, SystemExit) as why:
            if isinstance(why, TypeError) and "argument" in str(why):
                raise self.error(f" cannot be made without arguments: {why}") from None
            raise self.error(f" cannot be made: {told(why)}") from why
        try:
            with torch.no_grad(), seeded():
                call(*(torch.zeros(3, *shape) for shape in self.shapes))
        except Exception as why:
            hint = (
                "--input is the shape of one sample without the batch: 3x32x32; of two inputs, 3x32x32,10; "
                "indices and masks are tensors that examples() yields"
            )
            raise self.error(f" fails on --input {shown} and a batch of 3: {told(why)}", hint) from None
        return make

    def check(self, example: Example, device: str = "cpu") -> Report:
        make, inputs = example
        return check_module(make, *inputs, device=device)


def _line(value: Any) -> str:
    return f"{' '.join(repr(value).split()):.60}"

"""What a CUDA file has for kernels, and which of them can run here: `minet emu`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from minet.core.errors import MinetError
from minet.emulator import module, reading
from minet.emulator.items import Item
from minet.emulator.source import Code

STOPS = re.compile(rb"[ -~]+: the emulator does not model [ -~]+")


@dataclass
class Entry:
    """A kernel of a file.

    Attributes
    ----------
    name : str
    line : str
        Where it begins.
    signature : str
        Its parameters as the compiler has them; of a template, its declaration.
    shared : int
        Bytes of shared memory that it declares.
    why_not : str
        The reason it cannot run here; empty if it can, or if it is a template.
    stops : list of str
        What it ends with if it comes there.
    example : str
        Of a template, one of its kernels: it must be named with its arguments.
    """

    name: str
    line: str
    signature: str = ""
    shared: int = 0
    why_not: str = ""
    stops: list[str] = field(default_factory=list)
    example: str = ""


def entries(path: Path, name: str, options: tuple[str, ...]) -> tuple[list[Entry], list[str]]:
    """The kernels of a file, or the one of a name; and the headers that it includes and that were not found.

    Raises
    ------
    MinetError
        If the file cannot be read or preprocessed, or has no such kernel.
    """
    given = module.options_of(options)
    whole = reading.file(path, given)
    found = []
    kernels = [whole.kernel(name)] if name else [item for item in whole.kernels if not item.special]
    of_name = Counter(item.qualified for item in kernels if not item.template)
    for item in kernels:
        called = name or (item.overload if of_name[item.qualified] > 1 else item.qualified)
        found.append(_entry(reading.code(path, given, called), item, called, given))
    return found, whole.missing


def _entry(code: Code, item: Item, name: str, options: tuple[str, ...]) -> Entry:
    found = Entry(name, code.text.shown(_begin(code, item)))
    if item.template and "<" not in name:
        found.signature = " ".join(item.head.split())
        found.example, found.why_not = item.example, code.why_not(item, "")
        return found
    try:
        loaded = module.load(code, found.name, options)
    except MinetError as error:
        found.why_not = error.message.split(": ", 1)[1]
        return found
    bare = found.name.partition("(")[0] if found.name.endswith(")") else found.name
    found.signature = f"{bare}({', '.join(map(str, loaded.parameters))})"
    found.shared, found.stops = loaded.shared, list(_stops(loaded.built))
    return found


def _begin(code: Code, item: Item) -> int:
    head = code.text.masked[item.start : item.end]
    return item.start + len(head) - len(head.lstrip())


def _stops(built: Path) -> Iterator[str]:
    """The messages of the calls in a compiled kernel that end it."""
    for found in sorted(set(STOPS.findall(built.read_bytes()))):
        yield found.decode()

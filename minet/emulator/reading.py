"""CUDA files as they were read and preprocessed in this process, until they or their headers change."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path

from minet.emulator.source import Code, preprocessed


@dataclass
class _Read:
    """A preprocessed file, kept while it and the headers that it includes stay as they are."""

    stamps: dict[Path, tuple[int, int] | None]
    code: Code
    for_kernels: dict[str, Code] = field(default_factory=dict)


_read: dict[tuple[str | Path, tuple[str, ...]], _Read] = {}


def file(source: str | Path, options: tuple[str, ...]) -> Code:
    """The file, preprocessed once for all of its kernels."""
    return _kept(source, options).code


def code(source: str | Path, options: tuple[str, ...], name: str) -> Code:
    """The file for one kernel, which may need what another one has to leave out."""
    kept = _kept(source, options)
    whole = kept.code
    return kept.for_kernels.setdefault(name, Code(whole.text, whole.items, whole.missing))


def _kept(source: str | Path, options: tuple[str, ...]) -> _Read:
    key = source.absolute() if isinstance(source, Path) else source, options
    if key not in _read or any(stamp != _stamp(path) for path, stamp in _read[key].stamps.items()):
        found = preprocessed(source, options)
        paths = [source, *found.headers] if isinstance(source, Path) else found.headers
        _read[key] = _Read({path.absolute(): _stamp(path) for path in paths}, found)
    return _read[key]


def _stamp(path: Path) -> tuple[int, int] | None:
    """What changes when a file does; None if it is not there."""
    with contextlib.suppress(OSError):
        found = path.stat()
        return found.st_mtime_ns, found.st_size
    return None

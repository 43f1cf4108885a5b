"""Files of arrays: one safetensors file with arrays by path, and facts about them as JSON.

The facts are the metadata entry ``minet``. They include ``sha256``, a checksum over facts and arrays, which
the format lacks. The same content always gives the same file, byte for byte. Nothing in it is executed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from minet.core.files import FileError, write_whole
from minet.core.layer import Layer

Arrays = dict[str, np.ndarray]
KINDS: dict[str, type] = {"step": int, "seed": int}  # of the facts that a net saves


def write(path: str | Path, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
    """Write arrays and facts, whole or not at all."""
    from safetensors.numpy import save as to_bytes

    # safetensors copies raw memory, which garbles arrays that are not contiguous.
    arrays = {name: np.asarray(value, order="C") for name, value in arrays.items()}
    plain = json.loads(json.dumps(facts, default=repr))  # as they will be read back: every key a string
    text = json.dumps({**plain, "sha256": _digest(arrays, plain)}, sort_keys=True)
    # A single entry: safetensors writes several in an order that changes from run to run.
    write_whole(path, to_bytes(arrays, {"minet": text}))


def read(path: str | Path, kinds: Mapping[str, type] = KINDS) -> tuple[Arrays, dict[str, Any]]:
    """Read arrays and facts; a safetensors file that minet did not write has no facts.

    Raises
    ------
    FileError
        If the file is missing or damaged, or if a fact is not of its kind.
    """
    arrays, metadata = _opened(path, True)
    if "minet" not in metadata:
        return arrays, {}
    facts = _checked_facts(path, metadata["minet"], kinds)
    if facts.pop("sha256", None) != _digest(arrays, facts):
        raise FileError(f"{path}: damaged: its content does not match its checksum", "use another copy")
    return arrays, facts


def facts(path: str | Path, kinds: Mapping[str, type] = KINDS) -> dict[str, Any]:
    """Read the facts alone, without the checksum, which would need the arrays; errors as of `read`."""
    _, metadata = _opened(path, False)
    return _checked_facts(path, metadata["minet"], kinds) if "minet" in metadata else {}


def _opened(path: str | Path, whole: bool) -> tuple[Arrays, dict[str, str]]:
    """A file's arrays, if wanted, and its metadata."""
    from safetensors import SafetensorError, safe_open

    if Path(path).is_dir():
        raise FileError(f"{path}: is a folder", "name the .safetensors file in it")
    try:
        with safe_open(path, framework="np") as file:
            names = file.keys() if whole else []
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except FileNotFoundError:
        raise FileError(f"{path}: no such file") from None
    except (OSError, SafetensorError, KeyError, ValueError) as error:  # KeyError: a type that NumPy lacks
        raise FileError(
            f"{path}: not a valid safetensors file: {error}", "it may be truncated: use another copy"
        ) from error


def _checked_facts(path: str | Path, text: str, kinds: Mapping[str, type]) -> dict[str, Any]:
    """Parse the facts in a file's metadata, and check the types of those that matter."""
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        raise FileError(f"{path}: its metadata was not written by minet", "use another copy")
    for name, kind in kinds.items():
        value: Any = facts.get(name, kind())
        if type(value) is not kind or (isinstance(value, int) and value < 0):
            raise FileError(f"{path}: its {name} is {value!r:.60}", "minet never writes this")
    return facts


def _digest(arrays: Mapping[str, np.ndarray], facts: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        digest.update(arrays[name].tobytes())
    return digest.hexdigest()


# -- and nets -------------------------------------------------------------------------------------------


def save(path: str | Path, net: Any) -> None:
    """Write a net's parameters and persistent state; `Net.save` says more."""
    arrays = {name: net.be.get(value) for name, value in {**net.params, **net.persistent}.items()}
    write(path, arrays, {"step": net.clock.now, "seed": net.seed})


def load(path: str | Path | Mapping[str, np.ndarray], net: Any, partial: bool) -> list[str]:
    """Read a net's parameters and persistent state; `Net.load` says more."""
    if isinstance(path, Mapping):
        arrays, facts = {name: _array(name, value) for name, value in path.items()}, {"step": net.clock.now}
        path = "these arrays"
    elif isinstance(path, str | PathLike):
        arrays, facts = read(path)
    else:
        hint = "name a file, or give arrays by path: net.load({**other.params, **other.persistent})"
        raise FileError(f"cannot load {path!r:.60}", hint)
    own = {name: value for name, value in arrays.items() if ":" not in name}  # not a solver's velocities
    found, targets = as_named_today(own, net.graph), {**net.params, **net.persistent}
    different = differences(found, targets)
    fitting = [name for name in targets if name not in different]
    if different and not (partial and fitting):
        hint = "load(file, partial=True) takes what fits" if fitting else ""
        raise FileError(f"{path}: does not fit this net\n  " + "\n  ".join(different.values()), hint)
    for name in fitting:
        net.be.copy(found[name], targets[name])
    if not partial:
        net.clock.step = facts.get("step", 0)
    return list(different.values())


def _array(name: Any, value: Any) -> Any:
    """A value that is to be loaded as an array; one of a backend stays as it is."""
    if isinstance(getattr(value, "dtype", None), np.dtype):
        return value
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: of a tensor that wants a gradient
        raise FileError(f"these arrays: {name} is no array: {error}") from error


def as_named_today(arrays: Arrays, graph: Layer) -> Arrays:
    """Arrays by path, those that an earlier version called otherwise by their names of today."""
    renamed = {
        f"{layer.full_path}.{old}": f"{layer.full_path}.{new}"
        for layer in graph.walk()
        for old, new in layer.renamed.items()
    }
    # A file with both names is no earlier version's: its arrays keep theirs, and one is reported.
    return {
        name if renamed.get(name, name) in arrays else renamed[name]: value for name, value in arrays.items()
    }


def differences(found: Mapping[str, Any], expected: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """How the arrays of a file differ from those of a net: a line for each that does, by name."""
    lines = {}
    for name in sorted({*found, *expected}):
        theirs, ours = found.get(name), expected.get(name)
        if ours is None:
            lines[name] = f"{prefix}{name} {found[name].shape} is not in the net"
        elif theirs is None:
            lines[name] = f"{prefix}{name} {ours.shape} is not in the file"
        elif theirs.shape != ours.shape:
            lines[name] = f"{prefix}{name} is {theirs.shape} in the file, {ours.shape} in the net"
        elif not np.can_cast(theirs.dtype, ours.dtype, "same_kind"):
            lines[name] = f"{prefix}{name} is {theirs.dtype} in the file, {ours.dtype} in the net"
    return lines

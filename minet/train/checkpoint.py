"""Checkpoints: one safetensors file with everything a net has learned and everything needed to resume a run.

Its arrays are the parameters and running statistics by path, as in ``net.params`` and ``net.persistent``, and
the solver's velocities as ``velocity:<path>``. Its metadata entry ``minet`` holds the facts about the run as
JSON, including a checksum over facts and arrays (``sha256``), which the format itself lacks. The same content
always gives the same file, byte for byte. Nothing in it is executed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minet.core.files import FileError, write_whole
from minet.core.net import Net
from minet.version import __version__

VELOCITY = "velocity:"
KINDS = {"model": str, "settings": dict, "epoch": int, "batch": int, "seed": int, "step": int}


class CheckpointError(FileError):
    """A checkpoint that cannot be read, or does not fit the net."""


def save(path: str | Path, net: Net, solver: Any = None, **facts: Any) -> None:
    """Write a checkpoint, whole or not at all.

    Parameters
    ----------
    path : str or Path
    net : Net
    solver : SGD, optional
        Its velocities are saved too, so that the training run can be resumed.
    **facts
        More facts to save, as JSON can hold them. The step, the seed and minet's version are added.
    """
    arrays = {**net.params, **net.persistent}
    if solver is not None:
        arrays |= {VELOCITY + name: value for name, value in solver.velocity.items()}
    facts = {"minet": __version__, "step": net.clock.step, "seed": net.seed, **facts}
    write(path, {name: net.be.get(value) for name, value in arrays.items()}, facts)


def load(path: str | Path, net: Net, solver: Any = None) -> dict[str, Any]:
    """Restore a net (and a solver's velocities) from a checkpoint, and return its facts.

    Names and shapes must match in both directions; otherwise nothing is changed.
    """
    arrays, facts = read(path)
    for old, new in _renamed(net).items():
        if old in arrays and new not in arrays:
            arrays[new] = arrays.pop(old)
    velocity = {
        name.removeprefix(VELOCITY): arrays.pop(name) for name in list(arrays) if name.startswith(VELOCITY)
    }
    targets = {**net.params, **net.persistent}
    differences = _differences(arrays, targets)
    if solver is not None:
        differences += _differences(velocity, net.params if velocity else {}, VELOCITY)
    if differences:
        settings = "".join(f" --set {name}={value}" for name, value in facts.get("settings", {}).items())
        hint = f"it was saved from {facts['model']}{settings}" if "model" in facts else ""
        raise CheckpointError(f"{path}: does not fit this net\n  " + "\n  ".join(differences), hint)
    for name, target in targets.items():
        net.be.copy(arrays[name], target)
    if solver is not None:
        solver.load(velocity)
    net.clock.step = facts.get("step", 0)
    return facts


def _renamed(net: Net) -> dict[str, str]:
    """Map the paths of older checkpoints to today's, including those of velocities."""
    paths = {
        f"{layer.full_path}.{old}": f"{layer.full_path}.{new}"
        for layer in net.graph.walk()
        for old, new in layer.renamed.items()
    }
    return paths | {VELOCITY + old: VELOCITY + new for old, new in paths.items()}


def write(path: str | Path, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
    """Write arrays and facts as one safetensors file, whole or not at all."""
    from safetensors.numpy import save as to_bytes

    # safetensors copies raw memory, which garbles arrays that are not contiguous.
    arrays = {name: np.asarray(value, order="C") for name, value in arrays.items()}
    plain = json.loads(json.dumps(facts, default=repr))  # as they will be read back: every key a string
    text = json.dumps({**plain, "sha256": _digest(arrays, plain)}, sort_keys=True)
    # A single entry: safetensors writes several in an order that changes from run to run.
    write_whole(path, to_bytes(arrays, {"minet": text}))


def read(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read the arrays and facts of a safetensors file; one that minet did not write has no facts."""
    from safetensors import SafetensorError, safe_open

    if Path(path).is_dir():
        raise CheckpointError(f"{path}: is a folder", "name the .safetensors file in it")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except (OSError, SafetensorError, KeyError, ValueError) as error:  # KeyError: a type that NumPy lacks
        raise CheckpointError(
            f"{path}: not a valid safetensors file: {error}", "it may be truncated: use another copy"
        ) from error
    if "minet" not in metadata:
        return arrays, {}
    facts = _checked_facts(path, metadata["minet"])
    if facts.pop("sha256", None) != _digest(arrays, facts):
        raise CheckpointError(f"{path}: damaged: its content does not match its checksum", "use another copy")
    return arrays, facts


def _checked_facts(path: str | Path, text: str) -> dict[str, Any]:
    """Parse the facts in a file's metadata, and check the types of those a run depends on."""
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        raise CheckpointError(f"{path}: its metadata was not written by minet", "use another copy")
    for name, kind in KINDS.items():
        value: Any = facts.get(name, kind())
        if type(value) is not kind or (isinstance(value, int) and value < 0):
            raise CheckpointError(f"{path}: its {name} is {value!r:.60}", "minet never writes this")
    return facts


def _digest(arrays: Mapping[str, np.ndarray], facts: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        digest.update(arrays[name].tobytes())
    return digest.hexdigest()


def _differences(found: Mapping[str, Any], expected: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Describe how the arrays of a file differ from those of a net, a line for each."""
    lines = []
    for name in sorted({*found, *expected}):
        theirs, ours = found.get(name), expected.get(name)
        if ours is None:
            lines.append(f"{prefix}{name} {found[name].shape} is not in the net")
        elif theirs is None:
            lines.append(f"{prefix}{name} {ours.shape} is not in the file")
        elif theirs.shape != ours.shape:
            lines.append(f"{prefix}{name} is {theirs.shape} in the file, {ours.shape} in the net")
        elif not np.can_cast(theirs.dtype, ours.dtype, "same_kind"):
            lines.append(f"{prefix}{name} is {theirs.dtype} in the file, {ours.dtype} in the net")
    return lines

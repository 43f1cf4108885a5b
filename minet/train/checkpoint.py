"""Checkpoints: one file of arrays with everything a net has learned and everything needed to resume a run.

Its arrays are the parameters and running statistics by path, as in ``net.params`` and ``net.persistent``, and
what the solver keeps as ``<kind>:<path>``, such as ``velocity:2/conv.w``. Its facts are about the run.
`minet.core.arrays_file` has the format.
"""

from __future__ import annotations

import ast
import contextlib
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minet.core import arrays_file
from minet.core.arrays_file import as_named_today, differences
from minet.core.errors import MinetError
from minet.core.files import FileError
from minet.core.net import Net
from minet.train.callback import is_array
from minet.train.optim.solver import state_of
from minet.version import __version__

KINDS = {
    **arrays_file.KINDS,
    "model": str,
    "file": str,
    "text": str,
    "beside": dict,
    "settings": dict,
    "epoch": int,
    "untested": dict,
    "batch": int,
    "micro_batches": int,
    "pixels": dict,
    "within": dict,
    "callbacks": dict,
    "tag": str,
}
CALLBACK = "callback"  # the kind of the arrays that callbacks keep: callback:<its name>:<the array's>
LITERAL = "literal"  # a setting that JSON would change is saved as {"literal": "(3, 5)"}


def save(path: str | Path, net: Net, solver: Any = None, **facts: Any) -> None:
    """Write a checkpoint, whole or not at all.

    Parameters
    ----------
    path : str or Path
    net : Net
    solver : Solver, optional
        Its state is saved too, so that the training run can be resumed.
    **facts
        More facts to save, as JSON can hold them; `settings` may hold any Python literals, and `callbacks`
        arrays by name in the dict of each. The step, the seed and minet's version are added.
    """
    net.steps.settle()
    arrays = {**net.params, **net.persistent}
    if solver is not None:
        arrays |= state_of(solver, net)
    if "callbacks" in facts:
        facts["callbacks"] = kept = {name: dict(state) for name, state in facts["callbacks"].items()}
        for name, state in kept.items():
            for key in [key for key, value in state.items() if is_array(value)]:
                arrays[f"{CALLBACK}:{name}:{key}"] = state.pop(key)
    facts = {"minet": __version__, "step": net.clock.now, "seed": net.seed, **facts}
    on_host = {name: a if isinstance(a, np.ndarray) else net.be.get(a) for name, a in arrays.items()}
    write(path, on_host, facts)


def load(path: str | Path, net: Net, solver: Any = None) -> dict[str, Any]:
    """Restore a net (and a solver's state) from a checkpoint, and return its facts.

    Names and shapes must match in both directions; otherwise nothing is changed. A file without a solver's
    state, such as one that `Net.save` wrote, leaves the solver as it is.
    """
    net.steps.settle()
    arrays, facts = read(path)
    kept = {name: arrays.pop(name) for name in list(arrays) if ":" in name}
    for name in [name for name in kept if name.startswith(f"{CALLBACK}:")]:
        callback, _, key = name.removeprefix(f"{CALLBACK}:").partition(":")
        facts.setdefault("callbacks", {}).setdefault(callback, {})[key] = kept.pop(name)
    arrays, targets = as_named_today(arrays, net.graph), {**net.params, **net.persistent}
    lines = [*differences(arrays, targets).values()]
    if solver is not None and kept:
        kept, state = _kept_as_named_today(kept, net), state_of(solver, net)
        if (theirs := _kinds(kept)) != (ours := _kinds(state)):
            raise FileError(
                f"{path}: is of another solver, which keeps {', '.join(theirs)}; "
                f"{type(solver).__name__} keeps {', '.join(ours) or 'nothing'}",
                "resume with the solver that it was saved with; net.load(file) reads the parameters alone",
            )
        lines += differences(kept, state).values()
        arrays, targets = arrays | kept, targets | state
    if lines:
        settings = "".join(
            f" --set {shlex.quote(f'{name}={value}')}" for name, value in facts.get("settings", {}).items()
        )
        hint = f"it was saved from {facts['model']}{settings}" if "model" in facts else ""
        raise FileError(f"{path}: does not fit this net\n  " + "\n  ".join(lines), hint)
    for name, target in targets.items():
        net.be.copy(arrays[name], target)
    net.clock.step = facts.get("step", 0)
    return facts


def _kinds(state: Mapping[str, Any]) -> list[str]:
    """The kinds of arrays that a solver keeps."""
    return sorted({name.partition(":")[0] for name in state})


def _kept_as_named_today(kept: dict[str, np.ndarray], net: Net) -> dict[str, np.ndarray]:
    """A solver's arrays, by the names that their parameters have today."""
    named: dict[str, np.ndarray] = {}
    for kind in _kinds(kept):
        own = {name.partition(":")[2]: kept[name] for name in kept if name.startswith(f"{kind}:")}
        named |= {f"{kind}:{path}": value for path, value in as_named_today(own, net.graph).items()}
    return named


def write(path: str | Path, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
    """Write arrays and facts as one safetensors file, whole or not at all."""
    if isinstance(facts.get("settings"), Mapping):
        facts = {**facts, "settings": as_json(facts["settings"])}
    arrays_file.write(path, arrays, facts)


def read(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read the arrays and facts of a safetensors file; one that minet did not write has no facts."""
    arrays, facts = arrays_file.read(path, KINDS)
    if "settings" in facts:
        facts["settings"] = from_json(path, facts["settings"])
    return arrays, facts


def facts_of(path: str | Path) -> dict[str, Any]:
    """The facts alone, without reading and checking the arrays."""
    facts = arrays_file.facts(path, KINDS)
    if "settings" in facts:
        facts["settings"] = from_json(path, facts["settings"])
    return facts


def as_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON can hold them: what it would change, such as a tuple, as a Python literal.

    Raises
    ------
    MinetError
        If a setting is neither.
    """
    return {name: _setting_as_json(name, value) for name, value in settings.items()}


def _setting_as_json(name: str, value: Any) -> Any:
    text = repr(value)
    with contextlib.suppress(TypeError, ValueError):
        if not isinstance(value, dict) and repr(json.loads(json.dumps(value))) == text:
            return value
    try:
        same = repr(ast.literal_eval(text)) == text
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        same = False
    if not same:
        raise MinetError(
            f"the setting {name}={text:.80} cannot be saved with a run",
            "settings are Python literals: numbers, strings, tuples, lists, dicts, sets, True, False, None",
        )
    return {LITERAL: text}


def from_json(path: str | Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that `as_json` made this of."""
    try:
        return {
            name: ast.literal_eval(value[LITERAL]) if isinstance(value, dict) else value
            for name, value in settings.items()
        }
    except (KeyError, TypeError, ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise FileError(f"{path}: its settings are {settings!r:.80}", "minet never writes this") from error

"""Whether all ranks are about to train the same: model, settings, data, version."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from minet.train.checkpoint import as_json
from minet.version import __version__

CALLED = {
    "minet": "minet's version",
    "text": "the text of the model file",
    "content": "the checksum of images and labels",
    "parameters": "the checksum of the parameters",
    "options": "the options of the ranks",
}


def disagreement(facts: list[dict[str, Any]]) -> tuple[str, str] | None:
    """A message and a hint about the first rank that differs from rank 0; None if none does.

    Parameters
    ----------
    facts : list of dict
        By rank.
    """
    first = facts[0]
    for rank, found in enumerate(facts):
        for name in [*first, *found]:
            ours, theirs = first.get(name), found.get(name)
            if ours == theirs:
                continue
            if isinstance(ours, dict) and isinstance(theirs, dict):  # settings: which one
                name = next(key for key in [*ours, *theirs] if ours.get(key) != theirs.get(key))
                ours, theirs = ours.get(name, "its default"), theirs.get(name, "its default")
            what = CALLED.get(name, name)
            shown = "" if name == "text" else f": {theirs!r:.80} there, {ours!r:.80} in rank 0"
            hint = "start all ranks with one command, on machines with the same files and the same minet"
            return f"rank {rank} would not train the same as rank 0: {what} differs{shown}", hint
    return None


def facts_of(trainer: Any) -> dict[str, Any]:
    """What all ranks must have alike, as JSON can hold it."""
    net, batches = trainer.net, trainer.batches
    return {
        "minet": __version__,
        "model": trainer.facts.get("model"),
        "settings": as_json(trainer.facts.get("settings", {})),
        "text": trainer.facts.get("text"),
        "beside": {file: zlib.crc32(text.encode()) for file, text in trainer.facts.get("beside", {}).items()},
        "seed": net.seed,
        "batch": batches.whole,
        "epochs": trainer.epochs,
        "backend": f"{net.be.name}, {net.be.dtype}",
        "data": [one.name for one in trainer.sets],
        "images": [len(one) for one in trainer.sets],
        "content": trainer.content(),
        "parameters": checksum(net),
        "place": trainer.place,
    }


def checksum(net: Any) -> int:
    """A number that tells parameters apart, bit for bit."""
    return zlib.crc32(np.ascontiguousarray(net.be.get(net.memory.flat_params)).data)

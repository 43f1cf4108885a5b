"""What a run says of itself: ``run.json`` in its folder, written when it starts.

It has what the log lacks: the model and its file's text, the settings, the seed, how many epochs there will
be, the machine; that it came to its end, or the error that ended it. So a run can be listed, compared and
reported without its checkpoint.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from minet.core.files import FileError, write_whole
from minet.core.machine import processor
from minet.core.net import Net
from minet.train import checkpoint
from minet.train.modelfile import Model
from minet.train.trainer import Callback, Result, Trainer
from minet.version import __version__

ABOUT = "run.json"
KINDS: dict[str, type] = {
    "model": str, "file": str, "text": str, "beside": dict, "settings": dict, "defaults": dict, "seed": int,
    "epochs": int, "batch": int, "backend": str, "parameters": int, "data": list, "machine": dict,
    "began": str, "ended": bool, "error": str, "tag": str,
}  # fmt: skip


class About(Callback):
    """Write ``run.json`` at the start, and in it how the run ends.

    If a run ends before it has left anything else in its folder, the file is removed again.

    Parameters
    ----------
    folder : str or Path
    model : Model
    """

    def __init__(self, folder: str | Path, model: Model) -> None:
        self.file, self.model, self.facts = Path(folder) / ABOUT, model, dict[str, Any]()

    def on_start(self, trainer: Trainer) -> None:
        net, model = trainer.net, self.model
        self.facts = {
            **model.facts,
            "settings": checkpoint.as_json(model.settings),
            "defaults": {name: repr(value) for name, value in model.known.items()},
            "seed": net.seed,
            "epochs": trainer.epochs,
            "batch": trainer.batches.whole,
            "backend": net.be.name,
            "parameters": sum(value.size for value in net.params.values()),
            "data": [f"{one.name}: {len(one):,} images" for one in trainer.sets],
            "machine": machine(net),
            "began": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        }
        self._write()

    def on_end(self, trainer: Trainer, result: Result) -> None:
        if not trainer.within.batches:  # else it was stopped within an epoch, and goes on there
            self.facts["ended"] = True
            self._write()

    def on_error(self, trainer: Trainer, error: BaseException) -> None:
        with contextlib.suppress(OSError):
            if not any(path != self.file for path in self.file.parent.iterdir()):
                self.file.unlink(missing_ok=True)
            elif not isinstance(error, KeyboardInterrupt) and self.facts:
                self.facts["error"] = " ".join(str(error).split()) or type(error).__name__
                with contextlib.suppress(FileError):  # the first error is the one to report
                    self._write()

    def _write(self) -> None:
        write_whole(self.file, (json.dumps(self.facts, indent=1) + "\n").encode())


def machine(net: Net) -> dict[str, str]:
    """What a net runs on, by name: processor, threads, system, versions."""
    found = {"processor": processor(), "threads": str(_threads()), "system": platform.platform(terse=True)}
    found |= {"minet": __version__, "Python": platform.python_version()}
    for package in ("numpy", "numba", *(["pycuda"] if net.be.name == "cuda" else [])):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _threads() -> int:
    from numba import config

    return int(getattr(config, "NUMBA_NUM_THREADS", os.cpu_count() or 1))


def read(folder: str | Path) -> dict[str, Any]:
    """What a run says of itself; nothing if it does not, or if its file is damaged.

    A run folder may come from anywhere, so facts that are not of their kind are left out.
    """
    file = Path(folder) / ABOUT
    with contextlib.suppress(OSError, ValueError, RecursionError, FileError):
        facts = json.loads(file.read_text())
        if isinstance(facts, dict):
            kept = {name: facts[name] for name, kind in KINDS.items() if type(facts.get(name)) is kind}
            kept["settings"] = checkpoint.from_json(file, kept.get("settings", {}))
            return kept
    return {}

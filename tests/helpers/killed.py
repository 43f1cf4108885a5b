"""Train a model file in a process that kills itself: ``killed.py half:3 toy.py 2 out``.

With a checkpoint every 2 steps, it ends by SIGKILL at its third event of that kind, wherever that is. Kinds
are the starts of steps, and the moments in a write: half of a file or of a line written, before a file is
flushed to the disk, renamed or linked. ``none:1`` kills never. At its end it prints how many events of each
kind there were.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from pathlib import Path

from minet.core import files
from minet.core.net import Net
from minet.runs import runs
from minet.train.callbacks import WEIGHTS, Curves
from minet.train.line_log import LineLog

KIND, _, NUMBER = sys.argv[1].partition(":")
seen = Counter()


def due(kind):
    """Count an event; whether this is the one to die at."""
    seen[kind] += 1
    return kind == KIND and seen[kind] == int(NUMBER)


def die():
    os.write(1, f"step={seen['step']}\n".encode())
    os.kill(os.getpid(), signal.SIGKILL)


def dying(module, name, kind):
    """Have a function die before it does anything."""
    real = getattr(module, name)

    def function(*args, **more):
        if due(kind):
            die()
        return real(*args, **more)

    setattr(module, name, function)


WHOLE = files.write_whole


def write_whole(path, data, real=WHOLE):
    if due("half"):
        path.with_name(f"{path.name}.part").write_bytes(data[: len(data) // 2])
        die()
    real(path, data)


def add(self, record, real=LineLog.add):
    real(self, record)
    if due("line"):
        with self.path.open("r+") as file:
            file.truncate(self.path.stat().st_size - 9)
        die()


for module in list(sys.modules.values()):
    if getattr(module, "write_whole", None) is WHOLE:
        module.write_whole = write_whole
LineLog.add = add
Curves.on_end = lambda *_: None  # plots take longer than the training
dying(Net, "start_step", "step")
for name, kind in (("fsync", "flush"), ("replace", "rename"), ("link", "link")):
    dying(os, name, kind)

model, every, out = sys.argv[2:]
runs.train(model, save_every=every, out=Path(out), resume=Path(out, WEIGHTS).exists())
print(*(f"{kind}={count}" for kind, count in sorted(seen.items())))

"""The time to start training: `python -m benchmarks.startup [MODEL] [--cold]`.

Seconds from the command `minet train MODEL` to the end of its first training step: interpreter, imports,
data, net, kernels. The caches are warm: a first run is not counted. With --cold, one more run has an empty
Numba cache, so that every kernel is compiled.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

from minet.bench.process import environment
from minet.core.errors import MinetError

TARGETS = {"warm": 3.0, "cold": 30.0}
CODE = """
import os, sys, time
from minet.cli.main import main
from minet.core import net
step = net.Net.start_step
def first(*args):
    step(*args).loss()
    print("first step", flush=True)
    os._exit(0)
net.Net.start_step = first
sys.argv = ["minet", "train", sys.argv[1], "--out", sys.argv[2]]
main()
"""


def seconds(model: str, cache: str = "") -> float:
    """Return the seconds from the start of a process to the end of its first training step."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-P", "-c", CODE, model, os.path.join(folder, "run")]
        env = {**environment(), **({"NUMBA_CACHE_DIR": cache} if cache else {})}
        start = time.perf_counter()
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        spent = time.perf_counter() - start
    if "first step" not in done.stdout:
        last = (done.stderr.strip().splitlines() or ["no error output"])[0]
        raise MinetError(f"minet train {model} did not finish its first step: {last}")
    return spent


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.startup", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("model", nargs="?", default="digits")
    parser.add_argument("--cold", action="store_true", help="also with an empty cache")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args(arguments)
    try:
        seconds(options.model)
        warm = [seconds(options.model) for _ in range(max(1, options.runs))]
        show(options.model, "warm", warm)
        if options.cold:
            with tempfile.TemporaryDirectory() as cache:
                show(options.model, "cold", [seconds(options.model, cache)])
    except MinetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def show(model: str, what: str, times: list[float]) -> None:
    middle = statistics.median(times)
    spread = f" ({min(times):.2f} to {max(times):.2f})" if len(times) > 1 else ""
    under = "" if middle <= TARGETS[what] else f"  < target: at most {TARGETS[what]:g}"
    print(f"minet train {model}, {what}: {middle:.2f} s to the end of the first step{spread}{under}")


if __name__ == "__main__":
    sys.exit(main())

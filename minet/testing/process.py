"""`minet check` in a process of its own, for what may end the process: loops, sanitizers, bounds checks."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

LOOPS = r"\b(numba|minet\.loops)\b"
NATIVE = r"\b(ctypes|cffi|cpp_extension|load_inline|load_library)\b"  # code in C, as torch's extensions
CHILD = "MINET_CHECK_CHILD"  # set in such a process
LIMIT = 30  # seconds without computing: a loop that overwrote a lock or a barrier may wait forever
STOOD_STILL = -1000  # in place of an exit status; no signal's number


def again(file: str, options: list[str], **changed: str) -> subprocess.CompletedProcess[str]:
    """Run ``minet check FILE`` with these options and this same minet, and changes of the environment.

    A process that no longer computes is ended; its exit status is then STOOD_STILL.
    """
    ours = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(ours), CHILD: "1", **changed}
    # -P: the current folder must not come before the standard library.
    command = [sys.executable, "-P", "-m", "minet", "check", file, *options]
    with subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
    ) as child:
        try:
            out, err, still = _awaited(child)
        finally:
            child.kill()
    return subprocess.CompletedProcess(command, STOOD_STILL if still else child.returncode, out, err)


def _awaited(child: subprocess.Popen[str]) -> tuple[str, str, bool]:
    """A process's outputs when it has ended, and whether it had to be ended because it stood still."""
    last, still = None, 0
    while still < LIMIT:
        try:
            return *child.communicate(timeout=1), False
        except subprocess.TimeoutExpired:
            last, before = computed(child.pid), last
            still = still + 1 if last and last == before else 0
    child.kill()
    return *child.communicate(), True


def computed(pid: int) -> int:
    """The CPU time of a process and of those it started, in clock ticks; 0 where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:  # another system, or it has just ended
        return 0
    return sum(map(int, fields[11:15])) + sum(computed(int(child)) for child in " ".join(lists).split())


def apart() -> bool:
    """Whether this is such a process, which may die without harm."""
    return CHILD in os.environ


def needed(file: str, kind: str = LOOPS) -> bool:
    """Whether a check of this file may end the process: it, or a file that it imports, has Numba loops."""
    path = Path(re.sub(r"\.py:.*$", ".py", file))
    return not apart() and path.suffix == ".py" and any(re.search(kind, t) for t in _texts(path))


def died(status: int) -> str:
    """How a process ended without an exit status, such as "died with SIGSEGV"; empty if it has one."""
    if status == STOOD_STILL:
        return f"stood still: it computed nothing for {LIMIT} s"
    return f"died with {signal.Signals(-status).name}" if status < 0 else ""


def _texts(path: Path) -> Iterator[str]:
    """The text of a Python file, and of the files next to it that it imports, and so on."""
    left, seen = [path], set[Path]()
    while left:
        file = left.pop()
        try:
            text = file.read_text(errors="replace")
        except OSError:  # which the check itself reports
            continue
        yield text
        seen.add(file)
        imports = " ".join(re.findall(r"^\s*(?:from|import)\s.*", text, re.MULTILINE))
        words = set(re.findall(r"\w+", imports))
        left += [other for word in words if (other := path.with_name(f"{word}.py")) not in seen]

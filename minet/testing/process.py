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


def again(file: str, options: list[str], **changed: str) -> subprocess.CompletedProcess[str]:
    """Run ``minet check FILE`` with these options and this same minet, and changes of the environment."""
    ours = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(ours), CHILD: "1", **changed}
    # -P: the current folder must not come before the standard library.
    command = [sys.executable, "-P", "-m", "minet", "check", file, *options]
    return subprocess.run(command, env=env, capture_output=True, text=True, errors="replace", check=False)


def needed(file: str, kind: str = LOOPS) -> bool:
    """Whether a check of this file may end the process: it, or a file that it imports, has Numba loops."""
    path = Path(re.sub(r"\.py:.*$", ".py", file))
    return CHILD not in os.environ and path.suffix == ".py" and any(re.search(kind, t) for t in _texts(path))


def died(status: int) -> str:
    """How a process ended that a signal ended, such as "SIGSEGV"; empty if none did."""
    return signal.Signals(-status).name if status < 0 else ""


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

"""What becomes of all kernels of the public repositories, templates that need arguments aside.

Files are counted by two processes. What has been counted is kept beside the compiled kernels, so that a count
that was stopped goes on, and only changed files and a changed emulator are counted again.
"""

from __future__ import annotations

import hashlib
import json
import re
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.public_cases import CASES, COMMITS
from minet import MinetError
from minet.backends import kernel_cache
from minet.core.files import shipped, write_whole
from minet.emulator import module, reading

MOST = 300  # seconds for a kernel
TOO_LONG = f"takes more than {MOST} s to compile"
Work = tuple[Path, tuple[str, ...]]  # a file and the compiler's options for it


def everything(folder: Path) -> str:
    """The table of what becomes of the kernels, as Markdown."""
    count: Counter[str] = Counter()
    work = list(_files(folder))
    with ProcessPoolExecutor(2) as pool:
        jobs = [pool.submit(of_file, *one) for one in work]
        for number, job in enumerate(as_completed(jobs), 1):
            count.update(job.result())
            print(f"{number} of {len(work)} files, {count.total()} kernels", file=sys.stderr, flush=True)
    rows = [f"| {what} | {number} |" for what, number in count.most_common()]
    total = f"{count.total()} kernels in {len(work)} files, each compiled, but not linked."
    return "\n".join(
        ["## All kernels of these repositories", "", total, "", "| | kernels |", "|---|---|", *rows, ""]
    )


def _files(folder: Path) -> Iterator[Work]:
    for repository in COMMITS:
        root = folder / repository
        shared = {part for case in CASES if case.repository == repository for part in case.include}
        for file in sorted(root.rglob("*.cu")):
            yield (
                file,
                tuple(f"-I{path}" for path in (file.parent, *(root / part for part in sorted(shared)))),
            )


def of_file(file: Path, options: tuple[str, ...]) -> list[str]:
    """What becomes of each kernel of a file, in a few words."""
    key = "\0".join([_emulator(), *options]).encode() + file.read_bytes()
    note = kernel_cache.folder() / f"{hashlib.sha256(key).hexdigest()[:40]}.count"
    if note.exists():
        found: list[str] = json.loads(note.read_text())
        return found
    found = list(_counted(file, options))
    if TOO_LONG not in found:
        write_whole(note, json.dumps(found).encode())
    return found


def _counted(file: Path, options: tuple[str, ...]) -> Iterator[str]:
    given = module.options_of(options)
    try:
        kernels = reading.file(file, given).kernels
    except MinetError as error:
        yield f"the file cannot be preprocessed ({error.message.split(': ')[-1][:40]})"
        return
    for item in kernels:
        own = reading.code(file, given, item.qualified)
        if item.template:
            refused = own.why_not(item, "")
            yield kind(refused) if refused else "a template, to be named with its arguments"
            continue
        try:
            with _limit(MOST):
                module.check(own, item.qualified, given)
        except TimeoutError:
            yield TOO_LONG
        except MinetError as error:
            yield kind(error.message)
        else:
            yield "compiles"


def kind(why_not: str) -> str:
    """Why a kernel cannot run here, in a few words."""
    refused = re.search(r"does not model ([^:]+):", why_not)
    return f"refused: {refused[1]}" if refused else "does not compile"


@cache
def _emulator() -> str:
    """A sum of what decides it: the emulator's headers and its Python."""
    kernels, own = shipped("kernels"), Path(module.__file__).parent
    files = [*kernels.glob("emulator*"), *kernels.glob("emulator/**/*.h*"), *own.glob("*.py")]
    text = b"".join(file.read_bytes() for file in sorted(files) if file.is_file())
    return hashlib.sha256(text).hexdigest()


@contextmanager
def _limit(seconds: int) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)

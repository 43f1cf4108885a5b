"""Run folders: ``runs/<model>``, ``runs/<model>-2`` and so on, each written to by one run at a time."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from minet.core.errors import MinetError
from minet.runs.about import ABOUT
from minet.train import modelfile, older
from minet.train.run_files import (
    AVERAGE,
    BEST,
    CURVES,
    EVENTS,
    KERNEL_LOG,
    KERNELS,
    LOG,
    OLDER,
    RATES,
    STATISTICS,
    WEIGHTS,
)

RUNS = Path("runs")
OF_CALLBACKS = (BEST, AVERAGE, RATES, STATISTICS, EVENTS, OLDER)
OUTPUT = "output.txt"  # what a run printed that `minet compare` started
BESIDE = (LOG, KERNEL_LOG, CURVES, KERNELS, ABOUT, OUTPUT, *OF_CALLBACKS)  # files of a run beside its weights
OURS = {*BESIDE, *(f"{name}.part" for name in (*BESIDE, WEIGHTS))}


class Busy(MinetError):
    """A run folder that another run holds."""


@contextlib.contextmanager
def new(stem: str, out: Path | None = None) -> Iterator[Path]:
    """Make and lock a folder for a new run: `out`, or the first in ``runs/`` that no other run made.

    `out` may exist if it holds nothing, or only what a run left that ended before its first checkpoint. If
    the new run fails before it has written anything, the folders that were made are removed again.
    """
    names = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
    folder, made = Path(), list[Path]()
    with contextlib.ExitStack() as held:
        try:
            for folder in (RUNS / name for name in names) if out is None else [out]:
                made = [path for path in (folder, *folder.parents) if not os.path.exists(path)]
                try:
                    folder.mkdir(parents=True, exist_ok=out is not None)
                    held.enter_context(locked(folder))
                    break
                except Busy:
                    made = []  # the other's now
                    if out is not None:
                        raise
                except OSError as error:
                    if out is not None or not isinstance(error, FileExistsError):
                        what = f"{folder!s:.200}: cannot be created: {error.strerror}"
                        raise MinetError(what, "choose another --out") from error
            _check_unused(folder)
            yield folder
        except BaseException:
            for path in made:
                with contextlib.suppress(OSError):
                    path.rmdir()  # fails if the folder is not empty
            raise


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run folder; the system lets go of it when this process ends, however it ends."""
    handle = os.open(folder, os.O_RDONLY)
    _handles.add(handle)
    try:
        if not (_lock(handle) and _is(folder, handle)):
            raise Busy(
                f"{folder}: another run is writing there", "wait until it ends, or choose another with --out"
            )
        yield
    finally:
        _handles.discard(handle)
        os.close(handle)


_handles: set[int] = set()


def _close_all() -> None:
    """In a forked process: let go of its copies, as it may outlive the run."""
    while _handles:
        os.close(_handles.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_all)


def _lock(handle: int) -> bool:
    """Lock a folder, unless it is locked; where neither system nor disk knows such locks, nobody has it."""
    with contextlib.suppress(ImportError, OSError):
        import fcntl

        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _is(folder: Path, handle: int) -> bool:
    """Whether this is still the folder that was opened: a run that fails at once removes its folder."""
    try:
        return os.path.samestat(folder.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _check_unused(folder: Path) -> None:
    if not os.access(folder, os.W_OK):
        raise MinetError(f"{folder}: cannot be written to", "choose another --out")
    others = sorted({path.name for path in folder.iterdir()} - OURS)
    if older.candidates(folder):
        hint = "choose another --out, or continue its run with --resume"
        raise MinetError(f"{folder}: is not empty: it holds a run", hint)
    if others:
        raise MinetError(f"{folder}: is not empty: it holds {others[0]}", "choose another --out")


def old(file_or_name: str | Path, out: Path | None = None) -> Path:
    """The folder of a run to resume: `out`, or the one with the model's newest checkpoint."""
    if out is None:
        return latest(file_or_name)
    if not older.candidates(out):
        ended = "its run ended before its first checkpoint" if os.path.isdir(out) else "no such folder"
        raise MinetError(f"{out / WEIGHTS}: no such file: {ended}", "to begin anew, leave out --resume")
    return out


def find(run: str | Path) -> Path:
    """The folder of a run: a folder or its weights, a model for its newest run, or a name in ``runs/``."""
    path = Path(run)
    for folder in (path, path.parent) if path.name == WEIGHTS else (path,):
        if holds_run(folder):
            return folder
    if path.suffix == ".py" or str(run) in modelfile.names():
        return latest(run)
    if holds_run(RUNS / path):
        return RUNS / path
    what = f"holds no {WEIGHTS} or {LOG}" if os.path.isdir(path) else "no such run"
    known = sorted((folder for folder in RUNS.glob("*") if holds_run(folder)), key=os.path.getmtime)
    hint = f"there are: {', '.join(map(str, known[-9:]))}" if known else "minet train MODEL"
    if path.suffix == ".onnx":
        hint = f"minet import {run!s:.200}"
    raise MinetError(f"{run!s:.200}: {what}", hint)


def with_page(run: str | Path, out: Path | None, name: str) -> tuple[Path, Path]:
    """The folder of a run, and the HTML file of a page of it: `out`, or that name in the folder."""
    if out is not None and out.suffix not in (".html", ".htm"):
        raise MinetError(f"--out writes HTML, got {out}", f"--out {out.with_suffix('.html')}")
    folder = find(run)
    return folder, folder / name if out is None else out


def holds_run(folder: Path) -> bool:
    """Whether a run has left something there."""
    return any(os.path.isfile(folder / name) for name in (WEIGHTS, LOG, KERNEL_LOG))


def latest(file_or_name: str | Path) -> Path:
    """The run folder that holds a model's newest checkpoint."""
    path, others = modelfile.find(file_or_name), []
    stem = path.stem
    if holds_run(path):
        raise MinetError(f"{path}: is a run's folder", "name the model file; --weights or --out names a run")
    found = [folder for folder in RUNS.glob("*") if re.fullmatch(rf"{re.escape(stem)}(-\d+)?", folder.name)]
    saved = {folder: files[0] for folder in found if (files := older.candidates(folder))}
    for folder in sorted(saved, key=lambda folder: saved[folder].stat().st_mtime_ns, reverse=True):
        facts = older.newest_whole(folder)[1]
        if facts.get("model") != stem:  # stem-2 may also be a model's name
            continue
        if modelfile.is_of(path, facts):
            return folder
        others.append(f"{folder} is of {facts['file']}")
    raise MinetError(
        f"{RUNS / stem}: no run of {stem} with a {WEIGHTS}" + (f"; {others[0]}" if others else ""),
        f"minet train {shlex.quote(str(file_or_name))}",
    )

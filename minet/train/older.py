"""The checkpoints of a run before its newest: ``checkpoints/step-120.safetensors``, by their steps."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path
from typing import Any

from minet.core.files import FileError
from minet.train import checkpoint
from minet.train.run_files import BEST, OLDER, WEIGHTS

NAME = re.compile(r"step-(\d+)\.safetensors")


def found(folder: Path) -> dict[int, Path]:
    """A run's older checkpoints, by their steps, the newest first."""
    if not os.path.isdir(folder / OLDER):
        return {}
    numbers = {path: NAME.fullmatch(path.name) for path in (folder / OLDER).glob("step-*.safetensors")}
    steps = {int(number[1]): path for path, number in numbers.items() if number}
    return dict(sorted(steps.items(), reverse=True))


def keep(file: Path, step: int) -> None:
    """Keep a checkpoint that is about to be replaced, under the name of its step."""
    try:
        (file.parent / OLDER).mkdir(exist_ok=True)
        if file.is_file():
            also(file, file.parent / OLDER / f"step-{step}.safetensors")
    except OSError as error:
        found = f"{file.parent / OLDER}: cannot be written to: {error.strerror or error}"
        raise FileError(found, "check the free space and your permissions") from error


def drop(folder: Path, step: int, count: int) -> None:
    """Remove all but so many of the newest; and any that is ahead of this step, the run's last."""
    steps = found(folder)
    for path in [steps[number] for number in steps if number > step]:
        path.unlink(missing_ok=True)
    for path in [steps[number] for number in steps if number <= step][count:]:
        path.unlink(missing_ok=True)
    if not count:
        with contextlib.suppress(OSError):
            (folder / OLDER).rmdir()  # fails if the folder is not empty, or not there


def also(file: Path, name: Path) -> None:
    """Give a file another name too, whole or not at all; a copy where the disk knows no links."""
    part = name.with_name(f"{name.name}.part")
    part.unlink(missing_ok=True)
    try:
        try:
            os.link(file, part)
        except OSError:
            shutil.copyfile(file, part)
        os.replace(part, name)
    finally:
        part.unlink(missing_ok=True)  # there if it failed, or if both names were of this file already


def candidates(folder: Path) -> list[Path]:
    """The checkpoints that a run may be resumed from, the newest first, and the best last."""
    every = [folder / WEIGHTS, *found(folder).values(), folder / BEST]
    return [path for path in every if os.path.isfile(path)]


def newest_whole(folder: Path) -> tuple[Path, dict[str, Any], list[str]]:
    """The newest checkpoint that can be read, its facts, and what is wrong with those that cannot.

    Raises
    ------
    FileError
        If none can be read; of the newest.
    """
    errors: list[FileError] = []
    for path in candidates(folder):
        try:
            return path, checkpoint.read(path)[1], [error.message for error in errors]
        except FileError as error:
            errors.append(error)
    raise errors[0] if errors else FileError(f"{folder / WEIGHTS}: no such file")

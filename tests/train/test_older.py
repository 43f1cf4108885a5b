"""The checkpoints before the newest: which are kept, and which one a run is resumed from."""

import os

import numpy as np
import pytest

from minet.core.files import FileError
from minet.train import checkpoint, older
from minet.train.run_files import BEST, WEIGHTS


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def save(file, step):
    checkpoint.write(file, {"w": np.full(3, step, np.float32)}, {"step": step})


def step(file):
    return checkpoint.read(file)[1]["step"]


def names(folder):
    return [path.name for path in older.found(folder).values()]


@pytest.mark.parametrize("links", [True, False])
def test_the_newest_are_kept_by_their_steps(folder, links, monkeypatch):
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(95, "not supported")))
    file = folder / WEIGHTS
    for number in (2, 4, 30, 31):
        if file.exists():
            older.keep(file, step(file))
        save(file, number)
        older.drop(folder, number, 2)
    assert names(folder) == ["step-30.safetensors", "step-4.safetensors"]
    assert [step(path) for path in older.found(folder).values()] == [30, 4] and step(file) == 31
    older.keep(file, 31)
    older.keep(file, 31)  # both names are of one file already
    assert not list(folder.rglob("*.part"))
    older.drop(folder, 5, 9)  # a run that went back to step 5
    assert names(folder) == ["step-4.safetensors"]
    older.drop(folder, 5, 0)
    assert not (folder / "checkpoints").exists()


def test_the_newest_that_is_whole_is_found(folder):
    with pytest.raises(FileError, match=r"weights.safetensors: no such file"):
        older.newest_whole(folder)
    for number in (9, 10):
        save(folder / WEIGHTS, number)
        older.keep(folder / WEIGHTS, number)
    save(folder / WEIGHTS, 11)
    save(folder / BEST, 5)
    assert older.newest_whole(folder) == (folder / WEIGHTS, {"step": 11}, [])

    def damage(path):
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)

    damage(folder / WEIGHTS)
    path, facts, told = older.newest_whole(folder)
    assert (path.name, facts) == ("step-10.safetensors", {"step": 10})
    assert told == [f"{folder / WEIGHTS}: damaged: its content does not match its checksum"]
    (folder / WEIGHTS).unlink()
    path.write_bytes(path.read_bytes()[:50])
    assert older.newest_whole(folder)[0].name == "step-9.safetensors"
    for path in older.found(folder).values():
        path.unlink()
    assert older.newest_whole(folder)[0].name == BEST
    damage(folder / BEST)
    with pytest.raises(FileError, match=r"best.safetensors: damaged"):
        older.newest_whole(folder)


def test_a_folder_that_cannot_be_made_is_named(folder):
    save(folder / WEIGHTS, 1)
    (folder / "checkpoints").touch()
    with pytest.raises(FileError, match="checkpoints: cannot be written to: File exists"):
        older.keep(folder / WEIGHTS, 1)

"""Run folders: one run at a time writes into each, whatever else is started, stopped or killed."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from minet import MinetError
from minet.runs import folders, runs
from minet.train import checkpoint
from minet.train.callbacks import WEIGHTS

TOY = Path(__file__).parents[1] / "helpers/toy.py"
ROOT = TOY.parents[2]
HOLD = """
import sys
from pathlib import Path
from minet.runs import folders

with folders.new("m", Path(sys.argv[1]) if sys.argv[1:] else None) as folder:
    print(folder, flush=True)
    sys.stdin.readline()
    (folder / "log.jsonl").write_text("kept")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


class Holder:
    """A process that holds a run folder until it is told to end."""

    def __init__(self, *args):
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, *args], env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def folder(self):
        return self.process.stdout.readline().strip()

    def end(self, how=None):
        if how:
            self.process.send_signal(how)
        return self.process.communicate("\n")[1]


def test_runs_that_start_together_each_get_a_folder_of_their_own():
    holders = [Holder() for _ in range(3)]
    assert sorted(holder.folder() for holder in holders) == ["runs/m", "runs/m-2", "runs/m-3"]
    for holder in holders:
        assert not holder.end()
    assert all(Path(name, "log.jsonl").is_file() for name in ("runs/m", "runs/m-2", "runs/m-3"))


@pytest.mark.parametrize("existing", [False, True])
def test_of_runs_with_one_out_one_is_let_in(existing):
    if existing:
        Path("a").mkdir()
    holders = [Holder("a") for _ in range(3)]
    (first,) = [holder for holder in holders if holder.folder() == "a"]
    for holder in holders:
        if holder is not first:
            assert "MinetError" in (err := holder.end()) or "folders.Busy" in err
            assert "a: another run is writing there" in err
    first.end()
    assert Path("a/log.jsonl").read_text() == "kept"


def test_a_folder_that_is_held_is_not_resumed_and_one_whose_holder_was_killed_is():
    runs.train(TOY, {"epochs": 1}, out=Path("a"))
    shutil.copy(f"a/{WEIGHTS}", "w")
    for name in (WEIGHTS, "best.safetensors"):
        Path("a", name).unlink()
    holder = Holder("a")
    for name in ("curves.png", "log.jsonl"):
        assert Path("a", name).exists()
    assert holder.folder() == "a"
    shutil.copy("w", f"a/{WEIGHTS}")
    with pytest.raises(MinetError, match="a: another run is writing there"):
        runs.train(TOY, {"epochs": 2}, out=Path("a"), resume=True)
    holder.end(signal.SIGKILL)
    runs.train(TOY, {"epochs": 2}, out=Path("a"), resume=True)
    assert checkpoint.read(f"a/{WEIGHTS}")[1]["epoch"] == 2


def test_a_forked_process_does_not_hold_the_folder_longer_than_the_run():
    (read, write), (ready, up) = os.pipe(), os.pipe()
    with folders.new("m") as held:
        child = os.fork()
        if not child:
            os.write(up, b"!")
            os.close(write)
            os.read(read, 1)  # returns at the end of the file: until the parent closes it
            os._exit(0)
        os.read(ready, 1)
        with pytest.raises(folders.Busy), folders.locked(held):
            pass
    with folders.locked(held):
        pass
    os.close(write)
    assert os.waitpid(child, 0)[1] == 0
    for pipe in (read, ready, up):
        os.close(pipe)


def test_a_folder_that_its_run_removes_is_not_taken_for_the_new_one(monkeypatch):
    def removed(folder, handle):
        Path(folder).rmdir()
        return real(folder, handle)

    real = folders._is
    monkeypatch.setattr(folders, "_is", removed)
    Path("a").mkdir()
    with pytest.raises(folders.Busy), folders.locked(Path("a")):
        pass


def test_where_a_disk_has_no_locks_runs_go_on_without(monkeypatch):
    def no_locks(*args):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with folders.new("m") as held:
        assert str(held) == "runs/m"


def test_a_new_run_takes_the_next_free_folder_and_the_newest_is_found():
    for expected in ("runs/toy", "runs/toy-2", "runs/toy-3"):
        _, folder = runs.train(TOY, {"epochs": 1})
        assert str(folder) == expected
    assert str(folders.latest(TOY)) == "runs/toy-3"
    os.utime(Path("runs/toy-2") / WEIGHTS, (2e9, 2e9))
    assert str(folders.latest(TOY)) == "runs/toy-2"
    Path("runs/toy-toy").mkdir()
    shutil.move(Path("runs/toy-2") / WEIGHTS, "runs/toy-toy")  # a run of another model
    assert str(folders.latest(TOY)) == "runs/toy-3"


@pytest.mark.parametrize("left", ["log.jsonl", f"{WEIGHTS}.part", "log.jsonl.part", "curves.png"])
def test_what_a_run_left_that_saved_nothing_does_not_block_the_next(left):
    Path("a").mkdir()
    Path("a", left).write_text("left")
    with pytest.raises(MinetError, match=f"a/{WEIGHTS}: no such file: its run ended before its first"):
        runs.train(TOY, out=Path("a"), resume=True)
    runs.train(TOY, {"epochs": 1}, out=Path("a"))
    assert {path.name for path in Path("a").iterdir()} >= {WEIGHTS, "log.jsonl", "curves.png"}


def test_a_folder_with_a_run_or_with_files_of_others_is_refused():
    runs.train(TOY, {"epochs": 1}, out=Path("a"))
    with pytest.raises(MinetError, match=r"a: is not empty: it holds a run\n  hint: .* with --resume"):
        runs.train(TOY, {"epochs": 1}, out=Path("a"))
    Path("b").mkdir()
    Path("b/notes.txt").touch()
    with pytest.raises(MinetError, match=r"b: is not empty: it holds notes.txt\n  hint: choose another"):
        runs.train(TOY, {"epochs": 1}, out=Path("b"))


def test_a_run_that_fails_at_once_removes_the_folders_it_made_and_no_others():
    Path("there").mkdir()
    for out in ("there/a/b", "there", None):
        with pytest.raises(MinetError, match="has no setting 'x'"):
            runs.train(TOY, {"x": 1}, out=out and Path(out))
        assert list(Path().iterdir()) == [Path("there")]
        assert not list(Path("there").iterdir())


@pytest.mark.parametrize("resume", [False, True])
def test_a_name_that_is_too_long_is_refused(resume):
    with pytest.raises(MinetError, match=r"x: cannot be created: File name too long|no such file") as caught:
        runs.train(TOY, out=Path("x" * 300), resume=resume)
    assert len(str(caught.value)) < 400 + 150 * resume

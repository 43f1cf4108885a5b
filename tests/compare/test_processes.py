"""Runs as processes: their share of the cores, their command, and why they failed."""

import signal
import sys
from pathlib import Path

import pytest

from minet.cli.options import parsed
from minet.compare import processes
from minet.compare.grid import Combination, Job
from minet.compare.processes import Processes, command, reason


def job(folder=Path("out/a"), **settings):
    return Job(Combination(settings, settings), 3, folder)


def test_the_command_gives_the_settings_as_they_are(tmp_path):
    settings = {"epochs": 2, "pool": "max", "pair": (1, 2), "name": "a, b", "number": "3"}
    words = command(job(tmp_path, **settings), "toy.py", "cpu")
    assert words[:5] == [sys.executable, "-m", "minet", "train", "toy.py"]
    assert words[words.index("--out") + 1] == str(tmp_path) and words[words.index("--seed") + 1] == "3"
    given = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    assert parsed(given) == settings


def test_a_run_with_a_checkpoint_goes_on(tmp_path):
    (tmp_path / "weights.safetensors").touch()
    words = command(job(tmp_path, width=3), "toy.py", "cpu")
    assert "--resume" in words and "--seed" not in words and "--set" not in words


@pytest.mark.parametrize(("cores", "count", "threads"), [("8", 2, 4), ("2", 2, 1), ("2", 3, 1), ("7", 2, 3)])
def test_runs_share_the_cores(monkeypatch, cores, count, threads):
    monkeypatch.setenv("NUMBA_NUM_THREADS", cores)
    assert Processes(count, "toy.py", "cpu").threads == threads


@pytest.mark.parametrize(
    ("status", "text", "why"),
    [
        (0, "error: no", ""),
        (
            2,
            "toy: 3 parameters\nerror: the loss is nan\n  hint: lower it\n",
            "the loss is nan\n  hint: lower it",
        ),
        (2, "error: one\nerror: two", "two"),
        (2, "Error: no such option\nTry it\nNo such option: --x", "No such option: --x"),
        (1, "", "ended with status 1"),
        (-signal.SIGKILL, "  1/2  0.5\n", "killed by SIGKILL"),
        (1, "this error: is not one at the start of a line\nlast", "last"),
    ],
)
def test_why_a_run_failed(tmp_path, status, text, why):
    (tmp_path / "output.txt").write_text(text)
    assert reason(status, tmp_path / "output.txt") == why


@pytest.fixture
def programs(monkeypatch, tmp_path):
    """Let jobs run programs instead of trainings; the second item is a list of the environments."""

    def made(*texts):
        names = [tmp_path / str(i) for i in range(len(texts))]
        by_folder = dict(zip(names, texts, strict=True))
        monkeypatch.setattr(
            processes, "command", lambda one, *_: [sys.executable, "-c", by_folder[one.folder]]
        )
        return [job(name) for name in names]

    return made


def test_what_fails_does_not_stop_the_others(programs, monkeypatch):
    monkeypatch.setenv("NUMBA_NUM_THREADS", "6")
    told = "import os; print(os.environ['NUMBA_NUM_THREADS'], os.environ['OMP_NUM_THREADS'])"
    jobs = programs("import sys; print('error: no'); sys.exit(2)", told, "import os; os.kill(os.getpid(), 9)")
    ends = dict(Processes(2, "toy.py", "cpu").run(jobs))
    assert [ends[one] for one in jobs] == ["no", "", "killed by SIGKILL"]
    assert (jobs[1].folder / "output.txt").read_text() == "3 3\n"


WAITING = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in what a script starts with &
signal.signal(signal.SIGTERM, signal.default_int_handler)
print("error: none", flush=True)
try:
    signal.pause()
except KeyboardInterrupt:
    print("saved")
    sys.exit(130)
"""


def test_runs_that_are_stopped_are_interrupted_once_and_no_other_begins(programs):
    jobs = programs("", WAITING, "print('begun')")
    runner = Processes(2, "toy.py", "cpu")
    ends = runner.run([jobs[1], jobs[0]])
    assert next(ends) == (jobs[0], "")
    while not (jobs[1].folder / "output.txt").read_text():  # until it waits
        pass
    with pytest.raises(KeyboardInterrupt):
        ends.throw(KeyboardInterrupt())
    assert (jobs[1].folder / "output.txt").read_text() == "error: none\nsaved\n"
    assert not runner.running and runner.stopped
    assert runner._train(jobs[2]) == "stopped" and not (jobs[2].folder / "output.txt").read_text()

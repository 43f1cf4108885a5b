"""The script for a card: parts within limits, and what it leaves behind."""

import json
import os
import signal
import sys

import numpy as np
import pytest

from benchmarks import card
from minet.bench.cases import layer


def part(name, code, full=60, quick=60, timed=True):
    return card.Part(name, [sys.executable, "-c", code], full, quick, timed)


HANG = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); signal.pause()"


def test_a_part_that_hangs_or_fails_does_not_lose_the_others(tmp_path, capsys, monkeypatch):
    """What hangs is interrupted first: minet bench then writes what it has measured."""
    sent, send = [], os.killpg
    monkeypatch.setattr(os, "killpg", lambda group, number: (sent.append(number), send(group, number)))
    monkeypatch.setattr(card, "GRACE", 0.1)
    chosen = [part("hangs", HANG, full=1), part("fails", "print(1); exit(3)"), part("works", "print('fine')")]
    rows = card.run(chosen, tmp_path, False, 600)
    assert [row["ended"] for row in rows] == ["stopped at its limit of 1 s", "status 3", "status 0"]
    assert rows[0]["status"] < 0 and sent[0] == signal.SIGINT
    assert (tmp_path / "works.txt").read_text() == "fine\n"
    written = json.loads((tmp_path / "card.json").read_text())
    assert written["parts"] == rows and {"card", "versions", "machine", "date"} <= set(written)
    assert "== fails: status 3" in capsys.readouterr().out


@pytest.mark.slow
def test_parts_share_the_time_that_is_left(tmp_path):
    rows = card.run([part("one", HANG), part("no time left", HANG)], tmp_path, False, 0.5)
    assert len(rows) == 1 and rows[0]["ended"] == "stopped at its limit of 0 s"
    assert card.run([part("left out", "print()", quick=0)], tmp_path, True, 60) == []


@pytest.mark.parametrize("quick", [False, True])
def test_the_limits_add_up(tmp_path, monkeypatch, quick):
    monkeypatch.setattr(card.shutil, "which", lambda name: sys.executable)
    monkeypatch.setattr(card, "find_spec", lambda name: True)
    found = card.parts(tmp_path, quick)
    assert [part.name for part in found] == [
        "doctor", "tests", "ahead", *card.TOOLS, "bench", "averages", "loader",
    ]  # fmt: skip
    limits = {
        timed: [p.quick if quick else p.full for p in found if p.timed == timed] for timed in (True, False)
    }
    assert sum(limits[True]) + max(limits[False]) <= card.TOTAL[quick]


def test_what_times_nothing_runs_side_by_side(tmp_path):
    """Each of two parts waits for the other's file."""
    waits = "import time, pathlib as p; p.Path({!r}).touch()\nwhile not p.Path({!r}).exists(): pass"
    one, two = str(tmp_path / "1"), str(tmp_path / "2")
    chosen = [
        part("last", "print()"),
        part("one", waits.format(one, two), timed=False),
        part("two", waits.format(two, one), timed=False),
    ]
    rows = card.run(chosen, tmp_path, False, 60)
    assert [(row["part"], row["status"]) for row in rows] == [("one", 0), ("two", 0), ("last", 0)]


def test_the_table_has_a_line_for_each_direction():
    case = layer("ReLU", (2, 3, 4, 5)).as_dict()
    timed = {"case": case, "failed": "", "minet": 0.0125, "share": None, "ratio": None, "rival": None}
    beside = {"share": 0.7649, "ratio": 1.234, "rival": "torch-nchw", "best": 0.0154}
    rows = [
        {**timed, "phase": "fprop", **beside},
        {**timed, "phase": "bprop"},
        {**timed, "phase": "fprop+bprop"},
        {"case": case, "phase": "fprop", "failed": "y is not finite"},
    ]
    assert card.table(rows).splitlines()[2:] == [
        "| ReLU 2x3x4x5 | fprop | 12.5 | 76 % | 1.23 | torch-nchw 15.4 |",
        "| ReLU 2x3x4x5 | bprop | 12.5 |  |  |  |",
        "| ReLU 2x3x4x5 | fprop | | | | y is not finite |",
    ]


@pytest.mark.slow
def test_what_parts_run(capsys):
    card.kernels("cpu")
    word, *numbers = capsys.readouterr().out.split()
    assert word == "losses" and len(numbers) == 4 + 3 and np.isfinite([float(n) for n in numbers]).all()


@pytest.mark.slow
def test_average_pooling_against_float64(capsys):
    pytest.importorskip("torch", reason="torch is not installed")
    card.averages("cpu")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert all(float(word) < 1e-6 for line in lines for word in line.split() if "e-" in word)


def test_the_bench_within_it(tmp_path, monkeypatch):
    """`--inside bench` takes words of cases' names, and writes bench.json."""
    asked = {}
    monkeypatch.setattr(card.peaks, "measured", lambda backend: None)
    monkeypatch.setattr(card.run_bench, "measure", lambda *a: asked.update(cases=a[0], file=a[5]))
    assert card.main(["--inside", "bench", "--out", str(tmp_path), "ReLU 64", "LRN"]) == 0
    assert [case.layer for case in asked["cases"]] == ["PReLU", "ReLU", "LRN"]
    assert asked["file"] == tmp_path / "bench.json"


def test_an_unknown_part_is_an_error(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        card.main(["--out", str(tmp_path), "nonesuch"])
    assert end.value.code == 2
    assert "no part is called 'nonesuch'; the parts are: doctor, tests" in capsys.readouterr().err

"""docs/way.md: every stop exists, and a training run calls them in the page's order."""

from __future__ import annotations

import ast
import re
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from minet.cli.main import app

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/way.md").read_text()
STOPS = re.findall(r"`([\w/]+\.py): ([\w.]+)`", PAGE)
FIRST = re.findall(r"^\| `([\w/]+\.py): ([\w.]+)`", PAGE, re.MULTILINE)  # of each row: called in this order


def defined(file):
    """Qualified names of a file's functions."""
    names = set()

    def visit(node, prefix):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                names.add(prefix + child.name)
                visit(child, f"{prefix}{child.name}.")

    visit(ast.parse((ROOT / file).read_text()), "")
    return names


@pytest.mark.parametrize(("file", "function"), STOPS, ids=lambda part: part.rpartition("/")[2])
def test_a_stop_exists(file, function):
    assert function in defined(file)


def test_the_files_on_the_way_exist():
    named = re.findall(r"`((?:minet|kernels|models|tests)/[\w/]+\.\w+)", PAGE)
    assert len(named) > len(STOPS) and all((ROOT / name).is_file() for name in named)


def test_a_training_run_takes_this_way(tmp_path, monkeypatch):
    calls = []

    def profile(frame, event, arg):
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(str(ROOT)):
            calls.append((str(Path(code.co_filename).relative_to(ROOT)), code.co_qualname))

    monkeypatch.chdir(tmp_path)
    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        app(["train", "digits", "--epochs", "1", "--backend", "cpu"], standalone_mode=False)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    # Numba's functions show in no profile: their callers do.
    wanted = [stop for stop in FIRST if "minet/loops/" not in stop[0] or stop[1] == "conv"]
    assert Counter(wanted).keys() <= Counter(calls).keys(), set(wanted) - set(calls)
    at = -1
    for stop in wanted:
        assert stop in calls[at + 1 :], f"{stop} is not called after the stop before it"
        at = calls.index(stop, at + 1)

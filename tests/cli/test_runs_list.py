"""`minet runs`: what is in a folder of runs, within 80 columns, in a pipe too."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from minet.cli.main import app
from minet.runs import folders

TOY = Path(__file__).parents[1] / "helpers/toy.py"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    shutil.copy(TOY, "toy.py")


def minet(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


def listed(*args):
    result = minet("runs", *args)
    assert result.exit_code == 0, result.output
    assert max(map(len, result.stdout.splitlines())) <= 80 and "\x1b" not in result.stdout
    return result.stdout


def aged(*names):
    """Let runs have been written in this order."""
    for i, name in enumerate(names):
        os.utime(Path("runs") / name, (i, i))


def test_states_settings_and_results():
    minet("train", "toy.py", "--set", "width=4", "--seed", 2)
    for name in ("toy-2", "toy-3", "toy-4"):
        shutil.copytree("runs/toy", f"runs/{name}")
    log = Path("runs/toy-2/log.jsonl")
    facts = json.loads(Path("runs/toy/run.json").read_text())
    del facts["ended"]
    log.write_text(log.read_text().splitlines()[0] + "\n")
    Path("runs/toy-2/run.json").write_text(json.dumps(facts | {"epochs": 3}))
    Path("runs/toy-3/weights.safetensors").unlink()
    Path("runs/toy-3/best.safetensors").unlink()
    shutil.rmtree("runs/toy-3/checkpoints")
    Path("runs/toy-4/run.json").write_text(
        json.dumps(facts | {"error": "the loss is nan\x1b[31m " + "at step 3 " * 12})
    )
    aged("toy-3", "toy-4", "toy-2", "toy")
    accuracy = json.loads(Path("runs/toy/log.jsonl").read_text().splitlines()[-1])["accuracy"]
    with folders.locked(Path("runs/toy")):
        rows = listed().splitlines()
    assert re.split("  +", rows[0]) == ["run", "state", "epochs", "measured", "model and settings"]
    assert re.split("  +", rows[1]) == [
        "toy-3",
        "broken",
        "2/2",
        f"{100 * accuracy:.2f} %",
        "toy width=4 seed=2",
    ]
    assert rows[2] == "    its run ended before its first checkpoint"
    assert rows[4].startswith("    the loss is nan?[31m at step 3") and rows[5].startswith("    ")
    assert rows[-2].split()[:3] == ["toy-2", "interrupted", "2/3"]
    assert rows[-1].split()[:3] == ["toy", "running", "2/2"]


def test_long_names_and_settings_stay_within_the_width():
    settings = [
        f"{name}={value}" for name, value in (("width", 4), ("rate", 0.123456789), ("lr", 0.0123456789))
    ]
    out = Path("runs/compare-toy/epochs=1,lr=0.0123456789,rate=0.123456789,width=4,seed=1")
    minet("train", "toy.py", "--epochs", 1, "--seed", 1, "--out", out, "--set", *settings)
    text = listed()
    assert f"{out.relative_to('runs')}\n" in text
    assert all(word in text for word in settings)
    assert listed("runs/compare-toy").count("finished") == 1


def test_a_loss_is_named():
    shutil.copy(TOY.with_name("regression.py"), "regression.py")
    minet("train", "regression.py", "--epochs", 1)
    assert re.search(r"regression +finished +1/1 +\w+ \d", listed())


def test_where_there_are_none():
    assert minet("runs").stderr == "error: runs: no such folder\n  hint: minet train MODEL makes runs/MODEL\n"
    Path("runs").mkdir()
    assert "runs: holds no runs" in minet("runs").stderr and minet("runs").exit_code == 2

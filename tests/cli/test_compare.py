"""`minet compare`: every combination by every seed, resumed, not repeated; failures told; runs alone."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from minet.cli.main import app
from minet.train import checkpoint

TOY = Path(__file__).parents[1] / "helpers/toy.py"
OUT = Path("runs/compare-toy")
FILES = {"table.csv", "runs.csv", "compare.png", "report.html"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(TOY.parents[2]))
    shutil.copy(TOY, "toy.py")


def minet(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


def compared(*args, status=0):
    result = minet("compare", *args)
    assert result.exit_code == status, result.output
    return result.stdout


def refused(*args):
    before = sorted(Path().rglob("*"))
    result = minet("compare", *args)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ") and result.stderr.count("error:") == 1
    assert [path for path in sorted(Path().rglob("*")) if "__pycache__" not in path.parts] == before
    return result.stderr


def lines(name):
    with open(OUT / name) as file:
        return list(csv.DictReader(file))


def last(folder):
    return json.loads((folder / "log.jsonl").read_text().splitlines()[-1])


def test_every_combination_by_every_seed_ends_in_a_table_and_goes_on_where_it_was_stopped(browser):
    args = ("toy.py", "--set", "width=4,8", "--seeds", 2, "--jobs", 2, "--epochs", 2, "--backend", "cpu")
    planned = compared(*args, "--dry-run")
    assert planned.splitlines() == [
        "toy: 2 combinations, 4 runs, 0 of them done, in runs/compare-toy",
        *(f"  width={width} seed={seed}: train" for seed in (0, 1) for width in (4, 8)),
    ]
    assert not Path("runs").exists()

    told = compared(*args)
    folders = {path.name for path in OUT.iterdir() if path.is_dir()}
    assert folders == {f"epochs=2,width={width},seed={seed}" for seed in (0, 1) for width in (4, 8)}
    assert {path.name for path in OUT.iterdir() if path.is_file()} == FILES
    assert all(f"wrote runs/compare-toy/{name}\n" in told for name in FILES)
    rows = {row["width"]: row for row in lines("table.csv")}
    for width in ("4", "8"):
        found = [last(OUT / f"epochs=2,width={width},seed={seed}")["accuracy"] for seed in (0, 1)]
        assert float(rows[width]["accuracy_mean"]) == pytest.approx(sum(found) / 2)
        assert f"{100 * sum(found) / 2:.2f} ± " in told
    assert len(lines("runs.csv")) == 4
    opened = browser.open(OUT / "report.html", 360)
    assert (opened.fetched, opened.errors, opened.wide) == ([], [], [])

    minet("train", "toy.py", "--epochs", 2, "--set", "width=8", "--seed", 1, "--out", "alone")
    same = OUT / "epochs=2,width=8,seed=1"
    assert (same / "weights.safetensors").read_bytes() == Path("alone/weights.safetensors").read_bytes()

    # One run is lost, one was killed in its second epoch: only these two are trained.
    times = {path: path.stat().st_mtime_ns for path in OUT.glob("*/weights.safetensors")}
    shutil.rmtree(OUT / "epochs=2,width=4,seed=0")
    minet("train", "toy.py", "--epochs", 1, "--set", "width=8", "--seed", 1, "--out", "one")
    arrays, facts = checkpoint.read("one/weights.safetensors")
    checkpoint.write(same / "weights.safetensors", arrays, facts | {"settings": {"epochs": 2, "width": 8}})
    (same / "log.jsonl").write_text((same / "log.jsonl").read_text().splitlines()[0] + "\n")
    facts = json.loads((same / "run.json").read_text())
    (same / "run.json").write_text(json.dumps({name: facts[name] for name in facts if name != "ended"}))
    assert compared(*args, "--dry-run").splitlines()[1:] == [
        "  width=4 seed=0: train", "  width=8 seed=0: done",
        "  width=4 seed=1: done", "  width=8 seed=1: go on after epoch 1 of 2",
    ]  # fmt: skip
    assert "2 of them done" in compared(*args)
    changed = {path.parent.name for path, time in times.items() if path.stat().st_mtime_ns != time}
    assert changed == {"epochs=2,width=4,seed=0", "epochs=2,width=8,seed=1"}
    assert "resuming after epoch 1" in (same / "output.txt").read_text()


FAILING = """
class Failing(SGD):
    def update(self, net):
        if self.lr > 1 and net.seed:
            raise ValueError("too <fast>")
        super().update(net)


def solver(lr=0.05, epochs=epochs):
    return Failing(lr, momentum=0.9, schedule=Cosine(epochs))
"""


@pytest.mark.slow
def test_a_run_that_fails_is_told_and_the_others_go_on():
    Path("toy.py").write_text(TOY.read_text() + FAILING)
    args = ("toy.py", "lr=0.05,1.5", "--seeds", 2, "--epochs", 1)
    result = minet("compare", *args)
    assert result.exit_code == 1
    assert "lr=1.5 seed=1: failed: " in result.stdout and "too <fast>" in result.stdout
    assert "1 of 2" in result.stdout and result.stderr.startswith("failed: lr=1.5 seed=1: ")
    assert [row["failed"] for row in lines("table.csv")] == ["0", "1"]
    assert sum("too <fast>" in row["error"] for row in lines("runs.csv")) == 1
    assert "too &lt;fast&gt;" in (OUT / "report.html").read_text()
    assert minet("compare", *args).exit_code == 1  # tried again


def test_a_combination_whose_net_cannot_be_made_fails_alone():
    told = compared("toy.py", "--set", "width=4,0", "--epochs", 1, status=1)
    assert "width=0 seed=0: failed: " in told and "width=4 seed=0: " in told


def test_a_setting_that_is_given_twice_is_refused():
    assert "the setting epochs is given twice" in refused("toy.py", "--set", "epochs=1,2", "--epochs", 1)


def test_what_changed_since_is_refused():
    args = ("toy.py", "--epochs", 1)
    compared(*args)
    Path("toy.py").write_text(TOY.read_text() + "\nOTHER = 1\n")
    assert "toy.py has changed since this run began\n  hint: choose another --out" in refused(*args)
    compared(*args, "--out", "elsewhere")
    assert {path.name for path in Path("elsewhere").iterdir()} == {*FILES, "epochs=1,seed=0"}


def test_finished_runs_side_by_side():
    for seed, width in ((0, 4), (1, 4), (0, 8)):
        minet("train", "toy.py", "--epochs", 1, "--seed", seed, "--set", f"width={width}")
    told = compared("toy", "runs/toy-2", "toy-3")
    head, _, *rows = told.splitlines()
    assert head.split() == ["width", "runs", "test", "accuracy", "time", "parameters"]
    assert [row.split()[:2] for row in rows] == [["4", "2"], ["8", "1"]]
    assert not list(Path("runs").glob("*.csv"))
    compared("toy", "toy-2", "toy-3", "--out", "side")
    assert {path.name for path in Path("side").iterdir()} == FILES
    assert compared("runs") == told  # a folder of them


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("toy.py", "--set", "widht=1,2"), "has no setting 'widht'"),
        (("toy.py", "--set", "width=4,max"), "width must be of type int"),
        (("toy.py", "--set", "width=4,,8"), "is not NAME=VALUE,VALUE"),
        (("toy.py", "width=4", "--set", "width=8"), "--set width is given twice"),
        (("toy.py", "--seeds", 0), "--seeds must be at least 1, got 0"),
        (("toy.py", "--jobs", -1), "--jobs must be at least 1, got -1"),
        (("toy.py", "--epochs", 0), "epochs must be a whole number of at least 1"),
        (("nowhere.py",), "nowhere.py: no such file"),
        (("digist",), "there is no model 'digist'"),
        (("width=4",), "what is to be compared?"),
        (("toy.py", "other.py"), "no run of toy"),
        (("a", "b"), "a: no such run"),
        (("a", "b", "--seeds", 3), "settings are for one model, not for runs"),
    ],
)
def test_mistakes_are_refused_before_anything_runs(args, message):
    assert message in refused(*args)

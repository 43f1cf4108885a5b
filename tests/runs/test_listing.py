"""Runs as they are found: their state, from any remains; the command that trains them again."""

import json
import os
import shlex
import shutil
from pathlib import Path

import pytest

from minet.cli.options import parsed
from minet.runs import about, folders, listing, runs
from minet.runs.listing import Run, text_of
from minet.train import checkpoint

TOY = Path(__file__).parents[1] / "helpers/toy.py"
RUN = Path("runs/toy")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Each test has a run of two epochs of its own."""
    monkeypatch.chdir(tmp_path)
    Path("toy.py").write_text(TOY.read_text())
    runs.train("toy.py", {"width": 4}, seed=2)


def unfinished():
    """As if the run had been killed in its second epoch."""
    arrays, facts = checkpoint.read(RUN / "weights.safetensors")
    checkpoint.write(RUN / "weights.safetensors", arrays, facts | {"epoch": 1})
    lines = (RUN / "log.jsonl").read_text().splitlines(keepends=True)
    (RUN / "log.jsonl").write_text(lines[0])
    facts = json.loads((RUN / "run.json").read_text())
    del facts["ended"]
    (RUN / "run.json").write_text(json.dumps(facts))


def test_a_finished_run():
    run = Run.of(RUN)
    assert (run.state, run.why, run.epoch, run.epochs, run.model) == ("finished", "", 2, 2, "toy")
    assert run.measured == ("accuracy", run.records[-1]["accuracy"])
    assert run.seconds == sum(record["seconds"] for record in run.records)


def test_a_run_that_ended_before_its_last_epoch_is_finished():
    facts = json.loads((RUN / "run.json").read_text())
    (RUN / "run.json").write_text(json.dumps(facts | {"epochs": 9}))
    assert Run.of(RUN).state == "finished"


def test_an_interrupted_run():
    unfinished()
    assert (Run.of(RUN).state, Run.of(RUN).epoch, Run.of(RUN).epochs) == ("interrupted", 1, 2)


def test_a_running_one():
    unfinished()
    with folders.locked(RUN):
        assert Run.of(RUN).state == "running"
    assert Run.of(RUN).state == "interrupted"


def test_broken_ones():
    shutil.rmtree(RUN / "checkpoints")
    (RUN / "best.safetensors").unlink()
    damaged = (RUN / "weights.safetensors").read_bytes()[:-40]
    (RUN / "weights.safetensors").write_bytes(damaged)
    assert Run.of(RUN).state == "broken" and "not a valid safetensors file" in Run.of(RUN).why
    (RUN / "weights.safetensors").unlink()
    run = Run.of(RUN)
    assert (run.state, run.why) == ("broken", "its run ended before its first checkpoint")
    facts = json.loads((RUN / "run.json").read_text())
    (RUN / "run.json").write_text(json.dumps(facts | {"error": "the loss is nan"}))
    assert (Run.of(RUN).state, Run.of(RUN).why) == ("broken", "the loss is nan")


def test_a_run_of_an_earlier_version_is_told_by_its_checkpoint_and_pictures():
    (RUN / about.ABOUT).unlink()
    run = Run.of(RUN)
    assert (run.state, run.epoch, run.epochs, run.model) == ("finished", 2, 0, "toy")
    assert run.settings == {"width": 4} and run.facts["seed"] == 2
    (RUN / "curves.png").unlink()
    assert Run.of(RUN).state == "interrupted"


def test_a_log_with_what_is_not_a_number_is_read_without_it():
    record = json.loads((RUN / "log.jsonl").read_text().splitlines()[0])
    (RUN / "log.jsonl").write_text(json.dumps(record | {"accuracy": "<b>", "other": None}))
    assert set(Run.of(RUN).records[0]) == set(record) - {"accuracy"}


def test_the_command_trains_the_same_again():
    run = Run.of(RUN)
    assert run.command == "minet train toy.py --seed 2 --set width=4"
    words = shlex.split(run.command)
    runs.train(words[2], parsed(words[words.index("--set") + 1 :]), seed=2)
    assert Path("runs/toy-2/weights.safetensors").read_bytes() == (RUN / "weights.safetensors").read_bytes()


def test_a_run_without_facts_has_no_command(tmp_path):
    assert Run(tmp_path, "broken").command == ""


@pytest.mark.sweep(4)
@pytest.mark.parametrize(
    "value", [1, 0.5, "max", "3", "None", "a,b", "a b", "", (1, 2), [1, "x"], {"sigma"}, True, None]
)
def test_settings_are_typed_as_they_are_read(value):
    assert parsed([f"x={text_of(value)}"]) == {"x": value}


def test_runs_are_found_one_deeper_too_and_nothing_else():
    os.makedirs("runs/compare-a/x/y")
    Path("runs/empty").mkdir()
    for name in ("runs/compare-a/one", "runs/compare-a/x/y"):
        Path(name).mkdir(exist_ok=True)
        Path(name, "log.jsonl").write_text("")
    assert {str(path) for path in listing.found()} == {"runs/toy", "runs/compare-a/one"}
    assert list(listing.found(Path("nowhere"))) == []

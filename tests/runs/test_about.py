"""What a run says of itself: it is there from the start, holds why a run failed, and survives damage."""

import json
from pathlib import Path

import pytest

from minet.core.finite import NotFiniteError
from minet.runs import about, runs
from minet.train.trainer import Trainer

TOY = Path(__file__).parents[1] / "helpers/toy.py"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("toy.py").write_text(TOY.read_text())


def test_a_run_says_what_it_is_of_and_where_it_ran():
    runs.train("toy.py", {"width": 4, "epochs": 1}, seed=3)
    facts = about.read("runs/toy")
    assert facts["model"] == "toy" and facts["file"] == "toy.py" and facts["text"] == TOY.read_text()
    assert facts["settings"] == {"width": 4, "epochs": 1}
    assert facts["defaults"]["width"] == "8" and facts["defaults"]["lr"] == "0.05"
    assert (facts["seed"], facts["epochs"], facts["batch"], facts["backend"]) == (3, 1, 32, "cpu")
    assert facts["parameters"] == 64 * 4 + 4 + 2 * 4 + 4 + 4 * 10 + 10
    assert facts["data"] == ["digits train: 96 images", "digits test: 96 images"]
    assert facts["machine"]["processor"] and int(facts["machine"]["threads"]) >= 1
    assert facts["ended"] is True and "error" not in facts


def test_settings_come_back_as_they_were():
    Path("toy.py").write_text(TOY.read_text().replace("crop=1", "crop=1, size=(3, 5)"))
    runs.train("toy.py", {"size": (1, 2), "epochs": 1})
    assert about.read("runs/toy")["settings"] == {"size": (1, 2), "epochs": 1}


def failing(trainer, error, after):
    """Let a trainer fail in its epoch after so many."""
    steps = trainer._steps

    def stopping():
        if trainer.epoch == after:
            raise error
        yield from steps()

    trainer._steps = stopping


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("error", [NotFiniteError("the loss is nan\nin step 3"), KeyboardInterrupt()])
def test_an_error_is_kept_unless_there_is_nothing_else(monkeypatch, error, after):
    fit = Trainer.fit

    def fails(self):
        failing(self, error, after)
        return fit(self)

    with monkeypatch.context() as patched, pytest.raises(type(error)):
        patched.setattr(Trainer, "fit", fails)
        runs.train("toy.py")
    if not after:
        assert not Path("runs").exists()
        return
    kept = about.read("runs/toy").get("error", "")
    assert kept.startswith("the loss is nan in step 3") == isinstance(error, NotFiniteError)
    assert "ended" not in about.read("runs/toy")
    runs.train("toy.py", resume=True)
    assert about.read("runs/toy")["ended"] and "error" not in about.read("runs/toy")


@pytest.mark.parametrize(
    "text", ["", "[1]", "{", '{"seed": "<b>", "settings": 3, "epochs": true}', "[" * 9999, "\udc80"]
)
def test_a_damaged_file_says_nothing(tmp_path, text):
    (tmp_path / about.ABOUT).write_bytes(text.encode(errors="surrogatepass"))
    assert about.read(tmp_path) in ({}, {"settings": {}})


def test_facts_of_another_kind_are_left_out(tmp_path):
    (tmp_path / about.ABOUT).write_text(
        json.dumps({"model": 3, "seed": 4, "settings": {"a": {"literal": "(1,)"}}})
    )
    assert about.read(tmp_path) == {"seed": 4, "settings": {"a": (1,)}}

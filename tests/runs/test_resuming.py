"""Resuming a run: from which checkpoint, and what must be as it was."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from small import TOY

from minet import MinetError
from minet.runs import runs
from minet.train import checkpoint, older
from minet.train.callbacks import WEIGHTS, Curves

OWN = """

images = data.digits("train", limit=96)


def datasets(count=96, name="mine", shift=0.0, classes="0123456789"):
    pixels = images.images[:count] / 16.0 + shift
    return data.Dataset(pixels, images.labels[:count], name=name, classes=tuple(classes))
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(Curves, "on_end", lambda *_: None)
    Path("toy.py").write_text(TOY.read_text().replace("Cosine(epochs)", "None") + OWN)


def train(epochs, out="out", force=False, **more):
    resume = Path(out, WEIGHTS).exists()
    return runs.train("toy.py", {"epochs": epochs}, out=Path(out), resume=resume, force=force, **more)[0]


@pytest.mark.sweep(1)
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("/ 16.0", "/ 8.0", r"the checksums of images and labels are \['\w{8}'\], it has \['"),
        ("count=96,", "count=80,", r"the numbers of images are \[80\], it has \[96\]"),
        ('name="mine"', 'name="yours"', r"the data sets are \['yours'\], it has \['mine'\]"),
        ('"0123456789"', '"9876543210"', r"the class names are \['9', .*, it has \['0', '1'"),
    ],
)
def test_data_that_has_changed_is_named(old, new, message, monkeypatch):
    """The model file's text is the same, as where a folder of images has changed."""
    train(1)
    text = Path("toy.py").read_text()
    assert text.count(old) == 1
    monkeypatch.setattr(runs.versions, "edits", lambda *_: [])
    Path("toy.py").write_text(text.replace(old, new))
    with pytest.raises(MinetError, match=f"out: cannot resume with other data: {message}"):
        train(2)
    assert train(2, force=True).history[-1]["epoch"] == 2
    assert train(3).history[-1]["epoch"] == 3  # the run is of the data as it is now


def damage(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def content(out):
    arrays, facts = checkpoint.read(Path(out, WEIGHTS))
    return {name: value.tobytes() for name, value in arrays.items()}, facts


def test_the_newest_whole_checkpoint_is_taken_and_named(capsys):
    train(3, "whole", save_every=2)
    train(1, save_every=2)
    capsys.readouterr()
    damage(Path("out", WEIGHTS))
    train(3)
    told = capsys.readouterr().out
    assert told.startswith("out/weights.safetensors: damaged: its content does not match its checksum\n")
    assert "; resuming after 2 of 3 batches of epoch 1\nfrom out/checkpoints/step-2.safetensors\n" in told
    assert content("out") == content("whole")
    assert [*older.found(Path("out"))] == [6]


def test_a_run_that_is_refused_keeps_its_damaged_checkpoint():
    train(1, save_every=2)
    damage(Path("out", WEIGHTS))
    before = Path("out", WEIGHTS).read_bytes()
    with pytest.raises(MinetError, match=r"cannot resume with lr=0\.1"):
        runs.train("toy.py", {"epochs": 2, "lr": 0.1}, out=Path("out"), resume=True)
    assert Path("out", WEIGHTS).read_bytes() == before


def test_a_run_without_weights_but_with_older_checkpoints_is_found():
    train(2, "runs/toy")
    Path("runs/toy", WEIGHTS).unlink()
    with pytest.raises(MinetError, match="is not empty: it holds a run"):
        runs.train("toy.py", out=Path("runs/toy"))
    result, folder = runs.train("toy.py", {"epochs": 2}, resume=True)
    assert str(folder) == "runs/toy" and len(result.history) == 2


def test_a_checkpoint_of_an_earlier_version_is_resumed():
    """It has neither the callbacks' state nor the numbers of images."""
    train(2, "whole")
    train(1)
    arrays, facts = checkpoint.read(Path("out", WEIGHTS))
    for name in ("callbacks", "images", "content"):
        facts.pop(name)
    checkpoint.write(Path("out", WEIGHTS), arrays, facts)
    train(2)
    assert content("out")[0] == content("whole")[0]


def test_a_batch_that_was_forced_begins_the_epoch_anew(capsys):
    train(1, save_every=2)
    shutil.copy(next(iter(older.found(Path("out")).values())), Path("out", WEIGHTS))
    runs.train("toy.py", {"epochs": 1, "batch": 16}, out=Path("out"), resume=True, force=True)
    assert np.isfinite(content("out")[1]["callbacks"]["Best"]["best"])


def test_fewer_epochs_than_were_done_are_refused_within_an_epoch_too():
    train(2, save_every=2)
    shutil.copy(next(iter(older.found(Path("out")).values())), Path("out", WEIGHTS))
    before = content("out")
    assert before[1]["epoch"] == 1 and before[1]["within"]["batches"] == 2
    with pytest.raises(MinetError, match=r"already trained for 1 epochs \(epochs=1\)"):
        train(1)
    assert content("out") == before


def test_a_tag_stays_with_the_run_until_there_is_another():
    for epochs, tag, kept in ((1, "wide", "wide"), (2, None, "wide"), (3, "narrow", "narrow"), (4, "", None)):
        train(epochs, tag=tag)
        assert content("out")[1].get("tag") == kept


def test_a_callback_of_the_model_file_keeps_its_state(capsys):
    more = "\nfrom minet.train.callbacks import EarlyStopping\ncallbacks = [EarlyStopping(2, 'epoch')]\n"
    Path("toy.py").write_text(Path("toy.py").read_text() + more)
    result = train(9)
    assert len(result.history) == 3
    told = capsys.readouterr().out
    assert "\nstopped  of the last 2 epochs none was better than epoch 1 of epoch 1\n" in told
    assert content("out")[1]["callbacks"]["EarlyStopping"]["waited"] == 2
    assert len(train(9).history) == 3 and content("out")[1]["epoch"] == 3

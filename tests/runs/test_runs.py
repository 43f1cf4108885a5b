"""Runs: what is resumed ends as if it had not been stopped, or is refused with what changed."""

import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from minet import MinetError
from minet.runs import runs
from minet.train import checkpoint, trainer
from minet.train.callbacks import CURVES, KERNELS, LOG, WEIGHTS, Checkpointer, Curves

TOY = Path(__file__).parents[1] / "helpers/toy.py"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    shutil.copy(TOY, "toy.py")


def edit(*changes, name="toy.py"):
    text = Path("toy.py").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text(text)
    return name


def train(out, epochs=None, **settings):
    """Train toy.py in a folder; only `epochs` given resumes."""
    resume = Path(out).exists()
    more = {} if epochs is None else {"epochs": epochs}
    return runs.train("toy.py", {**settings, **more}, out=Path(out), resume=resume)[0]


def content(out):
    return Path(out, WEIGHTS).read_bytes()


# -- settings ---------------------------------------------------------------------------------------


@pytest.mark.sweep(2)
@pytest.mark.parametrize(
    ("default", "factors", "value"),
    [
        ("{1: 0.5}", "drops", {2: 0.1, 3: 0.01}),
        ("(2, 3)", "{3: 0.5 if drops == (1, 2) else 0.1}", (1, 2)),
        ("None", "dict(drops)", [(2, 0.1), (3, 0.5)]),
        ("None", "{3: 0.5 if drops == {1, 2} else 0.1}", {1, 2}),
        ("None", "{3: 0.5 if drops == {'a': {1: (2,)}} else 0.1}", {"a": {1: (2,)}}),
        ("None", "{3: 0.5 if drops == b'x' else 0.1}", b"x"),
        ("'a'", "{3: 0.5 if drops == '3' else 0.1}", "3"),
    ],
)
def test_settings_come_back_as_they_were(default, factors, value):
    edit(
        ("lr=0.05,", f"lr=0.05, drops={default},"), ("Cosine(epochs)", f"Step({factors})"),
        ("SGD, Cosine", "SGD, Step"),
    )  # fmt: skip
    settings = {"drops": value}
    train("whole", 4, **settings)
    train("part", 2, **settings)
    assert checkpoint.read(Path("part", WEIGHTS))[1]["settings"] == {**settings, "epochs": 2}
    train("part", 4)
    assert content("part") == content("whole")


@pytest.mark.parametrize("value", [print, [print], {"a": float("nan")}, np.float32(0.5), object()])
def test_settings_that_a_checkpoint_could_not_hold_are_refused_at_the_start(value):
    edit(("lr=0.05,", "lr=0.05, drops=None,"))
    with pytest.raises(MinetError, match=r"the setting drops=.* cannot be saved with a run\n  hint: .*liter"):
        train("out", 1, drops=value)
    assert not Path("out").exists()


# -- stopped ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("epoch", [1, 2])
def test_an_epoch_that_is_stopped_while_it_is_tested_is_saved_and_tested_when_resumed(
    epoch, monkeypatch, capsys
):
    train("whole", 2)
    tests = iter(range(1, 9))

    def interrupted(net, data, ranks):
        if next(tests) == epoch:
            raise KeyboardInterrupt
        return evaluate(net, data, ranks)

    evaluate = trainer.evaluate
    monkeypatch.setattr(trainer, "evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train("part", 2)
    assert f"stopped; --resume continues after epoch {epoch}\n" in capsys.readouterr().out
    assert checkpoint.read(Path("part", WEIGHTS))[1]["epoch"] == epoch
    result = train("part")
    assert [record["epoch"] for record in result.history] == [1, 2]
    assert "missing" not in capsys.readouterr().out
    assert content("part") == content("whole")
    assert list(result.history[0]) == list(result.history[1])
    assert Path("part", CURVES).is_file()


def test_the_message_names_the_epoch_on_disk(monkeypatch, capsys):
    """An interruption while the second checkpoint is written: the first one is there."""
    save = checkpoint.save

    def interrupted(path, net, *args, **facts):
        if facts["epoch"] == 2:
            raise KeyboardInterrupt
        save(path, net, *args, **facts)

    monkeypatch.setattr(checkpoint, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train("out", 3)
    assert "stopped; --resume continues after epoch 1\n" in capsys.readouterr().out
    assert checkpoint.read(Path("out", WEIGHTS))[1]["epoch"] == 1


def test_pictures_that_a_complete_run_lacks_are_drawn_when_it_is_resumed(monkeypatch, capsys):
    edit(("Linear(width), ", "GaussianPool(3), Linear(width), "), ("import B", "import GaussianPool, B"))
    train("whole", 2)
    draw = Curves.on_end
    monkeypatch.setattr(Curves, "on_end", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        train("part", 2)
    monkeypatch.setattr(Curves, "on_end", draw)
    assert not Path("part", CURVES).exists()
    train("part")
    assert Path("part", KERNELS).read_bytes() == Path("whole", KERNELS).read_bytes()
    assert Path("part", CURVES).is_file()
    assert content("part") == content("whole")
    with pytest.raises(MinetError, match="already trained for 2 epochs"):
        train("part")
    Path("part", LOG).unlink()
    Path("part", CURVES).unlink()
    with pytest.raises(MinetError, match="already trained for 2 epochs"):  # and no history to draw
        train("part")


# -- mistakes ------------------------------------------------------------------------------------------

WRONG = {
    "callbacks": ("class Mine(Callback):\n    def on_epoch(self, *_): 1 / 0\n", "callbacks = [Mine()]"),
    "solver": ("class Mine(SGD):\n    def update(self, net): 1 / 0\n", "def solver(): return Mine(0.1)"),
    "augmentation": (
        "class Mine(data.Augmentation):\n    def apply(self, *_): 1 / 0\n",
        'def datasets(): return data.digits("test", augment=[Mine()])',
    ),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("apart", [False, True])
def test_a_mistake_in_own_code_is_told_with_its_file_and_line(kind, apart):
    code, use = WRONG[kind]
    head = "from minet import SGD, data\nfrom minet.train.callbacks import Callback\n"
    text = Path("toy.py").read_text() + head
    Path(f"{kind}_own.py").write_text(head + code)
    own = f"from {kind}_own import Mine\n" if apart else code
    Path("toy.py").write_text(f"{text}{own}\n\n{use}\n")
    line = (head + code if apart else text + code).count("\n")
    file = f"{kind}_own.py" if apart else "toy.py"
    with pytest.raises(MinetError) as caught:
        runs.train("toy.py", {"epochs": 1})
    assert caught.value.message == f"{file}:{line}: ZeroDivisionError: division by zero"
    assert "--debug" in caught.value.hint and isinstance(caught.value.__cause__, ZeroDivisionError)


def test_an_error_of_others_is_raised_as_it_is(monkeypatch):
    monkeypatch.setattr(trainer, "evaluate", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        runs.train("toy.py", {"epochs": 1})


# -- changed ----------------------------------------------------------------------------------------


def test_a_model_file_that_was_edited_is_not_resumed_unless_forced():
    train("out", 1)
    edit(("width=8", "width=12"))
    with pytest.raises(MinetError) as caught:
        train("out", 2)
    assert str(caught.value) == (
        "out: toy.py has changed since this run began\n"
        "  -def net(width=8, rate=0.2):\n"
        "  +def net(width=12, rate=0.2):\n"
        "  hint: undo that, or start a new run; --force resumes all the same"
    )
    edit(("width=12", "width=8"), ("lr=0.05", "lr=0.01"))
    with pytest.raises(MinetError, match=r"-def solver\(lr=0\.05.*\n  \+def solver\(lr=0\.01"):
        train("out", 2)
    result, _ = runs.train("toy.py", {"epochs": 2}, out=Path("out"), resume=True, force=True)
    assert result.history[-1]["rate"] < 0.01
    train("out", 3)  # the run is of the file as it is now


def test_force_resumes_with_other_settings_too():
    train("out", 1)
    with pytest.raises(MinetError, match=r"cannot resume with lr=0.01, it has lr=0.05\n.*--force"):
        train("out", 2, lr=0.01)
    runs.train("toy.py", {"epochs": 2, "lr": 0.01}, out=Path("out"), resume=True, force=True)
    assert checkpoint.read(Path("out", WEIGHTS))[1]["settings"] == {"epochs": 2, "lr": 0.01}
    with pytest.raises(MinetError, match="cannot resume with model=other, it has model=toy"):
        runs.train(edit(name="other.py"), {"epochs": 3}, out=Path("out"), resume=True, force=True)


def test_comments_and_layout_may_change():
    train("out", 1)
    edit(("def net(", "# the net\n\n\ndef net("), ("momentum=0.9", "momentum = .9"))
    train("out", 2)


def test_many_changes_are_cut_short():
    train("out", 1)
    edit(("\n\ndef ", "\n\nx = 1\ny = 2\n\ndef "))
    with pytest.raises(MinetError, match=r"began(\n  \+.*){6}\n  \.\.\.\n  hint"):
        train("out", 2)


def test_runs_of_two_files_with_one_name_are_kept_apart():
    edit(name="a/model.py")
    edit(("Dropout(rate)", "Dropout(0.1)"), name="b/model.py")
    runs.train("a/model.py", {"epochs": 1})
    with pytest.raises(MinetError) as caught:
        runs.evaluate("b/model.py")
    assert str(caught.value) == (
        "runs/model: no run of model with a weights.safetensors; runs/model is of a/model.py\n"
        "  hint: minet train b/model.py"
    )
    with pytest.raises(MinetError, match=r"holds weights of a/model.py, not of b/model.py"):
        runs.evaluate("b/model.py", weights=Path("runs/model"))
    with pytest.raises(MinetError, match=r"cannot resume with b/model.py, it has a/model.py"):
        runs.train("b/model.py", {"epochs": 2}, out=Path("runs/model"), resume=True)
    runs.train("b/model.py", {"epochs": 1})
    assert runs.evaluate("a/model.py").endswith("with runs/model/weights.safetensors")
    assert runs.evaluate("b/model.py").endswith("with runs/model-2/weights.safetensors")
    os.rename("a/model.py", "model.py")  # a file that was moved is still the same
    assert runs.evaluate("model.py").endswith("with runs/model/weights.safetensors")


def test_eval_says_that_the_file_was_edited():
    train("out", 1)
    edit(("Dropout(rate)", "Dropout(0.1)"))
    line = runs.evaluate("toy.py", weights=Path("out"))
    assert line.endswith("with out/weights.safetensors; toy.py has changed since")


def test_a_checkpoint_without_the_files_text_is_resumed():
    train("out", 1)
    arrays, facts = checkpoint.read(Path("out", WEIGHTS))
    checkpoint.write(
        Path("out", WEIGHTS), arrays, {k: v for k, v in facts.items() if k not in ("text", "file")}
    )
    train("out", 2)


def test_a_rate_that_jumps_as_there_are_more_epochs_is_told(capsys):
    train("out", 2)
    train("out", 4)
    line = "the rate goes on at 0.025, not 0: the schedule depends on epochs, now 4 instead of 2\n"
    assert line in capsys.readouterr().out
    edit(("schedule=Cosine(epochs)", "schedule=None"))
    train("other", 1)
    train("other", 2)
    assert "the rate goes on" not in capsys.readouterr().out


def test_the_hint_is_typed_as_the_model_was(monkeypatch):
    for name in ("toy.py", "./toy.py", "my model.py"):
        shutil.copy(TOY, name)
        with pytest.raises(MinetError) as caught:
            runs.evaluate(name)
        command = re.search(r"hint: minet train (.*)", str(caught.value))[1]
        assert command == (f"'{name}'" if " " in name else name)


def test_the_settings_in_a_hint_are_quoted_for_the_shell():
    edit(("lr=0.05,", "lr=0.05, drops=None,"))
    train("out", 1, drops={2: 0.1})
    edit(("Linear(width)", "Linear(9)"))
    with pytest.raises(MinetError, match=r"it was saved from toy --set 'drops=\{2: 0.1\}' --set epochs=1"):
        runs.evaluate("toy.py", weights=Path("out"))


def test_a_batch_that_is_too_large_is_refused_before_the_net_takes_memory(monkeypatch):
    monkeypatch.setattr(runs, "Net", None)
    with pytest.raises(MinetError, match=r"toy.py: digits train: a batch of 100000 is larger than the data"):
        train("out", batch=100_000)


def test_a_disk_that_is_full_while_a_stopped_epoch_is_saved_leaves_the_one_before(monkeypatch, capsys):
    def stop(net, data, ranks):
        if net.clock.step > 3:
            monkeypatch.setattr(os, "fsync", full)
            raise KeyboardInterrupt
        return evaluate(net, data, ranks)

    def full(fd):
        raise OSError(28, "No space left on device")

    evaluate = trainer.evaluate
    monkeypatch.setattr(trainer, "evaluate", stop)
    with pytest.raises(KeyboardInterrupt):
        train("out", 3)
    assert "continues after epoch 1\n" in capsys.readouterr().out
    assert Checkpointer(".").saved == 0

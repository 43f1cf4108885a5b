"""`minet train`: checkpoints within epochs, callbacks of the model file, and what it prints of them."""

import re
import shutil
from pathlib import Path

import pytest
from small import TOY
from typer.testing import CliRunner

from minet.cli.main import app
from minet.train import checkpoint, older
from minet.train.callbacks import WEIGHTS, Curves


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Curves, "on_end", lambda *_: None)
    shutil.copy(TOY, "toy.py")


def minet(*args, status=0):
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    assert result.exit_code == status, result.output
    return result.stdout if not status else result.stderr


def test_quiet_prints_nothing():
    assert minet("train", "toy.py", "--quiet") == ""
    assert minet("train", "toy.py", "-q", "--resume", "--epochs", 3) == ""
    assert checkpoint.read(Path("runs/toy") / WEIGHTS)[1]["epoch"] == 3


def test_a_resumed_run_keeps_its_micro_batches_unless_told_others():
    minet("train", "toy.py", "--epochs", 1, "--micro-batches", 4)
    resumed = ("train", "toy.py", "--resume", "--epochs")
    assert "4 micro-batches a step\n" in minet(*resumed, 2)
    assert "micro-batches" not in minet(*resumed, 3, "--micro-batches", 1)
    assert "micro-batches" not in minet(*resumed, 4)


def test_a_tag_is_kept():
    minet("train", "toy.py", "--tag", "with a wide net", "--epochs", 1)
    assert checkpoint.read(Path("runs/toy") / WEIGHTS)[1]["tag"] == "with a wide net"


@pytest.mark.parametrize(("every", "steps"), [("2", [5, 3]), ("0", [3]), ("1h", [3]), ("0s", [3])])
def test_save_every_and_keep(every, steps):
    minet("train", "toy.py", "--save-every", every, "--keep", 3)
    assert [*older.found(Path("runs/toy"))] == steps
    minet("train", "toy.py", "--save-every", every, "--keep", 1)
    assert not Path("runs/toy-2/checkpoints").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["--save-every", "5x"],
            "'5x' is neither a time nor a number of steps\n  hint: 60s, 5m, 1h or 500\n",
        ),
        (["--keep", "0"], "keep must be a whole number of at least 1, got 0\n"),
    ],
)
def test_options_that_make_no_sense_are_refused(args, message):
    assert message in minet("train", "toy.py", *args, status=2)
    assert not Path("runs").exists()


def with_callbacks(text, name="mine.py"):
    Path(name).write_text(Path("toy.py").read_text() + "\nfrom minet.train.callbacks import *\n" + text)
    return name


def test_callbacks_of_the_model_file_write_into_the_runs_folder():
    file = with_callbacks(
        "def callbacks(every=2): return [LearningRateLog(every), Statistics(), EMA(), Best('loss')]\n"
    )
    told = minet("train", file, "--set", "every=3", "--epochs", 3)
    log = Path("runs/mine/rates.jsonl").read_text().splitlines()
    assert len(log) == 3 and "runs/mine/rates.jsonl" in told and "ema_accuracy" in told
    assert {path.name for path in Path("runs/mine").iterdir()} >= {"statistics.jsonl", "ema.safetensors"}
    _, facts = checkpoint.read("runs/mine/weights.safetensors")
    assert facts["settings"] == {"epochs": 3, "every": 3} and facts["callbacks"].keys() == {"EMA", "Best"}
    assert minet("eval", file, "--weights", "runs/mine/ema.safetensors").startswith("accuracy ")
    assert minet("eval", file, "--weights", "runs/mine/best.safetensors").startswith("accuracy ")


def test_an_average_is_of_a_net_with_the_runs_settings():
    file = with_callbacks("callbacks = [EMA()]\n")
    minet("train", file, "--set", "width=5", "--epochs", 1)
    assert minet("eval", file, "--weights", "runs/mine/ema.safetensors").startswith("accuracy ")


def test_a_run_that_ends_within_its_first_epoch_says_how_to_go_on():
    told = minet("train", with_callbacks("callbacks = [TimeLimit(1e-9)]\n"))
    assert "\nstopped  the time limit of 1e-09 s is over\n" in told
    command = "minet train mine.py --resume --out runs/mine"
    assert told.endswith(f"stopped; --resume continues after 1 of 3 batches of epoch 1\n  {command}\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("callbacks = EarlyStopping()", "callbacks is <.*EarlyStopping object.*, not a list of callbacks"),
        (
            "callbacks = [EarlyStopping]",
            r"mine.py: EarlyStopping is a class, not a callback\n.*EarlyStopping\(\)",
        ),
        ("callbacks = [print]", "mine.py: <built-in function print> is not a callback"),
        (
            "def callbacks(): pass",
            r"callbacks\(\) returned nothing \(None\).*\n.*is the return statement missing",
        ),
        ("def callbacks(patience): return []", r"callbacks\(\) has no default for patience"),
        ("def callbacks(): return [EarlyStopping(0)]", r"mine.py:\d+: patience must be"),
        ("callbacks = [SigmaSchedule(2.0, 1.0)]", "the net has no GaussianPool"),
    ],
)
def test_callbacks_that_are_none_are_refused(text, message):
    assert re.search(message, minet("train", with_callbacks(text), status=2))
    assert not Path("runs").exists()


def test_a_module_named_callbacks_is_no_callbacks():
    with_callbacks("from minet.train import callbacks\n")
    minet("train", "mine.py", "--epochs", 1)


def test_a_state_that_no_checkpoint_can_keep_is_named():
    text = """
class Mine(Callback):
    def state(self):
        return {"seen": {1, 2}}

callbacks = [Mine()]
"""
    assert "Mine.state() returned {'seen': {1, 2}}, which a checkpoint cannot keep as it is" in minet(
        "train", with_callbacks(text), status=2
    )

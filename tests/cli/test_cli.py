"""The command line: what it prints and leaves behind; each mistake is one message, with status 2."""

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from minet import MinetError
from minet.cli.main import app
from minet.cli.options import parsed
from minet.train import checkpoint

TOY = Path(__file__).parents[1] / "helpers/toy.py"
ROOT = TOY.parents[2]
FILES = {
    "best.safetensors",
    "curves.png",
    "log.jsonl",
    "run.json",
    "weights.safetensors",
}  # and, after one epoch,
OLDER = {"checkpoints"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Run each test in a folder of its own, with a model file in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINET_DATA", "")
    shutil.copy(TOY, "toy.py")
    return tmp_path


def minet(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


def done(*args):
    result = minet(*args)
    assert result.exit_code == 0, result.output
    return result.stdout


def listing():
    return {str(path) for path in Path().rglob("*") if "__pycache__" not in path.parts}


def refused(*args):
    """The error message of a command that must fail cleanly and leave nothing behind."""
    before = listing()
    result = minet(*args)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("error:") == 1
    assert listing() == before
    return result.stderr


def change(*changes, name="changed.py", source="toy.py"):
    """A model file: the toy one, or another, with some text replaced."""
    text = Path(source).read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    Path(name).write_text(text)
    return name


# -- train ------------------------------------------------------------------------------------------


def test_train_prints_epochs_and_a_summary_and_keeps_its_files():
    out = done("train", "toy.py")
    assert out.startswith("toy: ")
    assert "batch 32, seed 0\ndigits train: 96 images, digits test: 96\n" in out
    assert [line.split()[0] for line in out.splitlines() if re.match(r" +\d/2", line)] == ["1/2", "2/2"]
    assert re.search(r"\ntest accuracy  \d+\.\d\d %\n", out)
    assert re.search(r"\nspeed          [\d,]+ images/s\n", out)
    assert {path.name for path in Path("runs/toy").iterdir()} == FILES | OLDER
    for name in FILES | OLDER:
        assert f"\nruns/toy/{name}" in out
    assert "\x1b" not in out
    log = [json.loads(line) for line in Path("runs/toy/log.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in log] == [1, 2]


def column_names(out):
    """The words of the table's heading."""
    return next(line for line in out.splitlines() if line.split()[:1] == ["epoch"]).split()


def test_a_regression_trains_and_is_evaluated_without_an_accuracy():
    shutil.copy(TOY.with_name("regression.py"), "regression.py")
    out = done("train", "regression.py", "--epochs", 30)
    assert "digits train: 96 images, digits test: 80\n" in out
    assert column_names(out) == ["epoch", "loss", "test", "loss", "rate", "time", "images/s"]
    log = [json.loads(line) for line in Path("runs/regression/log.jsonl").read_text().splitlines()]
    assert log[-1].keys() == {
        "epoch", "step", "loss", "test_loss", "rate", "seconds", "images_per_second",
    }  # fmt: skip
    assert log[-1]["test_loss"] < 0.2 * log[0]["test_loss"]
    assert f"\ntest loss  {log[-1]['test_loss']:.4f}\nepochs     30\n" in out
    assert "accuracy" not in out and "runs/regression/curves.png           loss by epoch" in out
    assert {path.name for path in Path("runs/regression").iterdir()} == FILES | OLDER
    out = done("eval", "regression.py")
    assert out.startswith(f"loss {log[-1]['test_loss']:.4f} on digits test (80 images), ")
    assert "regression.py: digits train: targets must have" in refused(
        "train", change(("Linear(2)", "Linear(3)"), name="regression.py", source="regression.py")
    )


def test_a_loss_of_ones_own_trains_with_its_metrics_and_without_a_test_set():
    for name in ("own_loss.py", "regression.py"):
        shutil.copy(TOY.with_name(name), name)
    out = done("train", "own_loss.py", "--set", "tested=True")
    numbers = ["loss", "test", "loss", "distance", "pixel_accuracy"]
    assert column_names(out) == ["epoch", *numbers, "rate", "time", "images/s"]
    last = json.loads(Path("runs/own_loss/log.jsonl").read_text().splitlines()[-1])
    assert list(last)[2:6] == ["loss", "test_loss", "distance", "pixel_accuracy"]
    shown = f"{last['distance']:.4f}", f"{100 * last['pixel_accuracy']:.2f} %", f"{last['test_loss']:.4f}"
    for name, value in zip(("test distance", "test pixel_accuracy", "test loss"), shown, strict=True):
        assert re.search(rf"\n{name} +{value}\n", out)
    assert "loss and distance and pixel_accuracy by epoch" in out
    assert done("eval", "own_loss.py").startswith(
        "distance {}, pixel_accuracy {}, loss {} on digits test (90".format(*shown)
    )

    out = done("train", "own_loss.py")
    assert "\ndigits train: 90 images, no test set\n" in out
    assert column_names(out) == ["epoch", "loss", "rate", "time", "images/s"]
    assert re.search(r"\nloss    \d\.\d{4}\nepochs  2\n", out)
    assert "own_loss.py: has no test set" in refused("eval", "own_loss.py")
    assert "2/3" not in done("train", "own_loss.py", "--resume", "--epochs", 3)


def test_options_and_settings_reach_the_model():
    out = done(
        "train", "toy.py", "--epochs", 1, "--batch", 48, "--seed", 5, "--set", "width=4", "--set", "lr=1e-3"
    )
    assert re.match(
        r"toy batch=48 epochs=1 width=4 lr=0\.001: [\d,]+ parameters on cpu, batch 48, seed 5\n", out
    )
    _, facts = checkpoint.read("runs/toy/weights.safetensors")
    assert (facts["epoch"], facts["batch"], facts["seed"], facts["step"]) == (1, 48, 5, 2)
    assert facts["settings"] == {"batch": 48, "epochs": 1, "width": 4, "lr": 0.001}


def test_a_run_folder_is_never_overwritten():
    done("train", "toy.py", "--epochs", 1)
    first = Path("runs/toy/weights.safetensors").read_bytes()
    assert "runs/toy-2/" in done("train", "toy.py", "--epochs", 1, "--seed", 1)
    assert Path("runs/toy/weights.safetensors").read_bytes() == first


def test_out_names_the_run_folder():
    Path("empty").mkdir()
    done("train", "toy.py", "--epochs", 1, "--out", "empty")
    done("train", "toy.py", "--epochs", 1, "--out", "a/b")
    assert (
        {path.name for path in Path("empty").iterdir()}
        == {path.name for path in Path("a/b").iterdir()}
        == FILES
    )
    assert not Path("runs").exists()
    assert "a/b: is not empty" in refused("train", "toy.py", "--out", "a/b")


def weights(folder):
    return checkpoint.read(f"{folder}/weights.safetensors")[0]


def test_resume_ends_as_if_it_had_not_been_interrupted():
    done("train", "toy.py", "--epochs", 3, "--out", "whole", "--set", "width=4", "--seed", 3)
    stop = change(("datasets(", "unused("), name="stop.py")  # the same model, but interrupted in epoch 3
    Path(stop).write_text(Path(stop).read_text() + INTERRUPTING)
    shutil.move("stop.py", "model.py")
    broken = minet("train", "model.py", "--epochs", 3, "--out", "part", "--set", "width=4", "--seed", 3)
    assert broken.exit_code == 130, broken.output
    assert "stopped; --resume continues after epoch 2" in broken.stdout
    shutil.move(change(name="same.py"), "model.py")
    out = done("train", "model.py", "--resume", "--out", "part", "--force")
    assert "; resuming after epoch 2" in out
    got, expected = weights("part"), weights("whole")
    assert set(got) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(got[name], value, name, strict=True)
    log = [json.loads(line) for line in Path("part/log.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in log] == [1, 2, 3]


INTERRUPTING = """
class Interrupting(SGD):
    def update(self, net):
        if net.clock.step == 7:
            raise KeyboardInterrupt
        super().update(net)

def solver(lr=0.05, epochs=epochs):
    return Interrupting(lr, momentum=0.9, schedule=Cosine(epochs))

def datasets(limit=96, crop=1):
    return data.digits("train", limit=limit, crop=crop), data.digits("test", limit=limit)
"""


def test_an_interruption_in_the_first_epoch_leaves_nothing():
    model = change(("def datasets", "def unused"))
    Path(model).write_text(Path(model).read_text() + INTERRUPTING.replace("step == 7", "step == 1"))
    before = listing()
    result = minet("train", model)
    assert result.exit_code == 130
    assert "interrupted" in result.stderr
    assert listing() == before


def test_resume_takes_the_newest_run_and_more_epochs():
    done("train", "toy.py", "--epochs", 1)
    done("train", "toy.py", "--epochs", 1, "--seed", 1)
    out = done("train", "toy.py", "--resume", "--epochs", 2)
    assert "seed 1\n" in out
    assert "runs/toy-2/curves.png" in out
    assert not Path("runs/toy-3").exists()


@pytest.mark.sweep(2)
@pytest.mark.parametrize("log", ['{"epoch": 1, "loss"', '{"epoch": 1}\n', "[3]\n", None])
def test_resume_works_even_if_the_log_is_lost_or_truncated_and_reports_it(log):
    done("train", "toy.py", "--epochs", 1, "--out", "out")
    Path("out/log.jsonl").unlink()
    if log is not None:
        Path("out/log.jsonl").write_text(log)
    out = done("train", "toy.py", "--epochs", 2, "--resume", "--out", "out")
    assert "out/log.jsonl: missing or damaged; log and curves include only 0 of the 1 epochs done\n" in out
    assert [json.loads(line)["epoch"] for line in Path("out/log.jsonl").read_text().splitlines()] == [2]
    out = done("train", "toy.py", "--epochs", 3, "--resume", "--out", "out")
    assert "include only 1 of the 2 epochs done\n" in out
    assert [json.loads(line)["epoch"] for line in Path("out/log.jsonl").read_text().splitlines()] == [2, 3]


def test_a_resumed_run_ends_in_the_same_file_byte_for_byte():
    model = change(("schedule=Cosine(epochs)", "nesterov=True"))
    settings = ("width=4", "lr=0.01", "--seed", 3)
    done("train", model, "--epochs", 3, "--out", "whole", "--set", *settings)
    done("train", model, "--set", "lr=0.01", "width=4", "--epochs", 1, "--seed", 3, "--out", "part")
    done("train", model, "--resume", "--epochs", 3, "--out", "part")
    assert "resuming" not in done("eval", model, "--weights", "part")
    assert Path("part/weights.safetensors").read_bytes() == Path("whole/weights.safetensors").read_bytes()


def test_resume_refuses_what_would_be_another_run():
    assert "runs/toy: no run of toy with a weights.safetensors" in refused("train", "toy.py", "--resume")
    assert "none/weights.safetensors: no such file" in refused("train", "toy.py", "--resume", "--out", "none")
    done("train", "toy.py", "--set", "width=4", "--out", "out")
    resume = ("train", "toy.py", "--resume", "--out", "out", "--epochs", 9)
    assert "out: cannot resume with width=8, it has width=4" in refused(*resume, "--set", "width=8")
    assert "out: cannot resume with lr=0.1, it has lr=0.05" in refused(*resume, "--set", "lr=0.1")
    assert "out: cannot resume with batch=16, it has batch=32" in refused(*resume, "--batch", 16)
    assert "out: cannot resume with seed=1, it has seed=0" in refused(*resume, "--seed", 1)
    assert "out: cannot resume with model=other, it has model=toy" in refused(
        "train", change(name="other.py"), *resume[2:]
    )
    again = ("train", "toy.py", "--resume", "--out", "out")
    assert "out: already trained for 2 epochs (epochs=2)\n  hint: use --epochs 3 or more" in refused(*again)
    assert "out: already trained for 2 epochs (epochs=1)" in refused(*again, "--epochs", 1)
    done(*resume, "--set", "width=4", "--set", "lr=0.05", "--seed", 0, "--batch", 32)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_stopped_keeps_the_checkpoint_and_shows_how_to_resume(how):
    run = subprocess.Popen(
        [sys.executable, "-m", "minet", "train", "toy.py", "--epochs", "100000"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, preexec_fn=lambda: signal.signal(how, signal.SIG_DFL),  # a background job ignores some
    )  # fmt: skip
    while not (line := run.stdout.readline()).lstrip().startswith("2/"):  # so the first one is saved
        assert line, run.communicate()
    run.send_signal(how)
    out, err = run.communicate(timeout=60)
    assert run.returncode == 130
    assert err == "interrupted\n"
    assert re.search(r"stopped; --resume continues after (epoch \d+|\d of 3 batches of epoch \d+)\n", out)
    assert out.endswith("\n  minet train toy.py --resume --out runs/toy\n")
    assert checkpoint.read("runs/toy/weights.safetensors")[1]["epoch"] >= 1
    assert {path.name for path in Path("runs/toy").iterdir()} == (FILES | OLDER) - {"curves.png"}


# -- mistakes ---------------------------------------------------------------------------------------

NAN = "from minet.data import Dataset\nimport numpy as np\n"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["none.py"], "none.py: no such file"),
        (["digit"], "there is no model 'digit'; the models are: "),
        (["./"], ".: is a folder"),
        (["toy.py", "--epochs", 0], "toy.py: epochs must be a whole number of at least 1, got 0"),
        (["toy.py", "--epochs", -2], "toy.py: epochs must be a whole number of at least 1, got -2"),
        (["toy.py", "--batch", 0], "toy.py: batch must be a whole number of at least 1, got 0"),
        (
            ["toy.py", "--batch", 97],
            "error: toy.py: digits train: a batch of 97 is larger than the data set of 96 images",
        ),
        (["toy.py", "--seed", -1], "4294967295, got -1"),
        (["toy.py", "--force"], "--force is for --resume"),
        (["toy.py", "--backend", "gpu"], "there is no backend 'gpu'"),
        (
            ["toy.py", "--set", "widht=3"],
            "toy.py: has no setting 'widht'; its settings are: batch=32, epochs=2",
        ),
        (["toy.py", "--set", "width=x"], "toy.py: width must be of type int, like 8, got 'x' of type str"),
        (["toy.py", "--set", "file_or_name=x"], "toy.py: has no setting 'file_or_name'"),
        (["toy.py", "--set", "width"], "--set width: is not NAME=VALUE"),
        (["toy.py", "--set", "lr=1", "--set", "lr=2"], "the setting lr is given twice\n  hint: give each "),
        (["toy.py", "epochs=1", "--epochs", 2], "the setting epochs is given twice"),
        (["toy.py", "--set", "lr=-1"], "toy.py:"),
        (["toy.py", "--set", "limit=0"], "limit must be a whole number of at least 1, got 0"),
        (["toy.py", "--data-dir", "none"], "--data-dir none: no such folder"),
        (["toy.py", "--out", "toy.py"], "toy.py: cannot be created: File exists"),
        (["toy.py", "--out", "toy.py/run"], "toy.py/run: cannot be created: Not a directory"),
        (["toy.py", "--out", "/proc/none"], "/proc/none: cannot be created: No such file or directory"),
    ],
)
def test_mistakes_in_the_command_are_reported(args, message):
    assert message in refused("train", *args)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([("def net(", "def net(:")], "changed.py:10: invalid syntax"),
        ([("loss = 32, 2, SoftmaxCrossEntropy()", "other = 32, 2, 0")], "changed.py: lacks loss"),
        ([("return Sequential(", "return (")], "changed.py: net() returned (Linear(8), "),
        ([("schedule=Cosine(epochs)", "schedule=lambda epoch: None")],
         "error: the schedule <lambda> (changed.py:15) returned None at epoch 0\n  hint: a schedule takes"),
        ([("schedule=Cosine(epochs)", "schedule=lambda epoch: 1 / epoch")],
         "error: the schedule <lambda> (changed.py:15) fails: ZeroDivisionError: "),
        ([(", Linear(10))", ")")], "error: changed.py: digits train: label 8"),
        ([("    return SGD(", "    return 1 / 0, SGD(")], "changed.py:15: ZeroDivisionError: division"),
        ([("input_shape = (1, 8, 8)", "input_shape = (1, 28, 28)")], 
         "error: changed.py: digits train: its images are (1, 8, 8), the net takes (1, 28"),
        ([("Linear(10)", "Linear(9)")], "error: changed.py: digits train: label 9 at index"),
        ([("PReLU(), Dropout", "*[PReLU()] * 2, Dropout")], "this object is used at 2 and at 3"),
        ([("PReLU(), ", "Concat(PReLU(), Identity()), Concat(Linear(3), AvgPool(2)), "),
          ("import BatchNorm", "import AvgPool, BatchNorm, Identity"), ("import SGD", "import Concat, SGD")],
         "3/1:AvgPool (changed.py:11), input (16, 1, 1)\n  window 2x2 does not fit H=1 with pad 0"),
        ([("Linear(width), ", "Concat(Linear(3), Identity()), "),
          ("import BatchNorm", "import Identity, BatchNorm"),
          ("import SGD", "import Concat, SGD")],
         "0:Concat (changed.py:11), input (1, 8, 8)\n  branches disagree in (H, W): 0/0 (3, 1, 1), 0/1"),
        ([("from minet import", NAN + "from minet import"),
          ("return data.digits(", "return Dataset(np.full((1, 8, 8), np.nan), [0], name='m'), data.digits(")],
         "m: NaN in the data: image 0, channel 0, row 0, column 0"),
        ([("from minet import", NAN + "from minet import"),
          ("return data.digits(", "return Dataset(np.zeros((0, 8, 8)), [], name='m'), data.digits(")],
         "m: the data set is empty"),
        ([("from minet import", NAN + "from minet import"),
          ("return data.digits(", "return Dataset(np.zeros((2, 8, 8)), [0, -2], name='m'), data.digits(")],
         "m: label -2 of image 1 is out of range"),
    ],
)  # fmt: skip
def test_mistakes_in_the_model_are_reported(changes, message):
    assert message in refused("train", change(*changes))


def test_truncated_data_files_are_reported(folder):
    model = change(('data.digits("train"', 'data.mnist("train"'))
    for name in ("train-images-idx3", "train-labels-idx1"):
        (folder / f"{name}-ubyte.gz").write_bytes(
            gzip.compress(b"\0\0\x08\x03" + b"\0\0\0\x08" * 3 + bytes(512))[:-9]
        )
    message = refused("train", model, "--data-dir", folder)
    assert f"{folder}/train-images-idx3-ubyte.gz: the gzip data" in message


def diverging(step):
    model = change(("Linear(10))", "Linear(10), Diverge())"))
    Path(model).write_text(
        Path(model).read_text()
        + f"""
from minet import Layer, update
class Diverge(Layer):
    def out_shape(self, in_shape):
        return in_shape
    def fprop_cpu(self, x, y, beta, train):
        update(y, x * (float("inf") if train and self.clock.step == {step} else 1), beta)
    def bprop_cpu(self, x, dy, dx, beta):
        update(dx, dy, beta)
"""
    )
    return model


def test_a_loss_that_turns_nan_stops_the_run_and_names_the_last_epoch_saved():
    result = minet("train", diverging(4))
    assert result.exit_code == 2
    assert result.stderr.startswith(
        "error: the loss is nan at step 4: the first output that is not finite comes from "
    )
    assert "5:Diverge (changed.py:" in result.stderr
    assert "hint: " in result.stderr
    assert "Traceback" not in result.output
    assert {path.name for path in Path("runs/changed").iterdir()} == FILES - {"curves.png"}
    assert "; runs/changed/weights.safetensors holds epoch 1\n" in result.stderr
    assert " on digits test (96 images), " in done("eval", "changed.py")


def test_a_loss_that_is_nan_at_once_leaves_nothing():
    assert "the loss is nan at step 0" in refused("train", diverging(0))


def test_a_full_disk_ends_the_run_with_one_message_and_no_partial_file():
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000)); "
    run = subprocess.run(
        [sys.executable, "-c", f"{limit} from minet.cli.main import main; main()",
         "train", "toy.py", "--out=out"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert run.returncode == 2, run.stderr
    assert run.stderr.startswith("error: out/best.safetensors: cannot be written: File too large\n")
    assert run.stderr.endswith("; nothing was saved yet\n")
    assert run.stderr.count("\n") == 2
    assert {path.name for path in Path("out").iterdir()} == {"log.jsonl", "run.json"}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["train", "toy.py", "--batch", "9" * 30], "a batch of 9999"),
        (["summary", "toy.py", "--batch", "9" * 30], "out of "),
        (["train", "toy.py", "--set", f"width={10**14}"], "out of "),
        (["train", "toy.py", "--set", f"width={10**30}"], "out of "),
        (["train", "toy.py", "--seed", "9" * 30], "seed must be a whole number in 0 .. 4294967295, got 999"),
        (["train", "toy.py", "--out", "x" * 300], "xxx: cannot be created: File name too long"),
        (["train", "toy.py", "--out", "y/" + "x" * 300], "xxx: cannot be created: File name too long"),
        (["train", "toy.py", "--resume", "--out", "x" * 300], "/weights.safetensors: no such file"),
        (["train", "x" * 300 + ".py"], "xxx: cannot be created: File name too long"),
        (["summary", "x" * 300 + ".py"], ".py: cannot be read: File name too long"),
        (["eval", "toy.py", "--weights", "x" * 300], "xxx: File name too long"),
        (["train", "toy.py", "--data-dir", "x" * 300], "xxx: File name too long"),
        (["check", "x" * 300 + ".py"], "xxx: File name too long"),
    ],
)
def test_extreme_options_are_refused(args, message):
    assert message in refused(*args)


def as_typed(*args, cwd=".", **environment):
    return subprocess.run(
        [sys.executable, "-m", "minet", *args], env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True, text=True, timeout=60, check=False, cwd=cwd,
    )  # fmt: skip


def test_a_working_folder_that_is_gone_is_reported(tmp_path):
    run = subprocess.run(
        ["bash", "-c", f"mkdir gone; cd gone; rmdir ../gone; {sys.executable} -m minet train digits"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert run.returncode == 2
    assert run.stderr == (
        "error: the working folder is gone: No such file or directory\n  hint: cd to another\n"
    )


@pytest.mark.slow
def test_names_with_letters_that_the_output_lacks():
    shutil.copy("toy.py", "μ.py")
    run = as_typed("train", "μ.py", "epochs=1", PYTHONIOENCODING="ascii")
    assert (run.returncode, run.stderr) == (0, "")
    assert "runs/\\u03bc/weights.safetensors" in run.stdout
    run = as_typed("train", "λ.py", PYTHONIOENCODING="ascii")
    assert run.returncode == 2
    assert run.stderr.endswith(".py: no such file\n")


def test_a_name_that_looks_like_a_formula():
    shutil.copy("toy.py", "c$x^^y$.py")
    done("train", "c$x^^y$.py", "epochs=1")
    assert {path.name for path in Path("runs/c$x^^y$").iterdir()} == FILES
    assert "with runs/c$x^^y$/weights" in done("eval", "c$x^^y$.py")


def test_debug_shows_the_traceback():
    result = minet("train", "none.py", "--debug")
    assert isinstance(result.exception, MinetError)
    run = subprocess.run(
        [sys.executable, "-m", "minet", "train", "none.py", "--debug"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "Traceback" in run.stderr
    assert "no such file" in run.stderr


@pytest.mark.parametrize(
    "args", [[], ["train"], ["train", "toy.py", "--epochs", "x"], ["trian"], ["train", "--no"]]
)
def test_mistakes_in_usage_have_status_2_and_no_traceback(args):
    result = minet(*args)
    assert result.exit_code == 2
    assert "Usage: " in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3), ("-0.5", -0.5), ("1e-3", 0.001), ("True", True), ("None", None), ("(3, 5)", (3, 5)),
        ("max", "max"), ("'3'", "3"), ("a=b", "a=b"), ("", ""), ("open('x')", "open('x')"), ("true", "true"),
    ],
)  # fmt: skip
def test_values_are_literals_or_else_strings(text, value):
    assert parsed([f"k={text}"], batch=None) == {"k": value}
    assert type(parsed([f"k={text}"])["k"]) is type(value)


def test_settings_may_follow_one_another():
    out = done("summary", "toy.py", "--set", "width=3", "rate=0", "limit=40")
    assert out.endswith("width=3 rate=0.0 lr=0.05 limit=40 crop=1\n")
    assert "width=3 rate=0.0" in done("summary", "toy.py", "width=3", "--set", "rate=0")
    assert done("train", "toy.py", "--set", "width=3", "epochs=1").startswith("toy width=3 epochs=1: ")
    assert " on digits test (96 images), " in done("eval", "toy.py", "--set", "batch=7", "rate=0.1")
    for command in ("train", "eval", "summary"):
        result = minet(command, "toy.py", "--set", "width=3", "other.py")
        assert result.exit_code == 2
        assert "Usage: " in result.stderr
        assert "'other.py' is not NAME=VALUE" in result.stderr


def test_version():
    import minet as package

    assert done("--version") == f"minet {package.__version__}\n"


@pytest.mark.sweep(1)
@pytest.mark.parametrize("args", [["summary", "toy.py"], ["--help"], ["train", "toy.py"]])
def test_a_full_closed_or_broken_standard_output_gives_no_traceback(args):
    run = f"{sys.executable} -m minet {' '.join(args)}"
    for redirected, status, message in (
        (f"{run} >/dev/full", 2, "error: standard output cannot be written to: No space left on device\n"),
        (f"{run} >&-", 2, "error: standard output is closed\n"),
        (f"set -o pipefail; {run} | true", 1, ""),
    ):
        got = subprocess.run(
            ["bash", "-c", redirected], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
            text=True, timeout=60, check=False,
        )  # fmt: skip
        assert (got.returncode, got.stderr) == (status, message), redirected
    assert not Path("runs").exists()


# -- eval, summary, check ---------------------------------------------------------------------------


def test_eval_finds_the_newest_weights_and_the_settings_they_were_trained_with():
    trained = done("train", "toy.py", "--set", "width=5", "--set", "limit=80")
    accuracy = re.search(r"test accuracy  (\S+ %)", trained)[1]
    out = done("eval", "toy.py")
    assert re.match(rf"accuracy {accuracy}, loss \d\.\d{{4}} on digits test \(80 images\), \d+\.\d s", out)
    assert out.endswith("with runs/toy/weights.safetensors\n")
    shutil.move("runs/toy/weights.safetensors", "w")
    assert done("eval", "toy.py", "--weights", "w", "--batch", 7).startswith(f"accuracy {accuracy}")
    assert "w: does not fit this net" in refused("eval", "toy.py", "--weights", "w", "--set", "width=8")


def test_eval_without_weights_is_refused():
    assert "runs/toy: no run of toy" in refused("eval", "toy.py")
    done("train", "toy.py", "--epochs", 1)
    assert "runs/toy: is a run's folder\n  hint: name the model file" in refused("eval", "runs/toy")
    assert "none: no such file" in refused("eval", "toy.py", "--weights", "none")
    assert "toy.py: not a valid safetensors file" in refused("eval", "toy.py", "--weights", "toy.py")


def test_eval_on_data_that_does_not_fit_is_refused():
    done("train", "toy.py", "--out", "out")
    change(("input_shape = (1, 8, 8)", "input_shape = (1, 4, 16)"), name="toy.py")
    message = refused("eval", "toy.py", "--weights", "out")
    assert message.startswith(
        "error: toy.py: digits test: its images are (1, 8, 8), the net takes (1, 4, 16)"
    )


def test_eval_takes_a_run_folder_and_refuses_others():
    done("train", "toy.py", "--epochs", 1, "--out", "out")
    assert done("eval", "toy.py", "--weights", "out").endswith("with out/weights.safetensors\n")
    Path("none").mkdir()
    assert "none: is a folder" in refused("eval", "toy.py", "--weights", "none")


def test_eval_never_uses_another_models_weights():
    shutil.copy("toy.py", "toy-2.py")
    done("train", "toy.py", "--epochs", 1)
    done("train", "toy-2.py", "--epochs", 1, "--set", "width=3")  # the newest, named like a run of toy's
    assert "with runs/toy/weights" in done("eval", "toy.py")
    assert "with runs/toy-2/weights" in done("eval", "toy-2.py")
    assert "runs/toy: no run" not in done("train", "toy.py", "--resume", "--epochs", 2)
    other = change(("width", "maps"), name="other.py")
    message = refused("eval", other, "--weights", "runs/toy-2")
    assert "runs/toy-2/weights.safetensors: holds weights of toy-2, not of other" in message


def test_eval_of_weights_that_are_not_finite_is_an_error():
    done("train", "toy.py", "--epochs", 1, "--out", "out")
    arrays, facts = checkpoint.read("out/weights.safetensors")
    arrays["0/linear.w"][0] = np.nan
    checkpoint.write("out/weights.safetensors", arrays, facts)
    message = refused("eval", "toy.py", "--weights", "out")
    assert "out/weights.safetensors: the loss on digits test is nan: 0/linear.w is not finite" in message


def test_summary_shows_layers_and_settings():
    out = done("summary", "toy.py", "--set", "width=3", "--batch", 8)
    assert "Linear(3)" in out
    assert "batch 8" in out
    assert out.endswith("settings: batch=8 epochs=2 width=3 rate=0.2 lr=0.05 limit=96 crop=1\n")
    assert "toy.py: has no setting" in refused("summary", "toy.py", "--set", "depth=3")


def test_summary_draws_the_graph():
    done("summary", "toy.py", "--set", "width=3", "--graph", "toy.svg")
    assert "Linear(3)" in Path("toy.svg").read_text()
    assert "--graph toy.svg" in refused("summary", "toy.py", "--graph", "toy.png")
    assert "nowhere/toy.svg" in refused("summary", "toy.py", "--graph", "nowhere/toy.svg")


LAYER = """
from minet import Layer, update

class Base(Layer):
    def out_shape(self, in_shape):
        return in_shape

class Double(Base):
    def fprop_cpu(self, x, y, beta, train):
        update(y, 2 * x, beta)
    def bprop_cpu(self, x, dy, dx, beta):
        if dx is not None:
            update(dx, 2 * dy, beta)
    @classmethod
    def examples(cls):
        yield lambda: cls(), (2, 3, 4)
        yield lambda: cls(), (1, 1, 1)

class Bare(Base):
    pass
"""


LOSS = """
import numpy as np
from minet import Loss, MinetError

class Absolute(Loss):
    def check(self, labels, out_shape, batch):
        if labels.shape != (*out_shape, batch):
            raise MinetError("targets")
    def loss_cpu(self, y, labels, dy=None):
        if dy is not None:
            dy[...] = np.sign(y - labels) / y.size
        return float(np.abs(y - labels).mean())
"""


def test_check_covers_the_layers_of_a_file():
    Path("double.py").write_text(LAYER.split("class Bare")[0])
    for name in ("double.py", "double.py:Double", "./double.py"):
        out = done("check", name)
        assert out.startswith("Double() on (2, 3, 4), batch 3, cpu\n  PASS  shape\n")
        assert "Double() on (1, 1, 1)" in out
        assert "FAIL" not in out


def test_check_takes_a_base_class_too_if_it_has_examples():
    Path("double.py").write_text(LAYER.replace("class Bare(Base)", "class Bare(Double)"))
    assert done("check", "double.py").count("Double() on (2, 3, 4)") == 1
    assert "Bare() on (2, 3, 4)" in done("check", "double.py")


def test_check_has_status_1_if_a_check_fails():
    Path("double.py").write_text(LAYER.split("class Bare")[0].replace("2 * dy", "3 * dy"))
    result = minet("check", "double.py")
    assert result.exit_code == 1
    title, first, why, at, also, *_ = result.stdout.splitlines()
    assert title == "Double() on (2, 3, 4), batch 3, cpu" and first.startswith("  FAIL  gradient  dx[")
    assert why.strip() == "likely cause: 1.5 times the expected values everywhere: a wrong factor?"
    assert at.strip() == "at double.py:11, bprop_cpu" and also == "  also fails: gradient_eval"
    assert result.stderr == ""


def test_check_is_quiet_or_verbose_if_asked():
    Path("double.py").write_text(LAYER.split("class Bare")[0])
    assert re.fullmatch(
        r"(ok    Double\(\) on .*, batch 3, cpu: \d+ passed.*\n){2}Double: .*\n",
        done("check", "double.py", "-q"),
    )
    Path("double.py").write_text(LAYER.split("class Bare")[0].replace("2 * dy", "3 * dy"))
    *lines, last = minet("check", "double.py", "--quiet").stdout.splitlines()
    assert len(lines) == 2 and last.startswith("Double: ")
    for line in lines:
        assert re.match(
            r"FAIL  Double\(\) on .*: gradient \(and 1 more\): dx\[.* at double\.py:11, bprop_cpu$", line
        )
    out = minet("check", "double.py", "--verbose").stdout
    assert "\n  PASS  shape\n" in out and out.count("FAIL  gradient") == 4
    assert "--verbose and --quiet exclude each other" in refused("check", "double.py", "-q", "-v")


def test_check_tells_a_warning_once_with_its_line():
    text = LAYER.split("class Bare")[0].replace(
        "        update(", "        np.log(np.zeros(1))\n        update(", 1
    )
    Path("double.py").write_text("import numpy as np\n" + text)
    result = minet("check", "double.py")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.count("divide by zero encountered in log at double.py:") == 1


def test_check_takes_losses_of_a_file_and_minets_own():
    Path("double.py").write_text(LAYER.split("class Bare")[0] + LOSS)
    *_, double, absolute = done("check", "double.py").splitlines()
    assert double.startswith("Double: ") and re.fullmatch(
        r"Absolute: \d+ passed, 0 failed, \d+ skipped", absolute
    )
    Path("double.py").write_text(LOSS.replace("np.sign", "2 * np.sign"))
    result = minet("check", "double.py:Absolute")
    assert result.exit_code == 1
    assert (
        "FAIL  gradient  dy[" in result.stdout and "2 times the expected values everywhere" in result.stdout
    )
    assert "SoftmaxCrossEntropy() on (5, 1, 1)" in done("check", "SoftmaxCrossEntropy")


def test_check_knows_minets_own_layers_by_stem_and_class():
    assert done("check", "prelu") == done("check", "PReLU")
    assert "Identity() on" in done("check", "identity")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.py", "none.py: no such file"),
        ("double.py", "double.py:19: Bare has no examples() to check"),
        ("double.py:Bare", "double.py:19: Bare has no examples() to check"),
        ("double.py:", "'double.py:' needs a class name after the colon, got ''"),
        ("double.py:A:x", "'double.py:A:x' needs a class name after the colon, got 'A:x'"),
        (
            "double.py:Doubel",
            "double.py: has no layer Doubel; it has Base, Double, Bare\n  hint: did you mean Double?",
        ),
        ("empty.py", "empty.py: defines no layer"),
        ("broken.py", "broken.py:1: ZeroDivisionError"),
        ("PRelu", "there is no layer 'PRelu'; the layers are: "),
        ("raises.py", "raises.py:2: Raises.examples() fails: ValueError: no"),
        ("nothing.py", "nothing.py:2: Nothing.examples() yields nothing"),
        ("odd.py", "odd.py:2: Odd.examples() yields 3, not a pair of "),
        ("prelu --backend gpu", "there is no backend 'gpu'"),
    ],
)
def test_check_reports_that_there_is_nothing_to_check(name, message):
    Path("double.py").write_text(LAYER)
    Path("empty.py").write_text("from minet.layers import PReLU")
    Path("broken.py").write_text("1 / 0")
    head = "from minet import Layer\nclass {}(Layer):\n    @classmethod\n    def examples(cls): {}\n"
    Path("raises.py").write_text(head.format("Raises", "raise ValueError('no')"))
    Path("nothing.py").write_text(head.format("Nothing", "return []"))
    Path("odd.py").write_text(head.format("Odd", "return [3]"))
    assert message in refused("check", *name.split())


@pytest.mark.parametrize(
    ("example", "message"),
    [
        ("cls(2), (3, 4, 5)", "yields Wide(2) itself, not a function that makes it"),
        ("cls, (3, 4, 5)", "yields a function that fails: TypeError: "),
        ("cls(), (3, 4, 5)", "fails: TypeError: "),
        ("(lambda: cls(-1)), (3, 4, 5)", "yields a function that fails: LayerError: "),
        ("(lambda: 3), (3, 4, 5)", "yields a function that returns 3, not a layer"),
        ("(lambda: cls(2)), (3, 4)", "yields the shape (3, 4), not (C, H, W)"),
        ("(lambda: cls(2)), (3, 4, 0)", "yields the shape (3, 4, 0), not (C, H, W)"),
        ("(lambda: cls(2)), 7", "yields the shape 7, not (C, H, W)"),
        ("lambda: cls(2)", "yields <function "),
    ],
)
def test_check_reports_what_is_wrong_with_examples_before_it_begins(example, message):
    Path("wide.py").write_text(
        LAYER.split("class Bare")[0]
        + f"""
class Wide(Base):
    def __init__(self, width):
        if width < 0:
            raise self.error("width must be positive")
    @classmethod
    def examples(cls):
        yield {example}
"""
    )
    stderr = refused("check", "wide.py")
    assert "error: wide.py:20: Wide.examples() " + message in stderr
    assert stderr.endswith("hint: @classmethod def examples(cls): yield lambda: cls(...), (3, 7, 6)\n")


def test_check_ends_with_a_verdict_for_each_class():
    Path("double.py").write_text(LAYER.replace("class Bare(Base)", "class Bare(Double)"))
    *_, empty, double, bare = done("check", "double.py").splitlines()
    assert empty == ""
    counts = re.fullmatch(r"Double: (\d+) passed, 0 failed, (\d+) skipped", double)
    assert int(counts[1]) > int(counts[2])
    assert bare == double.replace("Double", "Bare")
    Path("double.py").write_text(LAYER.split("class Bare")[0].replace("2 * dy", "3 * dy"))
    last = minet("check", "double.py").stdout.splitlines()[-1]
    assert int(re.fullmatch(r"Double: \d+ passed, (\d+) failed, \d+ skipped", last)[1]) >= 2


def test_every_command_has_help():
    assert "train" in done("--help")
    for command in ("train", "eval", "summary", "check"):
        assert f"{command} [OPTIONS]" in done(command, "--help")


def test_help_imports_nothing_slow():
    code = "import sys; from minet.cli.main import main\n"
    code += "try: main()\nexcept SystemExit: pass\nprint(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code, "train", "--help"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    loaded = set(run.stdout.split("\n")[-2].split())
    assert "minet.cli" in loaded
    assert not loaded & {"numba", "matplotlib", "rich.progress", "safetensors", "pooch", "minet.layers.prelu"}


def test_minets_own_layer_files_are_the_imported_modules():
    import minet.layers
    from minet.testing.layerfile import classes

    for cls in minet.layers.all_layers():
        (found,) = classes(f"{minet.layers.__path__[0]}/{cls.stem()}.py")
        assert found is cls is getattr(minet.layers, cls.__name__)

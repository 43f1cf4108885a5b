"""`minet new-model`: what it writes trains, tests and is summarised; a mistake leaves nothing behind."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from minet.cli.main import app

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Run each test in a folder of its own."""
    monkeypatch.chdir(tmp_path)


def minet(*args):
    return CliRunner().invoke(app, ["new-model", *args])


@pytest.mark.slow
def test_the_commands_that_it_prints_work_as_typed_and_it_learns():
    result = minet("my-model")
    assert result.exit_code == 0, result.output
    wrote, following, *lines = result.stdout.splitlines()
    assert (wrote, following) == ("wrote my_model.py", "next:")
    assert [line.split()[-2:] for line in lines] == [
        [name, "my_model.py"] for name in ("summary", "train", "eval")
    ]
    env, outputs = {**os.environ, "PYTHONPATH": str(ROOT)}, []
    for line in lines:
        done = subprocess.run(line, shell=True, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        outputs.append(done.stdout)
    assert "settings: " in outputs[0] and "width=16" in outputs[0]
    accuracy = re.search(r"^accuracy (\d+\.\d+) %, loss", outputs[2], re.MULTILINE)
    assert accuracy and float(accuracy[1]) > 97, outputs[2]


@pytest.mark.parametrize("name", ["my-model", "my_model", "MyModel", "myModel"])
def test_a_name_in_any_case(name):
    assert minet(name).stdout.startswith("wrote my_model.py\n")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("3d", "'3d' is not a name for a model"),
        ("mine.py", "'mine.py' is not a name for a model\n  hint: mine\n"),
        ("models/mine", "'models/mine' is not a name for a model"),
        ("import", "'import' is a keyword of Python"),
        ("digits", "minet has a model digits"),
        ("Cifar10Gaussian", "minet has a model cifar10_gaussian"),
        ("select", "select.py would hide the module select"),
    ],
)
def test_a_name_that_is_refused(name, message):
    result = minet(name)
    assert result.exit_code == 2 and result.stderr.startswith(f"error: {message}")
    assert not list(Path().iterdir())


def test_nothing_is_overwritten_and_a_folder_must_be_there():
    Path("mine.py").write_text("mine")
    assert minet("mine").stderr.startswith("error: mine.py exists, and nothing is overwritten\n")
    assert (
        minet("mine", "--dir", "models").stderr == "error: models: no such folder\n  hint: mkdir -p models\n"
    )
    assert Path("mine.py").read_text() == "mine" and len(list(Path().iterdir())) == 1
    Path("models").mkdir()
    assert minet("mine", "--dir", "models").stdout.startswith("wrote models/mine.py\n")

"""A run that is killed anywhere loses what came after its last checkpoint, and ends with the same bits."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from minet.train import checkpoint
from minet.train.callbacks import WEIGHTS

HELPERS = Path(__file__).parents[1] / "helpers"
ROOT = HELPERS.parents[1]
EVERY, BATCHES = 2, 6
CALLBACKS = """
def callbacks():
    return [
        SigmaSchedule(1.5, 0.5),
        EMA(0.9),
        LearningRateLog(),
        Statistics(every=4),
        EarlyStopping(5),
    ]
"""
TIMES = ("seconds", "images_per_second")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model file with everything that has a state, and the run that nobody kills."""
    folder = tmp_path_factory.mktemp("killed")
    text = (HELPERS / "toy.py").read_text() + CALLBACKS
    for old, new in (
        ("batch, epochs, loss = 32, 2", "batch, epochs, loss = 16, 3"),
        ("Linear(width), ", "GaussianPool(3, kernels=2, learn={'mean'}), Linear(width), "),
        ("import BatchNorm", "import BatchNorm, GaussianPool"),
        ("from minet.layers", "from minet.train.callbacks import EMA, EarlyStopping, LearningRateLog\n"
         "from minet.train.callbacks import SigmaSchedule, Statistics\nfrom minet.layers"),
    ):  # fmt: skip
        assert old in text
        text = text.replace(old, new, 1)
    (folder / "toy.py").write_text(text)
    return folder


def train(folder, out, kill="none:1"):
    """Train or resume, in a process that may be killed; whether it was, and what it printed."""
    run = subprocess.run(
        [sys.executable, str(HELPERS / "killed.py"), kill, "toy.py", str(EVERY), out], cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode in (0, -signal.SIGKILL), run.stderr
    return run.returncode != 0, run.stdout


@pytest.fixture(scope="module")
def whole(model):
    """How many events of each kind there are in a run that nobody kills, and its result."""
    killed, out = train(model, "whole")
    assert not killed
    return {kind: int(count) for kind, count in re.findall(r"(\w+)=(\d+)", out)}, result(model / "whole")


def result(folder):
    """All that a run leaves, without times."""
    timed = ("log.jsonl", "run.json")  # hold times
    found = {path.name: path.read_bytes() for path in folder.glob("*.*") if path.name not in timed}
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    found["log"] = [{name: record[name] for name in record if name not in TIMES} for record in records]
    found["older"] = sorted(path.name for path in (folder / "checkpoints").iterdir())
    return found


def saved(folder):
    """The step of a run's newest checkpoint; 0 without one."""
    file = folder / WEIGHTS
    return checkpoint.read(file)[1]["step"] if file.exists() else 0


def kills(seed, events, count):
    """Where to kill the processes of a run, one after the other."""
    rng = random.Random(seed)
    for number in range(count):
        kind = rng.choice(sorted(events))
        yield f"{kind}:{rng.randint(1, events[kind] if not number else max(1, events[kind] // 3))}"


def check(model, whole, name, where):
    """Kill a run at each of these events, and let it end; how often it was killed."""
    _, expected = whole
    happened = 0
    for kill in where:
        before = saved(model / name)
        killed, printed = train(model, name, kill)
        if not killed:
            break
        happened += 1
        steps = before + int(re.findall(r"step=(\d+)", printed)[-1])
        assert steps - saved(model / name) <= EVERY
    else:
        assert not train(model, name)[0]
    assert result(model / name) == expected
    shutil.rmtree(model / name)
    return happened


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bits(model, whole):
    assert whole[0].keys() == {"flush", "half", "line", "link", "rename", "step"}
    assert check(model, whole, "fast", ["half:9", "rename:4", "line:5", "step:4"]) == 4


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_runs_killed_anywhere_end_with_the_same_bits(model, whole, seed):
    assert check(model, whole, f"run{seed}", kills(seed, whole[0], 1 + seed % 3))

"""Training by several ranks: as one process, told once, resumed anywhere."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from mpi import launcher, run, train
from slow import slow

from minet.train import checkpoint

MODEL = """
from minet import SGD, Sequential, SoftmaxCrossEntropy, data
from minet.layers import BatchNorm, Conv, Dropout, GaussianPool, Linear, PReLU, StochasticPool

input_shape = (1, 8, 8)
batch, epochs, loss = 32, 2, SoftmaxCrossEntropy()

def net(norm=False):
    return Sequential(
        Conv(6, 3, pad=1), *([BatchNorm()] if norm else []), PReLU(),
        GaussianPool(3, stride=1, pad=1, kernels=2), StochasticPool(2), Dropout(0.2), Linear(10),
    )

def solver(lr=0.05):
    return SGD(lr, momentum=0.9)

def datasets(limit=300, test=101):
    return data.digits("train", limit=limit), data.digits("test", limit=test)
"""


@pytest.fixture
def here(tmp_path):
    launcher()
    (tmp_path / "model.py").write_text(MODEL)
    return tmp_path


def log(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def weights(folder):
    return {name: a for name, a in checkpoint.read(folder / "weights.safetensors")[0].items()}


def close(one, other, within=1e-5):
    for a, b in zip(one, other, strict=True):
        for name in ("loss", "test_loss"):
            assert a[name] == pytest.approx(b[name], rel=within), name
        assert (a["epoch"], a["step"], a["rate"]) == (b["epoch"], b["step"], b["rate"])
        assert a["accuracy"] == pytest.approx(b["accuracy"], abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, slow(4)])
def test_ranks_follow_one_process(here, ranks):
    train(1, "model.py", "--out", "one", "--backend", "cpu", cwd=here)
    said = train(ranks, "model.py", "--out", "many", "--backend", "cpu", "--trace", "t.json", cwd=here)
    assert f"{ranks} ranks, {32 // ranks} images each" in said and "batch 32" in said
    assert said.count("parameters on cpu") == 1  # rank 0 alone talks
    close(log(here / "one"), log(here / "many"))
    one, many = weights(here / "one"), weights(here / "many")
    assert one.keys() == many.keys()
    for name, value in one.items():
        np.testing.assert_allclose(many[name], value, rtol=2e-3, atol=2e-5, err_msg=name)
    events = json.loads((here / "t.json").read_text())["traceEvents"]
    assert {event["pid"] for event in events} == set(range(ranks))
    assert {"fprop", "bprop"} <= {event["name"] for event in events}


@pytest.mark.slow
def test_ordered_sums_give_the_same_bits_again(here):
    for name in ("a", "b"):
        train(3, "model.py", "batch=33", "--out", name, "--backend", "cpu", "--reduce", "ordered", cwd=here)
    a, b = weights(here / "a"), weights(here / "b")
    assert all((a[name] == b[name]).all() for name in a)
    drop = ("seconds", "images_per_second")
    assert [{k: v for k, v in r.items() if k not in drop} for r in log(here / "a")] == [
        {k: v for k, v in r.items() if k not in drop} for r in log(here / "b")
    ]


@pytest.mark.slow
@pytest.mark.parametrize("ranks, each", [(2, 2), slow(4, 1)])
def test_as_many_parts_have_the_same_bits(here, ranks, each):
    """In float32, with layers that draw: one process in four parts, and ranks that add by rank."""
    words = ["model.py", "--epochs", "1", "--backend", "cpu"]
    alone = train(1, *words, "--micro-batches", "4", "--out", "one", cwd=here)
    assert alone.startswith("4 micro-batches a step\n") and "batch 32" in alone
    many = [*words, "--reduce", "ordered", "--micro-batches", each, "--out", "many"]
    said = train(ranks, *many, cwd=here)
    assert f"{ranks} ranks, {'2 times ' if each > 1 else ''}8 images each, gradients added by rank" in said
    one, other = weights(here / "one"), weights(here / "many")
    for name, value in one.items():
        np.testing.assert_array_equal(other[name], value, err_msg=name)
    assert log(here / "one")[0]["loss"] == log(here / "many")[0]["loss"]


@pytest.mark.slow
def test_parts_of_ranks_that_add_as_they_like(here):
    train(1, "model.py", "--epochs", "1", "--out", "one", "--backend", "cpu", cwd=here)
    parts = ["--micro-batches", "4", "--out", "many", "--backend", "cpu"]
    train(2, "model.py", "--epochs", "1", *parts, cwd=here)
    close(log(here / "one"), log(here / "many"))


@pytest.mark.slow
def test_batch_norm_is_local_by_default_and_synchronised_on_request(here):
    words = ["model.py", "norm=True", "--backend", "cpu"]
    train(1, *words, "--out", "one", cwd=here)
    train(2, *words, "--out", "local", cwd=here)
    said = train(2, *words, "--out", "synced", "--sync-batch-norm", cwd=here)
    assert "BatchNorm over all of them" in said
    close(log(here / "one"), log(here / "synced"), within=1e-4)
    assert abs(log(here / "local")[0]["loss"] / log(here / "one")[0]["loss"] - 1) > 1e-4


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_ranks(here):
    train(1, "model.py", "--out", "whole", "--backend", "cpu", cwd=here)
    train(2, "model.py", "--epochs", "1", "--out", "parts", "--backend", "cpu", cwd=here)
    said = train(3, "model.py", "--out", "parts", "--resume", "--epochs", "2", cwd=here, status=2)
    assert "cannot be shared equally by 3 ranks" in said
    train(4, "model.py", "--out", "parts", "--resume", "--epochs", "2", "--backend", "cpu", cwd=here)
    close(log(here / "whole"), log(here / "parts"))


CALLBACK = """
import os, signal, time
from minet.train.callbacks import Callback

class Do(Callback):
    steps = 0
    def __init__(self, what, rank):
        self.what, self.rank = what, rank
    def on_batch(self, trainer, loss):
        self.steps += 1
        if trainer.ranks.rank == self.rank and self.steps == 3:
            first = next(iter(trainer.net.params.values()))
            if self.what == "nan":
                first[...] = float("nan")
            if self.what == "drift":
                first *= 1.01
            if self.what == "interrupt":
                os.kill(os.getpid(), signal.SIGINT)
            if self.what == "stop":
                trainer.stop("enough")
            if self.what == "raise":
                raise ValueError("a mistake")
            if self.what == "hang":
                os.kill(os.getpid(), signal.SIGSTOP)

def callbacks(what="", rank=1):
    return [Do(what, rank)]
"""


@pytest.mark.parametrize(
    "what, status, message",
    [
        ("nan", 2, r"error: rank 1: the loss is nan at step 3: the parameter 0/conv.w is not finite"),
        slow("drift", 2, r"error: rank 1's parameters differ from rank 0's after"),
        slow("interrupt", 130, r"stopped; --resume continues after 4 of 9 batches of epoch 1"),
        slow("stop", 0, r"stopped; --resume continues after 4 of 9 batches of epoch 1"),
        slow(
            "raise", 2, r"error: rank 1 of 2: model\.py:\d+: ValueError: a mistake\n  hint: see the traceback"
        ),
        slow("hang", 2, r"error: rank 1 of 2 did not answer for 2 s, while others waited for"),
    ],
)
def test_what_happens_in_one_rank_is_told_once(here, what, status, message):
    (here / "model.py").write_text(MODEL + CALLBACK)
    words = [
        "model.py",
        f"what={what}",
        "--out",
        "run",
        "--backend",
        "cpu",
        "--patience",
        "2" if what == "hang" else "60",
    ]
    said = train(2, *words, cwd=here, status=status)
    assert len(re.findall(message, said)) == 1, said
    if status == 130:
        train(1, "model.py", "--out", "run", "--resume", "--backend", "cpu", cwd=here, status=0)


@pytest.mark.sweep(1)
@pytest.mark.parametrize(
    "ranks, words, message",
    [
        (3, [], "a batch of 32 images cannot be shared equally by 3 ranks\n  hint: --batch 30 or 33"),
        slow(4, ["batch=2"], "a batch of 2 images cannot be shared equally by 4 ranks\n  hint: --batch 4"),
        slow(2, ["--keep", "0"], "keep must be a whole number of at least 1, got 0"),
        (2, ["nosuch=1"], "has no setting 'nosuch'"),
        slow(2, ["--micro-batches", "3"], "equally by 2 ranks of 3 micro-batches\n  hint: --batch 30 or 36"),
        slow(2, ["--micro-batches", "2", "--sync-batch-norm"], "takes a batch at once, and --micro-batches"),
        slow(2, ["--micro-batches", "0"], "micro-batches must be a whole number of at least 1, got 0"),
        slow(2, ["--resume", "--out", "nowhere"], "nowhere/weights.safetensors: no such file"),
    ],
)
def test_bad_input_is_told_once_with_status_2(here, ranks, words, message):
    backend = [] if "--backend" in words else ["--backend", "cpu"]
    said = train(ranks, "model.py", *words, *backend, cwd=here, status=2)
    assert said.count(message) == 1, said
    assert not list((here / "runs").glob("*"))


@pytest.mark.slow
def test_ranks_with_other_files_are_told_apart(here):
    """Rank 1 reads a model file of its own, as on a machine with an old copy."""
    started = here / "start.py"
    started.write_text(
        "import os, sys\n"
        "os.chdir('ab'[int(os.environ['OMPI_COMM_WORLD_RANK'])])\n"
        "from minet.cli.main import main\n"
        "sys.argv = ['minet', 'train', 'model.py', '--backend', 'cpu']\n"
        "main()\n"
    )
    for folder, text in (("a", MODEL), ("b", MODEL.replace("0.05", "0.06"))):
        (here / folder).mkdir()
        (here / folder / "model.py").write_text(text)
    said = run(2, sys.executable, started, cwd=here, status=2)
    assert said.count("rank 1 would not train the same as rank 0: the text of the model file differs") == 1


def test_one_process_refuses_what_is_for_several(here):
    said = train(1, "model.py", "--reduce", "ordered", cwd=here, status=2)
    assert "--reduce is for training with mpiexec" in said
    assert not Path(here, "runs").exists()

"""Ranks on cuda: the real PyCUDA on a double of the driver, gradients by way of page-locked host memory."""

import pytest
from fake_driver import double
from mpi import train
from slow import slow
from test_ranks_train import MODEL, close, log


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        [],
        slow(["--reduce", "ordered"]),
        slow(["--micro-batches", "2"]),
        slow(["--micro-batches", "2", "--reduce", "ordered"]),
        slow(["norm=True", "--sync-batch-norm"]),
    ],
    ids=" ".join,
)
def test_ranks_on_cuda_follow_one_process_on_the_cpu(doubles, tmp_path, words):
    (tmp_path / "model.py").write_text(MODEL)
    words = ["model.py", "--epochs", "1", *words]
    on_double = double.environment(doubles, doubles / "cache")
    said = train(2, *words, "--backend", "cuda", "--out", "ranks", cwd=tmp_path, **on_double)
    assert "by way of page-locked host memory" in said
    of_ranks = ("--reduce", "ordered", "--sync-batch-norm", "--micro-batches", "2")
    alone = [word for word in words if word not in of_ranks]
    train(1, *alone, "--backend", "cpu", "--out", "one", cwd=tmp_path)
    close(log(tmp_path / "one"), log(tmp_path / "ranks"))

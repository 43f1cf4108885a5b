"""Ranks with a Trainer of one's own; in float64, where rounding hides nothing."""

import json
import re
import sys
from textwrap import dedent

import pytest
from mpi import ROOT, launcher, run
from slow import slow

PAGE = ROOT / "docs/scaling.md"
PROGRAM = dedent(
    """
    import json
    from mpi4py import MPI
    from minet import SGD, Net, Sequential, SoftmaxCrossEntropy, data
    from minet.layers import Conv, Dropout, GaussianPool, Linear, PReLU, StochasticPool
    from minet.parallel.ranks import Ranks
    from minet.train.callbacks import Callback
    from minet.train.trainer import Trainer

    class Losses(Callback):
        def __init__(self):
            self.found = []

        def on_batch(self, trainer, loss):
            self.found.append(loss)

    ranks = Ranks(MPI.COMM_WORLD)
    with ranks.ending():
        layers = [Conv(6, 3, pad=1), PReLU(), GaussianPool(3, stride=1, pad=1, kernels=2), StochasticPool(2)]
        graph = Sequential(*layers, Dropout(0.2), Linear(10))
        train, test = data.digits("train", limit=300), data.digits("test", limit=101)
        train.labels[::7] = -1  # ignored: what is left differs from rank to rank
        net = Net(graph, (1, 8, 8), ranks.share(36), SoftmaxCrossEntropy(), dtype="float64")
        losses = Losses()
        trainer = Trainer(net, SGD(0.05, momentum=0.9), train, test, 3, [losses], ranks=ranks)
        result = trainer.fit()
        if ranks.rank == 0:
            print(json.dumps([losses.found, [record["test_loss"] for record in result.history]]))
    """
)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, slow(3)])
def test_ranks_compute_what_one_process_computes(tmp_path, ranks):
    launcher()
    (tmp_path / "program.py").write_text(PROGRAM)
    one = json.loads(run(1, sys.executable, "program.py", cwd=tmp_path).splitlines()[0])
    many = json.loads(run(ranks, sys.executable, "program.py", cwd=tmp_path).splitlines()[0])
    assert len(one[0]) == 24
    for ours, theirs in zip(many, one, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-12)


def test_the_page_s_program(tmp_path):
    launcher()
    program = re.search(r'```python title="program.py"\n(.*?)```', PAGE.read_text(), re.S)
    assert program
    (tmp_path / "program.py").write_text(program[1])
    accuracy = run(2, sys.executable, "program.py", cwd=tmp_path).splitlines()[0]
    assert float(accuracy) > 0.8


def test_ranks_of_different_runs_are_told_apart_without_a_call_of_join(tmp_path):
    launcher()
    (tmp_path / "program.py").write_text(PROGRAM.replace('dtype="float64"', "seed=ranks.rank"))
    with pytest.raises(AssertionError) as ended:  # the status is that of whichever ended first
        run(2, sys.executable, "program.py", cwd=tmp_path)
    said = "rank 1 would not train the same as rank 0: seed differs: 1 there, 0 in rank 0"
    assert str(ended.value).count(said) == 1

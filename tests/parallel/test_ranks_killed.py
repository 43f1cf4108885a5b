"""One of four ranks is killed, again and again: the last checkpoint resumes the run, with the same end."""

import random
import re

import pytest
from mpi import launcher, train
from test_ranks_train import MODEL

from minet.train import checkpoint

KILLED = '''
import os, signal
from minet.train.callbacks import Callback

class Killed(Callback):
    """SIGKILL in one rank, after a step, in a pause or at the end of an epoch."""

    def __init__(self, rank, step, when):
        self.rank, self.step, self.when = rank, step, when

    def kill(self, trainer, when):
        due = trainer.net.clock.now >= self.step
        if due and when == self.when and trainer.ranks.rank == self.rank:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_batch(self, trainer, loss):
        self.kill(trainer, "step")

    def on_pause(self, trainer):
        self.kill(trainer, "pause")

    def on_epoch(self, trainer, record):
        self.kill(trainer, "epoch")

def callbacks(rank=-1, step=0, when="step"):
    return [Killed(rank, step, when)]
'''


@pytest.mark.slow
def test_a_killed_rank_costs_no_more_than_the_steps_since_the_last_checkpoint(tmp_path):
    launcher()
    (tmp_path / "model.py").write_text(MODEL + KILLED)
    words = ["model.py", "--backend", "cpu", "--reduce", "ordered", "--save-every", "2", "--epochs", "3"]
    train(4, *words, "--out", "whole", cwd=tmp_path)
    wanted, facts = checkpoint.read(tmp_path / "whole" / "weights.safetensors")
    draw = random.Random(20)
    for attempt in range(10):
        rank, step = draw.randrange(4), draw.randrange(3, 27)
        settings = f"rank={rank}", f"step={step}", f"when={draw.choice(['step', 'step', 'pause', 'epoch'])}"
        out = f"killed-{attempt}"
        said = train(4, *words, *settings, "--out", out, cwd=tmp_path, status=137)
        assert re.search(rf"rank {rank} .*\n?.*exited on\s+signal 9", said), said
        ranks = draw.choice([4, 4, 2])
        again = ["--force", "rank=-1", "--resume", "--out", out]
        train(ranks, *words, *again, cwd=tmp_path)
        found, _ = checkpoint.read(tmp_path / out / "weights.safetensors")
        for name, value in wanted.items():
            if ranks == 4:
                assert (found[name] == value).all(), (settings, name)
            else:
                assert abs(found[name] - value).max() <= 1e-3 * abs(value).max() + 1e-5, (settings, name)
    assert facts["step"] == 27

"""Best: the checkpoint of the best epoch is kept, also over a resumption."""

import pytest
from small import everything, trainer

from minet import MinetError
from minet.train import checkpoint
from minet.train.callback import Callback
from minet.train.callbacks import WEIGHTS, Best, Checkpointer


class Told(Callback):
    """Puts these accuracies into the records, and keeps what each epoch has learned."""

    def __init__(self, *values):
        self.values, self.learned = values, []

    def on_epoch(self, trainer, record):
        record["accuracy"] = self.values[record["epoch"] - 1]
        self.learned.append(everything(trainer))


def test_the_best_epoch_is_kept(tmp_path):
    told, best = Told(0.1, 0.3, 0.2), Best()
    trainer(told, best, Checkpointer(tmp_path), folder=tmp_path, epochs=3).fit()
    arrays, facts = checkpoint.read(tmp_path / "best.safetensors")
    assert (best.best, best.epoch, facts["epoch"]) == (0.3, 2, 2)
    assert {name: value.tobytes() for name, value in arrays.items()} == told.learned[1]
    assert facts["callbacks"]["Best"] == {"best": 0.3, "epoch": 2}


def test_a_resumed_run_remembers_the_best(tmp_path):
    for epochs, epoch in ((1, 1), (2, 1), (3, 3)):
        run = trainer(Told(0.3, 0.2, 0.4), Best(), Checkpointer(tmp_path), folder=tmp_path, epochs=epochs)
        if epochs > 1:
            run.resume(tmp_path / WEIGHTS)
        run.fit()
        assert checkpoint.read(tmp_path / "best.safetensors")[1]["epoch"] == epoch


def test_it_needs_a_place():
    with pytest.raises(
        MinetError, match=r'does not know where to save\n  hint: Best\(file="best.safetensors"'
    ):
        trainer(Best(), epochs=1).fit()


def test_the_place_and_the_metric_may_be_given(tmp_path):
    best = Best("test_loss", file=tmp_path / "mine.safetensors")
    history = trainer(best, epochs=2).fit().history
    assert best.best == min(record["test_loss"] for record in history)
    assert checkpoint.read(tmp_path / "mine.safetensors")[1]["epoch"] == best.epoch

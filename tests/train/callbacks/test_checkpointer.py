"""Checkpointer: within epochs, with the last ones kept; what it cannot write leaves the one before."""

import itertools

import pytest
from small import Clock, Interrupted, everything, trainer

from minet import MinetError
from minet.core import arrays_file
from minet.core.files import FileError, write_whole
from minet.train import checkpoint, older
from minet.train.callback import Callback
from minet.train.callbacks import WEIGHTS, Checkpointer, EarlyStopping

EXACT = ("epoch", "step", "loss", "test_loss", "accuracy", "rate")


class Facts(Callback):
    """Read the checkpoint before each step."""

    def __init__(self, folder):
        self.file, self.seen = folder / WEIGHTS, []

    def on_batch(self, trainer, loss):
        facts = checkpoint.read(self.file)[1] if self.file.exists() else {"epoch": 0}
        self.seen.append((facts["epoch"], facts.get("within", {}).get("batches", 0)))


def test_it_saves_every_so_many_steps(tmp_path):
    facts = Facts(tmp_path)
    trainer(facts, Checkpointer(tmp_path, every=2), epochs=2, batch=16).fit()
    assert facts.seen == [
        (0, 0), (0, 0), (0, 2), (0, 2), (0, 4), (0, 4), (1, 0), (1, 0), (1, 2), (1, 2), (1, 4), (1, 4),
    ]  # fmt: skip


def test_it_saves_every_so_many_seconds(tmp_path):
    clock, facts = Clock(), Facts(tmp_path)

    class Tick(Callback):
        def on_batch(self, trainer, loss):
            clock.now += 10

    trainer(facts, Tick(), Checkpointer(tmp_path, every="25s", clock=clock), epochs=1, batch=16).fit()
    assert facts.seen == [(0, 0), (0, 0), (0, 0), (0, 3), (0, 3), (0, 3)]


def test_without_a_setting_it_saves_epochs_only(tmp_path):
    facts = Facts(tmp_path)
    trainer(facts, Checkpointer(tmp_path), epochs=2).fit()
    assert facts.seen == [(0, 0)] * 3 + [(1, 0)] * 3 and [path.name for path in tmp_path.iterdir()] == [
        WEIGHTS
    ]


@pytest.mark.sweep(4)
@pytest.mark.parametrize("stop", [1, 3, 5, 6, 7, 11, 12])
@pytest.mark.parametrize("late", [False, True])
def test_a_run_goes_on_from_within_an_epoch_with_the_same_bits(tmp_path, stop, late):
    whole = trainer(epochs=2, batch=16)
    whole.fit()
    broken = trainer(Interrupted(stop), Checkpointer(tmp_path), epochs=2, batch=16, late=late)
    with pytest.raises(KeyboardInterrupt):
        broken.fit()
    resumed = trainer(epochs=2, batch=16, late=late)
    facts = resumed.resume(tmp_path / WEIGHTS)
    done = stop + late * (stop % 6 > 0)  # where losses come late, the step that was running is finished too
    assert facts["step"] == done and resumed.steps == done
    history = resumed.fit().history
    assert everything(resumed) == everything(whole)
    for got, expected in zip(history[::-1], whole.history[::-1], strict=False):
        assert [got[key] for key in EXACT] == [expected[key] for key in EXACT]
        assert got["seconds"] > 0


def test_pauses_change_no_bit_of_a_run_whose_losses_come_late(tmp_path):
    runs = [trainer(epochs=2, batch=16, late=True) for _ in range(2)]
    runs[0].callbacks = [Checkpointer(tmp_path, every=3)]
    for run in runs:
        run.fit()
    first, second = ([{name: r[name] for name in EXACT} for r in run.history] for run in runs)
    assert first == second and everything(runs[0]) == everything(runs[1])


def test_the_last_ones_are_kept(tmp_path):
    trainer(Checkpointer(tmp_path, every=4, keep=3), epochs=2, batch=16).fit()
    assert [*older.found(tmp_path)] == [10, 6]
    assert checkpoint.read(tmp_path / WEIGHTS)[1]["step"] == 12
    assert checkpoint.read(older.found(tmp_path)[10])[1]["within"]["batches"] == 4


@pytest.mark.parametrize(("text", "more"), [("keep must be", {"keep": 0}), ("keep must", {"keep": 1.5}),
                                            ("neither a time", {"every": "x"})])  # fmt: skip
def test_settings_that_make_no_sense_are_refused(text, more):
    with pytest.raises(MinetError, match=text):
        Checkpointer(".", **more)


def fill_up(monkeypatch, after):
    """A disk that is full after so many files."""
    writes = itertools.count(1)

    def fill(path, data):
        if next(writes) > after:
            raise FileError(f"{path}: cannot be written: No space left on device")
        write_whole(path, data)

    monkeypatch.setattr(arrays_file, "write_whole", fill)


def test_a_disk_that_is_full_within_an_epoch_is_told_and_the_run_goes_on(tmp_path, monkeypatch):
    fill_up(monkeypatch, 1)
    run = trainer(Checkpointer(tmp_path, every=2), epochs=1, batch=16)
    told = (
        r"No space left on device; the run goes on, and .*weights.safetensors still holds 2 of 6 batches of"
    )
    with (
        pytest.warns(RuntimeWarning, match=told),
        pytest.raises(FileError, match="holds 2 of 6 batches of epo"),
    ):
        run.fit()
    assert run.net.clock.step == 6
    assert checkpoint.read(tmp_path / WEIGHTS)[1]["within"]["batches"] == 2


def test_a_disk_that_is_full_from_the_start_is_told(tmp_path, monkeypatch):
    fill_up(monkeypatch, 0)
    run = trainer(Checkpointer(tmp_path, every=4), epochs=1, batch=16)
    told = pytest.warns(RuntimeWarning, match="the run goes on, and nothing was saved yet")
    with told, pytest.raises(FileError, match="hint: nothing was saved yet"):
        run.fit()
    assert not [*tmp_path.iterdir()]


def test_a_place_that_minet_never_writes_is_refused(tmp_path):
    run = trainer(epochs=1)
    run.fit()
    for within in ({"batches": -1}, {"batches": 1, "losses": "x", "seconds": 1}, {}, {"batches": 1.5}):
        run.save(tmp_path / "a", within=within)
        with pytest.raises(FileError, match=r"its place in the epoch is .*\n  hint: minet never writes this"):
            trainer().resume(tmp_path / "a")


def test_a_trainer_of_another_batch_size_is_refused(tmp_path):
    run = trainer(Interrupted(1), Checkpointer(tmp_path), batch=16)
    with pytest.raises(KeyboardInterrupt):
        run.fit()
    with pytest.raises(
        MinetError, match=r"is 1 batches of 16 images into an epoch; this trainer's .* 3 of 32"
    ):
        trainer(batch=32).resume(tmp_path / WEIGHTS)
    other = trainer(batch=32)
    other.resume(tmp_path / WEIGHTS, strict=False)
    assert other.within.batches == 0


def test_callbacks_of_the_run_must_be_there(tmp_path):
    run = trainer(EarlyStopping(), Checkpointer(tmp_path), epochs=1)
    run.fit()
    with pytest.raises(MinetError, match="is of a run with EarlyStopping, which this trainer does not have"):
        trainer().resume(tmp_path / WEIGHTS)
    assert trainer(epochs=1).resume(tmp_path / WEIGHTS, strict=False)["epoch"] == 1


class Begun(Callback):
    """Where epochs begin."""

    def __init__(self):
        self.seen = []

    def on_epoch_begin(self, trainer):
        self.seen.append(trainer.epoch)


def test_an_epoch_that_goes_on_does_not_begin_again_and_its_time_adds_up(tmp_path):
    first, second = Begun(), Begun()
    run = trainer(first, Interrupted(4))
    with pytest.raises(KeyboardInterrupt):
        run.fit()
    within = {"batches": run.within.batches, "losses": run.within.losses, "seconds": 1000.0}
    run.save(tmp_path / "a", within=within)
    run = trainer(second)
    run.resume(tmp_path / "a")
    record = run.fit().history[0]
    assert (first.seen, second.seen) == ([0, 1], [2])
    assert 1000 < record["seconds"] < 1100 and record["images_per_second"] == 96 / record["seconds"]

"""The training loop and its callbacks: what is recorded, shown, saved, and resumed bit for bit."""

import io
import itertools
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from minet import MinetError, Net, Sequential
from minet.core.finite import NotFiniteError
from minet.core.loss import SoftmaxCrossEntropy
from minet.data import Batches, DataError, Dataset, digits
from minet.layers import Linear
from minet.train import callbacks, checkpoint, modelfile, runs
from minet.train.callbacks import (
    COLUMNS,
    LAST_GOOD,
    LOG,
    WEIGHTS,
    Callback,
    Checkpointer,
    JsonLog,
    Progress,
)
from minet.train.checkpoint import CheckpointError
from minet.train.number_text import loss_text, percent_text
from minet.train.optim import SGD
from minet.train.schedules import Step
from minet.train.trainer import Trainer, evaluate

TOY = Path(__file__).parents[1] / "helpers/toy.py"


def trainer(*callbacks, epochs=3, seed=0, batch=32, **settings):
    model = modelfile.load(TOY, epochs=epochs, batch=batch, **settings)
    net = Net(model.net(), model.input_shape, model.batch, model.loss, seed=seed)
    return Trainer(net, model.solver(), *model.datasets(), epochs, callbacks)


def everything(net, solver):
    arrays = {**net.params, **net.persistent, **{f"velocity:{k}": v for k, v in solver.velocity.items()}}
    return {name: value.tobytes() for name, value in arrays.items()}


class Stop(Callback):
    """Interrupts the run in the given epoch, after the given number of its steps."""

    def __init__(self, epoch, steps):
        self.epoch, self.steps = epoch, steps

    def on_batch(self, trainer, loss):
        self.steps -= trainer.epoch + 1 == self.epoch
        if self.steps < 0:
            raise KeyboardInterrupt


def test_it_learns_and_records_each_epoch():
    run = trainer(epochs=12, limit=320, rate=0.0, crop=0)
    result = run.fit()
    history = result.history
    assert [record["epoch"] for record in history] == list(range(1, 13))
    assert [record["step"] for record in history] == [10 * epoch for epoch in range(1, 13)]
    assert history[-1]["loss"] < 0.3 * history[0]["loss"]
    assert result.accuracy == history[-1]["accuracy"] > 0.8
    assert history[-1]["test_loss"] < history[0]["test_loss"]
    for record in history:
        assert set(record) == {
            "epoch", "step", "loss", "test_loss", "accuracy", "rate", "seconds", "images_per_second",
        }  # fmt: skip
        assert record["images_per_second"] == pytest.approx(320 / record["seconds"])
    assert result.seconds >= sum(record["seconds"] for record in history)
    assert result.history is run.history


def test_the_recorded_loss_is_the_mean_over_the_steps():
    losses = []

    class Losses(Callback):
        def on_batch(self, trainer, loss):
            losses.append(loss)

    history = trainer(Losses(), epochs=2).fit().history
    assert [record["loss"] for record in history] == [
        pytest.approx(sum(losses[:3]) / 3),
        pytest.approx(sum(losses[3:]) / 3),
    ]


def test_the_schedule_sees_epochs_and_their_fractions():
    seen = []

    class Rates(Callback):
        def on_batch(self, trainer, loss):
            seen.append(trainer.solver.epoch)

    run = trainer(Rates(), epochs=2)
    run.solver.schedule = Step({1: 0.1})
    history = run.fit().history
    assert seen == pytest.approx([0, 1 / 3, 2 / 3, 1, 4 / 3, 5 / 3])
    assert [record["rate"] for record in history] == pytest.approx([0.05, 0.005])


def test_the_order_depends_on_the_epoch_and_the_nets_seed(monkeypatch):
    seen = []
    train_step = Net.train_step
    monkeypatch.setattr(Net, "train_step", lambda *args: seen.append(args[2].copy()) or train_step(*args))
    run = trainer(epochs=3, seed=7)
    run.epoch = 1  # as a resumed run
    run.fit()
    batches = Batches(run.batches.dataset, 32, seed=7)
    expected = [labels for epoch in (1, 2) for _, labels in batches.epoch(epoch)]
    np.testing.assert_array_equal(seen, expected)
    assert (expected[0] != expected[3]).any()


def test_callbacks_are_called_in_order():
    events = []

    class Record(Callback):
        def on_start(self, trainer):
            events.append("start")

        def on_batch(self, trainer, loss):
            events.append("batch")

        def on_epoch(self, trainer, record):
            events.append(f"epoch {record['epoch']} of {len(trainer.history)}")

        def on_end(self, trainer, result):
            events.append(f"end {len(result.history)}")

        def on_error(self, trainer, error):
            events.append(type(error).__name__)

    trainer(Record(), epochs=2).fit()
    assert events == ["start", *["batch"] * 3, "epoch 1 of 1", *["batch"] * 3, "epoch 2 of 2", "end 2"]
    events.clear()
    with pytest.raises(KeyboardInterrupt):
        trainer(Record(), Stop(1, 1)).fit()
    assert events == ["start", "batch", "batch", "KeyboardInterrupt"]


@pytest.mark.parametrize("batch", [1, 7, 96, 100])
def test_accuracy_and_loss_count_each_test_image_once(batch):
    images = np.random.default_rng(0).standard_normal((23, 2, 1, 1)).astype(np.float32)
    labels = np.arange(23) % 3
    net = Net(Linear(3), (2, 1, 1), batch, SoftmaxCrossEntropy(), seed=4)
    logits = (images[:, :, 0, 0] @ net.params["linear.w"].reshape(3, 2).T + net.params["linear.b"]).astype(
        float
    )
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    loss, accuracy = evaluate(net, Dataset(images, labels))
    assert accuracy == np.mean(logits.argmax(axis=1) == labels)
    assert loss == pytest.approx(np.mean(-np.log(p[range(23), labels])), rel=1e-5)


def test_evaluation_draws_nothing_and_leaves_running_statistics():
    run = trainer(epochs=1)
    run.fit()
    before = everything(run.net, run.solver)
    assert evaluate(run.net, run.test) == evaluate(run.net, run.test)
    assert everything(run.net, run.solver) == before
    assert run.net.clock.step == 3


def test_the_same_seed_gives_the_same_run_and_another_seed_a_different_one():
    first, again, other = trainer(seed=1), trainer(seed=1), trainer(seed=2)
    for run in (first, again, other):
        run.fit()
    assert everything(first.net, first.solver) == everything(again.net, again.solver)
    assert everything(first.net, first.solver) != everything(other.net, other.solver)


@pytest.mark.parametrize(("epoch", "steps"), [(2, 0), (2, 2), (4, 1)])
def test_a_resumed_run_ends_as_if_it_had_not_been_interrupted(tmp_path, epoch, steps):
    whole = trainer(epochs=4)
    whole.fit()
    broken = trainer(Checkpointer(tmp_path), Stop(epoch, steps), epochs=4)
    with pytest.raises(KeyboardInterrupt):
        broken.fit()
    resumed = trainer(epochs=4)
    facts = checkpoint.load(tmp_path / WEIGHTS, resumed.net, resumed.solver)
    assert facts["epoch"] == epoch - 1
    resumed.epoch = facts["epoch"]
    history = resumed.fit().history
    assert everything(resumed.net, resumed.solver) == everything(whole.net, whole.solver)
    exact = ("epoch", "step", "loss", "test_loss", "accuracy", "rate")
    for got, expected in zip(history, whole.history[epoch - 1 :], strict=True):
        assert [got[key] for key in exact] == [expected[key] for key in exact]


def test_a_checkpoint_records_what_it_belongs_to(tmp_path):
    trainer(Checkpointer(tmp_path, model="toy", settings={"width": 8}), epochs=2, seed=7).fit()
    _, facts = checkpoint.read(tmp_path / WEIGHTS)
    assert facts.pop("minet")
    assert facts == {
        "model": "toy", "settings": {"width": 8}, "seed": 7, "epoch": 2, "step": 6, "batch": 32,
        "data": ["digits train", "digits test"],
    }  # fmt: skip


def test_the_log_has_a_line_for_each_epoch_at_any_time(tmp_path):
    lines = []

    class Count(Callback):
        def on_epoch(self, trainer, record):
            lines.append([json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()])

    result = trainer(JsonLog(tmp_path / LOG), Count()).fit()
    assert lines == [result.history[:1], result.history[:2], result.history]


def test_a_full_disk_ends_the_run_with_the_last_checkpoint_kept(tmp_path, monkeypatch):
    writes = itertools.count(1)
    write_whole = checkpoint.write_whole

    def fill(path, data):
        if next(writes) > 2:
            raise CheckpointError(f"{path}: cannot be written: No space left on device")
        write_whole(path, data)

    for module in (checkpoint, callbacks):
        monkeypatch.setattr(module, "write_whole", fill)
    with pytest.raises(CheckpointError, match="No space left"):
        trainer(JsonLog(tmp_path / LOG), Checkpointer(tmp_path)).fit()
    assert checkpoint.read(tmp_path / WEIGHTS)[1]["epoch"] == 1


class Poison(Callback):
    """Puts a NaN where the next step meets it."""

    def __init__(self, epoch, where):
        self.epoch, self.where = epoch, where

    def on_batch(self, trainer, loss):
        if trainer.epoch + 1 == self.epoch:
            if self.where == "images":
                trainer.batches.dataset.images.fill(np.nan)
            else:
                trainer.net.params["4/linear.w"][0, 0] = np.nan


def float_trainer(*callbacks, **settings):
    run = trainer(*callbacks, **settings)
    data = run.batches.dataset
    data.images = data.images.astype(np.float32)
    return run


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_parameters_before(tmp_path):
    run = float_trainer(Checkpointer(tmp_path), Poison(2, "images"), epochs=3, batch=8)
    with pytest.raises(
        NotFiniteError, match=f"the parameters before that step are in {tmp_path / LAST_GOOD}"
    ):
        run.fit()
    arrays, facts = checkpoint.read(tmp_path / LAST_GOOD)
    assert all(np.isfinite(value).all() for value in arrays.values())
    assert (facts["epoch"], facts["step"]) == (1, run.net.clock.step)
    assert facts["step"] > 12
    assert checkpoint.read(tmp_path / WEIGHTS)[1]["step"] == 12


def test_data_that_is_not_finite_is_reported_with_its_sample():
    run = float_trainer(epochs=1, batch=8, limit=8, crop=0)
    images = run.batches.dataset.images
    images[5, 0, 3, 2] = np.inf
    place = int(np.flatnonzero(run.batches._plan(0).order == 5)[0])
    with pytest.raises(
        NotFiniteError,
        match=rf"the data is not finite, first in sample {place} of the batch\n  hint: find it with",
    ):
        run.fit()


def test_parameters_that_are_not_finite_are_not_saved(tmp_path):
    with pytest.raises(NotFiniteError, match=r"the parameter 4/linear\.w is not finite") as caught:
        trainer(Checkpointer(tmp_path), Poison(2, "weights"), epochs=3).fit()
    assert "are in" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == [WEIGHTS]
    assert checkpoint.read(tmp_path / WEIGHTS)[1]["epoch"] == 1


def test_an_epoch_whose_test_loss_is_not_finite_is_not_saved(tmp_path):
    class Late(Callback):
        def on_batch(self, trainer, loss):
            if trainer.net.clock.step == 6:
                trainer.net.params["4/linear.w"][0, 0] = np.nan

    with pytest.raises(NotFiniteError, match="the test loss is nan after epoch 2"):
        trainer(Checkpointer(tmp_path), Late()).fit()
    assert checkpoint.read(tmp_path / WEIGHTS)[1]["epoch"] == 1


def net(units=10, shape=(1, 8, 8), batch=32, loss=True):
    return Net(Sequential(Linear(units)), shape, batch, SoftmaxCrossEntropy() if loss else None)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: Trainer(net(), SGD(0.1), digits(), digits("test"), 0),
            MinetError,
            "epochs must be a whole number of at least 1, got 0",
        ),
        (
            lambda: Trainer(net(), SGD(0.1), digits(), digits("test"), "2"),
            MinetError,
            "epochs must be a whole number of at least 1, got '2'",
        ),
        (lambda: Trainer(net(), SGD(0.1), digits(), None, 1), DataError, "None is not a Dataset"),
        (
            lambda: Trainer(net(), SGD(0.1), Dataset(np.zeros((40, 8, 8, 1)), [0] * 40), digits("test"), 1),
            DataError,
            r"its images are \(8, 8, 1\), .*\n  hint: channels come before height and width",
        ),
        (lambda: Trainer(net(loss=False), SGD(0.1), digits(), digits("test"), 1), MinetError, "has no loss"),
        (
            lambda: Trainer(net(shape=(1, 9, 8)), SGD(0.1), digits(), digits("test"), 1),
            DataError,
            r"digits train: its images are \(1, 8, 8\), the net takes \(1, 9, 8\)",
        ),
        (
            lambda: Trainer(net(units=9), SGD(0.1), digits(), digits("test"), 1),
            DataError,
            "digits train: label 9 at index [0-9]+ is not one of the 9 classes",
        ),
        (
            lambda: Trainer(net(batch=97), SGD(0.1), digits(limit=96), digits("test"), 1),
            DataError,
            "digits train: a batch of 97 is larger than the data set of 96",
        ),
        (
            lambda: Trainer(net(), SGD(0.1), digits(), Dataset(np.zeros((1, 3, 8, 8)), [0], name="mine"), 1),
            DataError,
            r"mine: its images are \(3, 8, 8\)",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused_before_training(make, error, message):
    with pytest.raises(error, match=message):
        make()


def lines_of(terminal):
    from rich.console import Console

    output = io.StringIO()
    trainer(Progress(Console(file=output, force_terminal=terminal, width=100)), epochs=2).fit()
    return output.getvalue()


def test_a_large_loss_keeps_its_column():
    assert [loss_text(loss) for loss in (0.5, 9999.1234, 12345.6, 3.4e38)] == [
        "0.5000", "9999.1234", "1.235e+04", "3.400e+38",
    ]  # fmt: skip
    assert all(
        len(loss_text(-loss)) < min(COLUMNS["loss"], COLUMNS["test loss"]) + 1 for loss in (9999.0, 1e30)
    )


def test_progress_is_plain_lines_without_a_terminal():
    lines = [line for line in lines_of(terminal=False).splitlines() if "compiling" not in line]
    assert lines[0].split() == ["epoch", "loss", "test", "loss", "accuracy", "rate", "time", "images/s"]
    assert [line.split()[0] for line in lines[1:]] == ["1/2", "2/2"]
    assert {len(line) for line in lines} == {len(lines[0])}
    assert "\x1b" not in "".join(lines)


def test_progress_is_also_a_bar_on_a_terminal():
    output = lines_of(terminal=True)
    for text in (
        "epoch 1",
        "0/3",
        " 1/2 ",
        " 2/2 ",
        "\x1b[?25l",
        "\x1b[?25h",
    ):  # the cursor off, and on again
        assert text in output
    assert "epoch 3" not in output


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_reports_compilation(terminal):
    import numba
    from numba.core import event
    from rich.console import Console

    @numba.njit
    def inner(x):
        return x + 1

    @numba.njit
    def outer(x):
        return inner(x)

    class Compiles(Callback):
        def on_batch(self, trainer, loss):
            outer(trainer.net.clock.step)

    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=100)
    before = list(event._registered["numba:compile"])
    trainer(Progress(console), Compiles(), epochs=1).fit()
    assert event._registered["numba:compile"] == before
    if terminal:
        assert "compiling outer" in output.getvalue() and "compiling inner" not in output.getvalue()
    else:
        assert output.getvalue().count("compiling kernels (once per machine)\n") == 1


def test_accuracies_are_shown_in_percent():
    assert percent_text(0.97531) == "97.53 %"
    assert percent_text(1) == "100.00 %"


def test_a_new_run_takes_the_next_free_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for expected in ("runs/toy", "runs/toy-2", "runs/toy-3"):
        _, folder = runs.train(TOY, {"epochs": 1})
        assert str(folder) == expected
    assert str(runs.latest("toy")) == "runs/toy-3"
    os.utime(Path("runs/toy-2") / WEIGHTS, (2e9, 2e9))
    assert str(runs.latest("toy")) == "runs/toy-2"
    Path("runs/toy-toy").mkdir()
    shutil.move(Path("runs/toy-2") / WEIGHTS, "runs/toy-toy")  # a run of another model
    assert str(runs.latest("toy")) == "runs/toy-3"


def test_curves_are_drawn_for_one_epoch_and_for_many(tmp_path):
    from minet.train import plots

    record = {"epoch": 1, "loss": 2.0, "test_loss": 1.9, "accuracy": 0.1}
    for n in (1, 60):
        history = [record | {"epoch": e + 1, "loss": 2.0 * 0.9**e} for e in range(n)]
        plots.curves(tmp_path / f"{n}.png", history, "toy")
        assert (tmp_path / f"{n}.png").read_bytes().startswith(b"\x89PNG")

"""The training loop and its callbacks: what is recorded, shown, saved, and resumed bit for bit."""

import io
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from minet import LayerError, MinetError, Net, Sequential
from minet.core import arrays_file
from minet.core.files import FileError, write_whole
from minet.core.finite import NotFiniteError
from minet.core.loss import MeanSquaredError, SoftmaxCrossEntropy
from minet.core.step import Steps
from minet.data import Batches, DataError, Dataset, digits
from minet.layers import Conv, Identity, Linear
from minet.train import callbacks, checkpoint, modelfile
from minet.train.callbacks import (
    LOG,
    WEIGHTS,
    Callback,
    Checkpointer,
    JsonLog,
    Progress,
    logs,
)
from minet.train.number_text import loss_text, number_text, percent_text
from minet.train.optim import SGD
from minet.train.optim.schedules import Step
from minet.train.records import RECORDED
from minet.train.trainer import Result, Trainer, evaluate

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


class Targets(MeanSquaredError):
    """With a metric of each sample's target alone: its mean tells which samples were counted."""

    def metrics(self, y, labels):
        assert y.flags.c_contiguous and labels.flags.c_contiguous and y.shape == labels.shape
        return {"target": labels.mean(), "size": np.float32(labels[..., 0].size)}


@pytest.mark.parametrize("batch", [1, 7, 23, 30])
@pytest.mark.parametrize("shape", [(), (4,), (2, 1, 3)])
def test_any_loss_and_its_metrics_count_each_sample_once(batch, shape):
    rng = np.random.default_rng(0)
    images, targets = rng.standard_normal((23, 2, 1, 3)), rng.standard_normal((23, *shape))
    data = Dataset(images, targets)
    graph = Identity() if len(shape) == 3 else Linear(int(np.prod(shape)))
    net = Net(graph, (2, 1, 3), batch, Targets(), dtype="float64")
    loss, metrics = evaluate(net, data)
    y = net.predict(images.astype("float32")).reshape(targets.shape)
    assert loss == pytest.approx(np.square(y - data.labels.reshape(y.shape)).mean(), rel=1e-12)
    assert metrics == {"target": pytest.approx(data.labels.mean(dtype=float)), "size": np.prod(shape)}
    assert {type(value) for value in metrics.values()} == {float}


def test_a_regression_to_maps_learns():
    rng = np.random.default_rng(0)
    images = rng.standard_normal((64, 2, 5, 4)).astype("float32")
    targets = images.sum(axis=1) - 1  # (M, P, Q): one map
    train, test = (Dataset(images[part], targets[part]) for part in (slice(48), slice(48, None)))
    run = Trainer(Net(Conv(1, 1), (2, 5, 4), 12, MeanSquaredError()), SGD(0.2), train, test, 12)
    history = run.fit().history
    assert history[-1]["loss"] < 1e-3 * history[0]["loss"] and history[-1]["test_loss"] < 1e-3
    assert [name for name in history[0] if name not in RECORDED] == ["test_loss"]
    np.testing.assert_allclose(run.net.predict(images[:7])[:, 0], targets[:7], atol=0.1)


def test_a_test_set_is_optional(tmp_path):
    model = modelfile.load(TOY)
    make = lambda: Net(model.net(), model.input_shape, model.batch, model.loss)  # noqa: E731
    train, test = model.datasets()
    run = Trainer(make(), model.solver(), train, epochs=2, callbacks=[Checkpointer(tmp_path)])
    result = run.fit()
    assert [tuple(record) for record in result.history] == [RECORDED] * 2
    with pytest.raises(MinetError, match=r"measured no accuracy\n  hint: history.* has epoch, step, loss"):
        assert result.accuracy
    tested = Trainer(make(), model.solver(), train, test, 2)
    tested.fit()
    assert everything(run.net, run.solver) == everything(tested.net, tested.solver)
    assert checkpoint.read(tmp_path / WEIGHTS)[1]["data"] == ["digits train"]
    assert Trainer(make(), model.solver(), train).epochs == 1


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (lambda self, y, labels: 0.5, r"metrics returned 0\.5, not numbers by name\n  hint: return \{"),
        (lambda self, y, labels: {"all": y}, r"metrics returned \{'all': array"),
        (lambda self, y, labels: {"rate": 1}, r"metrics returned 'rate', which a run records itself"),
        (lambda self, y, labels: {"test_loss": 1}, r"metrics returned 'test_loss', which"),
        (lambda self, y, labels: {f"n{y.shape[3]}": 1}, r"metrics returned loss, n4, later loss, n3"),
        (lambda self, y, labels: {"a": 1 // 0}, r"raised ZeroDivisionError at .*test_trainer\.py:\d+: "),
    ],
)
def test_metrics_that_are_none_are_refused(metrics, message):
    loss = type("Mine", (MeanSquaredError,), {"metrics": metrics})()
    net = Net(Linear(1), (1, 2, 2), 4, loss)
    with pytest.raises(LayerError, match=rf"^Mine \(.*test_trainer\.py:\d+\)\n  .*{message}"):
        evaluate(net, Dataset(np.zeros((7, 2, 2)), np.zeros(7)))


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
    start_step = Net.start_step
    monkeypatch.setattr(Net, "start_step", lambda *args: seen.append(args[2].copy()) or start_step(*args))
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
    loss, metrics = evaluate(net, Dataset(images, labels))
    assert metrics == {"accuracy": pytest.approx(np.mean(logits.argmax(axis=1) == labels), rel=1e-15)}
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
    assert (
        facts.pop("minet") and len(facts.pop("content")) == 2 and facts.pop("pixels")
    )  # which tests/train/test_pixels.py reads
    assert facts == {
        "model": "toy", "settings": {"width": 8}, "seed": 7, "epoch": 2, "step": 6, "batch": 32,
        "data": ["digits train", "digits test"], "images": [96, 96],
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

    def fill(path, data):
        if next(writes) > 2:
            raise FileError(f"{path}: cannot be written: No space left on device")
        write_whole(path, data)

    for module in (arrays_file, logs):
        monkeypatch.setattr(module, "write_whole", fill)
    with pytest.raises(FileError, match=r"No space left on device\n  hint: .* still holds epoch 1$"):
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


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_last_epoch_saved(tmp_path):
    run = float_trainer(Checkpointer(tmp_path), Poison(2, "images"), epochs=3, batch=8)
    with pytest.raises(NotFiniteError, match=f"; {tmp_path / WEIGHTS} holds epoch 1"):
        run.fit()
    assert run.net.clock.step > 12
    assert [path.name for path in tmp_path.iterdir()] == [WEIGHTS]
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
    assert f"{tmp_path / WEIGHTS} holds epoch 1" in str(caught.value)
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


def classes(*names):
    return Dataset(np.zeros((40, 8, 8)), [0] * 40, classes=names, name=f"{names[0]} first")


def mse(units):
    return Net(Linear(units), (1, 8, 8), 32, MeanSquaredError())


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
        (lambda: Trainer(net(), SGD(0.1), None, digits(), 1), DataError, "None is not a Dataset"),
        (lambda: Trainer(net(), SGD(0.1), digits(), [], 1), DataError, r"\[\] is not a Dataset"),
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
            lambda: Trainer(net(), SGD(0.1), Dataset(np.zeros((40, 8, 8)), np.zeros(40)), None, 1),
            DataError,
            r"must be 40 class numbers, .* got shape \(1, 1, 1, 40\)\n  hint: use labels.astype\(int\)",
        ),
        (
            lambda: Trainer(net(), SGD(0.1), Dataset(np.zeros((40, 8, 8)), np.zeros((40, 10))), None, 1),
            DataError,
            r"must sum to 1, .*got shape \(10, 1, 1, 40\)\n  hint: turn one-hot rows into class numbers",
        ),
        (
            lambda: Trainer(net(), SGD(0.1), Dataset(np.zeros((40, 8, 8)), np.zeros((40, 10), int)), None, 1),
            DataError,
            r"got shape \(10, 1, 1, 40\)\n  hint: turn one-hot rows into class numbers",
        ),
        (
            lambda: Trainer(
                net(), SGD(0.1), Dataset(np.zeros((40, 8, 8)), np.zeros((40, 4, 4), int)), None, 1
            ),
            DataError,
            r"got shape \(1, 4, 4, 40\)\n  hint: .* must end with an output of shape \(classes, 4, 4\)",
        ),
        (
            lambda: Trainer(mse(1), SGD(0.1), Dataset(np.zeros((40, 8, 8)), [3] * 40), None, 1),
            DataError,
            r"must have the output's shape .* \(1, 1, 1, 40\), got \(40,\)\n.*targets.astype\(float\)",
        ),
        (
            lambda: Trainer(mse(2), SGD(0.1), Dataset(np.zeros((40, 8, 8)), np.zeros((40, 3))), None, 1),
            DataError,
            r"\(2, 1, 1, 40\), got \(3, 1, 1, 40\)\n.* must end with an output of shape \(3, 1, 1\)",
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
        (
            lambda: Trainer(net(2), SGD(0.1), classes("cat", "dog"), classes("dog", "cat")),
            DataError,
            r"dog first: label 0 is 'dog', and 'cat' in cat first\n  hint: classes=\('cat', 'dog'\)",
        ),
        (
            lambda: Trainer(net(2), SGD(0.1), classes("a", "b"), classes("a")),
            DataError,
            "label 1 is 'none', and 'b' in a first",
        ),
        (lambda: Trainer(Linear(10), SGD(0.1), digits()), MinetError, r"is not a net\n  hint: Net\("),
        (
            lambda: Trainer(net(), SGD(0.1), digits(), ranks=4),
            MinetError,
            r"ranks=4 is neither Alone\(...\) nor Ranks\(...\)\n  hint: ranks=Alone\(4\)",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused_before_training(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_resuming_forgets_the_run_before(tmp_path):
    trainer(Checkpointer(tmp_path), epochs=1).fit()
    run = trainer(epochs=3)
    before = run.fit()
    run.untested = {"epoch": 9}
    run.resume(tmp_path / WEIGHTS)
    assert run.history == [] and run.untested is None
    assert [record["epoch"] for record in run.fit().history] == [2, 3]
    assert [record["epoch"] for record in before.history] == [1, 2, 3]


@pytest.mark.parametrize("why", ["", None, 5])
def test_a_run_stops_whatever_it_is_told(why):
    class Ends(Callback):
        def on_batch(self, trainer, loss):
            trainer.stop(why)

    result = trainer(Ends()).fit()
    assert result.history == [] and result.stopped == ("5" if why else "a callback has stopped it")


def lines_of(terminal, **settings):
    from rich.console import Console

    output = io.StringIO()
    trainer(Progress(Console(file=output, force_terminal=terminal, width=100)), epochs=2, **settings).fit()
    return output.getvalue()


def test_a_large_loss_keeps_its_column():
    assert [loss_text(loss) for loss in (0.5, 9999.1234, 12345.6, 3.4e38)] == [
        "0.5000", "9999.1234", "1.235e+04", "3.400e+38",
    ]  # fmt: skip
    assert all(len(loss_text(-loss)) <= callbacks.WIDTH for loss in (9999.0, 1e30))


def test_progress_is_plain_lines_without_a_terminal():
    lines = [line for line in lines_of(terminal=False).splitlines() if "compiling" not in line]
    assert lines[0].split() == ["epoch", "loss", "test", "loss", "accuracy", "rate", "time", "images/s"]
    assert [line.split()[0] for line in lines[1:]] == ["1/2", "2/2"]
    assert {len(line) for line in lines} == {len(lines[0])}
    assert "\x1b" not in "".join(lines)


def test_progress_says_once_why_a_card_does_not_replay_steps(monkeypatch):
    monkeypatch.setattr(Steps, "why", "2:Slow reads an array on the host")
    told = [line for line in lines_of(terminal=False, batch=8).splitlines() if "2:Slow" in line]
    assert told == ["  each step is launched kernel by kernel: 2:Slow reads an array on the host"]


class OnTheCard:
    """A net's steps as on a card, where each is done when the next one has been started."""

    def __init__(self, net):
        self.start, self.waiting, self.most = net.start_step, [], 0
        net.start_step = self.started

    def started(self, x, labels, solver):
        step, outer = self.start(x, labels, solver), self

        class Late:
            running = True

            def loss(self):
                assert outer.waiting[0] is self  # in order
                del outer.waiting[0]
                return step.loss()

        self.waiting.append(Late())
        self.most = max(self.most, len(self.waiting))
        return self.waiting[-1]


def test_losses_that_come_late_make_the_same_epochs():
    seen, kept = {}, {}
    for late in (False, True):
        losses = seen[late] = []

        class Losses(Callback):
            def on_batch(self, trainer, loss, losses=losses):
                losses.append((trainer.epoch, loss))

        run = trainer(Losses(), epochs=2)
        card = OnTheCard(run.net) if late else None
        history = run.fit().history
        kept[late] = [{k: v for k, v in r.items() if "second" not in k} for r in history]
        assert card is None or (card.most == 2 and not card.waiting)
    assert seen[True] == seen[False] and kept[True] == kept[False]


def test_progress_has_a_column_for_each_metric_and_none_without_a_test():
    from rich.console import Console

    images, targets = np.zeros((8, 1, 1, 1)), np.linspace(0, 1, 8)
    tables = []
    for test in (Dataset(images, targets), None):
        output = io.StringIO()
        net = Net(Linear(1), (1, 1, 1), 4, Targets())
        bar = Progress(Console(file=output, width=100))
        Trainer(net, SGD(0.1), Dataset(images, targets), test, 2, [bar]).fit()
        tables.append([line for line in output.getvalue().splitlines() if "compiling" not in line])
    assert tables[0][0].split() == [
        "epoch",
        "loss",
        "test",
        "loss",
        "target",
        "size",
        "rate",
        "time",
        "images/s",
    ]
    assert tables[0][1].split()[3:5] == ["0.5000", "1.0000"]
    assert tables[1][0].split() == ["epoch", "loss", "rate", "time", "images/s"]
    for table in tables:
        assert len(table) == 3 and len({len(line) for line in table}) == 1


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
    assert number_text("top5_accuracy", 0.5) == "50.00 %" and number_text("accuracy_gain", 0.5) == "0.5000"


def test_curves_are_drawn_for_one_epoch_and_for_many(tmp_path):
    from minet.train import plots

    record = {"epoch": 1, "loss": 2.0, "test_loss": 1.9, "accuracy": 0.1}
    for n in (1, 60):
        history = [record | {"epoch": e + 1, "loss": 2.0 * 0.9**e} for e in range(n)]
        plots.save(plots.curves(history, "toy"), tmp_path / f"{n}.png")
        assert (tmp_path / f"{n}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("more", "titles", "heading"),
    [
        ({}, ["loss"], "toy: loss 2.0000 after 3 epochs"),
        ({"test_loss": 1.5}, ["loss"], "toy: test loss 1.5000 after 3 epochs"),
        ({"test_loss": 1.5, "distance": 0.25, "accuracy": 0.5},
         ["loss", "test distance", "test accuracy"], "toy: test distance 0.2500 after 3 epochs"),
        ({"test_loss": 1.5, "odd": np.nan}, ["loss", "test odd"], "toy: test odd nan after 3 epochs"),
        ({"test_loss": 0.01, "odd": np.inf}, ["loss", "test odd"], "toy: test odd inf after 3 epochs"),
    ],
)  # fmt: skip
def test_curves_show_what_was_recorded(more, titles, heading):
    from minet.train import plots

    figure = plots.curves([{"epoch": e, "step": e, "loss": 2.0, **more} for e in (1, 2, 3)], "toy")
    figure.canvas.draw()
    assert [axes.get_title(loc="left") for axes in figure.axes] == titles
    assert figure.get_suptitle() == heading
    assert len(figure.axes[0].lines) == 1 + ("test_loss" in more)
    assert figure.axes[0].get_yscale() == ("log" if more.get("test_loss") == 0.01 else "linear")


def test_a_result_draws_its_curves_in_a_notebook():
    result = Result(
        [{"epoch": e, "step": e, "loss": 2.0 / e, "test_loss": 1.0, "accuracy": 0.5} for e in (1, 2)], 1.0
    )
    svg = result._repr_svg_()
    assert "<svg" in svg and svg == result._repr_svg_()
    assert "test accuracy 50.00 % after 2 epochs" in svg


class Seldom(callbacks.Callback):
    """Adds a NumPy number to the first record alone."""

    def on_epoch(self, trainer, record):
        if record["epoch"] == 1:
            record["extra"] = np.float32(0.5)


def test_a_callback_may_add_a_number_at_some_epochs_and_of_numpy(tmp_path):
    from rich.console import Console

    output = io.StringIO()
    trainer(Seldom(), Progress(Console(file=output, width=100)), JsonLog(tmp_path / LOG), epochs=2).fit()
    first, second = map(json.loads, (tmp_path / LOG).read_text().splitlines())
    assert first["extra"] == 0.5 and "extra" not in second
    assert "extra" in output.getvalue()

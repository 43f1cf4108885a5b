"""The log of a run's Gaussian kernels: its numbers and size; a resumed run ends with the same file."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from minet import SGD, Concat, Net, Sequential, SoftmaxCrossEntropy, Trainer, data
from minet.layers import GaussianPool, Linear
from minet.runs import runs
from minet.train import kernel_log, trainer
from minet.train.callbacks import KERNEL_LOG, KernelLog
from minet.train.trainer import Callback

TOY = Path(__file__).parents[1] / "helpers/toy.py"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Run each test in a folder of its own, with a model file that has Gaussian kernels."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    text = TOY.read_text().replace("Linear(width), ", "GaussianPool(3, kernels=2), Linear(width), ", 1)
    text = text.replace("import B", "import GaussianPool, B").replace("Cosine(epochs)", "None")
    Path("toy.py").write_text(text)
    monkeypatch.setattr(runs.Curves, "on_end", lambda *_: None)  # plots take longer than the training


def train(out, epochs):
    """Train toy.py in a folder, or resume it there."""
    runs.train("toy.py", {"epochs": epochs}, out=Path(out), resume=Path(out).exists())
    return Path(out, KERNEL_LOG).read_text()


class Noted(Callback):
    """Note the kernels of each epoch."""

    def __init__(self, *layers):
        self.layers, self.kernels = layers, [[(layer.mean, layer.sigma) for layer in layers]]

    def on_epoch(self, trainer, record):
        self.kernels.append([(layer.mean, layer.sigma) for layer in self.layers])


def test_it_has_the_kernels_of_every_layer_before_training_and_after_each_epoch():
    first, second = GaussianPool((3, 5), pad=1), GaussianPool((3, 5), pad=1, kernels=2, per_channel=False)
    net = Net(Sequential(Concat(first, second), Linear(10)), (1, 8, 8), 32, SoftmaxCrossEntropy())
    noted = Noted(first, second)
    log = KernelLog("log.jsonl", net)
    Trainer(net, SGD(0.5), data.digits("train", limit=96), epochs=2, callbacks=[log, noted]).fit()
    lines = list(kernel_log.lines(Path("log.jsonl")))
    assert [epoch for epoch, *_ in lines] == [0, 1, 2]
    for (_, layers, _), expected in zip(lines, noted.kernels, strict=True):
        assert [layer.label for layer in layers] == [f"0/0 {first!r}", f"0/1 {second!r}"]
        for layer, (mean, sigma) in zip(layers, expected, strict=True):
            assert layer.window == (3, 5) and layer.channels == len(mean)
            np.testing.assert_allclose(layer.mean, mean, rtol=0, atol=6e-6)
            np.testing.assert_allclose(layer.sigma, sigma, rtol=0, atol=6e-6)
            assert not layer.correlation.any()
    assert abs(noted.kernels[0][0][0] - noted.kernels[2][0][0]).max() > 1e-3


def test_a_resumed_run_ends_with_the_same_file():
    whole, later = train("whole", 3), '{"epoch": 4, "layers": {}}'
    assert [json.loads(line)["epoch"] for line in whole.splitlines()] == [0, 1, 2, 3]
    train("part", 1)
    with Path("part", KERNEL_LOG).open("a") as file:  # an epoch after the checkpoint, at which it was killed
        file.write("\n".join([whole.splitlines()[2].replace("0.", "1."), later]))
    assert train("part", 3) == whole


def test_a_run_that_was_stopped_in_a_test_ends_with_the_same_file(monkeypatch):
    whole, evaluate, tests = train("whole", 2), trainer.evaluate, iter(range(9))

    def interrupted(net, data, ranks):
        if next(tests) == 1:
            raise KeyboardInterrupt
        return evaluate(net, data, ranks)

    monkeypatch.setattr(trainer, "evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train("part", 2)
    assert len(Path("part", KERNEL_LOG).read_text().splitlines()) == 2
    assert train("part", 2) == whole


def test_a_log_that_was_lost_goes_on_with_what_is_known():
    whole = train("whole", 2).splitlines()
    train("part", 1)
    Path("part", KERNEL_LOG).unlink()
    assert train("part", 2).splitlines() == [whole[0], whole[2]]


def test_a_new_run_ignores_what_one_without_a_checkpoint_left():
    Path("out").mkdir()
    Path("out", KERNEL_LOG).write_text('{"epoch": 0, "layers": {}}\n')
    runs.train("toy.py", {"epochs": 1}, out=Path("out"))
    assert [len(layers) for _, layers, _ in kernel_log.lines(Path("out", KERNEL_LOG))] == [1, 1]


def test_a_net_without_gaussian_pooling_has_no_such_file():
    shutil.copy(TOY, "toy.py")
    runs.train("toy.py", {"epochs": 1}, out=Path("out"))
    assert not Path("out", KERNEL_LOG).exists()


def test_of_many_channels_the_first_are_logged():
    layer = GaussianPool(3, mean=np.arange(60).reshape(30, 1, 2) / 60)
    (kernels,) = kernel_log.kernels(Net([layer], (30, 6, 6), 1))
    told = json.loads(kernel_log.line(0, [kernels]))["layers"]["0"]
    assert (told["channels"], len(told["mean"]), len(told["sigma"])) == (30, 12, 12)
    assert told["mean"][3][0] == [0.1, pytest.approx(7 / 60, abs=1e-5)]


def test_the_window_of_a_whole_map_and_tilted_kernels_are_logged():
    layer = GaussianPool(None, kernels=2, shape="full", correlation=(0.5, -0.25))
    text = kernel_log.line(7, kernel_log.kernels(Net([layer], (3, 6, 7), 1)))
    Path("log.jsonl").write_text(text)
    ((epoch, (kernels,), same),) = kernel_log.lines(Path("log.jsonl"))
    assert (epoch, kernels.window, same) == (7, (6, 7), text)
    np.testing.assert_allclose(kernels.correlation, np.tile([0.5, -0.25], (3, 1)))


GOOD = {"layer": "GaussianPool(3)", "window": [3, 3], "channels": 1, "mean": [[[0, 1]]], "sigma": [[[1, 2]]]}


@pytest.mark.parametrize(
    "change",
    [
        {"sigma": [[[1, 0]]]},
        {"sigma": [[[1]]]},
        {"sigma": None},
        {"mean": [[[0, float("nan")]]]},
        {"mean": [[["a", 1]]]},
        {"mean": []},
        {"window": [3, 0]},
        {"window": [3]},
        {"channels": "4"},
        {"correlation": [[1.0]]},
        {"correlation": [0.5]},
        {"layer": 3, "window": {}},
    ],
)
def test_it_is_read_up_to_the_first_line_that_is_damaged(change):
    good, bad = ({"epoch": i, "layers": {"0": GOOD | more}} for i, more in enumerate(({}, change)))
    Path("log.jsonl").write_text("\n".join(map(json.dumps, (good, bad, good | {"epoch": 2}))))
    ((epoch, (kernels,), _),) = kernel_log.lines(Path("log.jsonl"))
    assert epoch == 0 and kernels.mean.tolist() == [[[0, 1]]]


@pytest.mark.parametrize("text", ["", "{", "3", "[]", '{"epoch": 0}', '{"epoch": "0", "layers": {}}', "\xff"])
def test_what_is_no_log_has_no_lines(text):
    Path("log.jsonl").write_bytes(text.encode("latin-1"))
    assert not list(kernel_log.lines(Path("log.jsonl")))
    assert not list(kernel_log.lines(Path("nowhere.jsonl")))

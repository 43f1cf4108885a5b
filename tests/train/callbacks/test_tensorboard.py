"""TensorBoard: what a writer is given; without the package, the error names the extra."""

import sys
import types

import pytest
from small import Interrupted, trainer

from minet import MinetError
from minet.train.callbacks import TensorBoard


class Writer:
    """What `tensorboard.summary.Writer` takes."""

    made = []

    def __init__(self, folder):
        assert isinstance(folder, str)
        self.folder, self.numbers, self.closed = folder, {}, False
        self.made.append(self)

    def add_scalar(self, tag, data, step):
        self.numbers.setdefault(tag, []).append((step, data))

    def flush(self):
        assert not self.closed

    def close(self):
        assert not self.closed
        self.closed = True


@pytest.fixture
def writers(monkeypatch):
    summary = types.ModuleType("tensorboard.summary")
    summary.Writer = Writer
    Writer.made = []
    monkeypatch.setitem(sys.modules, "tensorboard", types.ModuleType("tensorboard"))
    monkeypatch.setitem(sys.modules, "tensorboard.summary", summary)
    return Writer.made


def test_it_writes_steps_and_epochs(writers, tmp_path):
    result = trainer(TensorBoard(2), epochs=2, folder=tmp_path).fit()
    (writer,) = writers
    assert writer.folder == str(tmp_path / "tensorboard") and writer.closed
    assert [step for step, _ in writer.numbers["step/loss"]] == [2, 4, 6]
    assert [rate for _, rate in writer.numbers["step/rate"]][-1] == result.history[-1]["rate"]
    for name in ("loss", "test_loss", "accuracy", "rate"):
        assert writer.numbers[f"epoch/{name}"] == [(3 * r["epoch"], r[name]) for r in result.history]


def test_it_is_closed_when_the_user_ends_the_run_too(writers):
    with pytest.raises(KeyboardInterrupt):
        trainer(TensorBoard(folder="there"), Interrupted(2)).fit()
    assert writers[0].closed and writers[0].folder == "there"


def test_without_the_package_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setitem(sys.modules, "tensorboard.summary", None)
    message = r"needs the package tensorboard: .*\n  hint: pip install 'minet-layers\[tensorboard\]'"
    with pytest.raises(MinetError, match=message):
        trainer(TensorBoard(), folder=tmp_path).fit()
    with pytest.raises(MinetError, match=r"does not know where to write\n  hint: TensorBoard\(folder="):
        trainer(TensorBoard()).fit()
    with pytest.raises(MinetError, match="every must be"):
        TensorBoard(0)

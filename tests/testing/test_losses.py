"""The checks of losses: correct ones pass, and each broken one of the zoo is caught by name."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zoo_losses
from zoo_losses import BROKEN, RIGHT, DyTwice, SmoothL1

from minet import (
    BinaryCrossEntropy,
    Huber,
    Loss,
    MeanSquaredError,
    MinetError,
    SoftmaxCrossEntropy,
    backends,
)
from minet.testing import check_loss, layerfile, losses

OWN = (SoftmaxCrossEntropy, BinaryCrossEntropy, MeanSquaredError, Huber)


def reports(cls, backend="cpu"):
    return [layerfile.check_example(cls, example, backend) for example in layerfile.examples_of(cls)]


@pytest.mark.sweep(3)
@pytest.mark.parametrize("cls", [*RIGHT, *OWN], ids=lambda cls: cls.__name__)
def test_a_correct_loss_passes_everything(cls, backend):
    for report in reports(cls, backend):
        assert report.ok, report.full()
        assert [check.name for check in report.checks] == list(losses.CHECKS) and not report.warnings
        skipped = {check.name for check in report.checks if check.status == "SKIP"}
        assert ("magnitude" in skipped) == bool(np.isfinite(cls.domain).all())


@pytest.mark.parametrize("cls", BROKEN, ids=lambda cls: cls.__name__)
def test_a_broken_loss_is_caught_by_name(cls):
    if cls.breaks == "parity_emu" and backends.missing("emu"):
        pytest.skip("no g++")
    report = reports(cls)[0]
    assert {check.name for check in report.failed} == {cls.breaks, *cls.also}, report.full()
    assert report.failed[0].name == cls.breaks
    if cls.breaks == "parity_emu":  # the code at fault, not that of the backend that the report is for
        assert report.failed[0].place.endswith("loss_gpu")
    assert re.search(r"zoo_losses\.py:\d+, loss_(cpu|gpu)$", report.failed[0].place)


@pytest.mark.parametrize("name", sorted(set(losses.CHECKS) - {"parity_cuda"}))
def test_every_check_has_its_broken_loss(name):
    assert any(cls.breaks == name for cls in BROKEN)


def test_messages_of_failures():
    (twice,) = reports(DyTwice)[0].failed
    assert re.match(
        r"dy\[.*\]: expected \S+, got \S+\nlikely cause: 2 times the expected values everywhere: added",
        twice.detail,
    )
    (summed,) = reports(zoo_losses.SumOfSamples)[0].failed
    assert "2 times the expected values everywhere" in summed.detail
    assert "dy[0, 0, 0, 0] was not written" in reports(zoo_losses.Renamed)[0].failed[0].detail


def test_a_loss_that_returns_no_number():
    class Silent(SmoothL1):
        def loss_cpu(self, y, labels, dy=None):
            super().loss_cpu(y, labels, dy)

    assert "the loss is None, not a number" in str(reports(Silent)[0])


def test_examples_of_its_own():
    class Scaled(SmoothL1):
        def __init__(self, scale):
            self.scale = scale

        @classmethod
        def examples(cls):
            yield lambda: cls(2.0), (2, 1, 1), np.ones((2, 1, 1, 3))

    (report,) = reports(Scaled)
    assert report.ok and report.title == "Scaled(2.0) on (2, 1, 1), batch 3, cpu"


@pytest.mark.parametrize(
    ("example", "message"),
    [
        ("cls, (2, 1, 1)", "(2, 1, 1)), not a function, a shape and labels"),
        ("cls(), (2, 1, 1), [1, 0]", "itself, not a function that makes it"),
        ("cls, (2, 1), [1, 0]", r"yields the shape (2, 1), not (K, P, Q)"),
        ("(lambda: 3), (2, 1, 1), [1, 0]", "yields a function that returns 3, not a loss"),
    ],
)
def test_what_is_wrong_with_examples(example, message):
    Odd = type("Odd", (SmoothL1,), {"examples": classmethod(eval(f"lambda cls: iter([({example})])"))})
    with pytest.raises(MinetError) as caught:
        layerfile.examples_of(Odd)
    assert message in str(caught.value)
    assert str(caught.value).endswith("examples(cls): yield lambda: cls(...), (5, 1, 1), np.array([0, 4, 2])")


def test_a_loss_that_takes_other_labels_needs_examples():
    class Odd(SmoothL1):
        def check(self, labels, out_shape, batch):
            raise MinetError("never")

    with pytest.raises(MinetError, match=r"test_losses\.py:\d+: Odd has no examples\(\) to check"):
        layerfile.examples_of(Odd)
    with pytest.raises(MinetError, match=r"cannot be checked on labels of shape \(1,\)"):
        check_loss(SoftmaxCrossEntropy, (2, 1, 1), [1])
    with pytest.raises(NotImplementedError, match="Loss has no examples"):
        Loss.examples()


def test_losses_of_a_file_on_the_command_line():
    file = str(Path(zoo_losses.__file__))
    found = [cls.__name__ for cls in layerfile.classes(file)]
    assert set(cls.__name__ for cls in BROKEN) <= set(found)
    command = [sys.executable, "-m", "minet", "check", f"{file}:DyTwice"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 1 and "FAIL  gradient  dy[" in done.stdout, done.stderr
    assert done.stdout.splitlines()[-1].startswith("DyTwice: ")

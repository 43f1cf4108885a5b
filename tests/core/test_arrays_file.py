"""Net.save and Net.load: what a net has learned comes back, whole or, if asked for, as far as it fits."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save_file

from minet import SGD, Net, SoftmaxCrossEntropy
from minet.core import arrays_file
from minet.core.files import FileError
from minet.layers import BatchNorm, Dropout, Linear, PReLU
from minet.train import checkpoint

SHAPE = (2, 3, 4)


def make(classes=3, seed=0, dtype="float32"):
    return Net([PReLU(), BatchNorm(), Dropout(0.3), Linear(classes)], SHAPE, 5, SoftmaxCrossEntropy(),
               seed=seed, dtype=dtype)  # fmt: skip


def trained(solver, steps=3, net=None):
    net = net or make()
    rng = np.random.default_rng(net.clock.step)
    for _ in range(steps):
        net.train_step(rng.standard_normal((*SHAPE, 5)).astype("float32"), np.arange(5) % 3, solver)
    return net


def learned(net):
    return {name: value.copy() for name, value in {**net.params, **net.persistent}.items()}


def assert_same(got, expected):
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(got[name], value, name, strict=True)


def test_a_loaded_net_goes_on_to_the_same_bits(tmp_path):
    net = trained(SGD(0.1))
    net.save(tmp_path / "w.safetensors")
    other = make()
    assert other.load(str(tmp_path / "w.safetensors")) == []
    assert_same(learned(other), learned(net))
    assert other.clock.step == 3
    for one in (net, other):
        trained(SGD(0.1), 2, one)  # Dropout draws by the step
    assert_same(learned(other), learned(net))


def test_it_reads_checkpoints_and_a_checkpoint_reads_it(tmp_path):
    solver = SGD(0.1, momentum=0.9)
    net = trained(solver)
    checkpoint.save(tmp_path / "c", net, solver, model="m", settings={"pads": (1, 2)}, epoch=1)
    other = make(seed=1)
    assert other.load(tmp_path / "c") == [] and other.load(tmp_path / "c", partial=True) == []
    assert_same(learned(other), learned(net))
    net.save(tmp_path / "w")
    assert checkpoint.load(tmp_path / "w", make()) == {"step": 3, "seed": 0}


def test_what_does_not_fit_is_refused_and_nothing_is_changed(tmp_path):
    trained(SGD(0.1)).save(tmp_path / "w")
    net = make(classes=4)
    before = learned(net)
    with pytest.raises(FileError, match=r"w: does not fit this net\n") as caught:
        net.load(tmp_path / "w")
    assert "3/linear.w is (3, 24) in the file, (4, 24) in the net" in str(caught.value)
    assert str(caught.value).endswith("\n  hint: load(file, partial=True) takes what fits")
    assert_same(learned(net), before)
    assert net.clock.step == 0


def test_partial_takes_what_fits_and_reports_the_rest(tmp_path):
    net = trained(SGD(0.1))
    net.save(tmp_path / "w")
    other = Net([PReLU(), BatchNorm(), Linear(3), Linear(3)], SHAPE, 2, seed=1)
    before, expected = learned(other), learned(net)
    assert other.load(tmp_path / "w", partial=True) == [
        "2/linear.b (3,) is not in the file",
        "2/linear.w (3, 24) is not in the file",
        "3/linear.w is (3, 24) in the file, (3, 3) in the net",
    ]
    new = {name: before[name] for name in ("2/linear.b", "2/linear.w", "3/linear.w")}
    assert_same(learned(other), expected | new)
    assert other.clock.step == 0
    with pytest.raises(
        FileError, match=r"does not fit this net\n  0/linear\.b .*is not in the file"
    ) as caught:
        Net([Linear(3)], SHAPE, 2).load(tmp_path / "w", partial=True)
    assert not caught.value.hint


def test_arrays_that_were_called_otherwise_load(tmp_path):
    """BatchNorm's shift was called beta in 0.1."""
    net = trained(SGD(0.1))
    old = {name.replace("batch_norm.shift", "batch_norm.beta"): value for name, value in learned(net).items()}
    save_file(old, tmp_path / "w")  # not written by minet: no facts
    for partial in (False, True):
        other = make(seed=1)
        assert other.load(tmp_path / "w", partial) == []
        assert_same(learned(other), learned(net))
        assert other.clock.step == 0
    both = old | {"1/batch_norm.shift": np.zeros(2, "float32")}
    save_file(both, tmp_path / "both")
    with pytest.raises(FileError, match=r"1/batch_norm\.beta \(2,\) is not in the net"):
        make().load(tmp_path / "both")


def test_types_that_fit_are_converted(tmp_path):
    make(dtype="float64").save(tmp_path / "w")
    net = make(seed=1)
    net.load(tmp_path / "w")
    assert net.params["3/linear.w"].dtype == np.float32
    arrays, _ = arrays_file.read(tmp_path / "w")
    arrays_file.write(tmp_path / "w", arrays | {"0/prelu.a": np.zeros(2, "complex64")}, {})
    with pytest.raises(FileError, match=r"0/prelu\.a is complex64 in the file, float32 in the net"):
        net.load(tmp_path / "w")
    assert net.load(tmp_path / "w", partial=True) == [
        "0/prelu.a is complex64 in the file, float32 in the net"
    ]


def test_files_that_are_missing_damaged_or_of_another_kind(tmp_path):
    net = make()
    with pytest.raises(FileError, match="none: no such file"):
        net.load(tmp_path / "none")
    with pytest.raises(FileError, match="is a folder"):
        net.load(tmp_path)
    with pytest.raises(FileError, match=r"no/w: cannot be written"):
        net.save(tmp_path / "no" / "w")
    arrays_file.write(tmp_path / "w", learned(net), {"step": -1})
    with pytest.raises(FileError, match="w: its step is -1"):
        net.load(tmp_path / "w")
    net.save(tmp_path / "w")
    data = bytearray((tmp_path / "w").read_bytes())
    data[-3] ^= 1
    (tmp_path / "w").write_bytes(data)
    with pytest.raises(FileError, match="w: damaged"):
        net.load(tmp_path / "w", partial=True)


def test_whatever_is_no_array_is_refused_by_its_name():
    net, other = make(), make()
    assert other.load({name: value.tolist() for name, value in (net.params | net.persistent).items()}) == []
    before = {name: value.copy() for name, value in net.params.items()}
    for wrong in (None, 3, net, [net.params]):
        with pytest.raises(FileError, match=r"^cannot load .*\n  hint: name a file, or give arrays by path"):
            net.load(wrong)
    name = next(iter(net.params))
    for value, found in (
        ([1, [2, 3]], " is no array: setting an array"),
        ([None], r" is \(1,\) in the file"),
    ):
        with pytest.raises(FileError, match=name.replace(".", r"\.") + found):
            net.load({**net.params, **net.persistent, name: value})
    for path, value in net.params.items():
        np.testing.assert_array_equal(value, before[path])


def test_arrays_by_path_are_read_as_a_files_are(tmp_path):
    """Such as those of a network from an ONNX file; the net's step stays."""
    net, other = make(), make(seed=1)
    net.clock.step = 5
    assert net.load({**other.params, **other.persistent}) == []
    assert net.clock.step == 5
    for path, value in other.params.items():
        np.testing.assert_array_equal(net.params[path], value)
    left = dict(list(other.params.items())[1:])
    with pytest.raises(FileError, match="these arrays: does not fit this net"):
        net.load(left)
    assert len(net.load(left, partial=True)) == 1 + len(net.persistent)

"""Checkpoints: what is saved comes back, what does not fit is refused, and a file is complete or absent."""

import os

import numpy as np
import pytest
from safetensors.numpy import save_file

from minet import Concat, Net, Sequential
from minet.core.files import FileError, write_whole
from minet.layers import BatchNorm, Conv, PReLU
from minet.train import checkpoint
from minet.train.optim import SGD


def make(maps=3, seed=0, dtype="float32"):
    return Net(Sequential(PReLU(), BatchNorm(), PReLU()), (maps, 4, 5), 6, seed=seed, dtype=dtype)


def trained(maps=3):
    """A net and its solver after two updates: every array differs from its initial value."""
    net, solver = make(maps), SGD(0.1, momentum=0.9)
    rng = np.random.default_rng(0)
    for _ in range(2):
        y = net.fprop(rng.standard_normal((maps, 4, 5, 6)).astype(np.float32), train=True)
        net.bprop(rng.standard_normal(y.shape).astype(np.float32))
        solver.update(net)
        net.clock.step += 1
    return net, solver


def everything(net, solver=None):
    arrays = {**net.params, **net.persistent}
    if solver:
        arrays |= {f"v:{name}": value for name, value in solver.velocity.items()}
    return {name: value.copy() for name, value in arrays.items()}


def assert_same(got, expected):
    assert set(got) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(got[name], value, name, strict=True)


def test_everything_learned_comes_back_bit_for_bit(tmp_path):
    net, solver = trained()
    checkpoint.save(tmp_path / "w", net, solver, model="m", settings={"width": 3})
    other, other_solver = make(seed=5), SGD(0.1, momentum=0.9)
    assert any(
        (a != b).any() for a, b in zip(everything(net).values(), everything(other).values(), strict=True)
    )
    facts = checkpoint.load(tmp_path / "w", other, other_solver)
    assert_same(everything(other, other_solver), everything(net, solver))
    assert other.clock.step == 2
    assert (facts["model"], facts["settings"], facts["step"], facts["seed"]) == ("m", {"width": 3}, 2, 0)


def test_names_are_the_paths_of_the_net(tmp_path):
    net, solver = trained()
    checkpoint.save(tmp_path / "w", net, solver)
    arrays, _ = checkpoint.read(tmp_path / "w")
    expected = {*net.params, *net.persistent, *(f"velocity:{name}" for name in net.params)}
    assert set(arrays) == expected
    assert {"0/prelu.a", "1/batch_norm.running_mean", "velocity:1/batch_norm.gamma"} <= expected


def test_without_a_solver_the_velocities_stay_in_the_file(tmp_path):
    net, solver = trained()
    checkpoint.save(tmp_path / "w", net, solver)
    other = make()
    checkpoint.load(tmp_path / "w", other)
    assert_same(everything(other), everything(net))


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a.T,
        lambda a: a[:, ::2],
        lambda a: a[::-1],
        lambda a: np.asfortranarray(a),
        lambda a: np.broadcast_to(a[:1], (5, 6)),
        lambda a: a[2, 3],
    ],
    ids=["transposed", "strided", "reversed", "fortran", "broadcast", "scalar"],
)
def test_arrays_that_are_not_contiguous_are_saved_as_they_read(tmp_path, view):
    value = view(np.arange(30, dtype=np.float32).reshape(5, 6))
    checkpoint.write(tmp_path / "w", {"a": value}, {})
    arrays, _ = checkpoint.read(tmp_path / "w")
    np.testing.assert_array_equal(arrays["a"], value, strict=True)


def test_a_file_not_written_by_minet_has_no_facts(tmp_path):
    save_file({"a": np.arange(3)}, tmp_path / "w")
    arrays, facts = checkpoint.read(tmp_path / "w")
    assert arrays["a"].tolist() == [0, 1, 2]
    assert facts == {}
    save_file({"a": np.arange(3)}, tmp_path / "w", {"format": "np"})
    assert checkpoint.read(tmp_path / "w")[1] == {}


def test_float64_goes_into_float32_but_complex_numbers_do_not(tmp_path):
    net = make(dtype="float64")
    checkpoint.save(tmp_path / "w", net)
    checkpoint.load(tmp_path / "w", make(seed=3))
    checkpoint.write(
        tmp_path / "w", {name: a.astype(np.complex64) for name, a in everything(net).items()}, {}
    )
    with pytest.raises(FileError, match=r"0/prelu\.a is complex64 in the file, float32 in the net"):
        checkpoint.load(tmp_path / "w", make())


def differ(net, path):
    with pytest.raises(FileError, match=r"does not fit this net") as caught:
        checkpoint.load(path, net, SGD(0.1))
    return str(caught.value)


def test_differences_are_reported_in_both_directions_and_nothing_is_changed(tmp_path):
    net, solver = trained()
    checkpoint.save(tmp_path / "w", net, solver, model="digits", settings={"width": 3})
    other = Net(Sequential(PReLU(), Concat(PReLU(), PReLU())), (4, 4, 5), 6)
    before = everything(other)
    message = differ(other, tmp_path / "w")
    assert message.startswith(f"{tmp_path / 'w'}: ")
    assert "0/prelu.a is (3,) in the file, (4,) in the net" in message
    assert "1/0/prelu.a (4,) is not in the file" in message
    assert "2/prelu.a (3,) is not in the net" in message
    assert "velocity:2/prelu.a (3,) is not in the net" in message
    assert "it was saved from digits --set width=3" in message
    assert_same(everything(other), before)
    assert other.clock.step == 0


def test_a_missing_velocity_is_reported(tmp_path):
    net, solver = trained()
    del solver.velocity["2/prelu.a"]
    checkpoint.save(tmp_path / "w", net, solver)
    assert "velocity:2/prelu.a (3,) is not in the file" in differ(make(), tmp_path / "w")


@pytest.fixture
def file(tmp_path):
    net, solver = trained()
    checkpoint.save(tmp_path / "w.safetensors", net, solver)
    return tmp_path / "w.safetensors"


@pytest.mark.parametrize("length", [0, 7, 8, 100, -1])
def test_a_truncated_file_is_refused_by_name(file, length):
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(FileError, match=r"w\.safetensors: not a valid safetensors file"):
        checkpoint.read(file)


@pytest.mark.parametrize("content", [b"\x80\x04\x95 a pickle", b"hello " * 100, b"\xff" * 64])
def test_another_kind_of_file_is_refused_by_name(file, content):
    file.write_bytes(content)
    with pytest.raises(FileError, match=r"w\.safetensors: not a valid safetensors file"):
        checkpoint.read(file)


def test_a_changed_value_is_noticed(file):
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)
    with pytest.raises(FileError, match=r"w\.safetensors: damaged: its content does not match"):
        checkpoint.read(file)


def test_a_changed_fact_is_noticed(file):
    data = file.read_bytes()
    assert b'\\"step\\": 2' in data
    file.write_bytes(data.replace(b'\\"step\\": 2', b'\\"step\\": 3'))
    with pytest.raises(FileError, match=r"w\.safetensors: damaged"):
        checkpoint.read(file)


def test_missing_files_and_folders_are_reported(tmp_path):
    with pytest.raises(FileError, match=r"none: no such file"):
        checkpoint.read(tmp_path / "none")
    with pytest.raises(FileError, match="is a folder"):
        checkpoint.read(tmp_path)


@pytest.mark.parametrize(
    "facts",
    [
        {"settings": [1]}, {"settings": None}, {"epoch": "3"}, {"epoch": -1}, {"epoch": 1.0}, {"batch": True},
        {"seed": None}, {"step": "x"}, {"model": 3},
    ],
)  # fmt: skip
def test_facts_of_the_wrong_type_are_refused(tmp_path, facts):
    checkpoint.write(tmp_path / "w", {"a": np.zeros(2)}, facts)
    with pytest.raises(FileError, match=f"w: its {next(iter(facts))} is "):
        checkpoint.read(tmp_path / "w")


@pytest.mark.parametrize("text", ["", "[1, 2]", "3", "{", "[" * 100_000])
def test_invalid_metadata_is_refused(tmp_path, text):
    save_file({"a": np.arange(3)}, tmp_path / "w", {"minet": text})
    with pytest.raises(FileError, match="w: its metadata was not written by minet"):
        checkpoint.read(tmp_path / "w")


def test_the_same_content_makes_the_same_bytes(tmp_path):
    arrays = {"b": np.zeros(2), "a": np.ones((3, 1), np.float32)}
    settings = {"width": 3, "lr": 0.1, "factors": {10: 0.5, 2: 0.1}}
    for i in range(20):  # safetensors orders metadata in its own way
        turn = reversed if i % 2 else list
        facts = {"model": "m", "settings": dict(turn(settings.items())), "epoch": 2}
        checkpoint.write(tmp_path / f"{i}", dict(turn(arrays.items())), dict(turn(facts.items())))
    assert len({(tmp_path / f"{i}").read_bytes() for i in range(20)}) == 1
    _, facts = checkpoint.read(tmp_path / "0")
    assert facts["settings"]["factors"] == {10: 0.5, 2: 0.1}


def test_a_failed_write_leaves_the_old_file_and_no_partial_one(file, monkeypatch):
    def full(fd):
        raise OSError(28, "No space left on device")

    before = file.read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    net, solver = trained()
    with pytest.raises(FileError, match=r"w\.safetensors: cannot be written: No space left on device"):
        checkpoint.save(file, net, solver)
    assert file.read_bytes() == before
    assert os.listdir(file.parent) == [file.name]


def test_a_reader_during_a_write_sees_the_old_file(file):
    before = file.read_bytes()
    with file.open("rb") as reader:
        write_whole(file, b"new")
        assert reader.read() == before
    assert file.read_bytes() == b"new"


def test_an_interrupted_write_leaves_the_old_file_and_no_partial_one(file, monkeypatch):
    def stop(fd):
        raise KeyboardInterrupt

    before = file.read_bytes()
    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        write_whole(file, b"new")
    assert file.read_bytes() == before
    assert os.listdir(file.parent) == [file.name]


def test_a_folder_that_is_missing_or_a_file_is_reported(tmp_path):
    with pytest.raises(FileError, match=r"no/w: cannot be written: No such .*\n.*make the folder .*no first"):
        write_whole(tmp_path / "no" / "w", b"")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match=r"file/w: cannot be written: Not a directory"):
        write_whole(tmp_path / "file" / "w", b"")


def test_a_checkpoint_of_before_a_renaming_loads(tmp_path):
    """BatchNorm's shift was called beta in 0.1; velocities go by the same names."""
    net, other = (Net([Conv(2, 3), BatchNorm()], (1, 4, 4), 2, seed=seed) for seed in (1, 2))
    solver = SGD(0.1, momentum=0.9)
    solver.bind(net)
    net.params["1/batch_norm.shift"][:] = [3, 4]
    solver.velocity["1/batch_norm.shift"][:] = [5, 6]
    arrays = {**net.params, **net.persistent, **{f"velocity:{k}": v for k, v in solver.velocity.items()}}
    old = {name.replace("batch_norm.shift", "batch_norm.beta"): value for name, value in arrays.items()}
    checkpoint.write(tmp_path / "old.safetensors", old, {"step": 7})
    continued = SGD(0.1, momentum=0.9)
    assert checkpoint.load(tmp_path / "old.safetensors", other, continued) == {"step": 7}
    np.testing.assert_array_equal(other.params["1/batch_norm.shift"], [3, 4])
    np.testing.assert_array_equal(continued.velocity["1/batch_norm.shift"], [5, 6])
    old["1/batch_norm.shift"] = old["1/batch_norm.beta"]
    checkpoint.write(tmp_path / "both.safetensors", old, {})
    with pytest.raises(FileError, match=r"1/batch_norm\.beta \(2,\) is not in the net"):
        checkpoint.load(tmp_path / "both.safetensors", other)

"""Model files: found, run, checked and configured; every mistake is reported in one message."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from minet import LayerError, MinetError
from minet.core.files import FileError
from minet.data import DataError
from minet.train import modelfile

GOOD = """
from typing import Literal
from minet import data
from minet.layers import Dropout, PReLU
from minet.core.containers import Sequential
from minet.core.loss import SoftmaxCrossEntropy
from minet.train.optim import SGD

input_shape = (1, 8, 8)
batch, epochs, loss = 32, 3, SoftmaxCrossEntropy()

def net(width=4, rate=0.5, shared=False, kind: Literal["a", "b"] = "a", pads=(1, 2), name="x", free=None):
    net.got = (width, rate, shared, kind, pads, name, free)
    return Sequential(PReLU(shared=shared), Dropout(rate))

def solver(lr=0.1, epochs=epochs):
    solver.got = (lr, epochs)
    return SGD(lr)

def datasets(limit=100):
    return data.digits("train", limit=limit), data.digits("test", limit=limit)
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write ``model.py`` in the current folder, with parts of a good model replaced."""
    monkeypatch.chdir(tmp_path)

    def write(*changes, text=GOOD, name="model.py"):
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / name).write_text(text)
        return name

    return write


def refused(file, **settings):
    with pytest.raises(FileError) as caught:
        modelfile.load(file, **settings)
    return str(caught.value)


def test_a_model_gives_its_parts(write):
    model = modelfile.load(write())
    assert (model.name, model.input_shape, model.batch, model.epochs) == ("model", (1, 8, 8), 32, 3)
    assert type(model.loss).__name__ == "SoftmaxCrossEntropy"
    assert repr(model.net()) == "Sequential(PReLU(shared=False), Dropout(0.5))"
    assert model.net() is not model.net()
    assert model.solver().lr == 0.1
    assert [len(data) for data in model.datasets()] == [100, 100]
    assert model.settings == {}


def test_a_setting_goes_to_each_function_that_has_it_and_to_the_plain_names(write):
    model = modelfile.load(write(), width=8, shared=True, epochs=7, batch=5, limit=9, lr=1)
    model.net(), model.solver()
    functions = {name: function.__globals__[name] for name, function in model._functions.items()}
    assert functions["net"].got == (8, 0.5, True, "a", (1, 2), "x", None)
    assert functions["solver"].got == (1.0, 7)
    assert isinstance(functions["solver"].got[0], float)
    assert (model.epochs, model.batch) == (7, 5)
    assert len(model.datasets()[0]) == 9


def test_the_known_settings_have_the_values_of_the_file(write):
    known = modelfile.load(write(), width=8).known
    assert known == {
        "batch": 32, "epochs": 3, "width": 4, "rate": 0.5, "shared": False, "kind": "a", "pads": (1, 2),
        "name": "x", "free": None, "lr": 0.1, "limit": 100,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("setting", "value", "kept"),
    [
        ("rate", 0, 0.0),
        ("pads", [3, 4], (3, 4)),
        ("kind", "b", "b"),
        ("name", "y", "y"),
        ("free", 3, 3),
        ("free", "s", "s"),
    ],
)
def test_values_of_the_right_type_are_taken(write, setting, value, kept):
    settings = modelfile.load(write(), **{setting: value}).settings
    assert settings == {setting: kept}
    assert type(settings[setting]) is type(kept)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("width", 2.5, "width must be of type int, like 4, got 2.5 of type float"),
        ("width", True, "width must be of type int, like 4, got True of type bool"),
        ("width", "wide", "width must be of type int, like 4, got 'wide' of type str"),
        ("width", None, "width must be of type int, like 4, got nothing (None)"),
        ("rate", "0,5", "rate must be of type float, like 0.5, got '0,5' of type str"),
        ("rate", False, "rate must be of type float, like 0.5, got False of type bool"),
        (
            "shared",
            "true",
            "shared must be of type bool, like False, got 'true' of type str\n  hint: write True",
        ),
        ("rate", "inf", "rate must be a finite number, like 0.5, got inf"),
        ("rate", "-NaN", "rate must be a finite number, like 0.5, got -NaN"),
        ("shared", 1, "shared must be of type bool, like False, got 1 of type int"),
        ("name", 1, "name must be of type str, like 'x', got 1 of type int"),
        ("pads", 1, "pads must be of type tuple, like (1, 2), got 1 of type int"),
        ("kind", "c", "kind must be one of 'a', 'b', got 'c'"),
        ("epochs", 0, "epochs must be a whole number of at least 1, got 0"),
        ("epochs", -3, "epochs must be a whole number of at least 1, got -3"),
        ("batch", 0, "batch must be a whole number of at least 1, got 0"),
        ("batch", 1.5, "batch must be a whole number of at least 1, got 1.5"),
        ("batch", True, "batch must be a whole number of at least 1, got True"),
    ],
)
def test_values_of_the_wrong_type_are_refused_with_the_right_one(write, setting, value, message):
    assert refused(write(), **{setting: value}).startswith(f"model.py: {message}")


def test_an_unknown_setting_is_refused_with_the_known_ones(write):
    message = refused(write(), widht=8)
    assert (
        "model.py: has no setting 'widht'; its settings are: batch=32, epochs=3, width=4, rate=0.5" in message
    )
    assert "limit=100" in message
    assert message.endswith("hint: did you mean width?")
    assert "hint" not in refused(write(), qqq=1)


@pytest.mark.parametrize("name", modelfile.PARTS)
def test_a_missing_part_is_named_with_a_line_to_add(write, name):
    message = refused(write(text=GOOD + f"\ndel {name}\n"))
    assert message == f"model.py: lacks {name}\n  hint: add {modelfile.PARTS[name]}"


def test_a_layer_file_is_no_model(write):
    text = "from minet import Layer\nclass Own(Layer):\n    pass\n"
    assert refused(write(text=text)).endswith(
        "hint: Own is a layer; a model that uses it is a file of its own: minet new-model NAME"
    )
    assert "hint: add def net(" in refused(write(text=GOOD + "\ndel net\n"))


def test_all_missing_parts_are_named_at_once(write):
    assert refused(write(text="x = 1")).startswith(
        "model.py: lacks input_shape, net, solver, datasets, batch,"
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("input_shape = (8, 8)", "input_shape must be (channels, height, width), got (8, 8)"),
        ("input_shape = (1, 8, 0)", "input_shape must be (channels, height, width), got (1, 8, 0)"),
        ("input_shape = 8", "input_shape must be (channels, height, width), got 8"),
        ("batch = 'many'", "batch must be a whole number of at least 1, got 'many'"),
        ("epochs = 2.0", "epochs must be a whole number of at least 1, got 2.0"),
        ("loss = 'softmax'", "loss is 'softmax' of type str, not a loss"),
        (
            "loss = SoftmaxCrossEntropy",
            "loss is <class 'minet.core.loss.softmax_cross_entropy.SoftmaxCrossEntropy'> of type",
        ),
        (
            "from minet import Loss\nclass Mine(Loss): ...\nloss = Mine",
            "loss is <class '",
        ),
        ("net = PReLU()", "net is PReLU() of type PReLU, not a function"),
        ("solver = SGD(0.1)", "solver is SGD("),
        ("def net(width): pass", "net() has no default for width"),
    ],
)
def test_parts_of_the_wrong_type_are_refused(write, line, message):
    assert refused(write(text=f"{GOOD}\n{line}\n")).startswith(f"model.py: {message}")


@pytest.mark.parametrize(
    ("part", "body", "message", "hint"),
    [
        ("net", "pass", "net() returned nothing (None), not a layer", "is the return statement missing?"),
        (
            "net",
            "return (PReLU(),)",
            "net() returned (PReLU(),) of type tuple, not a layer",
            "return Sequential(...)",
        ),
        (
            "net",
            "return PReLU",
            "net() returned <class 'minet.layers.prelu.PReLU'> of type",
            "return Sequential",
        ),
        ("solver", "return 0.1", "solver() returned 0.1 of type float, not a solver", "return SGD(lr=0.05)"),
        (
            "solver",
            "return SGD",
            "solver() returned <class 'minet.train.optim.sgd.SGD'> of",
            "return SGD(lr=0.05)",
        ),
        (
            "solver",
            "SGD(0.1)",
            "solver() returned nothing (None), not a solver",
            "is the return statement missing?",
        ),
        ("datasets", "return ()", "datasets() returned () of type tuple, not one", "return train, test"),
        ("datasets", "return None, data.digits()", "datasets() returned (None, Dat", "return train, test"),
        (
            "datasets",
            "return 1, 2",
            "datasets() returned (1, 2) of type tuple, not one or two Datasets",
            "return train, test",
        ),
        ("datasets", "return (data.digits(),) * 3", "datasets() returned (Dataset(", "return train, test"),
        (
            "datasets",
            "pass",
            "datasets() returned nothing (None), not one or two Datasets",
            "is the return statement missing?",
        ),
    ],
)
def test_functions_that_return_the_wrong_type_are_refused(write, part, body, message, hint):
    model = modelfile.load(write(text=f"{GOOD}\ndef {part}(): {body}\n"))
    with pytest.raises(FileError) as caught:
        getattr(model, part)()
    assert str(caught.value).startswith(f"model.py: {message}")
    assert f"hint: {hint}" in str(caught.value)


def test_a_list_of_layers_stands_for_a_sequential(write):
    model = modelfile.load(write(text=f"{GOOD}\ndef net(): return [PReLU(), [Dropout(0.5), PReLU()]]\n"))
    expected = "Sequential(PReLU(), Sequential(Dropout(0.5), PReLU()))"
    assert repr(model.net()).replace("[", "Sequential(").replace("]", ")") == expected
    model = modelfile.load(write(text=f"{GOOD}\ndef net(): return [PReLU(), 3]\n"))
    line = GOOD.count("\n") + 2
    with pytest.raises(
        MinetError, match=rf"^Sequential \(model.py:{line}\)\n  Sequential takes layers, got 3"
    ):
        model.net()
    model = modelfile.load(write(text=f"{GOOD}\ndef net(): return [PReLU(), [Dropout(0.5), PReLU()]]\n"))
    for layer in (graph := model.net()).walk():
        assert layer.made_at == (str(Path("model.py").resolve()), line)
    assert len(graph.layers) == 2


def test_each_function_gets_a_setting_in_its_own_type(write):
    change = ("    return data", "    datasets.got = (width, epochs)\n    return data")
    more = ("limit=100", "limit=100, width=3.5, epochs=1.0")
    model = modelfile.load(write(more, change), width=4, epochs=2)
    assert (model.settings, model.epochs) == ({"width": 4, "epochs": 2}, 2)
    model.net(), model.datasets()
    functions = model._functions["net"].__globals__
    got = (functions["net"].got[0], *functions["datasets"].got)
    assert (got, [type(value) for value in got]) == ((4, 4.0, 2.0), [int, float, float])


def test_what_is_not_a_path_is_refused():
    for wrong in (None, 3, b"digits", ["digits"]):
        with pytest.raises(FileError, match="a model must be given as a path or a name, got"):
            modelfile.load(wrong)


def test_a_broken_file_is_reported_with_its_line(write):
    assert refused(write(("def solver(", "def solver(:"))) == "model.py:16: invalid syntax"
    assert refused(write(("batch, epochs", "batch, epochs = 1 / 0 #"))) == (
        "model.py:10: ZeroDivisionError: division by zero"
    )
    assert refused(write(("import SGD", "import SDG"))).startswith("model.py:7: ImportError: cannot import")
    assert refused(write(text="import sys\nsys.exit(3)")) == "model.py:2: SystemExit: 3"
    assert refused(write(text="raise ValueError")) == "model.py:1: ValueError"
    assert refused(write(text="def f(): f()\nf()")).startswith("model.py:1: RecursionError: ")
    assert refused(write(text="a = '\0'")).startswith("model.py")


def test_a_broken_import_next_to_it_is_reported_with_the_line_in_that_file(write, tmp_path):
    write(text="x = (", name="beside_broken.py")
    assert (
        refused(write(text="import beside_broken")) == f"{tmp_path}/beside_broken.py:1: '(' was never closed"
    )


def test_bytes_that_are_not_text_are_reported(tmp_path):
    (tmp_path / "m.py").write_bytes(b"x = '\xff\xfe'")
    assert refused(tmp_path / "m.py").startswith(f"{tmp_path / 'm.py'}")


def test_an_error_in_a_function_is_reported_with_its_line(write):
    model = modelfile.load(write(("    net.got", "    {}['kernels']\n    net.got")))
    with pytest.raises(FileError) as caught:
        model.net()
    assert str(caught.value) == "model.py:13: KeyError: 'kernels'"
    assert isinstance(caught.value.__cause__, KeyError)


def test_minets_own_errors_keep_their_type_and_gain_the_line(write):
    model = modelfile.load(write(), lr=-1.0)
    with pytest.raises(MinetError, match=r"^model\.py:18: SGD's lr must be") as caught:
        model.solver()
    assert type(caught.value) is MinetError
    model = modelfile.load(write(), limit=0)
    with pytest.raises(
        DataError, match=r"^model\.py:21: digits train: limit must be a whole number of at least 1, got 0"
    ):
        model.datasets()


def test_a_layers_error_already_names_the_line(write):
    model = modelfile.load(write(), rate=2.0)
    with pytest.raises(LayerError) as caught:
        model.net()
    assert str(caught.value).startswith("Dropout (model.py:14)\n")


def test_missing_files_are_reported(tmp_path):
    assert refused("none.py") == "none.py: no such file"
    assert refused(tmp_path / "none.py") == f"{tmp_path / 'none.py'}: no such file"
    (tmp_path / "folder.py").mkdir()
    assert refused(tmp_path / "folder.py").startswith(f"{tmp_path / 'folder.py'}: is a folder")
    assert refused("/").startswith("/: is a folder")
    assert refused("") == ".: is a folder\n  hint: name the .py file in it"


def test_a_name_stands_for_a_model_that_comes_with_minet():
    assert modelfile.find("digits").name == "digits.py"
    assert modelfile.find("./digits").parts == ("digits",)
    assert modelfile.find("digits.py").parts == ("digits.py",)
    assert {"digits", "mnist", "cifar10_zeiler"} <= set(modelfile.names())


def test_an_unknown_name_is_refused_with_the_known_ones(tmp_path, monkeypatch):
    message = refused("digit")
    assert message.startswith(f"there is no model 'digit'; the models are: {', '.join(modelfile.names())}")
    assert message.endswith("hint: did you mean digits?")
    assert refused("qqq").endswith("hint: for a file of your own, include the extension: path/to/model.py")
    monkeypatch.chdir(tmp_path)
    Path("digit.py").write_text("")
    assert refused("digit").endswith("hint: for a file of your own, include the extension: digit.py")


def test_a_file_can_import_modules_next_to_it(write):
    write(text="width = 6", name="beside_me.py")
    model = modelfile.load(
        write(text=f"{GOOD}\nfrom beside_me import width\ndef net(width=width): return PReLU()")
    )
    assert model.known["width"] == 6


@pytest.mark.parametrize("name", ["rich", "helper"])
def test_the_module_beside_the_file_is_the_one_imported(write, tmp_path, name, monkeypatch):
    """Not an installed one of that name, nor one beside another model file; each comes back afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = sys.modules.get(name)
    text = f"{GOOD}\nfrom {name} import width\n"
    text += f"def net(width=width): import {name}; return [PReLU()] * {name}.width"
    for folder, width in (("a", 1), ("b", 2)):
        (tmp_path / folder).mkdir()
        write(text=f"width = {width}", name=f"{folder}/{name}.py")
        model = modelfile.load(write(text=text, name=f"{folder}/model.py"))
        assert model.known["width"] == width
        assert len(model.net().layers) == width
    assert before is None or sys.modules[name] is before


def test_packages_beside_the_file_and_pythons_own_modules(write, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    for folder in ("yaml", "rich"):
        (tmp_path / folder).mkdir()
        write(text="width = 7", name=f"{folder}/__init__.py")
    write(text="raise ValueError", name="random.py")  # already imported, as by every program that uses NumPy
    text = f"{GOOD}\nimport random, sys\nfrom rich import width\ndef net(width=width): return PReLU()"
    assert modelfile.load(write(text=text)).known["width"] == 7
    import rich

    assert not hasattr(rich, "width")


POOL = """
import multiprocessing, os
from minet import SGD, SoftmaxCrossEntropy, data
from minet.layers import Linear

def limit(part):
    return 50 + part

def datasets():
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        sizes = pool.map(limit, [0, 1])
    return tuple(data.digits(limit=size) for size in sizes)

def net():
    return Linear(10)

def solver():
    return SGD(0.01)

input_shape, batch, epochs, loss = (1, 8, 8), 10, 1, SoftmaxCrossEntropy()
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pooled.py", "rich.py"])
def test_a_process_pool_in_datasets_works(tmp_path, name):
    """Its processes import the model file, whatever it is named; Pool hangs if they cannot."""
    (tmp_path / name).write_text(POOL)
    run = subprocess.run(
        [sys.executable, "-P", "-m", "minet", "train", name], cwd=tmp_path, check=False, timeout=100,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "digits train: 50 images" in run.stdout


def test_a_file_can_hold_dataclasses_and_postponed_annotations(write):
    model = modelfile.load(
        write(text=f"from __future__ import annotations\nfrom dataclasses import dataclass\n{GOOD}\n"
              "@dataclass\nclass Wide:\n    width: int = 3\n")
    )  # fmt: skip
    assert refused("model.py", kind="c").startswith("model.py: kind must be one of 'a', 'b'")
    assert model.net()


def test_running_a_file_leaves_nothing_behind(write, tmp_path):
    modelfile.load(write()).net()
    assert [path.name for path in tmp_path.iterdir()] == ["model.py"]

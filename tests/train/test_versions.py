"""Versions: which files a model depends on, and which of them has changed since a run began."""

import sys
from pathlib import Path

import pytest
from small import TOY

from minet import MinetError
from minet.runs import runs
from minet.runs.trained import Trained
from minet.train import modelfile
from minet.train.versions import beside, changed

LAYER = """
from minet.layers import Identity


class Mine(Identity):
    factor = 1
"""
FILES = {
    "model.py": "import numpy, near.deep\nfrom far import thing\n\ndef net():\n    from near import part\n",
    "near/deep.py": "from . import same\nfrom .lower import one\nfrom ..far import thing\n",
    "near/same.py": "class LSEPool: pass\n",
    "near/lse_pool.cu": '#include "sums.cuh"\n  # include "../../outside.h"\n',
    "near/lse_pool_wide.cu": "",
    "near/sums.cuh": "",
    "near/lower/__init__.py": "import model",
    "near/lower/one.py": "from minet import data",
    "near/part.py": "syntax error",
    "far/__init__.py": "from far.thing import *",
}
OTHERS = ["data.py", "minet/__init__.py", "near/other.py", "near/pool.cu", "far/same.py", "../outside.h"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "path", list(sys.path))


def write(name, text):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)


def test_the_files_that_a_model_depends_on():
    for name in [*FILES, *OTHERS]:
        write(name, FILES.get(name, ""))
    assert beside(Path("model.py")) == {name: FILES[name] for name in sorted(FILES) if name != "model.py"}
    assert beside(modelfile.find("digits")) == {}


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        ("model.py", "import two", ["-import one", "+import two"]),
        ("one.py", "class One: n = 2", ["-class One: n = 1", "+class One: n = 2"]),
        ("one.cu", "int n", ["+int n"]),
        ("one.py", "class  One:\n    n = 1  # the same", None),
    ],
)
def test_the_first_that_has_changed_and_how(name, text, lines):
    write("model.py", "import one")
    write("one.py", "class One: n = 1")
    facts = {"text": "import one", "beside": beside(Path("model.py"))}
    write(name, text)
    assert changed(Path("model.py"), facts) == (lines and (Path(name), lines))
    assert not changed(Path("model.py"), {"text": Path("model.py").read_text()})  # of an earlier version
    assert not changed(Path("model.py"), {})


def test_what_a_run_says_of_files_elsewhere_is_not_read():
    write("model.py", "")
    write("../secret.py", "x = 1")
    facts = {"text": "", "beside": {"../secret.py": "x = 2"}}
    assert changed(Path("model.py"), facts) == (Path("../secret.py"), ["-x = 2"])


def test_a_layer_that_was_edited_beside_the_model_is_noticed_everywhere():
    text = TOY.read_text().replace("def net(", "from mine import Mine\n\n\ndef net(")
    write("toy.py", text.replace("PReLU()", "PReLU(), Mine()"))
    write("mine.py", LAYER)
    out = runs.train("toy.py", {"epochs": 1})[1]
    write("mine.py", LAYER.replace("1", "2"))
    with pytest.raises(MinetError) as caught:
        runs.train("toy.py", {"epochs": 2}, resume=True)
    assert str(caught.value) == (
        "runs/toy: mine.py has changed since this run began\n  -    factor = 1\n  +    factor = 2\n"
        "  hint: undo that, or start a new run; --force resumes all the same"
    )
    assert runs.evaluate("toy.py").endswith("with runs/toy/weights.safetensors; mine.py has changed since")
    with pytest.raises(MinetError, match=r"mine.py: has changed since .*\n  hint: --model toy.py takes it"):
        Trained.of(out)
    assert Trained.of(out, model="toy.py").model.name == "toy"
    runs.train("toy.py", {"epochs": 2}, resume=True, force=True)
    assert not runs.evaluate("toy.py").endswith("has changed since")

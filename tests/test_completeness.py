"""Nothing is left out: every layer has examples and a test, modules are short, importing minet is cheap."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import minet
from minet import layers
from minet.core.containers import Container
from minet.core.layer import Layer
from minet.testing import CHECKS
from minet.testing.examples import examples

ROOT = Path(__file__).parents[1]
MODULES = [path for folder in ("minet", "models") for path in sorted((ROOT / folder).rglob("*.py"))]
CONTAINERS = [cls for cls in Container.__subclasses__() if cls.__module__.startswith("minet.")]
LAZY = (
    "numba", "matplotlib", "rich", "typer", "safetensors", "pooch", "scipy", "pycuda", "skcuda",
    "torch", "onnx",
)  # fmt: skip


def name(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("cls", layers.all_layers(), ids=lambda cls: cls.__name__)
def test_a_layer_has_its_file_its_examples_and_its_test(cls):
    assert cls.__module__ == f"minet.layers.{cls.stem()}"
    assert getattr(layers, cls.__name__) is cls and cls.__name__ in dir(layers)
    assert len(list(cls.examples())) >= 1
    assert f"layer_checks({cls.__name__})" in (ROOT / f"tests/layers/test_{cls.stem()}.py").read_text()


@pytest.mark.parametrize("cls", CONTAINERS, ids=lambda cls: cls.__name__)
def test_a_container_has_examples_and_is_tested(cls):
    assert len(list(examples(cls))) >= 1
    assert f"layer_checks({cls.__name__})" in (ROOT / "tests/core/test_containers.py").read_text()


@pytest.mark.parametrize("stem", layers.stems())
def test_a_layer_file_holds_one_layer(stem):
    found = [cls for cls in layers.all_layers() if cls.__module__ == f"minet.layers.{stem}"]
    part = any(stem.startswith(f"{other}_") for other in layers.stems())  # of a layer: conv_tiles.py
    assert len(found) == (0 if part else 1) and (ROOT / f"tests/layers/test_{stem}.py").exists()


@pytest.mark.parametrize("path", sorted((ROOT / "tests/layers").glob("test_*.py")), ids=name)
def test_a_layer_test_belongs_to_a_layer(path):
    stem_of_test = path.stem.removeprefix("test_") + "_"
    assert any(stem_of_test.startswith(f"{stem}_") for stem in layers.stems())


def test_a_layer_that_does_not_exist():
    with pytest.raises(
        AttributeError, match=r"minet.layers has no 'Convolution'; there is no file convolution.py"
    ):
        layers.Convolution
    with pytest.raises(ImportError):
        exec("from minet.layers import Convolution")


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_is_short_and_has_a_docstring(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    assert not text or ast.get_docstring(ast.parse(text))


def test_kernels_and_the_emulators_sources_are_short():
    sources = [path for path in (ROOT / "kernels").rglob("*") if path.is_file()]
    assert [str(path) for path in sources if len(path.read_text().splitlines()) > 300] == []


def test_public_names_resolve():
    assert len(minet.__all__) == len(set(minet.__all__))
    for public in minet.__all__:
        assert getattr(minet, public).__doc__, public
    assert re.fullmatch(r"\d+\.\d+\.\d+\w*", minet.__version__)


def test_every_check_states_its_promise():
    for check in CHECKS.values():
        assert check.__doc__ and check.__doc__.partition("\n")[0].endswith(".")


def test_importing_minet_imports_nothing_heavy():
    code = "import sys, minet; from minet.layers import all_layers; all_layers(); "
    code += f"print([name for name in {LAZY} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_contract_is_in_the_docstring():
    text = " ".join(Layer.__doc__.split())
    for promise in ("y <- beta*y + f(x)", "dx <- beta*dx + J^T dy", "Never modify", "never reads ``y``"):
        assert promise in text

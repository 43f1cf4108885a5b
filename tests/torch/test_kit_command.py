"""`minet check` on files with torch code: which of it is checked, on what, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch")

from minet.cli.main import app  # noqa: E402
from minet.torch.kit import find  # noqa: E402

BLUR = '''
import torch
from torch import nn


class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, dy):
        return 2 * dy


class Blur(nn.Module):
    """A part of Net that needs an argument, and no examples."""

    def __init__(self, maps):
        super().__init__()
        self.conv = nn.Conv2d(maps, maps, 3, padding=1, groups=maps)

    def forward(self, x):
        return Double.apply(self.conv(x))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blur = Blur(2)

    def forward(self, x):
        return self.blur(x)
'''
EXAMPLES = """

def examples():
    yield lambda: Blur(2), (2, 4, 5)
    yield lambda: Blur(1), (1, 6, 3)
    yield lambda: Double.apply, (7,)
    yield lambda: nn.Tanh(), (3, 4)
"""
LAYER = """
import numpy as np
from minet import Layer, update

class Half(Layer):
    def out_shape(self, in_shape): return in_shape
    def fprop_cpu(self, x, y, beta, train): update(y, x / 2, beta)
    def bprop_cpu(self, x, dy, dx, beta):
        if dx is not None: update(dx, dy / 2, beta)
    @classmethod
    def examples(cls): yield cls, (2, 3, 4)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("blur.py").write_text(BLUR)


def minet(*args):
    return CliRunner().invoke(app, ["check", *args])


def done(*args):
    result = minet(*args)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*args):
    result = minet(*args)
    assert result.exit_code == 2 and result.stdout == "", result.output
    assert result.stderr.startswith("error: ") and "Traceback" not in result.output
    return result.stderr


def test_a_files_examples_say_what_is_checked():
    Path("blur.py").write_text(BLUR + EXAMPLES)
    *lines, double, blur, tanh = done("blur.py", "-q").splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        "ok    Double.apply on (7,), batch 3, cpu",
        "ok    Blur(...) on (2, 4, 5), batch 3, cpu",
        "ok    Blur(...) on (1, 6, 3), batch 3, cpu",
        "ok    Tanh() on (3, 4), batch 3, cpu",
    ]
    assert [line.partition(": ")[0] for line in (double, blur, tanh)] == ["Double", "Blur", "Tanh"]
    assert done("blur.py:Tanh", "-q").count("ok    ") == 1


def test_examples_of_a_class_count_too_and_other_classes_are_left_out():
    own = "\n    @staticmethod\n    def examples(): yield Net, (2, 4, 5)\n"
    Path("blur.py").write_text(BLUR + own)
    out = done("blur.py", "-v")
    assert out.startswith("Net(...) on (2, 4, 5), batch 3, cpu\n  PASS  runs\n") and out.count(" on (") == 1


def test_a_shape_stands_for_examples():
    assert "Net(...) on (2, 4, 5), batch 3, cpu" in done("blur.py:Net", "--input", "2x4x5")
    assert "Double.apply on (6,), batch 3, cpu" in done("blur.py:Double", "--input", "6")
    pair = "\nclass Sum(nn.Module):\n    def forward(self, a, b): return a + b[:, None]\n"
    Path("pair.py").write_text(BLUR.partition("class")[0] + pair)
    assert "Sum() on (2, 4), (4,), batch 3, cpu" in done("pair.py", "--input", "2x4,4", "-q")


def test_of_one_module_and_its_function_a_shape_is_for_the_module():
    Path("blur.py").write_text(BLUR.replace("class Net", "class Net").replace("Blur(2)", "nn.Tanh()").replace(
        BLUR[BLUR.index("class Blur"):BLUR.index("class Net")], ""))  # fmt: skip
    assert done("blur.py", "--input", "2x4x5", "-q").startswith("ok    Net(")


def test_an_op_is_found_by_its_name_in_the_file():
    Path("op.py").write_text(
        "import torch\n"
        "@torch.library.custom_op('kit_command::twice', mutates_args=())\n"
        "def twice(x: torch.Tensor) -> torch.Tensor:\n    return 2 * x\n"
        "@twice.register_fake\ndef _(x):\n    return torch.empty_like(x)\n"
        "def examples(): yield lambda: twice, (3, 4)\n"
    )
    out = done("op.py:twice")
    assert out.startswith("kit_command::twice on (3, 4), batch 3, cpu")
    assert "SKIP  gradient        the op has no backward: op.register_autograd(...)" in out
    assert "PASS  opcheck" in out


def test_a_fault_is_reported_as_those_of_minets_own_layers_are():
    Path("blur.py").write_text(BLUR.replace("return 2 * dy", "return 4 * dy") + EXAMPLES)
    result = minet("blur.py:Double")
    title, first, why, at, *_ = result.stdout.splitlines()
    assert result.exit_code == 1 and title == "Double.apply on (7,), batch 3, cpu"
    assert first.startswith("  FAIL  gradient  x.grad[") and ": expected 1.8" in first
    assert why.strip() == "likely cause: 2 times the expected values everywhere: added twice?"
    line = BLUR.splitlines().index("    def backward(ctx, dy):")  # the decorator's line, from 1
    assert at.strip() == f"at blur.py:{line}, Double.backward"
    assert result.stderr == ""


def test_a_file_may_mix_minets_layers_with_torch_modules():
    Path("blur.py").write_text(BLUR + LAYER)
    assert done("blur.py", "-q").startswith("ok    Half() on (2, 3, 4), batch 3, cpu")
    Path("blur.py").write_text(BLUR + EXAMPLES + LAYER)
    titles = [line.split(":")[0] for line in done("blur.py", "-q").splitlines()][-4:]
    assert titles == ["Half", "Double", "Blur", "Tanh"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("blur.py", "blur.py:6: Double has no examples() to check\n  hint: --input 3x32x32; or in the file: "
                    "def examples(): yield lambda: Double.apply, (3, 32, 32)"),
        ("blur.py:Net", "blur.py:27: Net has no examples() to check"),
        ("blur.py --input 2x4x5", "blur.py: has Blur, Net, and --input is for one of them\n"
                                  "  hint: minet check blur.py:Blur --input ..."),
        ("blur.py:Blur --input 2x4x5", "blur.py:16: Blur cannot be made without arguments: Blur.__init__()"),
        ("blur.py:Net --input 3x4x5", "blur.py:27: Net fails on --input 3x4x5 and a batch of 3: RuntimeError "
                                      "at blur.py:24: "),
        ("blur.py:Net --input 2x4x5,3", "blur.py:27: Net fails on --input 2x4x5,3 and a batch of 3: TypeEr"),
        ("blur.py:Net --input 2*4", "--input 2*4: is not a shape\n  hint: the shape of one sample"),
        ("blur.py:Net --input 2x0x4", "--input 2x0x4: is not a shape"),
        ("blur.py:Nett --input 2x4", "has no layer Nett; it has Double, Blur, Net\n  hint: did you mean N"),
        ("empty.py", "empty.py: defines no layer, loss, torch module, autograd Function or custom op"),
        ("plain.py --input 3x4", "--input is for torch modules, and plain.py has none"),
        ("prelu --input 3x4", "--input is for torch modules, and prelu has none"),
        ("gone.py --input 3x4", "--input is for torch modules, and gone.py has none"),
        ("fails.py", "fails.py: examples() fails: ValueError at fails.py:2: no"),
        ("itself.py", "examples() yields Tanh() itself, not a function that makes it"),
        ("shape.py", "examples() yields the shape (3, 'a'), not one in whole numbers"),
        ("alone.py", "examples() yields <function"),
        ("number.py", "examples() yields a function that returns 3, not a module"),
        ("raises.py", "examples() yields a function that fails: ZeroDivisionError at raises.py:2"),
    ],
)  # fmt: skip
def test_what_cannot_be_checked_is_named_with_what_would_help(args, message):
    Path("empty.py").write_text("import torch\n")
    Path("plain.py").write_text(LAYER)
    for name, body in {
        "fails": "raise ValueError('no')",
        "itself": "yield torch.nn.Tanh(), (3, 4)",
        "shape": "yield torch.nn.Tanh, (3, 'a')",
        "alone": "yield lambda: torch.nn.Tanh()",
        "number": "yield lambda: 3, (3, 4)",
        "raises": "yield lambda: 1 / 0, (3, 4)",
    }.items():
        Path(f"{name}.py").write_text(f"import torch\ndef examples(): {body}\n")
    assert message in refused(*args.split())


def test_examples_of_other_files_modules_need_no_word_of_torch():
    Path("others.py").write_text("from blur import Net\ndef examples():\n    yield Net, (2, 4, 5)\n")
    assert done("others.py", "-q").startswith("ok    Net(...) on (2, 4, 5)")


def test_examples_are_drawn_from_a_seed():
    drawn = "    yield torch.nn.Tanh, (3,), float(torch.rand(()))\n"
    Path("drawn.py").write_text(f"import torch\ndef examples():\n{drawn}")
    assert refused("drawn.py") == refused("drawn.py")


def test_an_ordinary_file_does_not_import_torch():
    Path("half.py").write_text(LAYER)
    code = (
        "import sys\nfrom minet.cli.main import app\n"
        "try: app(['check', 'half.py', '-q'])\nexcept SystemExit as e: assert not e.code\n"
        "print('torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "False"


def test_without_pytorch_a_file_that_needs_it_is_refused_with_how_to_install_it():
    code = (
        "import sys\nsys.modules['torch'] = None\nfrom minet.cli.main import app\n"
        "app(['check', 'blur.py', '--input', '2x4x5'])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 2 and "pip install 'minet-layers[torch]'" in ran.stderr, ran.stderr


@pytest.mark.slow
def test_options_reach_the_process_that_checks_a_file_with_loops():
    Path("loops.py").write_text(BLUR + "import numba\n")
    assert done("loops.py:Net", "--input", "2x4x5", "-q").startswith("ok    Net(...) on (2, 4, 5)")


@pytest.mark.slow
def test_code_in_c_that_dies_is_named():
    dies = "import ctypes\n" + BLUR.replace("return 2 * x", "ctypes.string_at(0)")
    Path("dies.py").write_text(dies)
    assert "dies.py:Net: the check died with SIGSEGV, in code that it calls" in refused(
        "dies.py:Net", "--input", "2x4x5"
    )
    Path("lives.py").write_text("import ctypes\n" + BLUR)
    assert done("lives.py:Net", "--input", "2x4x5", "-q").startswith("ok    Net(...) on (2, 4, 5)")


def test_shapes_are_parsed():
    assert find.parsed("3x32x32") == ((3, 32, 32),)
    assert find.parsed("3x4, 10") == ((3, 4), (10,))

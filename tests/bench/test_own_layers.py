"""`minet bench FILE:CLASS`: layers outside minet, beside their own rivals, if they pass their check."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from minet.cli.main import app
from minet.cli.new_layer import layer_files

TORCH = importlib.util.find_spec("torch") is not None
SMALL = ("--shape", "3,7,6,4", "--rounds", "1")
PEAKS = {"copy": [(1 << 10, 1e10), (1 << 30, 1e10)], "product": 1e11, "of": "numpy", "device": ""}
IN_TORCH = """
    def in_torch(self, x, alpha):
        return x / (1 + alpha[:, None, None] * x**2).sqrt()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Run each test in a folder of its own, with a layer file in it, on a machine of known speed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("minet.bench.peaks.measured", lambda backend: PEAKS)
    write("swish.py", "swish", "alpha")


def write(path, *layer, **options):
    text = layer_files(*layer, **options)
    Path(path).write_text(text[path])


def bench(*args):
    return CliRunner().invoke(app, ["bench", *args])


def timed(*args):
    """The output and the rows of a bench, by phase."""
    result = bench(*args, *SMALL, "--json", "found.json")
    assert result.exit_code == 0, result.output
    return result.stdout, json.loads(Path("found.json").read_text())["rows"]


@pytest.mark.slow
def test_a_layer_is_timed_with_the_settings_of_its_examples():
    write("blur.py", "blur", window=True)
    out, rows = timed("blur.py:Blur", "--against", "none")
    names = ["Blur(2)", "Blur(3, stride=2, pad=1)", "Blur((4, 3), stride=(1, 2), pad=(2, 0))"]
    assert [row["case"]["name"] for row in rows[::2]] == [f"{name} 3x7x6x4" for name in names]
    assert [row["phase"] for row in rows] == 3 * ["fprop", "fprop+bprop"]
    assert all(row["minet"] > 0 and not row["failed"] and not row["missed"] for row in rows)
    assert rows[0]["bytes"] == 4 * 4 * (3 * 7 * 6 + 3 * 3 * 3)
    assert re.search(r"Blur\(2\) 3x7x6x4\n  fprop +\S+ ms ±0 % .* % of copy, \S+ GB/s\n", out)


def test_examples_that_do_not_fit_the_shape_are_left_out():
    write("blur.py", "blur", window=True)
    result = bench("blur.py", "--against", "none", "--shape", "1,2,2,2", "--rounds", "1")
    assert result.exit_code == 0 and result.stdout.count("Blur(") == 2
    text = Path("blur.py").read_text()
    Path("blur.py").write_text(re.sub(r"        yield .*(stride|pad).*\n", "", text))
    result = bench("blur.py", "--against", "none", "--shape", "1,1,1,2")
    assert result.exit_code == 2 and "window 2x2 does not fit H=1 with pad 0" in result.stderr


def test_a_numpy_version_is_a_rival():
    text = Path("swish.py").read_text()
    loops = "    fprop_numpy, bprop_numpy = fprop_cpu, bprop_cpu\n"
    Path("swish.py").write_text(text.replace("    def root(", f"{loops}\n    def root("))
    _, rows = timed("swish.py:Swish", "--against", "numpy", "--plot", "found.png")
    assert all(row["rival"] == "numpy" and row["ratio"] > 0 for row in rows)
    assert Path("found.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.skipif(not TORCH, reason="PyTorch is not installed")
def test_its_twin_in_pytorch_is_a_rival_if_it_computes_the_same():
    text = Path("swish.py").read_text()
    Path("swish.py").write_text(text + IN_TORCH)
    _, rows = timed("swish.py", "--against", "torch-nchw")
    assert all(row["rival"] == "torch-nchw" and not row["notes"] for row in rows)
    Path("swish.py").write_text(text + IN_TORCH.replace("x**2", "x**4"))
    _, rows = timed("swish.py", "--against", "torch-nchw")
    assert all(row["failed"].startswith("no rival agrees with it: torch-nchw differs: y by ") for row in rows)


def test_what_fails_its_check_is_not_timed():
    Path("swish.py").write_text(Path("swish.py").read_text().replace("root**3", "root**2"))
    result = bench("swish.py:Swish", *SMALL)
    assert result.exit_code == 2 and not result.stdout
    assert result.stderr.startswith(
        "error: swish.py:Swish is not timed, as its check fails: FAIL  Swish() on "
    )
    assert "gradient" in result.stderr and result.stderr.endswith("\n  hint: minet check swish.py:Swish\n")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("none.py",), "none.py: no such file"),
        (("swish.py:Swash",), "swish.py: has no layer Swash; it has Swish"),
        (("swish.py", "--shape", "3,7,6"), "--shape 3,7,6: is not four whole numbers"),
        (("swish.py", "--shape", "3,7,6,0"), "--shape 3,7,6,0: is not four whole numbers"),
        (("ReLU", "--shape", "3,7,6,4"), "--shape is for the layers of a FILE"),
        (("swish.py", "--backend", "emu"), "the emulator is for testing, not for timing"),
    ],
)
def test_mistakes(args, message):
    result = bench(*args)
    assert result.exit_code == 2 and result.stderr.startswith(f"error: {message}")


def test_a_file_without_a_layer():
    Path("loss.py").write_text(
        "from minet import MeanSquaredError\n\nclass Mine(MeanSquaredError):\n    pass\n"
    )
    assert bench("loss.py").stderr.startswith("error: loss.py: has no layer to time")

"""`minet new-layer`: what it writes passes every check, with all options; a mistake leaves nothing behind."""

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from minet.cli.main import app
from minet.cli.new_layer import layer_files

ROOT = Path(__file__).parents[2]
TEMPLATES = ROOT / "templates"
KINDS = {  # the folders of templates, and the options that choose them
    "elementwise": {},
    "elementwise_param": {"param": "alpha"},
    "window": {"window": True},
    "window_param": {"window": True, "param": "alpha"},
}
BACKENDS = pytest.mark.parametrize("backend", ["cpu", "emu"])
EACH_KIND = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Run each test in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def minet(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


def new(*args):
    result = minet("new-layer", *args)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*args):
    """The error message of a command that must fail cleanly and leave nothing behind."""
    before = sorted(Path().rglob("*"))
    result = minet("new-layer", *args)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ") and result.stderr.count("error:") == 1
    assert sorted(Path().rglob("*")) == before
    return result.stderr


def run(*command, cwd=".", **env):
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, env={**os.environ, **env},
        text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def options(kind, *more):
    """The options of a kind as typed."""
    chosen = KINDS[kind]
    return [*["--window"] * ("window" in chosen), *(["--param", "alpha"] if "param" in chosen else []), *more]


# -- what is written passes ----------------------------------------------------------------------------------


@pytest.mark.slow
@BACKENDS
@EACH_KIND
def test_with_loops_and_kernels_it_is_the_template(kind, backend, monkeypatch):
    monkeypatch.chdir(TEMPLATES / kind)  # where Numba's cache stays from run to run
    files = layer_files("my-layer", **KINDS[kind], numba=True, cuda=True)
    assert files == {path.name: path.read_text() for path in Path().iterdir() if path.is_file()}
    out = run("-m", "minet", "check", "my_layer.py", "--backend", backend, PYTHONPATH=str(ROOT))
    assert re.search(r"MyLayer: \d\d passed, 0 failed", out)
    assert "PASS  parity_emu" in out and (backend == "cpu" or "PASS  thread_order" in out)


@pytest.mark.slow
@BACKENDS
@EACH_KIND
def test_with_loops_alone(kind, backend):
    files = layer_files("my-layer", **KINDS[kind], numba=True)
    assert list(files) == ["my_layer.py", "my_layer_loops.py", "test_my_layer.py"]
    template = TEMPLATES / kind
    assert files["my_layer_loops.py"] == (template / "my_layer_loops.py").read_text()
    Path("my_layer.py").write_text(files["my_layer.py"])  # the template's loops are compiled
    path = os.pathsep.join([str(ROOT), str(template)])
    out = run("-m", "minet", "check", "my_layer.py", "--backend", backend, PYTHONPATH=path)
    assert re.search(r"MyLayer: \d\d passed, 0 failed", out)
    assert all(f"def {phase}_numpy(" in files["my_layer.py"] for phase in ("fprop", "bprop"))


@pytest.mark.sweep(2)
@BACKENDS
@pytest.mark.parametrize("cuda", [[], ["--cuda"]], ids=["", "cuda"])
@EACH_KIND
def test_without_loops(kind, cuda, backend):
    new("soft_step", *options(kind, *cuda))
    result = minet("check", "soft_step.py", "--backend", backend)
    assert result.exit_code == 0, result.output
    assert re.search(r"SoftStep: \d\d passed, 0 failed", result.stdout)
    assert ("PASS  parity_emu" in result.stdout) == bool(cuda)


@pytest.mark.slow
def test_its_own_tests_pass():
    for kind in KINDS:
        new(f"my-{kind.replace('_', '-')}-layer", *options(kind, "--cuda"))
    out = run("-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", ".", PYTHONPATH=str(ROOT))
    assert re.search(r"^\d+ passed, \d+ skipped", out, re.MULTILINE)
    faulty = Path("my_window_layer.py").read_text().replace("taps[tap] +=", "taps[tap] -=")
    Path("my_window_layer.py").write_text(faulty)
    with pytest.raises(AssertionError, match=r"FAILED test_my_window_layer.py::test_by_hand"):
        run("-m", "pytest", "-q", "-W", "error", "test_my_window_layer.py", PYTHONPATH=str(ROOT))


def test_it_is_laid_out_as_ruff_would():
    for kind, numba, cuda in itertools.product(KINDS, ([], ["--numba"]), ([], ["--cuda"])):
        Path(here := "-".join([kind, *numba, *cuda])).mkdir()
        new("soft_step", *options(kind, *numba, *cuda), "--dir", here)
        for checked in (("check", "--select", "E,F,I,UP,B,SIM,RUF"), ("format", "--check")):
            run("-m", "ruff", *checked, "-q", "--isolated", "--no-cache", ".", cwd=here)
        assert not any("\n\n\n\n" in path.read_text() for path in Path(here).iterdir())


# -- names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "cls", "stem"),
    [("swish", "Swish", "swish"), ("Swish", "Swish", "swish"), ("LSEPool", "LSEPool", "lsepool"),
     ("lse-pool", "LsePool", "lse_pool"), ("pool2", "Pool2", "pool2"),
     *((name, "SoftStep", "soft_step") for name in ("soft-step", "soft_step", "SoftStep", "softStep"))],
)  # fmt: skip
def test_a_name_in_any_case(typed, cls, stem):
    out = new(typed, "--numba", "--cuda")
    names = [f"{stem}.py", f"{stem}_loops.py", f"{stem}.cu", f"test_{stem}.py"]
    assert out.startswith(f"wrote {', '.join(names)}\n")
    text = Path(f"{stem}.py").read_text()
    assert f"class {cls}(Layer):" in text and f"from {stem}_loops import {stem}_bprop, {stem}_fprop" in text
    assert f"void {stem}_fprop(" in Path(f"{stem}.cu").read_text()
    assert f"layer_checks({cls})" in Path(f"test_{stem}.py").read_text()
    for path in Path().iterdir():
        assert not re.search("my_?layer", path.read_text(), re.IGNORECASE)


def test_a_parameter_has_the_name_asked_for():
    new("swish", "--param", "slope", "--numba", "--cuda")
    for path in Path().iterdir():
        assert "slope" in path.read_text() and "alpha" not in path.read_text()
    assert "float *slope, float *sums" in Path("swish.cu").read_text()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("3d", "'3d' is not a name for a layer"),
        ("my layer", "'my layer' is not a name for a layer"),
        ("my.layer", "'my.layer' is not a name for a layer"),
        ("a/b", "'a/b' is not a name for a layer"),
        ("größe", "'größe' is not a name for a layer"),
        ("", "'' is not a name for a layer"),
        ("-", "'-' is not a name for a layer"),
        ("class", "'class' is a keyword of Python"),
        ("None", "'None' is a keyword of Python"),
        ("relu", "minet has a layer relu"),
        ("MaxPool", "minet has a layer max_pool"),
        ("maxpool", "minet has a layer max_pool"),
        ("sequential", "minet has a layer sequential"),
        ("Layer", "a layer's file uses the name Layer"),
        ("test-pool", "pytest would take a class TestPool for a test"),
        ("random", "random.py would hide the module random"),
        ("numpy", "numpy.py would hide the module numpy"),
        ("minet", "minet.py would hide the module minet"),
    ],
)
def test_a_name_that_is_refused(name, message):
    assert refused("--", name).startswith(f"error: {message}")
    assert "\n  hint: " in refused("--", name)


def test_a_name_that_its_own_file_uses_is_refused():
    assert refused("BLOCKS", "--param", "a").startswith("error: a layer's file uses the name BLOCKS\n")


@pytest.mark.parametrize(
    ("param", "message"),
    [
        ("2a", "is not a name"),
        ("__a", "is not a name"),
        ("a b", "is not a name"),
        ("größe", "is not a name"),
        ("", "is not a name"),
        ("lambda", "is a keyword of Python"),
        ("double", "is a keyword of C++"),
        ("x", "the layer's files use this name for something else"),
        ("beta", "the layer's files use this name for something else"),
        ("N", "the layer's files use this name for something else"),
        ("np", "the layer's files use this name for something else"),
        ("put", "the layer's files use this name for something else"),
        ("keys", "the layer's files use this name for something else"),
    ],
)
@pytest.mark.parametrize("window", [[], ["--window"]], ids=["", "window"])
def test_a_parameter_that_is_refused(param, message, window):
    assert refused("swish", "--param", param, *window).startswith(f"error: --param {param}: {message}")


@pytest.mark.parametrize("param", ["a", "b", "scale", "weights", "sharpness", "sigma", "power", "gain", "_a"])
@EACH_KIND
def test_parameters_of_common_names(param, kind):
    if "param" in KINDS[kind]:
        assert layer_files("swish", **{**KINDS[kind], "param": param})


# -- files and folders ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["swish.py", "swish_loops.py", "swish.cu", "test_swish.py"])
def test_nothing_is_overwritten(name):
    Path(name).write_text("mine")
    assert refused("swish", "--numba", "--cuda").startswith(
        f"error: {name} exists, and nothing is overwritten\n"
    )
    assert Path(name).read_text() == "mine"


def test_files_go_to_a_folder_that_is_there():
    Path("layers").mkdir()
    assert "wrote layers/swish.py, layers/test_swish.py\n" in new("swish", "--dir", "layers")
    assert refused("swish", "--dir", "a b/c") == "error: a b/c: no such folder\n  hint: mkdir -p 'a b/c'\n"
    assert refused("swish", "--dir", "layers/swish.py") == "error: layers/swish.py: is not a folder\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to():
    Path("layers").mkdir(mode=0o500)
    assert "layers/swish.py: cannot be written: Permission denied" in refused("swish", "--dir", "layers")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt])
def test_what_was_written_before_a_failure_is_removed(error, monkeypatch):
    write, count = Path.open, itertools.count()

    def failing(path, *args, **kwargs):
        if path.suffix in (".py", ".cu") and args[:1] == ("x",) and next(count) == 2:
            raise error
        return write(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", failing)
    result = minet("new-layer", "swish", "--numba", "--cuda")
    assert result.exit_code == (130 if error is KeyboardInterrupt else 2) and next(count) == 3
    assert not list(Path().iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--cuda"]], ids=["", "cuda"])
def test_the_commands_that_it_prints_work_as_typed(more):
    Path("my layers").mkdir()
    lines = new("swish", *more, "--dir", "my layers").splitlines()
    assert lines[1] == "next:" and len(lines) == 5
    for line in lines[2:]:
        assert line.startswith("  ")
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        line += " --against none --shape 3,4,5,2 --rounds 1" if " bench " in line else ""
        done = subprocess.run(line, shell=True, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        assert "passed" in done.stdout or "bench" in line


def test_the_readmes_layer_has_a_name_that_is_free(tmp_path, monkeypatch):
    """Its commands are not run as a page's are: the tutorial does. But minet may get a layer of that name."""
    monkeypatch.chdir(tmp_path)
    (command,) = re.findall(r"^\$ minet (new-layer .*?) +#", (ROOT / "README.md").read_text(), re.MULTILINE)
    done = CliRunner().invoke(app, command.split())
    assert done.exit_code == 0, done.output


def test_a_sum_over_the_wrong_axes_is_told_where_it_does_not_fit():
    """Templates' maps are not as many as the kit's samples, which a mistake would take for each other."""
    new("Own", "--param", "alpha")
    text = Path("own.py").read_text()
    Path("own.py").write_text(text.replace("axis=(1, 2, 3)", "axis=(0, 1, 2)"))
    assert re.search(
        r"FAIL  shape  ValueError at own\.py:\d+: operands could not be", minet("check", "own.py").output
    )
    for kind in KINDS:
        examples = re.findall(r"yield .*, \((\d), \d, \d\)", (TEMPLATES / kind / "my_layer.py").read_text())
        assert examples and "3" not in examples

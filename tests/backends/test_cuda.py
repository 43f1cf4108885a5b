"""The cuda backend on the real PyCUDA, on a double of the driver that runs kernels on the emulator.

Each case of fake_driver/cases.py runs in its own process. On a GPU, tests marked `gpu` do the rest.
"""

import ast
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_driver import double
from slow import slow

from minet import MinetError
from minet.backends import cuda_source, cuda_toolkit, nvidia
from minet.core.files import shipped

HELPERS = Path(double.__file__).parents[1]
on_double = pytest.mark.skipif(bool(double.missing()), reason=f"the driver's double: {double.missing()}")


def started(name, folder, cache, **settings):
    env = double.environment(folder, cache, PYTHONPATH=f"{HELPERS}:{HELPERS.parent}", **settings)
    command = [sys.executable, "-W", "error", "-m", "fake_driver.cases", name]
    return subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finished(process, dies=False):
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    assert dies or "PyCUDA WARNING" not in output, output  # it cannot free memory in a dead context


@pytest.fixture
def case(doubles, tmp_path):
    """Run a case of fake_driver/cases.py, with settings of the double."""

    def run(name, cache=None, **settings):
        settings = {"DOUBLE_LOG": tmp_path / "calls", "CASE_FOLDER": tmp_path} | settings
        (tmp_path / "calls").touch()
        process = started(name, doubles, cache or doubles / "cache", **settings)
        finished(process, dies="fault" in name)

    return run


@pytest.mark.sweep(3)
@on_double
@pytest.mark.parametrize(
    "name",
    [
        slow("conformance"),
        slow("training"),
        slow("synchronous_training"),
        "modules",
        "memory",
        "shelf",
        "offered",
        slow("empty_arrays"),
        "slices",
        "usable",
    ],
)
def test_cuda_agrees_with_the_cpu(case, name):
    case(name)


@pytest.mark.slow
@on_double
@pytest.mark.parametrize(
    "name",
    [
        "captured",
        slow("labels_of_every_form"),
        "not_captured",
        slow("changed_settings"),
        slow("parts_of_batches"),
        slow("refused_steps"),
        "own_solver",
        "other_streams",
    ],
)
def test_a_step_is_captured_and_replayed(case, name):
    case(name)


@on_double
@pytest.mark.parametrize("name", ["fault_reported_at_once", "fault_reported_late", "product_after_fault"])
def test_a_fault_is_reported(case, doubles, name):
    case(name, cache=doubles / "checked", DOUBLE_CHECKED=1)


@on_double
def test_a_launch_that_the_device_refuses_is_reported(case):
    case("too_many_threads", DOUBLE_THREADS=32)


@pytest.mark.slow
@on_double
@pytest.mark.parametrize("name", ["out_of_memory", "out_of_memory_later"])
def test_running_out_of_memory_is_reported(case, name):
    case(name, DOUBLE_MEMORY=8 << 20)


@on_double
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("no_device", {"DOUBLE_DEVICES": 0}),
        ("mismatched_driver", {"DOUBLE_INIT": 803}),
        ("old_driver", {"DOUBLE_VERSION": 12040}),
        ("no_pycuda", {}),
        ("no_nvcc", {}),
        ("no_cublas", {}),
        ("no_scikit_cuda", {}),
    ],
)
def test_what_is_missing_is_reported(case, name, settings):
    case(name, **settings)


@pytest.mark.slow
@on_double
def test_a_pycuda_for_a_newer_driver_is_reported(tmp_path, doubles):
    """This double has only the modelled calls, and PyCUDA needs more."""
    folder = tmp_path / "old"
    double.build(folder, whole=False)
    finished(started("driver_without_calls", folder, doubles / "cache"))


@pytest.mark.slow
@on_double
def test_a_damaged_cubin_is_built_again(case, tmp_path):
    cache = tmp_path / "cache"
    case("kernels", cache=cache)
    made = {path: path.read_bytes() for path in cache.glob("*.cubin")}
    assert len(made) == 2
    for path, whole in made.items():
        path.write_bytes(whole[: len(whole) // 2])
    case("kernels", cache=cache)
    assert {path: len(path.read_bytes()) for path in cache.glob("*.cubin")} == {
        p: len(w) for p, w in made.items()
    }
    for path in cache.glob("*.sum"):
        path.unlink()
    case("kernels", cache=cache)
    assert len(list(cache.glob("*.sum"))) == 2


@on_double
def test_processes_may_build_at_the_same_time(doubles, tmp_path):
    cache = tmp_path / "cache"
    for process in [started("kernels", doubles, cache) for _ in range(3)]:
        finished(process)
    names = sorted(path.name for path in cache.iterdir())
    assert len(names) == 4 and all(re.fullmatch(r"\w{40}\.cubin(\.sum)?", name) for name in names), names


@on_double
def test_the_command_line_reports_what_is_missing(doubles, tmp_path):
    env = double.environment(doubles, doubles / "cache", DOUBLE_DEVICES=0)
    toy = str(HELPERS / "toy.py")
    command = [sys.executable, "-m", "minet", "train", toy, "--backend", "cuda"]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "no CUDA-capable device" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def no_driver():
    try:
        nvidia.driver()
    except nvidia.NoDriver:
        return True
    except nvidia.DriverFails:
        return False
    return False


@pytest.mark.skipif(not no_driver(), reason="there is a driver here")
def test_without_a_driver_nothing_is_imported():
    code = """
import sys, time
from minet import backends
start = time.perf_counter()
why, name = backends.missing("cuda"), backends.get("auto").name
took = time.perf_counter() - start
print([why, name, took, [m for m in sys.modules if m.startswith(("pycuda", "skcuda"))]])
"""
    env = {key: value for key, value in os.environ.items() if key != "LD_LIBRARY_PATH"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    why, name, took, loaded = ast.literal_eval(done.stdout)
    assert why.startswith("there is no NVIDIA driver here: libcuda.so.1: ") and "\n" not in why
    assert "minet check" not in why  # the fix is the error's, not the reason's
    assert name == "cpu" and not loaded and took < 1


needs_nvcc = pytest.mark.skipif(not nvidia.nvcc(), reason="no nvcc")


@needs_nvcc
def test_nvcc_makes_cubins(tmp_path, monkeypatch):
    monkeypatch.setenv("MINET_CACHE", str(tmp_path))
    path = cuda_toolkit.cubin(cuda_source.read(shipped("kernels") / "relu.cu"), {}, (9, 0))
    image = path.read_bytes()
    assert image[:4] == b"\x7fELF" and int.from_bytes(image[18:20], "little") == 190  # EM_CUDA
    assert b"relu_fprop" in image and path.suffix == ".cubin"
    at = time.perf_counter()
    assert cuda_toolkit.cubin(cuda_source.read(shipped("kernels") / "relu.cu"), {}, (9, 0)) == path
    assert time.perf_counter() - at < 0.5
    assert cuda_toolkit.cubin(cuda_source.read(shipped("kernels") / "relu.cu"), {"WIDE": 1}, (9, 0)) != path


@needs_nvcc
def test_what_nvcc_refuses_is_reported_with_file_and_line(tmp_path, monkeypatch):
    monkeypatch.setenv("MINET_CACHE", str(tmp_path))
    file = tmp_path / "wrong.cu"
    file.write_text(
        '#include "minet.cuh"\n\nextern "C" __global__ void wrong(float *y) {\n    y[0] = nonsense;\n}\n'
    )
    with pytest.raises(MinetError, match=r'wrong\.cu\(4\).*"nonsense" is undefined'):
        cuda_toolkit.cubin(cuda_source.read(file), {}, (9, 0))
    with pytest.raises(MinetError, match=r"does not support .* 9\.9"):
        cuda_toolkit.cubin(cuda_source.read(shipped("kernels") / "relu.cu"), {}, (9, 9))
    assert not list(tmp_path.glob("build-*"))

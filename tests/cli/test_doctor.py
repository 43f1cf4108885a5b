"""minet doctor: each probe's good and bad outcomes. None raises, and each failing line names a command."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from minet import MinetError, backends
from minet.backends import cublas, nvidia
from minet.cli import doctor_probes
from minet.cli.doctor_probes import ABSENT, BROKEN, WORKS, Found
from minet.cli.main import app

ROOT = Path(__file__).parents[2]
H100 = nvidia.Device("NVIDIA H100", 9, 0, 80 * 2**30)
REPAIRS = "apt|unset|export|mkdir|minet|docker|nvidia-smi|reboot|ldconfig|make|conda"


def names_a_command(fix):
    return re.match(rf"({REPAIRS}) |\S*python\S* -m |nvidia-smi$", fix)


def minet(*args):
    return CliRunner().invoke(app, ["doctor", *map(str, args)])


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """A PATH with only the commands that a test puts there; no other toolkit is found."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CUDA_ROOT", raising=False)
    monkeypatch.setattr(nvidia, "USUAL", str(tmp_path / "none"))
    monkeypatch.setattr(nvidia, "wheel", lambda: str(tmp_path / "none"))

    def add(name, script):
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    return add


class Library:
    """A libcuda.so.1 whose functions return 0, or the codes given for them."""

    def __init__(self, version=13000, devices=(H100,), missing=(), **codes):
        self.version, self.devices, self.missing, self.codes = version, devices, missing, codes

    def __getattr__(self, name):
        if name in self.missing:
            raise AttributeError(f"undefined symbol: {name}")
        code = vars(Library).get(f"_{name}", lambda *args: None)
        return lambda *args: self.codes.get(name) or code(self, *args) or 0

    def _cuGetErrorString(self, code, text):
        text._obj.value = b"no words" if code == 999 else None

    def _cuDriverGetVersion(self, version):
        version._obj.value = self.version

    def _cuDeviceGetCount(self, count):
        count._obj.value = len(self.devices)

    def _cuDeviceGet(self, handle, number):
        handle._obj.value = number

    def _cuDeviceGetName(self, name, size, handle):
        name.value = self.devices[handle.value].name.encode()

    def _cuDeviceGetAttribute(self, value, what, handle):
        device = self.devices[handle.value]
        value._obj.value = {nvidia.MAJOR: device.major, nvidia.MINOR: device.minor}[what]

    def _cuDeviceTotalMem_v2(self, memory, handle):
        memory._obj.value = self.devices[handle.value].memory


@pytest.fixture
def libcuda(monkeypatch):
    """Make ctypes load the given library as the driver's, or fail with the given error."""

    def use(library):
        def load(name, *args, **kwargs):
            assert name == "libcuda.so.1"
            if isinstance(library, Exception):
                raise library
            return library

        monkeypatch.setattr(nvidia.ctypes, "CDLL", load)

    yield use
    monkeypatch.undo()


NO_DRIVER = OSError("libcuda.so.1: cannot open shared object file")


# -- the whole ----------------------------------------------------------------------------------------------


def test_on_this_machine_it_is_quick_and_each_line_is_whole():
    result = minet()
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    for name in (
        "Python",
        "NumPy",
        "Numba",
        "Numba's cache",
        "g++",
        "kernel cache",
        "driver",
        "cuBLAS",
        "cpu",
    ):
        assert any(re.match(rf"(ok|--|!!)  {re.escape(name)} ", line) for line in lines), name
    assert re.search(r"^ok  cpu +works$", result.stdout, re.M)


def test_it_compiles_nothing_and_without_pycuda_imports_none():
    code = (
        "import sys; from minet.cli import doctor_probes as d; found = d.look(); d.verdicts(found)\n"
        "from minet.loops.relu import relu_fprop\n"
        "assert not relu_fprop.signatures and 'minet.backends.emulator' in sys.modules\n"
        "assert not any(m.startswith('torch') for m in sys.modules)"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("error", [OSError("odd"), ValueError(), KeyError("x"), RuntimeError("no locator")])
def test_any_error_in_a_probe_is_reported(error, monkeypatch):
    def fails(*args, **kwargs):
        raise error

    for module, name in (
        (nvidia, "driver"), (nvidia, "nvcc"), (nvidia, "card"), (doctor_probes.kernel_cache, "folder"),
        (doctor_probes, "_output"), (doctor_probes, "_folder"), (doctor_probes, "_package"),
        (doctor_probes, "find_spec"),
        (doctor_probes.platform, "python_version"), (doctor_probes.shutil, "which"), (cublas, "missing"),
        (backends, "missing"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, fails)
    monkeypatch.setenv("MINET_DATA", "")
    found = doctor_probes.look()
    assert all(what.sign == BROKEN and names_a_command(what.fix) for what in found.values())
    assert found["Python"].text == f"{type(error).__name__}: {error}"
    whys = doctor_probes.verdicts(found)
    assert all(whys.values())
    assert doctor_probes.report(found, whys).count(type(error).__name__) >= len(found)
    assert minet().exit_code == 2


def test_each_fix_stands_below_what_it_fixes():
    found = {"a": Found(WORKS, "1\n2"), "long name": Found(ABSENT, "missing", "apt install x")}
    assert doctor_probes.report(found, {"cpu": "", "emu": "", "cuda": "no card"}) == (
        "ok  a          1\n"
        "               2\n"
        "--  long name  missing\n"
        "               $ apt install x\n"
        "\n"
        "ok  cpu        works\n"
        "ok  emu        works (for testing CUDA kernels, not for training)\n"
        "--  cuda       no card"
    )
    assert doctor_probes.report(found, {"cpu": "Numba: broken"}).endswith("\n!!  cpu        Numba: broken")


# -- exit status --------------------------------------------------------------------------------------------


@pytest.fixture
def healthy(monkeypatch):
    """Every probe works, except those that the test changes."""
    found = {name: Found(WORKS, "fine") for name in doctor_probes.probes()}
    monkeypatch.setattr(doctor_probes, "look", lambda: found)
    monkeypatch.setattr(backends, "missing", lambda name: "")
    return found


def test_status_0_if_the_backend_works(healthy):
    for name in ("cpu", "emu", "cuda"):
        assert minet("--backend", name).exit_code == 0


@pytest.mark.parametrize("name", ["driver", "nvcc", "PyCUDA", "cuBLAS"])
def test_without_a_gpu_the_status_is_0_unless_cuda_is_asked_for(healthy, name):
    healthy[name] = Found(ABSENT, "is missing", "apt install it")
    assert minet().exit_code == minet("--backend", "emu").exit_code == 0
    result = minet("--backend", "cuda")
    assert result.exit_code == 2
    assert f"cuda           {name}: is missing\n" in result.stdout


def test_status_2_without_the_emulators_compiler_only_if_emu_is_asked_for(healthy):
    healthy["g++"] = Found(ABSENT, "is missing", "apt install it")
    assert minet().exit_code == 0
    assert minet("--backend", "emu").exit_code == 2


@pytest.mark.parametrize("name", ["Python", "NumPy", "Numba", "Numba's cache"])
def test_status_2_if_the_cpu_does_not_work(healthy, name):
    healthy[name] = Found(BROKEN, "fails", "apt install it")
    result = minet()
    assert result.exit_code == 2
    assert f"!!  cpu            {name}: fails\n" in result.stdout


def test_the_backends_own_reason_is_the_verdict(healthy, monkeypatch):
    monkeypatch.setattr(backends, "missing", lambda name: "it is Sunday" if name == "cuda" else "")
    result = minet("--backend", "cuda")
    assert result.exit_code == 2
    assert "--  cuda           it is Sunday\n" in result.stdout


def test_an_unknown_backend_is_refused(healthy):
    result = minet("--backend", "gpu")
    assert result.exit_code == 2
    assert result.stderr == "error: there is no backend 'gpu'\n  hint: the backends are: cpu, emu, cuda\n"


# -- the cpu ------------------------------------------------------------------------------------------------


def test_python_is_reported_and_an_old_one_is_broken(monkeypatch):
    assert doctor_probes.python().sign == WORKS
    monkeypatch.setattr(doctor_probes.sys, "version_info", (3, 10, 4))
    found = doctor_probes.python()
    assert found.sign == BROKEN
    assert "3.11" in found.text
    assert names_a_command(found.fix)


def test_numba_reports_threads_and_vector_instructions(monkeypatch):
    import llvmlite.binding
    import numba

    monkeypatch.setattr(llvmlite.binding, "get_host_cpu_features", lambda: {"avx512f": False, "avx2": True})
    monkeypatch.setattr(numba.config, "THREADING_LAYER", "workqueue")
    found = doctor_probes.numba()
    assert found.sign == WORKS
    threads = numba.config.NUMBA_NUM_THREADS
    assert re.fullmatch(
        rf"\d\S+: {threads} threads on \d+ cores, threading layer workqueue, avx2", found.text
    )
    monkeypatch.setattr(llvmlite.binding, "get_host_cpu_features", dict)
    assert "no known vector instructions" in doctor_probes.numba().text


def test_numba_uses_the_first_threading_layer_that_loads(monkeypatch):
    import numba

    def load(name, usual=importlib.import_module):
        if name.endswith("pool"):
            raise ImportError(name)
        return usual(name)

    monkeypatch.setattr(numba.config, "THREADING_LAYER", "default")
    monkeypatch.setattr(importlib, "import_module", load)
    assert "threading layer workqueue" in doctor_probes.numba().text
    monkeypatch.setattr(numba.config, "THREADING_LAYER", "tbb")
    with pytest.raises(ImportError, match="none of Numba's threading layers loads"):
        doctor_probes.numba()


@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_a_package_that_does_not_import_is_reported_with_its_fix(name, monkeypatch):
    def load(wanted, usual=importlib.import_module):
        if wanted == name:
            raise ImportError("Numba needs NumPy 2.9 or less")
        return usual(wanted)

    monkeypatch.setattr(doctor_probes.importlib, "import_module", load)
    found = doctor_probes.look()[{"numpy": "NumPy", "numba": "Numba"}[name]]
    assert found.sign == BROKEN
    assert found.text == "ImportError: Numba needs NumPy 2.9 or less"
    assert found.fix.endswith(f"-m pip install --force-reinstall {name}")


# -- the emulator, caches and data --------------------------------------------------------------------------

GCC = """case "$1" in
--version) echo 'g++ (Debian) 12.2.0'; echo more;;
*libasan.so) echo {asan};;
*libubsan.so) echo /usr/lib/libubsan.so;;
esac"""


def test_gcc_that_supports_sanitize(tools):
    tools("g++", GCC.format(asan="/usr/lib/libasan.so"))
    tools("addr2line", "")
    assert doctor_probes.gcc() == Found(WORKS, "g++ (Debian) 12.2.0; supports --sanitize")


def test_gcc_without_a_sanitizer_works_and_shows_how_to_get_it(tools):
    tools("g++", GCC.format(asan="libasan.so"))
    tools("addr2line", "")
    found = doctor_probes.gcc()
    assert found == Found(
        WORKS, "g++ (Debian) 12.2.0; no libasan.so for --sanitize", "apt install --reinstall libgcc-12-dev"
    )


def test_no_gcc_no_addr2line_and_a_gcc_that_fails(tools):
    found = doctor_probes.look()["g++"]
    assert (found.sign, found.fix) == (ABSENT, "apt install g++")
    tools("g++", GCC.format(asan="libasan.so"))
    found = doctor_probes.look()["g++"]
    assert (found.sign, found.fix) == (BROKEN, "apt install binutils")
    tools("g++", "exit 1")
    found = doctor_probes.look()["g++"]
    assert found.sign == BROKEN
    assert names_a_command(found.fix)


def test_the_kernel_cache_is_counted_and_not_created(tmp_path, monkeypatch):
    folder = tmp_path / "a" / "b"
    monkeypatch.setenv("MINET_CACHE", str(folder))
    assert doctor_probes.compiled_kernels() == Found(WORKS, f"{folder}: 0 kernels, 0.0 MiB")
    assert not folder.parent.exists()
    folder.mkdir(parents=True)
    for name in ("1.cubin", "1.cubin.sum", "2.so", "build-x"):
        (folder / name).write_bytes(bytes(1 << 20))
    assert doctor_probes.compiled_kernels().text == f"{folder}: 2 kernels, 2.0 MiB"


def test_a_kernel_cache_that_cannot_be_written_to_is_reported(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MINET_CACHE", str(tmp_path / "file" / "x"))
    found = doctor_probes.compiled_kernels()
    assert found.sign == BROKEN
    assert found.text == f"{tmp_path}/file/x: {tmp_path}/file is not a folder"
    assert names_a_command(found.fix)
    monkeypatch.setenv("MINET_CACHE", str(tmp_path))
    monkeypatch.setattr(doctor_probes.os, "access", lambda *args: False)
    found = doctor_probes.compiled_kernels()
    assert (found.sign, found.text) == (BROKEN, f"{tmp_path}: cannot be written to")
    assert names_a_command(found.fix)


def test_the_data_folder_is_reported_if_it_is_set(tmp_path, monkeypatch):
    monkeypatch.setenv("MINET_DATA", "")
    assert "data folder" not in doctor_probes.probes()
    monkeypatch.setenv("MINET_DATA", str(tmp_path))
    (tmp_path / "x").touch()
    assert doctor_probes.look()["data folder"] == Found(WORKS, f"MINET_DATA={tmp_path}, 1 entries")
    monkeypatch.setenv("MINET_DATA", str(tmp_path / "none"))
    found = doctor_probes.look()["data folder"]
    assert found.sign == BROKEN
    assert found.fix == f"mkdir -p '{tmp_path}/none'"


# -- the GPU ------------------------------------------------------------------------------------------------


def test_driver_and_devices(libcuda):
    libcuda(Library(13010, (H100, nvidia.Device("NVIDIA T4", 7, 5, 15 * 2**30))))
    assert doctor_probes.driver() == Found(
        WORKS,
        "supports CUDA 13.1\nNVIDIA H100, compute capability 9.0, 80.0 GiB\n"
        "NVIDIA T4, compute capability 7.5, 15.0 GiB",
    )


@pytest.mark.parametrize(
    ("card", "marks", "text", "fix"),
    [
        (False, (), "not found, and no NVIDIA card: libcuda.so.1: cannot", "minet check FILE --backend emu"),
        (True, (), "not found, though there is an NVIDIA card: libcuda", "apt install nvidia-driver"),
        (
            True,
            ("/.dockerenv",),
            "not found, though there is an NVIDIA card: libcuda",
            "docker run --gpus all",
        ),
    ],
)
def test_no_driver(card, marks, text, fix, libcuda, monkeypatch):
    libcuda(NO_DRIVER)
    monkeypatch.setattr(nvidia, "card", lambda: card)
    monkeypatch.setattr(nvidia, "Path", lambda path: SimpleNamespace(exists=lambda: path in marks))
    found = doctor_probes.driver()
    assert found.sign == ABSENT
    assert found.text.startswith(text)
    assert found.fix.startswith(fix)


def test_a_card_is_known_by_its_vendor(tmp_path, monkeypatch):
    monkeypatch.setattr(nvidia, "Path", lambda path: tmp_path)
    assert not nvidia.card()
    for number, vendor in enumerate(("0x8086", "0x10de")):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "vendor").write_text(f"{vendor}\n")
    assert nvidia.card()


@pytest.mark.parametrize(
    ("library", "text", "fix"),
    [
        (Library(cuInit=999), "cuInit fails: no words (999)", "nvidia-smi"),
        (Library(cuInit=803), "cuInit fails: an unknown error (803)", "reboot"),
        (Library(cuInit=100), "(100)", "unset CUDA_VISIBLE_DEVICES; nvidia-smi -L"),
        (Library(cuDeviceTotalMem_v2=999), "cuDeviceTotalMem_v2 fails: no words (999)", "nvidia-smi"),
        (
            Library(missing=("cuInit",)),
            "libcuda.so.1 is not the driver's: undefined symbol: cuInit",
            "ldconfig",
        ),
        (Library(devices=()), "shows no device", "unset CUDA_VISIBLE_DEVICES; nvidia-smi -L"),
    ],
)
def test_a_driver_that_does_not_work(library, text, fix, libcuda):
    libcuda(library)
    found = doctor_probes.driver()
    assert found.sign == BROKEN
    assert text in found.text
    assert found.fix.startswith(fix)
    assert names_a_command(found.fix)


NVCC = """case "$1" in
--version) echo 'nvcc: NVIDIA (R) Cuda compiler driver'; echo 'Cuda compilation tools, release 13.0, V';;
--list-gpu-code) echo sm_75; echo sm_80; echo sm_90;;
esac"""


@pytest.mark.parametrize(
    ("library", "sign", "text"),
    [
        (NO_DRIVER, WORKS, ""),
        (Library(), WORKS, ""),
        (
            Library(devices=(nvidia.Device("old", 7, 0, 1),)),
            BROKEN,
            " is too new for old, compute capability 7.0",
        ),
        (Library(devices=(H100, nvidia.Device("new", 12, 0, 1))), BROKEN, " is too old for new, compute"),
        (
            Library(devices=(nvidia.Device("odd", 8, 7, 1),)),
            BROKEN,
            " is too old for odd, compute capability 8.7",
        ),
        (Library(12040), BROKEN, " is newer than the driver, which supports CUDA 12.4"),
        (Library(cuInit=999), WORKS, ""),
    ],
)
def test_nvcc_is_checked_against_driver_and_device(library, sign, text, tools, libcuda, tmp_path):
    tools("nvcc", NVCC)
    libcuda(library)
    found = doctor_probes.nvcc()
    assert found.sign == sign
    assert found.text.startswith(f"13.0 ({tmp_path}/bin/nvcc){text}")
    assert found.fix == "" if sign == WORKS else names_a_command(found.fix)


def test_nvcc_of_cuda_root_comes_before_path(tools, tmp_path, monkeypatch):
    assert doctor_probes.nvcc().sign == ABSENT
    assert names_a_command(doctor_probes.nvcc().fix)
    tools("nvcc", "")
    assert nvidia.nvcc() == f"{tmp_path}/bin/nvcc"
    other = tmp_path / "other" / "bin" / "nvcc"
    other.parent.mkdir(parents=True)
    other.write_text("#!/bin/sh\necho release 12.4\n")
    other.chmod(0o755)
    monkeypatch.setenv("CUDA_ROOT", str(tmp_path / "other"))
    assert nvidia.nvcc() == str(other)


def test_an_nvcc_that_fails_or_prints_nothing_is_reported(tools):
    for script in ("exit 3", "true"):
        tools("nvcc", script)
        found = doctor_probes.look()["nvcc"]
        assert found.sign == BROKEN
        assert names_a_command(found.fix)


@pytest.fixture
def pycuda(monkeypatch):
    """PyCUDA as if installed; its driver module imports, or fails with the given error."""

    def use(error=None, installed=True):
        def load(name, usual=importlib.import_module):
            if name != "pycuda.driver":
                return usual(name)
            if error:
                raise error

        monkeypatch.setattr(doctor_probes, "find_spec", lambda name: object() if installed else None)
        monkeypatch.setattr(doctor_probes.importlib, "import_module", load)
        monkeypatch.setattr(doctor_probes, "version", lambda name: "2026.1")
        return doctor_probes.look()["PyCUDA"]

    return use


def test_pycuda_installed_and_not(pycuda, libcuda):
    libcuda(Library())
    assert pycuda() == Found(WORKS, "2026.1")
    found = pycuda(installed=False)
    assert (found.sign, found.text) == (ABSENT, "not installed")
    assert "-m pip install pycuda scikit-cuda" in found.fix


def test_pycuda_that_does_not_load(pycuda, libcuda):
    libcuda(NO_DRIVER)
    found = pycuda(ImportError("libcuda.so.1: cannot open shared object file"))
    assert found.sign == ABSENT
    assert found.text.endswith("(it needs the driver)")
    assert found.fix.startswith("minet doctor")
    found = pycuda(ImportError("libcurand.so.10: cannot open shared object file"))
    assert found.sign == BROKEN
    assert found.fix.startswith("export LD_LIBRARY_PATH=")
    libcuda(Library())
    found = pycuda(ImportError("/x/y/_driver.so: undefined symbol: cuLaunch"))
    assert (found.sign, found.text) == (BROKEN, "2026.1 does not load: undefined symbol: cuLaunch")
    assert "-m pip install --force-reinstall --no-cache-dir pycuda" in found.fix
    found = pycuda(RuntimeError("odd"))
    assert (found.sign, found.text) == (BROKEN, "RuntimeError: odd")


def test_cublas(monkeypatch, libcuda):
    monkeypatch.setattr(cublas, "missing", lambda: "")
    monkeypatch.setattr(cublas, "load", lambda: None)
    monkeypatch.setattr(cublas, "version", lambda: (13, 1))
    monkeypatch.setattr(doctor_probes, "version", lambda name: "0.5.3")
    assert doctor_probes.cublas() == Found(WORKS, "13.1, through scikit-cuda 0.5.3")

    def fails():
        raise MinetError("skcuda.cublas does not load: no handle", "a hint")

    monkeypatch.setattr(cublas, "load", fails)
    libcuda(NO_DRIVER)
    found = doctor_probes.cublas()
    assert (found.sign, found.fix) == (ABSENT, "minet doctor  # once the driver works")
    libcuda(Library())
    found = doctor_probes.cublas()
    assert (found.sign, found.text) == (BROKEN, "skcuda.cublas does not load: no handle")
    assert names_a_command(found.fix)


def test_what_cublas_lacks_is_reported_with_its_fix(monkeypatch):
    monkeypatch.setattr(cublas, "find_spec", lambda name: None)
    found = doctor_probes.cublas()
    assert found.sign == ABSENT
    assert found.fix.endswith("-m pip install scikit-cuda")
    monkeypatch.setattr(cublas, "find_spec", lambda name: object())

    def library(name):
        raise OSError(name)

    monkeypatch.setattr(cublas, "library", library)
    found = doctor_probes.cublas()
    assert found.sign == ABSENT
    assert "-m pip install nvidia-cublas" in found.fix
    assert names_a_command(found.fix)

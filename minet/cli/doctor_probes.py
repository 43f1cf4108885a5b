"""`minet doctor`: what works on this machine, what does not, and the command that fixes it.

A probe looks at one thing, reports what it found, and compiles nothing. Unexpected errors are caught and
reported too.
"""

from __future__ import annotations

import importlib
import os
import platform
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from minet import backends
from minet.backends import kernel_cache, nvidia
from minet.core.errors import MinetError
from minet.core.naming import relative

WORKS, ABSENT, BROKEN = "ok", "--", "!!"
NEEDS = {  # the probes that must succeed for each backend
    "cpu": ("Python", "NumPy", "Numba", "Numba's cache"),
    "emu": ("g++", "kernel cache"),
    "cuda": ("driver", "nvcc", "PyCUDA", "cuBLAS", "kernel cache"),
}
PURPOSE = {"emu": " (for testing CUDA kernels, not for training)"}


class Found(NamedTuple):
    """What a probe found: ok, absent or broken; a description; and the command that fixes it."""

    sign: str
    text: str
    fix: str = ""


def look() -> dict[str, Found]:
    """What every probe finds, by the probe's name."""
    return {name: _safe(probe, fix) for name, (probe, fix) in probes().items()}


def verdicts(found: dict[str, Found]) -> dict[str, str]:
    """Why each backend does not work; empty if it does."""
    return {name: _verdict(name, found) for name in NEEDS}


def report(found: dict[str, Found], whys: dict[str, str]) -> str:
    """The findings and verdicts as lines of text, each fix below what it fixes."""
    wide = max(map(len, found))
    lines = []
    for name, (sign, text, fix) in found.items():
        rows = [f"{sign}  {name:{wide}}  {line}" if not i else " " * (wide + 6) + line
                for i, line in enumerate(text.splitlines() or [""])]  # fmt: skip
        lines += [*rows, *([f"{'':{wide + 6}}$ {fix}"] if fix else [])]
    lines.append("")
    for name, why in whys.items():
        sign = BROKEN if why and name == "cpu" else ABSENT if why else WORKS
        lines.append(f"{sign}  {name:{wide}}  {why or 'works' + PURPOSE.get(name, '')}")
    return "\n".join(lines)


def probes() -> dict[str, tuple[Callable[[], Found], str]]:
    """Each probe, and the command to try if it fails unexpectedly."""
    pip = pip_install()
    return {
        "Python": (python, f"{sys.executable} -m minet doctor"),
        "NumPy": (lambda: _package("numpy"), f"{pip} --force-reinstall numpy"),
        "Numba": (numba, f"{pip} --force-reinstall numba"),
        "Numba's cache": (numba_cache, 'export NUMBA_CACHE_DIR="$(mktemp -d)"'),
        "g++": (gcc, "apt install g++"),
        "kernel cache": (compiled_kernels, 'export MINET_CACHE="$HOME/.cache/minet/kernels"'),
        **({"data folder": (data_folder, "unset MINET_DATA")} if os.environ.get("MINET_DATA") else {}),
        "driver": (driver, "nvidia-smi"),
        "nvcc": (nvcc, f"{pip} nvidia-cuda-nvcc nvidia-cuda-runtime"),
        "PyCUDA": (pycuda, f"{pip} --force-reinstall --no-cache-dir pycuda"),
        "cuBLAS": (cublas, f"{pip} nvidia-cublas"),
    }


def pip_install() -> str:
    """The start of a command that installs packages for the running Python."""
    return f"{relative(sys.executable)} -m pip install"


# -- the cpu ----------------------------------------------------------------------------------------------


def python() -> Found:
    """The interpreter."""
    text = f"{platform.python_version()} ({relative(sys.executable)})"
    if sys.version_info < (3, 11):  # noqa: UP036 - for a bare checkout, which pip has not checked
        return Found(BROKEN, f"{text}; minet needs 3.11 or newer", "make PYTHON=python3.11 test")
    return Found(WORKS, text)


def numba() -> Found:
    """Numba, its threads, and the vector instructions it compiles for."""
    found = _package("numba")
    if found.sign != WORKS:
        return found
    import llvmlite.binding

    from minet.loops.threads import threading_layer

    config: Any = importlib.import_module("numba").config
    features = llvmlite.binding.get_host_cpu_features()
    known = ("avx512f", "avx2", "avx", "sse4.2", "sve", "neon")
    simd = next((name for name in known if features.get(name)), "no known vector instructions")
    cores = len(os.sched_getaffinity(0))
    layer = f"threading layer {threading_layer()}"
    text = f"{found.text}: {config.NUMBA_NUM_THREADS} threads on {cores} cores, {layer}, {simd}"
    return Found(WORKS, text)


def numba_cache() -> Found:
    """Where Numba keeps the machine code of minet's kernels."""
    from minet.loops import cache
    from minet.loops.relu import relu_fprop

    folder, fix = Path(str(relu_fprop.stats.cache_path)), 'export NUMBA_CACHE_DIR="$(mktemp -d)"'
    if cache.is_temporary(folder):
        return Found(WORKS, f"{folder}: only for this process, as no other can be written to", fix)
    return _folder(folder, ("*.nbc",), fix)


# -- the emulator, the caches and the data ----------------------------------------------------------------


def gcc() -> Found:
    """The emulator's compiler, and whether it has AddressSanitizer."""
    if not (path := shutil.which("g++")):
        return Found(ABSENT, "not on PATH; the emulator needs it to compile CUDA kernels", "apt install g++")
    text = _output(path, "--version").splitlines()[0]
    if not shutil.which("addr2line"):
        return Found(BROKEN, f"{text}; no addr2line, so faults have no line", "apt install binutils")
    missing = [
        name for name in ("libasan.so", "libubsan.so")
        if not Path(_output(path, f"-print-file-name={name}").strip()).is_absolute()
    ]  # fmt: skip
    if missing:
        major = re.search(r" (\d+)\.\d+", text)
        package = f"libgcc-{major[1]}-dev" if major else "g++"
        return Found(WORKS, f"{text}; no {missing[0]} for --sanitize", f"apt install --reinstall {package}")
    return Found(WORKS, f"{text}; supports --sanitize")


def compiled_kernels() -> Found:
    """The cache of compiled CUDA kernels."""
    return _folder(kernel_cache.folder(), ("*.cubin", "*.so"), 'export MINET_CACHE="$(mktemp -d)"')


def data_folder() -> Found:
    """The folder named by MINET_DATA."""
    folder = Path(os.environ["MINET_DATA"])
    if not folder.is_dir():
        return Found(BROKEN, f"MINET_DATA={folder}: no such folder", f"mkdir -p '{folder}'")
    return Found(WORKS, f"MINET_DATA={folder}, {sum(1 for _ in folder.iterdir())} entries")


def _folder(folder: Path, kinds: Iterable[str], fix: str) -> Found:
    """A cache folder: whether it is writable, and what is in it."""
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        return Found(BROKEN, f"{folder}: {existing} is not a folder", fix)
    if not os.access(existing, os.W_OK | os.X_OK):
        return Found(BROKEN, f"{folder}: cannot be written to", fix)
    files = [path for kind in kinds for path in folder.glob(kind)]
    size = sum(path.stat().st_size for path in files)
    return Found(WORKS, f"{folder}: {len(files)} kernels, {size / 2**20:.1f} MiB")


# -- the GPU ----------------------------------------------------------------------------------------------


def driver() -> Found:
    """NVIDIA's driver, and the devices it shows."""
    try:
        cuda, devices = nvidia.driver()
    except nvidia.NoDriver as error:
        card = "though there is an NVIDIA card" if nvidia.card() else "and no NVIDIA card"
        return Found(ABSENT, f"not found, {card}: {error}", nvidia.no_driver_fix())
    except nvidia.DriverFails as error:
        return Found(BROKEN, str(error), error.fix)
    if not devices:
        return Found(BROKEN, "shows no device", nvidia.FIXES[100])
    return Found(WORKS, "\n".join([f"supports CUDA {cuda[0]}.{cuda[1]}", *map(str, devices)]))


def nvcc() -> Found:
    """The CUDA compiler, and whether it supports the devices."""
    install = f"{pip_install()} --upgrade nvidia-cuda-nvcc nvidia-cuda-runtime  # see docs/gpu.md"
    if not (path := nvidia.nvcc()):
        return Found(ABSENT, "not found on PATH, under CUDA_ROOT or in /usr/local/cuda", install)
    release = nvidia.release(_output(path, "--version"))
    text = f"{release[0]}.{release[1]} ({path})"
    try:
        cuda, devices = nvidia.driver()
    except (nvidia.NoDriver, nvidia.DriverFails):
        return Found(WORKS, text)
    known = nvidia.architectures(_output(path, "--list-gpu-code"))
    for device in devices:
        if unknown := device.unknown_to(known):
            fix = install if unknown == "too old" else "apt install cuda-toolkit-12-9  # from NVIDIA"
            return Found(BROKEN, f"{text} is {unknown} for {device}", fix)
    if cuda[0] < release[0]:
        what = f"{text} is newer than the driver, which supports CUDA {cuda[0]}.{cuda[1]}"
        return Found(BROKEN, what, f"apt install cuda-toolkit-{cuda[0]}-{cuda[1]}  # or a newer driver")
    return Found(WORKS, text)


def pycuda() -> Found:
    """PyCUDA: whether it is installed and loads."""
    build = f"{pip_install()} pycuda scikit-cuda  # builds PyCUDA with g++ and nvcc's headers: docs/gpu.md"
    if find_spec("pycuda") is None:
        return Found(ABSENT, "not installed", build)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module("pycuda.driver")
    except ImportError as error:
        why = re.sub(r"^\S+\.so: (?=undefined)", "", str(error))
        text = f"{version('pycuda')} does not load: {why}"
        if "libcurand" in why:
            return Found(BROKEN, text, 'export LD_LIBRARY_PATH="$CUDA_ROOT/lib:$CUDA_ROOT/lib64"')
        return _needs_driver(text) or Found(
            BROKEN, text, f"{pip_install()} --force-reinstall --no-cache-dir pycuda"
        )
    return Found(WORKS, version("pycuda"))


def cublas() -> Found:
    """cuBLAS, through scikit-cuda as patched by minet."""
    from minet.backends import cublas

    if why := cublas.missing():
        what, _, packages = why.partition("pip install ")
        package, comma, note = packages.partition(", ")
        return Found(ABSENT, what.rstrip(": "), f"{pip_install()} {package}{comma and '  # '}{note}")
    try:
        cublas.load()
    except MinetError as error:
        fix = f"{pip_install()} scikit-cuda==0.5.3 nvidia-cublas"
        return _needs_driver(error.message) or Found(BROKEN, error.message, fix)
    return Found(WORKS, "{}.{}, through scikit-cuda {}".format(*cublas.version(), version("scikit-cuda")))


def _needs_driver(text: str) -> Found | None:
    """If the driver is what is missing, count a failed library as absent, not broken."""
    if driver().sign == WORKS:
        return None
    return Found(ABSENT, f"{text} (it needs the driver)", "minet doctor  # once the driver works")


# -- shared helpers ---------------------------------------------------------------------------------------


def _safe(probe: Callable[[], Found], fix: str) -> Found:
    try:
        return probe()
    except Exception as error:  # whatever it is, report it and continue
        return Found(BROKEN, f"{type(error).__name__}: {error}", fix)


def _verdict(name: str, found: dict[str, Found]) -> str:
    try:
        why = backends.missing(name)
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
    if why:
        return why.splitlines()[0]
    bad = [need for need in NEEDS[name] if found[need].sign != WORKS]
    return f"{bad[0]}: {found[bad[0]].text.splitlines()[0]}" if bad else ""


def _package(name: str) -> Found:
    importlib.import_module(name)
    return Found(WORKS, version(name))


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout

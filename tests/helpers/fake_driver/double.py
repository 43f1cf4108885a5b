"""Build doubles of NVIDIA's driver, cuBLAS and nvcc, and the environment to run Python on them.

PyCUDA and scikit-cuda are real; only what they call is not. See libcuda.cpp.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from minet.backends import emulator_faults

HERE = Path(__file__).parent
PACKAGES = ("pycuda", "skcuda")
SONAMES = {"cuda": "libcuda.so.1", "cublas": "libcublas.so.13", "cudart": "libcudart.so.13"}
NVCC = """#!/bin/sh
case "$1" in
--version) echo "Cuda compilation tools, release ${{DOUBLE_RELEASE:-13.0}}, V13.0.0" ;;
*) exec {python} {here}/nvcc.py "$@" ;;
esac
"""


def missing() -> str:
    """The reason the doubles cannot be used here; empty if they can."""
    absent = [name for name in PACKAGES if find_spec(name) is None]
    if absent:
        return f"not installed: {', '.join(absent)}"
    tools = [tool for tool in ("g++", "nm") if shutil.which(tool) is None]
    return f"no {tools[0]}" if tools else ""


def build(folder: Path, whole: bool = True) -> None:
    """Build ``lib/`` with the libraries and ``bin/`` with nvcc in the folder.

    Unless `whole`, the libraries lack the calls that are not modelled.
    """
    lib, made = folder / "lib", folder / "made"
    for each in (lib, made, folder / "bin"):
        each.mkdir(parents=True)
    (made / "launch.h").write_text(structures())
    for name, wanted in (("cuda", driver_calls()), ("cublas", calls("cublas")), ("cudart", calls("cudart"))):
        own = HERE / f"lib{name}.cpp"
        rest = sorted(wanted - set(re.findall(r"\bcu\w+(?=\()", own.read_text())))
        (made / f"{name}.cpp").write_text(
            "".join(f'extern "C" int {call}() {{ return 801; }}\n' for call in rest if whole)
        )
        command = ["g++", "-std=c++17", "-O1", "-g", "-Wall", "-shared", "-fPIC", f"-I{made}", str(own)]
        command += [str(made / f"{name}.cpp"), "-o", str(lib / SONAMES[name]), f"-Wl,-soname,{SONAMES[name]}"]
        if name == "cublas":
            command.append(str(lib / SONAMES["cuda"]))
        subprocess.run(command, check=True)
    nvcc = folder / "bin" / "nvcc"
    nvcc.write_text(NVCC.format(python=sys.executable, here=HERE))
    nvcc.chmod(0o755)


def environment(folder: Path, cache: Path, **settings: object) -> dict[str, str]:
    """The environment in which a process finds the doubles of a folder."""
    found = {key: value for key, value in os.environ.items() if not key.startswith(("CUDA_", "DOUBLE_"))}
    found["PATH"] = f"{folder / 'bin'}:{found['PATH']}"
    found["LD_LIBRARY_PATH"] = f"{folder / 'lib'}:{found.get('LD_LIBRARY_PATH', '')}"
    found["MINET_CACHE"], found["DOUBLE_CACHE"] = str(cache), str(folder / "kernels")
    return found | {key: str(value) for key, value in settings.items()}


def driver_calls() -> set[str]:
    """The driver calls that PyCUDA's binary and scikit-cuda need."""
    spec = find_spec("pycuda")
    assert spec is not None and spec.origin is not None
    binary = next(Path(spec.origin).parent.glob("_driver*.so"))
    symbols = subprocess.run(
        ["nm", "-D", "--undefined-only", str(binary)], capture_output=True, text=True, check=True
    )
    return set(re.findall(r"\bcu[A-Z]\w+", symbols.stdout)) | {"cuPointerGetAttribute"}


def calls(name: str) -> set[str]:
    """The calls of a library that scikit-cuda needs when it is imported."""
    spec = find_spec("skcuda")
    assert spec is not None and spec.submodule_search_locations is not None
    text = Path(next(iter(spec.submodule_search_locations)), f"{name}.py").read_text()
    return set(re.findall(rf"_lib{name}\.({name[:4]}\w+)", text))


def structures() -> str:
    """The structures of a launch on the emulator, in C, from its ctypes."""
    kinds = "".join(map(structure, (emulator_faults.Array, emulator_faults.Who, emulator_faults.Launch)))
    return f"#pragma once\n#include <cstdint>\n{kinds}enum {{ OUTSIDE = {emulator_faults.OUTSIDE} }};\n"


def structure(cls: type[ctypes.Structure]) -> str:
    fields: Iterable[tuple[str, type]] = cls._fields_  # type: ignore[assignment]
    return f"struct {cls.__name__} {{ {' '.join(declared(name, kind) for name, kind in fields)} }};\n"


def declared(name: str, kind: type) -> str:
    if issubclass(kind, ctypes.Array):
        return declared(f"{name}[{kind._length_}]", kind._type_)
    if issubclass(kind, ctypes._Pointer):
        return declared(f"*{name}", kind._type_)
    plain = {ctypes.c_uint32: "uint32_t", ctypes.c_uint64: "uint64_t"}
    if kind in plain:
        return f"{plain[kind]} {name};"
    return f"{kind.__name__} {name};" if issubclass(kind, ctypes.Structure) else f"void *{name};"

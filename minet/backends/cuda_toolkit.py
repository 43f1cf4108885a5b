"""From CUDA source to machine code: what has to be installed for it, and running nvcc."""

from __future__ import annotations

import importlib
import re
import warnings
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from minet.backends import cuda_source, kernel_cache, nvidia
from minet.backends.cuda_source import Source
from minet.backends.kernel_cache import Recipe
from minet.core.errors import MinetError

OPTIONS = ("-std=c++17", "-O3", "-lineinfo")
TOOLKIT = "install the CUDA toolkit, or the wheels nvidia-cuda-nvcc and nvidia-cuda-runtime"


@cache  # only success: what is missing may be installed later
def usable() -> None:
    """Raise unless everything that the backend needs is there and works.

    Raises
    ------
    MinetError
        If something is missing or broken, with a fix. PyCUDA is imported only if a driver and a device exist.
    """
    try:
        version, devices = nvidia.driver()
    except nvidia.NoDriver as error:
        raise MinetError(f"there is no NVIDIA driver here: {error}", nvidia.no_driver_fix()) from error
    except nvidia.DriverFails as error:
        raise MinetError(f"the NVIDIA driver does not work: {error}", error.fix) from error
    if not devices:
        raise MinetError("the NVIDIA driver shows no device", nvidia.FIXES[100])
    if find_spec("pycuda") is None:
        raise MinetError("PyCUDA is not installed", "pip install 'minet-layers[cuda]'")
    driver = "{}.{}".format(*version)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the error repeats what it warns about
            importlib.import_module("pycuda.driver")
    except ImportError as error:
        old = (
            f"; the driver supports CUDA {driver}: PyCUDA may have been built for a newer one"
            if "symbol" in str(error)
            else ""
        )
        hint = "rebuild it: pip install --force-reinstall --no-cache-dir pycuda"
        raise MinetError(f"PyCUDA does not load: {error}{old}", hint) from error
    if not (compiler := nvidia.nvcc()):
        raise MinetError("nvcc, which compiles the kernels, was not found", TOOLKIT)
    release = re.search(r"release (\d+)\.(\d+)", kernel_cache.version(compiler))
    if release and version[0] < int(release[1]):
        found = (
            f"the NVIDIA driver is too old: it supports CUDA {driver}, but {compiler} is for "
            f"{release[1]}.{release[2]}"
        )
        raise MinetError(found, f"install a newer driver, or put an nvcc of CUDA {version[0]} first on PATH")


def missing() -> str:
    """The reason the backend cannot be used here; empty if it can. The error of `usable` has the fix."""
    try:
        usable()
    except MinetError as error:
        return error.message
    return ""


def recipe(code: Source, constants: dict[str, Any], capability: tuple[int, int]) -> Recipe:
    """How nvcc makes a cubin of a source for a compute capability such as (9, 0).

    Raises
    ------
    MinetError
        If nvcc is missing.
    """
    if not (compiler := nvidia.nvcc()):
        raise MinetError("nvcc, which compiles the kernels, was not found", TOOLKIT)
    arch = "sm_{}{}".format(*capability)
    options = ("-cubin", f"-arch={arch}", *OPTIONS, *cuda_source.defines(constants))
    return compiler, options, code.text, ".cu", ".cubin"


def cubin(code: Source, constants: dict[str, Any], capability: tuple[int, int]) -> Path:
    """The cubin of a source for a compute capability, from the cache if it is there.

    Raises
    ------
    MinetError
        If nvcc is missing, or refuses the source: its message, with the user's file and line.
    """
    wanted = recipe(code, constants, capability)
    try:
        return kernel_cache.build(*wanted)
    except MinetError as error:
        if "Unsupported gpu architecture" not in error.message:
            raise
        what = f"the GPU's compute capability, {'.'.join(map(str, capability))}"
        found = f"{wanted[0]} does not support {what}"
        raise MinetError(found, "put another release of the CUDA toolkit first on PATH") from error


def with_context() -> Any:
    """PyCUDA's driver module, with a current context.

    Raises
    ------
    MinetError
        If no device is available.
    """
    drv = importlib.import_module("pycuda.driver")
    try:
        drv.init()
        if drv.Context.get_current() is None:
            importlib.import_module("pycuda.autoprimaryctx")
    except (drv.Error, RuntimeError, ValueError) as error:
        hint = "nvidia-smi shows what uses it; CUDA_DEVICE=1 selects the second"
        raise MinetError(f"no GPU is available: {error}", hint) from error
    return drv

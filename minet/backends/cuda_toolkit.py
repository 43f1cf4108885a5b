"""From CUDA source to machine code: what has to be installed for it, and nvcc's run."""

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
from minet.core.errors import MinetError

OPTIONS = ("-std=c++17", "-O3", "-lineinfo")
TOOLKIT = "install the CUDA toolkit, or the wheels nvidia-cuda-nvcc and nvidia-cuda-runtime"


@cache  # only that it is; what is missing may have come meanwhile
def usable() -> None:
    """Raise unless there is all that the backend needs.

    Raises
    ------
    MinetError
        What is missing, and how to fix it. PyCUDA is imported only where there are a driver and a device.
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
            warnings.simplefilter("ignore")  # what it warns of, the error says too
            importlib.import_module("pycuda.driver")
    except ImportError as error:
        old = (
            f"; the driver is for CUDA {driver}: PyCUDA may be for a newer one"
            if "symbol" in str(error)
            else ""
        )
        hint = "pip install --force-reinstall --no-cache-dir pycuda, which builds it anew"
        raise MinetError(f"PyCUDA does not load: {error}{old}", hint) from error
    if not (compiler := nvidia.nvcc()):
        raise MinetError("there is no nvcc to compile kernels with", TOOLKIT)
    release = re.search(r"release (\d+)\.(\d+)", kernel_cache.version(compiler))
    if release and version[0] < int(release[1]):
        found = (
            f"the NVIDIA driver is too old: it is for CUDA {driver}, {compiler} for {release[1]}.{release[2]}"
        )
        raise MinetError(found, f"a newer driver, or an nvcc of CUDA {version[0]} first in PATH")


def missing() -> str:
    """Why the backend cannot be used here, in a sentence; empty if it can."""
    try:
        usable()
    except MinetError as error:
        return error.message + (f": {error.hint}" if error.hint else "")
    return ""


def cubin(code: Source, constants: dict[str, Any], capability: tuple[int, int]) -> Path:
    """What nvcc makes of a source for a compute capability such as (9, 0); from the cache if it is there.

    Raises
    ------
    MinetError
        If there is no nvcc, or if it refuses the source: its message, with the user's file and line.
    """
    if not (compiler := nvidia.nvcc()):
        raise MinetError("there is no nvcc to compile kernels with", TOOLKIT)
    arch = "sm_{}{}".format(*capability)
    options = ["-cubin", f"-arch={arch}", *OPTIONS, *cuda_source.defines(constants)]
    try:
        return kernel_cache.build(compiler, options, code.text, ".cu", ".cubin")
    except MinetError as error:
        if "Unsupported gpu architecture" not in error.message:
            raise
        found = f"{compiler} does not know the GPU's compute capability, {'.'.join(map(str, capability))}"
        raise MinetError(found, "another release of the CUDA toolkit, first in PATH") from error


def with_context() -> Any:
    """PyCUDA's driver module, with a context that is current.

    Raises
    ------
    MinetError
        If no device can be taken.
    """
    drv = importlib.import_module("pycuda.driver")
    try:
        drv.init()
        if drv.Context.get_current() is None:
            importlib.import_module("pycuda.autoprimaryctx")
    except (drv.Error, RuntimeError, ValueError) as error:
        hint = "nvidia-smi shows who uses it; CUDA_DEVICE=1 would choose the second"
        raise MinetError(f"no GPU could be taken: {error}", hint) from error
    return drv

"""NVIDIA's driver, cards and compiler on this system, queried without PyCUDA."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import sysconfig
from pathlib import Path
from typing import Any, NamedTuple

LIBRARY = "libcuda.so.1"
USUAL = "/usr/local/cuda"  # where a toolkit usually is
MAJOR, MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
FIXES = {  # by CUresult
    34: "ldconfig -p | grep libcuda  # this is the toolkit's stub: the driver's own library must come first",
    100: "unset CUDA_VISIBLE_DEVICES; nvidia-smi -L",
    803: "reboot  # the Linux kernel still runs another driver version's module",
}


class NoDriver(Exception):
    """libcuda.so.1 cannot be loaded."""


class DriverFails(Exception):
    """libcuda.so.1 can be loaded, but does not work."""

    def __init__(self, message: str, fix: str = "nvidia-smi  # shows what is wrong with the driver") -> None:
        super().__init__(message)
        self.fix = fix


class Device(NamedTuple):
    """A GPU: its name, compute capability and memory in bytes."""

    name: str
    major: int
    minor: int
    memory: int

    def __str__(self) -> str:
        return f"{self.name}, compute capability {self.major}.{self.minor}, {self.memory / 2**30:.1f} GiB"

    def unknown_to(self, architectures: list[int]) -> str:
        """Whether a compiler for these architectures is "too old" or "too new" here; "" if neither."""
        code = 10 * self.major + self.minor
        if code in architectures:
            return ""
        return "too new" if code < min(architectures, default=0) else "too old"


def driver() -> tuple[tuple[int, int], list[Device]]:
    """The CUDA version that the driver supports, and the devices that it shows.

    Raises
    ------
    NoDriver
        If its library cannot be loaded.
    DriverFails
        If the library does not work.
    """
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise NoDriver(str(error)) from error
    try:
        _call(library, "cuInit", 0)
        version, count = ctypes.c_int(), ctypes.c_int()
        _call(library, "cuDriverGetVersion", ctypes.byref(version))
        _call(library, "cuDeviceGetCount", ctypes.byref(count))
        devices = [_device(library, number) for number in range(count.value)]
    except AttributeError as error:
        raise DriverFails(f"{LIBRARY} is not the driver's: {error}", FIXES[34]) from error
    return (version.value // 1000, version.value % 1000 // 10), devices


def _device(library: Any, number: int) -> Device:
    handle, major, minor, memory = ctypes.c_int(), ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
    name = ctypes.create_string_buffer(128)
    _call(library, "cuDeviceGet", ctypes.byref(handle), number)
    _call(library, "cuDeviceGetName", name, len(name), handle)
    _call(library, "cuDeviceGetAttribute", ctypes.byref(major), MAJOR, handle)
    _call(library, "cuDeviceGetAttribute", ctypes.byref(minor), MINOR, handle)
    _call(library, "cuDeviceTotalMem_v2", ctypes.byref(memory), handle)
    return Device(name.value.decode(), major.value, minor.value, memory.value)


def _call(library: Any, name: str, *args: Any) -> None:
    if code := getattr(library, name)(*args):
        message = ctypes.c_char_p()
        library.cuGetErrorString(code, ctypes.byref(message))
        text = message.value.decode() if message.value else "an unknown error"
        raise DriverFails(f"{name} fails: {text} ({code})", *([FIXES[code]] if code in FIXES else []))


def release(said: str) -> tuple[int, int]:
    """The CUDA release in the output of ``nvcc --version``."""
    found = re.search(r"release (\d+)\.(\d+)", said)
    if not found:
        raise ValueError(f"nvcc --version shows no release: {said.strip() or 'nothing'!r}")
    return int(found[1]), int(found[2])


def architectures(said: str) -> list[int]:
    """The compute capabilities, times ten, in the output of ``nvcc --list-gpu-code``."""
    return [int(code) for code in re.findall(r"sm_(\d+)", said)]


def card() -> bool:
    """Whether an NVIDIA card is on the PCI bus."""
    vendors = Path("/sys/bus/pci/devices").glob("*/vendor")
    return any(vendor.read_text().strip() == "0x10de" for vendor in vendors)


def no_driver_fix() -> str:
    """The command that installs a driver; without a card, the one that needs none."""
    if not card():
        return "minet check FILE --backend emu  # runs CUDA kernels without a card, to test them"
    if any(Path(mark).exists() for mark in ("/.dockerenv", "/run/.containerenv")):
        return "docker run --gpus all IMAGE  # a container uses its host's driver"
    return "apt install nvidia-driver  # or your system's NVIDIA driver package; then restart"


def nvcc() -> str:
    """The path of nvcc: under CUDA_ROOT or CUDA_HOME, on PATH, in the usual place, in its wheel; or empty."""
    roots = [os.environ.get("CUDA_ROOT"), os.environ.get("CUDA_HOME"), None, USUAL, wheel()]
    found = (shutil.which("nvcc", path=str(Path(root, "bin")) if root else None) for root in roots)
    return next(filter(None, found), "")


def wheel() -> str:
    """The folder of the files in CUDA 13's wheels."""
    return str(Path(sysconfig.get_path("purelib"), "nvidia", "cu13"))

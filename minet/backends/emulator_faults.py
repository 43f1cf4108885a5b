"""Faults that the emulator finds in a kernel, reported with their .cu lines."""

from __future__ import annotations

import ctypes
import re
import struct
import subprocess
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from minet.backends.cuda_source import SCALARS, Kernel
from minet.backends.launcher import KernelError
from minet.core.blame import running_node
from minet.core.errors import MinetError

KERNEL_FILES = r"\.cuh?:\d"
ENDED = 1  # instead of a code address
NULL = 4096  # addresses below come from a null pointer
OUTSIDE, UNWRITTEN, RACE, DIVERGENT, WARP, MISALIGNED = range(1, 7)
UNDEFINED, STOPPED, STACK, INTERRUPTED, ENDLESS = range(7, 12)
SAME_VALUE, REFUSED, FREED, GRID_DIVERGENT, GRID_TOO_LARGE, ABSENT = range(12, 18)  # of minet.emulator alone
ONE_OWNER = "give each element one owner, or use an atomic operation"
MESSAGES = {  # what was found, and the fix
    OUTSIDE: (
        "{access} outside shared memory and the kernel's arrays{near}",
        "check the loop's end and the index arithmetic; the array may be a slice of a larger one",
    ),
    UNWRITTEN: (
        "a read of shared memory that no thread of the block has written",
        "write it first, then __syncthreads()",
    ),
    RACE: (
        "a race: two threads access the same place{near}, with no barrier between them",
        f"put __syncthreads() between them, {ONE_OWNER}",
    ),
    DIVERGENT: (
        "a barrier that not all threads of the block reach{what}",
        "do not put __syncthreads() inside an if, or after a return, that splits the block's threads",
    ),
    WARP: (
        "a warp operation that not all threads of its mask reach, or that a thread outside its mask reaches",
        "use a mask of the threads that get there: __ballot_sync() before they diverge",
    ),
    MISALIGNED: (
        "{access}{near} at an address that is not a multiple of {bytes}",
        "a slice, or an odd N, may begin anywhere: test the address first, or read single numbers",
    ),
    UNDEFINED: ("undefined behaviour: {what}", ""),
    STOPPED: ("stopped: {what}", ""),
    STACK: (
        "out of stack: a GPU gives a thread 512 KiB of local memory",
        "use smaller arrays, or no recursion",
    ),
    ENDLESS: (
        "a loop that does not end: this block has gone through more than {steps:.0e} branches",
        "check the loop's condition and step; waiting for another thread takes __syncthreads()",
    ),
    SAME_VALUE: (
        "a race of one value: two threads write the same to one place{near}, with no barrier between them",
        "give each element one owner, or allow it: check(allow=('same_value_writes',))",
    ),
    REFUSED: (
        "{what}",
        'test it on a GPU, or write other code for the emulator: #ifdef EMU, with options=("-DEMU",)',
    ),
    FREED: ("{access} of memory that a kernel has freed", "free() it after its last use"),
    GRID_DIVERGENT: (
        "a barrier of the grid that not all blocks reach",
        "each thread of each block must come to grid.sync(): no return before it",
    ),
    GRID_TOO_LARGE: (
        "{what}",
        "it needs all of them: launch fewer, and let each loop over more of the work",
    ),
    ABSENT: (
        "a shuffle reads a lane that has ended, or that the block does not have, and a result depends on it",
        "let all lanes of its mask come to it: no branch or return before it, and blocks of whole warps",
    ),
}


OF_A_WARP = f"put __syncthreads() between them, or __syncwarp() if one warp works alone, {ONE_OWNER}"
OF_BLOCKS = f"no barrier orders two blocks: {ONE_OWNER}"
OF_A_MASK = "the mask must name only threads that get there: take it before they part, with __ballot_sync()"
UNDEFINED_HINTS = {  # by words of what was found
    "division": "test the divisor first",
    "overflows": "compute it in a wider type: (size_t)i * n",
    "index": "check the loop's end and the index arithmetic",
    "shift": "shift by less than the type's bits",
}


class Array(ctypes.Structure):
    """An array of a launch; like the structures below, as in ``kernels/emulator/runtime/state.h``."""

    _fields_ = (("start", ctypes.c_void_p), ("bytes", ctypes.c_uint64), ("unit", ctypes.c_uint64))


class Who(ctypes.Structure):
    """The numbers of a thread and its block, and the address of its code."""

    _fields_ = (("thread", ctypes.c_uint32), ("block", ctypes.c_uint32), ("code", ctypes.c_uint64))


class Launch(ctypes.Structure):
    """The runtime's input, and what it found."""

    _fields_ = (
        ("grid", ctypes.c_uint32 * 3), ("block", ctypes.c_uint32 * 3), ("dynamic_shared", ctypes.c_uint32),
        ("order", ctypes.c_uint32), ("arrays", ctypes.c_uint32), ("args_size", ctypes.c_uint32),
        ("args", ctypes.c_void_p),
        ("array", ctypes.POINTER(Array)), ("interrupted", ctypes.c_void_p), ("most_steps", ctypes.c_uint64),
        ("fault", ctypes.c_uint32), ("bytes", ctypes.c_uint32), ("writes", ctypes.c_uint32),
        ("address", ctypes.c_uint64), ("who", Who * 2), ("what", ctypes.c_char_p),
        ("flags", ctypes.c_uint32), ("fill", ctypes.c_uint32), ("dynamic", ctypes.c_void_p),
        ("output", ctypes.c_void_p), ("output_bytes", ctypes.c_uint64), ("unwritten_bytes", ctypes.c_uint32),
        ("unwritten", Who), ("unwritten_at", ctypes.c_uint64), ("guards", ctypes.c_uint32),
        ("guard", ctypes.POINTER(ctypes.c_uint64)), ("shared", ctypes.c_uint64), ("absent", Who),
    )  # fmt: skip


def spans(arrays: list[np.ndarray]) -> Any:
    """The memory that each array takes up, from its first element to its last."""
    out = (Array * max(1, len(arrays)))()
    for one, array in zip(out, arrays, strict=False):
        span = sum((n - 1) * s for n, s in zip(array.shape, array.strides, strict=True)) + array.itemsize
        one.start, one.bytes, one.unit = array.ctypes.data, span if array.size else 0, array.itemsize
    return out


def fault_error(launch: Launch, kernel: Kernel, module: str) -> MinetError:
    """The error for the fault that a launch found."""
    text, hint = fault_text(launch, kernel.name, _arrays(launch, kernel), module)
    if launch.fault == OUTSIDE and launch.address < NULL:
        hint = "a net's first layer has no dx: write if (dx) put(...), or launch nothing then in a bprop_gpu"
    layer = running_node()
    if launch.fault == ENDLESS:  # the kit stops: each of its checks would wait for the end
        return KernelError(text.replace("\n", "\n  "), hint, layer=layer)
    if layer:
        return layer.error(text.replace("\n", "\n  "), hint)
    return MinetError(text, hint)


def fault_text(
    launch: Launch, name: str, arrays: Iterable[tuple[str, Array]], module: str, built: str = "",
    files: str = KERNEL_FILES,
) -> tuple[str, str]:  # fmt: skip
    """The message and the hint for the fault that a launch found.

    Parameters
    ----------
    launch : Launch
    name : str
        The kernel's.
    arrays : iterable of (str, Array)
        The launch's arrays that have a name.
    module, built, files : str
        As for `line`.
    """
    what, hint = MESSAGES[launch.fault]
    near = ""
    if launch.fault in (OUTSIDE, RACE, MISALIGNED, SAME_VALUE):
        near = _near(launch, arrays)
    a, b = launch.who
    if launch.fault == RACE and a.block != b.block:
        hint = OF_BLOCKS
    elif launch.fault == RACE and a.thread // 32 == b.thread // 32:
        hint = OF_A_WARP
    if launch.fault == OUTSIDE and launch.address < NULL:
        hint = "pass an array, or test the pointer before it is used"
    access = f"a {'write' if launch.writes else 'read'}"
    access += f" of {launch.bytes} bytes" if launch.bytes else ""  # not known of a kernel that is not watched
    why = (launch.what or b"").decode()
    why = f"assert({why})" if launch.fault == STOPPED and not why.startswith(("__trap", "free()")) else why
    if launch.fault == UNDEFINED:
        hint = next((text for word, text in UNDEFINED_HINTS.items() if word in why), "")
    elif launch.fault == DIVERGENT and why:
        hint = OF_A_MASK
    what = what.format(access=access, near=near, bytes=launch.bytes, what=why, steps=launch.most_steps)
    lines = [f"{name} on the emulator: {what}"]
    lines += [f"  {side(launch, who, module, built, files)}" for who in launch.who if who.code]
    return "\n".join(lines), hint


def printed(launch: Launch) -> str:
    """What a kernel has printed."""
    return ctypes.string_at(launch.output, launch.output_bytes).decode(errors="backslashreplace")


def side(launch: Launch, who: Who, module: str, built: str = "", files: str = KERNEL_FILES) -> str:
    """A line of the source, its block and its thread; the other arguments are as for `line`."""
    at = f"block {_xyz(who.block, launch.grid)}, thread {_xyz(who.thread, launch.block)}"
    return f"already ended: {at}" if who.code == ENDED else f"{line(module, who.code, built, files)}, {at}"


def _near(launch: Launch, arrays: Iterable[tuple[str, Array]]) -> str:
    """Where an address lies, relative to the nearest array."""
    if launch.address < NULL:
        return ": a null pointer, which stands for an array that is None or empty"
    nearest: tuple[int, str] = (1 << 62, "")
    if launch.fault == OUTSIDE and launch.dynamic_shared:
        arrays = [*arrays, ("shared memory", Array(launch.shared, launch.dynamic_shared, 1))]
    for name, one in arrays:
        start = one.start or 0
        if launch.fault in (RACE, SAME_VALUE) and start <= launch.address < start + one.bytes:
            return f": {name}[{(launch.address - start) // one.unit}]"
        before, past = start - launch.address, launch.address - start - one.bytes
        if launch.fault == MISALIGNED and before <= 0 and past < 0:
            return f" of {name}"
        away = max(before, past)
        if launch.fault == OUTSIDE and 0 <= away <= max(one.bytes, 256):
            side = "before the start" if before > 0 else "past the end"
            nearest = min(nearest, (away, f", {f'{away} bytes' if away else 'right'} {side} of {name}"))
    return nearest[1]


def _arrays(launch: Launch, kernel: Kernel) -> Iterator[tuple[str, Array]]:
    """The launch's arrays, each with the name of the parameter that holds its address."""
    args, at, names = ctypes.string_at(launch.args, launch.args_size), 0, {}
    for parameter in kernel.parameters:
        letter = "P" if parameter.pointer else SCALARS[parameter.type]
        at += -at % struct.calcsize(letter)
        if parameter.pointer:
            names[struct.unpack_from("P", args, at)[0]] = parameter.name
        at += struct.calcsize(letter)
    return ((names[one.start], one) for one in launch.array[: launch.arrays] if one.start in names)


def _xyz(number: int, sizes: Any) -> str:
    x, y, _ = sizes
    return f"({number % x}, {number // x % y}, {number // x // y})"


def line(module: str, code: int, built: str = "", files: str = KERNEL_FILES) -> str:
    """The source lines of a code address in a module, innermost first.

    Parameters
    ----------
    module, built : str
        Where the module was loaded from; the same file with its debug lines, if that is another.
    code : int
    files : str
        The pattern of the lines that are a kernel's.
    """
    with open("/proc/self/maps") as maps:
        start = min(int(text.split("-")[0], 16) for text in maps if module in text)
    command = ["addr2line", "-i", "-e", built or module, hex(code - start - 1)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:  # it comes with the compiler, but may be missing
        return hex(code - start)
    lines = [text.split(" (")[0] for text in done.stdout.split("\n") if re.search(files, text)]
    return ", called at ".join(map(as_written, lines)) or hex(code - start)


def as_written(path: str) -> str:
    """A path in debug information as the #line mark has it, without the folder it was compiled in."""
    return re.sub(r"^.*/build-[^/]*/", "", path)

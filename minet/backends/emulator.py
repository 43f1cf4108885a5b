"""The emulator: CUDA kernels on the CPU, thread by thread, to test them without a GPU.

It is for testing and debugging, and far too slow to train with. The same .cu files are compiled by g++ after
``kernels/emulator.h`` and launched on the same grids; ``kernels/emulator.cpp`` runs a block's threads as
fibers. By default each memory access is checked. Errors that name the .cu line are: an address outside the
kernel's arrays, a read of shared memory that was never written, two threads accessing the same place with no
barrier between them, a barrier that not all threads reach, and a loop that does not end. So are launches that
no card allows: too many threads, blocks or bytes of shared memory. Registers alone are for nvcc to count
(``tests/backends/test_registers.py``).
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from minet.backends import cuda_source, emulator_faults, kernel_cache
from minet.backends.cpu import HostMemory
from minet.backends.cuda_source import Kernel, Source
from minet.backends.gpu import GPU
from minet.backends.kernel_cache import Recipe
from minet.backends.launcher import MOST_ROWS
from minet.core.blame import running_node
from minet.core.errors import MinetError
from minet.core.files import shipped
from minet.core.layer import Array, Shape

ORDERS = ("forward", "reversed", "shuffled")
MOST_SHARED = 48 << 10  # bytes per block
MOST_STEPS = 1 << 30  # branches that a block's threads take together: half a minute or so
ABSENT = {
    r"<<<": "launches from kernels",
    r"\basm\b": "assembly",
    r"\bwmma\b|\bmma\.h\b": "tensor cores",
    r"\btex[123]D|\bsurf[123]D": "textures and surfaces",
    r"\bcuda::|<cuda/": "libcu++",
}
MORE = re.compile(  # what emulator.h alone does not have: emulator_cuda.h does, and takes longer to compile
    r"cooperative_groups|cuda_fp16|cuda_bf16|curand|__half|__nv_bfloat16|\bprintf\s*\(|\b(?:malloc|free)\s*\("
    r"|\bnew\b|\b__(?:match|reduce)_\w+_sync|\b__(?:activemask|shfl\w*|ballot|any|all)\s*\((?<!_sync\()"
    r"|\b__(?:ld|st)(?:cs|cg|ca|cv|lu|wb|wt)\b|\b__u?mul24\b|\b__brev|\b__double_as|\bclock(?:64)?\s*\("
    r"|\bu?(?:short|long|longlong)[1-4]\b|\b(?:float|double|u?int|u?char)1\b|\bdim3\s*[\w(]|\b(?:FLT|DBL|INT)_\w+"
    r"|\b__(?:byte_perm|funnelshift|dp4a)|\batomic\w+_(?:block|system)\b|\bCUDART_"
)


class Emulator(HostMemory, GPU):
    """Kernels run on an emulated GPU; memory and matrix products are the host's.

    Parameters
    ----------
    order : {"forward", "reversed", "shuffled"}
        The order in which blocks run, and a block's threads between barriers. A result that depends on it
        beyond rounding means a race. The default is ``$MINET_EMULATOR_ORDER``, or forward.
    checked : bool
        Check each memory access.

    Raises
    ------
    MinetError
        If g++ is missing.
    """

    name = "emu"

    def __init__(
        self, dtype: str = "float32", *, order: str | None = None, checked: bool = True, **options: Any
    ) -> None:
        super().__init__(dtype, **options)
        if why := missing():
            raise MinetError(why, "apt install g++, or your system's package of it")
        self.order = order or os.environ.get("MINET_EMULATOR_ORDER") or "forward"
        if self.order not in ORDERS:
            raise MinetError(f"the emulator's order must be one of {', '.join(ORDERS)}, got {self.order!r}")
        self.sanitize = bool(os.environ.get("MINET_EMULATOR_SANITIZE"))  # set by minet.testing.sanitize
        if self.sanitize and "libasan" not in os.environ.get("LD_PRELOAD", ""):
            how = "minet check FILE --backend emu --sanitize"
            raise MinetError("AddressSanitizer is not loaded: it must be loaded before Python", how)
        self.checked = checked and not self.sanitize

    def address(self, array: Array) -> int:
        return int(array.ctypes.data)

    def empty(self, shape: Shape, dtype: Any = None) -> np.ndarray:
        # AddressSanitizer guards what follows an allocation: the array must end where its memory does.
        return np.empty(shape, dtype or self.dtype) if self.sanitize else super().empty(shape, dtype)

    def recipe(self, code: Source, constants: dict[str, Any]) -> Recipe:
        bare = re.sub(FOR_NVCC, cuda_source.blank, cuda_source.without_comments(code.text))
        for pattern, what in ABSENT.items():
            if found := re.search(pattern, bare):
                raise MinetError(
                    f"{_line_at(bare, found.start())}: the emulator does not model {what}: {found[0]!r}",
                    "test such a kernel on a GPU: --backend cuda",
                )
        text = re.sub(CUDA_HEADERS, "", code.text)
        text = re.sub(DYNAMIC, r"\1 *\2 = (\1 *)emu_dynamic_shared();", text)
        entries = "".join(f"EMU_KERNEL({name})\n" for name in code.kernels)
        options = [*OPTIONS, *cuda_source.defines(constants)]
        header = _text("emulator.h")
        if MORE.search(bare):
            kernels = shipped("kernels")
            options += [*WITH_MORE, "-I", str(kernels), "-isystem", str(kernels / "emulator")]
            header = f'#include "emulator_cuda.h" // {_headers()}'
            entries += "" if self.sanitize else NEW
        text = f'{header}\n{text}\n#line 1 "the kernels\' entry points"\n{entries}'
        if self.sanitize:
            options += SANITIZED
        if self.checked:
            options += CHECKED
        runtime = _runtime(self.checked, self.sanitize, kernel_cache.folder())
        return "g++", (*options, "-shared", str(runtime)), text, ".cpp", ".so"

    def load(self, code: Source, constants: dict[str, Any]) -> ctypes.PyDLL:
        return _module(self.recipe(code, constants), kernel_cache.folder())

    def start(
        self, module: Any, kernel: Kernel, grid: Shape, block: Shape, args: bytes, arrays: Any,
        shared: int = 0,
    ) -> None:  # fmt: skip
        check_launch(kernel.name, grid, block, shared + static_shared(module._name, kernel.name))
        launch = emulator_faults.Launch(
            grid=grid, block=block, dynamic_shared=shared, order=ORDERS.index(self.order),
            args_size=len(args), args=ctypes.cast(ctypes.c_char_p(args), ctypes.c_void_p), arrays=len(arrays),
            array=emulator_faults.spans(arrays), interrupted=SIGNALS, most_steps=MOST_STEPS,
        )  # fmt: skip
        found = getattr(module, f"emu_{kernel.name}")(ctypes.byref(launch))
        if launch.output_bytes:
            sys.stdout.write(emulator_faults.printed(launch))
        if found:
            raise emulator_faults.fault_error(launch, kernel, module._name)


# Fault reports need debug lines; some versions of addr2line get file names wrong in DWARF 5. A call at each
# branch finds loops without end.
OPTIONS = (
    "-std=c++17", "-O1", "-gdwarf-4", "-g1", "-fPIC", "-w", "-ffp-contract=off", "-fno-omit-frame-pointer",
    "-fsanitize-coverage=trace-pc",
)  # fmt: skip
# Hooks at each access and where arithmetic goes wrong, without the libraries they are meant for.
CHECKED = (
    "-fsanitize=thread", "-fsanitize=integer-divide-by-zero,signed-integer-overflow,shift-exponent",
    "-fsanitize=bounds,alignment", "-nodefaultlibs", "-Wl,--no-as-needed", "-lstdc++", "-lm", "-lc",
    "-lgcc_s", "-lgcc",
)  # fmt: skip
# One section cannot hold shared memory of inline and of other functions while the former's is weak.
SANITIZED = (
    "-DEMU_ASAN", "-fsanitize=address,undefined", "-fsanitize-sections=emu_shared",
    "-fno-sanitize-recover=all", "-fno-weak",
)  # fmt: skip
WITH_MORE = ("-DEMU_LAYER", "-fno-builtin-malloc", "-fno-builtin-free", "-fno-allocation-dce",
             "-Wl,-Bsymbolic-functions")  # fmt: skip
FREE = "noexcept { emu_release(at, __builtin_return_address(0)); }"  # a fault is at the line that calls it
NEW = f"""extern "C" void emu_release(void *at, void *code);
void *operator new(std::size_t bytes) {{ return malloc(bytes); }}
void *operator new[](std::size_t bytes) {{ return malloc(bytes); }}
void operator delete(void *at) {FREE}
void operator delete[](void *at) {FREE}
void operator delete(void *at, std::size_t) {FREE}
void operator delete[](void *at, std::size_t) {FREE}"""
CUDA_HEADERS = (
    r"(?m)^\s*#\s*include\s*<(cuda|cuda_runtime|cuda_runtime_api|cuda_pipeline|device_launch_parameters)\.h>"
)
FOR_NVCC = r"(?ms)^#ifdef __CUDACC__$.*?^#(?=else\b|endif\b)"  # g++ does not compile it
DYNAMIC = r"extern\s+__shared__\s+(?:__align__\(\d+\)\s*)?([\w\s]+?)\s*(\w+)\s*\[\s*\]\s*;"
SIGNALS = ctypes.cast(ctypes.pythonapi.PyErr_CheckSignals, ctypes.c_void_p)  # notices a Ctrl-C


def check_launch(kernel: str, grid: Shape, block: Shape, shared: int) -> None:
    """Refuse a launch that is beyond any card; `shared` counts the bytes of each block's shared memory."""
    x, y, z = block
    fits = x * y * z <= 1024 and z <= 64 and max(grid[1:]) <= MOST_ROWS and grid[0] < 2**31
    if not fits or min(*grid, *block) < 1:
        found = f"cannot launch {grid} blocks of {block} threads"
        hint = "a block has 1 to 1024 threads, a grid 1 to 65535 blocks along y and z"
    elif shared > MOST_SHARED:
        found = f"{shared} bytes of shared memory are too many"
        hint = f"a block has {MOST_SHARED}, declared and dynamic together: loop over parts"
    else:
        return
    found, layer = f"{kernel} on the emulator: {found}", running_node()
    raise layer.error(found, hint) if layer else MinetError(found, hint)


@cache
def static_shared(module: str, kernel: str) -> int:
    """Bytes of the ``__shared__`` variables of a kernel, and of the device functions in its file."""
    try:
        done = subprocess.run(["readelf", "-sW", module], capture_output=True, text=True, check=False)
    except OSError:  # it comes with the compiler, but may be missing
        return 0
    others = set(re.findall(r"FUNC .* emu_(\w+)$", done.stdout, re.MULTILINE)) - {kernel}
    prefixes = tuple(f"_ZZ{len(name)}{name}E" for name in others)  # of a variable inside extern "C" name()
    variables = re.findall(r": \w+ +(\d+) TLS .* (_ZZ\w+)$", done.stdout, re.MULTILINE)
    return sum(int(size) for size, name in set(variables) if not name.startswith(prefixes))


def missing() -> str:
    """The reason the emulator cannot be used here; empty if it can."""
    return "" if shutil.which("g++") else "the emulator compiles kernels with g++, which is not on PATH"


@cache
def _text(name: str) -> str:
    return (shipped("kernels") / name).read_text()


@cache
def _headers() -> str:
    """A sum of all headers of the emulator, so that what is cached is not of older ones."""
    folder = shipped("kernels")
    files = sorted([*folder.glob("emulator*.h"), *(folder / "emulator").rglob("*.h*")])
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


@cache
def _runtime(checked: bool, sanitize: bool, folder: Path) -> Path:
    kinds = ["-DEMU_ASAN"] if sanitize else []
    options = ["-c", "-std=c++17", "-O2", "-fPIC", f"-DEMU_CHECKED={int(checked)}", *kinds]
    options += ["-I", str(shipped("kernels") / "emulator")]
    text = f"{_text('emulator.cpp')}// {_headers()}"
    return kernel_cache.build("g++", options, text, ".cpp", ".o")


@cache
def _module(recipe: Recipe, folder: Path) -> ctypes.PyDLL:
    # PyDLL holds the GIL, so launches run one at a time.
    return ctypes.PyDLL(str(kernel_cache.build(*recipe)))


def _line_at(text: str, at: int) -> str:
    """File and line of a position in a source, from the #line marks before it."""
    file, number = "", 0
    for line in text[:at].split("\n"):
        if found := re.match(r'#line (\d+) "(.*)"', line):
            number, file = int(found[1]) - 1, found[2]
        else:
            number += 1
    return f"{file}:{number}"

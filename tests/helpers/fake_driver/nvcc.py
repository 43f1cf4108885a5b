"""A double of nvcc for the tests: it builds kernels for minet's emulator instead of a GPU.

It is called as ``nvcc -cubin -arch=sm_90 ... -DNAME=VALUE -o OUTPUT INPUT``. With ``$DOUBLE_CHECKED`` kernels
check each memory access, so the driver's double can report faults.
"""

import os
import shutil
import sys
from pathlib import Path

from minet.backends import cuda_source
from minet.backends.emulator import Emulator
from minet.core.errors import MinetError

WANTED = {"-cubin", "-std=c++17", "-O3", "-lineinfo", "-arch=sm_90"}


def main(words: list[str]) -> None:
    *options, given, output, text = words
    os.environ["MINET_CACHE"] = os.environ["DOUBLE_CACHE"]
    constants = dict(word[2:].split("=", 1) for word in options if word.startswith("-D"))
    others = {word for word in options if not word.startswith("-D")}
    if given != "-o" or others - WANTED or "-cubin" not in others:
        sys.exit(f"the nvcc double cannot be called like this: {words}")
    try:
        emulator = Emulator(checked=bool(os.environ.get("DOUBLE_CHECKED")))
        module = emulator.load(cuda_source.read(Path(text)), constants)
    except MinetError as error:
        sys.exit(str(error))
    shutil.copyfile(module._name, output)


main(sys.argv[1:])

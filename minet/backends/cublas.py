"""Matrix products on the GPU: cuBLAS, through scikit-cuda's skcuda.cublas.

scikit-cuda 0.5.3 is from 2019 and no longer loads by itself. Fixed while it is imported, and only then:

    pkg_resources   it gets its own version from there, but setuptools has dropped it: a stand-in answers
    libcublas.so    it knows versions up to 10.1: it gets the one installed, from a toolkit or a wheel
    libcuda.so      is libcuda.so.1 where only the driver is installed
    the version     it would open a handle to query it: the library gives it without one
"""

from __future__ import annotations

import ctypes
import importlib
import os
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from minet.backends import nvidia
from minet.core.errors import MinetError
from minet.core.layer import Array

TF32 = 3  # CUBLAS_TF32_TENSOR_OP_MATH; without it cuBLAS multiplies float32 as such
WORKSPACE, SHARE = 32 << 20, 256  # bytes, as NVIDIA recommends for Hopper, but at most 1/SHARE of the memory
NAMES = {  # library files, newest first
    "cublas": ("libcublas.so.13", "libcublas.so.12", "libcublas.so.11", "libcublas.so"),
    "cudart": ("libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "libcudart.so"),
    "cuda": ("libcuda.so.1",),
}
PACKAGES = {
    "cublas": "pip install nvidia-cublas, or nvidia-cublas-cu12 for a CUDA 12 driver",
    "cudart": "pip install nvidia-cuda-runtime, or nvidia-cuda-runtime-cu12 for a CUDA 12 driver",
}


class Blas:
    """A cuBLAS handle in the current context.

    Parameters
    ----------
    tf32 : bool
        Let products round their factors to the 11 bits of TF32.
    stream : int
        The handle of the stream in which products run, 0 for the default one. Another one gets a workspace
        that cuBLAS does not allocate while products run, so that they can be captured.

    Raises
    ------
    MinetError
        If cuBLAS cannot be loaded or does not start: what is missing, and the command that fixes it.
    """

    def __init__(self, tf32: bool = False, stream: int = 0) -> None:
        self._cublas = load()
        with self._reporting("does not start"):
            self._handle = self._cublas.cublasCreate()
            if tf32:
                self._call("cublasSetMathMode", TF32)
            if stream:
                drv: Any = importlib.import_module("pycuda.driver")
                size = min(WORKSPACE, drv.mem_get_info()[1] // SHARE)
                self._workspace = drv.mem_alloc(size)
                self._call("cublasSetStream_v2", ctypes.c_void_p(stream))
                space = ctypes.c_void_p(int(self._workspace))
                self._call("cublasSetWorkspace_v2", space, ctypes.c_size_t(size))

    def _call(self, name: str, *args: Any) -> None:
        self._cublas.cublasCheckStatus(getattr(library("cublas"), name)(ctypes.c_void_p(self._handle), *args))

    def gemm(
        self, a: Array, b: Array, out: Array, alpha: float = 1.0, beta: float = 0.0, trans: str = "nn"
    ) -> None:
        """``out <- beta*out + alpha * op(a) @ op(b)`` on float32 matrices; rows may be a stride apart.

        `trans`: "n" or "t" for a, then for b. If beta is 0, out is not read.

        Raises
        ------
        MinetError
            If the shapes do not match, or cuBLAS refuses the matrices.
        """
        sizes = [x.shape[:: -1 if t == "t" else 1] for x, t in ((a, trans[0]), (b, trans[1]))]
        (m, k), (k2, n) = sizes
        if k != k2 or out.shape != (m, n):
            raise MinetError(f"matrices {sizes[0]} and {sizes[1]} cannot be multiplied into {out.shape}")
        if not out.size:
            return
        # cuBLAS is column-major, so it sees each matrix as its transpose: out^T = op(b)^T op(a)^T.
        with self._reporting("refuses a product"):
            self._cublas.cublasSgemm(
                self._handle, trans[1], trans[0], n, m, k, alpha, b.gpudata, _step(b), a.gpudata, _step(a),
                beta, out.gpudata, _step(out),
            )  # fmt: skip

    @contextmanager
    def _reporting(self, what: str) -> Iterator[None]:
        try:
            yield
        except self._cublas.cublasError as error:
            reason = (error.__doc__ or type(error).__name__).strip().rstrip(".")
            memory = isinstance(error, self._cublas.cublasAllocFailed | self._cublas.cublasNotInitialized)
            raise MinetError(
                f"cuBLAS {what}: {reason}", "memory may be short: use a smaller batch" if memory else ""
            ) from error


@cache
def handle(context: int, tf32: bool, stream: int = 0) -> Blas:
    """The only handle of the context, which must be current; each handle takes working memory."""
    return Blas(tf32, stream)


def _step(matrix: Array) -> int:
    """The distance between the rows of a matrix, in elements."""
    step, item = matrix.strides
    if matrix.dtype != "float32" or (item != matrix.itemsize and matrix.shape[1] > 1):
        what = f"{matrix.dtype} with strides {matrix.strides}"
        raise MinetError(f"cuBLAS needs float32 matrices with contiguous rows, got {what}")
    # For one row any step would do, but cuBLAS requires at least the row's length.
    return max(1, matrix.shape[1], step // matrix.itemsize if matrix.shape[0] > 1 else 0)


# -- loading -------------------------------------------------------------------------------------------


def missing() -> str:
    """The reason cuBLAS cannot be used here, with the command that fixes it; empty if it can."""
    return ": ".join(_missing())


def _missing() -> tuple[str, ...]:
    """What is missing and the command that fixes it; an empty tuple if nothing is."""
    if find_spec("skcuda") is None:
        return "scikit-cuda, which calls cuBLAS, is not installed", "pip install scikit-cuda"
    for name, fix in PACKAGES.items():
        try:
            library(name)
        except OSError:
            return f"lib{name} was not found, neither in a CUDA toolkit nor in a wheel", fix
    return ()


@cache
def load() -> Any:
    """The module skcuda.cublas.

    Raises
    ------
    MinetError
        If it cannot be imported.
    """
    if why := _missing():
        raise MinetError(*why)
    try:
        with _patched():
            utils: Any = importlib.import_module("skcuda.utils")
            kept = utils.find_lib_path, utils.get_soname
            try:
                utils.find_lib_path = utils.get_soname = lambda name: "libcublas.so.{}.{}".format(*version())
                return importlib.import_module("skcuda.cublas")
            finally:
                utils.find_lib_path, utils.get_soname = kept
    except (ImportError, OSError, AttributeError) as error:
        found = "libcublas {}.{}".format(*version())
        hint = "pip install scikit-cuda==0.5.3 nvidia-cublas"
        raise MinetError(f"skcuda.cublas does not load with {found}: {error}", hint) from error


def version() -> tuple[int, int]:
    """Major and minor version of the cuBLAS library, queried without a handle."""
    numbers = []
    for part in (0, 1):  # MAJOR_VERSION, MINOR_VERSION
        number = ctypes.c_int()
        library("cublas").cublasGetProperty(part, ctypes.byref(number))
        numbers.append(number.value)
    return numbers[0], numbers[1]


@cache
def library(name: str) -> ctypes.CDLL:
    """An NVIDIA library by its linker name, such as "cublas".

    The search goes through the toolkit whose nvcc compiles the kernels, the system's paths, then wheels.

    Raises
    ------
    OSError
        If it is not found.
    """
    roots = [
        os.environ.get("CUDA_ROOT"),
        os.environ.get("CUDA_HOME"),
        *map(str, Path(nvidia.nvcc()).parents[1:2]),
    ]
    folders = [Path(root, lib) for root in roots if root for lib in ("lib64", "lib")]
    wheels = sorted(Path(sysconfig.get_path("purelib"), "nvidia").glob("*/lib"), reverse=True)
    for folder in [*folders, None, *wheels]:
        for file in NAMES[name]:
            try:
                if folder is None or (folder / file).is_file():
                    return ctypes.CDLL(str(folder / file) if folder else file)
            except OSError:
                continue
    raise OSError(f"lib{name} was not found")


@contextmanager
def _patched() -> Iterator[None]:
    """Provide what scikit-cuda looks for when it is imported."""
    resources: Any = ModuleType("pkg_resources")
    resources.declare_namespace = lambda name: None
    resources.require = lambda name: [SimpleNamespace(version=metadata.version(name))]
    usual, before = ctypes.cdll.LoadLibrary, sys.modules.get("pkg_resources")

    def offered(name: str) -> ctypes.CDLL:
        known = re.match(r"lib(cublas|cudart|cuda)\.so", name)
        return library(known[1]) if known else usual(name)

    sys.modules["pkg_resources"] = resources
    ctypes.cdll.LoadLibrary = offered  # type: ignore[method-assign]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it was written for an older Python
            yield
    finally:
        del ctypes.cdll.LoadLibrary
        del sys.modules["pkg_resources"]
        if before is not None:
            sys.modules["pkg_resources"] = before

"""CUDA graphs: launches that are captured once and replayed as one, through the driver's calls by ctypes.

PyCUDA has no calls for them. A kernel's node keeps its arguments; `Stepped` gives it another step before a
replay, so kernels take the step by value, as everywhere.
"""

from __future__ import annotations

import ctypes
import struct
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from minet.backends import cuda_source, nvidia
from minet.backends.cuda_source import Kernel
from minet.core.errors import MinetError

RELAXED = 2  # CU_STREAM_CAPTURE_MODE_RELAXED: memory may be allocated meanwhile
NO_TIMES = 2  # CU_EVENT_DISABLE_TIMING


class KernelNode(ctypes.Structure):
    """CUDA_KERNEL_NODE_PARAMS, in the first version of it, which all drivers know."""

    _fields_ = (
        ("function", ctypes.c_void_p), ("grid", ctypes.c_uint * 3), ("block", ctypes.c_uint * 3),
        ("shared", ctypes.c_uint), ("arguments", ctypes.POINTER(ctypes.c_void_p)), ("extra", ctypes.c_void_p),
    )  # fmt: skip


class GraphError(MinetError):
    """A step cannot be captured: the reason."""


@cache
def driver() -> ctypes.CDLL:
    return ctypes.CDLL(nvidia.LIBRARY)


def call(name: str, *args: Any) -> None:
    """Call the driver; raise GraphError with the driver's message if it refuses."""
    if not hasattr(driver(), name):
        raise GraphError(f"the driver has no {name}")
    if code := getattr(driver(), name)(*args):
        text = ctypes.c_char_p()
        driver().cuGetErrorString(code, ctypes.byref(text))
        raise GraphError(f"{name} failed: {(text.value or b'').decode()} ({code})")


def wait_for(other: int, stream: int) -> None:
    """Let a stream wait, from here on, for what another one has been given so far; both are handles."""
    event = ctypes.c_void_p()
    try:
        call("cuEventCreate", ctypes.byref(event), NO_TIMES)
        call("cuEventRecord", event, ctypes.c_void_p(other))
        call("cuStreamWaitEvent", ctypes.c_void_p(stream), event, 0)
        call("cuEventDestroy_v2", event)
    except GraphError as error:
        raise MinetError(f"waiting for an array's stream {other:#x}: {error}") from error


class Stepped:
    """A captured launch of a kernel that takes the step's number."""

    def __init__(self, node: Any, kernel: Kernel, numbers: list[Any], moving: list[int]) -> None:
        letters = ["P" if p.pointer else cuda_source.SCALARS[p.type] for p in kernel.parameters]
        starts = [struct.calcsize(f"@{''.join(letters[:i])}0{letters[i]}") for i in range(len(letters))]
        self.node, self.params = node, KernelNode()
        self.buffer = ctypes.create_string_buffer(kernel.layout.pack(*numbers), kernel.layout.size)
        self.moving = [(f"@{letters[i]}", starts[i]) for i in moving]
        here = ctypes.addressof(self.buffer)
        self.arguments = (ctypes.c_void_p * len(starts))(*(here + start for start in starts))
        call("cuGraphKernelNodeGetParams", node, ctypes.byref(self.params))
        self.params.arguments = ctypes.cast(self.arguments, ctypes.POINTER(ctypes.c_void_p))
        self.params.extra = None

    def give(self, executable: Any, step: int) -> None:
        for letter, start in self.moving:
            struct.pack_into(letter, self.buffer, start, step)
        call("cuGraphExecKernelNodeSetParams", executable, self.node, ctypes.byref(self.params))


def last_node(stream: int) -> Any:
    """The node of what was launched last in a stream that is being captured."""
    status, graph, count = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_size_t()
    nodes = ctypes.POINTER(ctypes.c_void_p)()
    second = hasattr(driver(), "cuStreamGetCaptureInfo_v2")  # newer drivers may have the third version alone
    call(
        f"cuStreamGetCaptureInfo_v{2 if second else 3}", ctypes.c_void_p(stream), ctypes.byref(status), None,
        ctypes.byref(graph), ctypes.byref(nodes), *(() if second else (None,)), ctypes.byref(count),
    )  # fmt: skip
    if count.value != 1:
        raise GraphError(f"a launch has {count.value} nodes")
    return ctypes.c_void_p(nodes[0])


class Graph:
    """What was launched in a stream within ``with graph.capturing():``, to be launched as a whole."""

    def __init__(self, stream: int) -> None:
        self.stream = ctypes.c_void_p(stream)
        self.graph, self.executable = ctypes.c_void_p(), ctypes.c_void_p()

    @contextmanager
    def capturing(self) -> Iterator[None]:
        call("cuStreamBeginCapture_v2", self.stream, RELAXED)
        try:
            yield
        except BaseException:
            driver().cuStreamEndCapture(self.stream, ctypes.byref(self.graph))
            self._destroyed_later()
            raise
        try:
            call("cuStreamEndCapture", self.stream, ctypes.byref(self.graph))
            call(
                "cuGraphInstantiateWithFlags",
                ctypes.byref(self.executable),
                self.graph,
                ctypes.c_ulonglong(0),
            )
        finally:
            self._destroyed_later()

    def _destroyed_later(self) -> None:
        weakref.finalize(self, _destroy, self.graph, self.executable).atexit = False

    def launch(self) -> None:
        call("cuGraphLaunch", self.executable, self.stream)


def _destroy(graph: ctypes.c_void_p, executable: ctypes.c_void_p) -> None:
    if executable:
        driver().cuGraphExecDestroy(executable)
    if graph:
        driver().cuGraphDestroy(graph)

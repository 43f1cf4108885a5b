"""One launch of a kernel on the emulator, and the message about what it finds."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from minet.backends import emulator, emulator_faults
from minet.backends.emulator_faults import Array, Launch
from minet.core.errors import MinetError
from minet.emulator.arguments import Arguments
from minet.emulator.diagnosis import ENTRY
from minet.emulator.module import Module
from minet.emulator.settings import Settings

TELL_SAME_VALUE, ALLOW_SAME_VALUE, GO_ON_UNWRITTEN, COOPERATIVE = 1, 2, 4, 8
FILLS = (0x81, 0xFF)  # other contents of unwritten shared memory: bytes of 7e and of 0, instead of ff
NOISE = (0xFF, 0xFE)  # and of lanes that are not there: 0 and 1, whose sums do not overflow
MOST_STATIC = 48 << 10  # bytes of shared memory that a file may declare for a kernel
MOST_SHARED = 227 << 10  # bytes of shared memory that a block may ask for, on an H100
FILES = r"^(?!.*(?:/usr/|/kernels/emulator|<|\?\?)).+:\d"
INVALID = "a driver says: invalid configuration argument"


@dataclass(frozen=True)
class Shape:
    """Blocks, threads of each, and bytes of dynamic shared memory."""

    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared: int


def check(name: str, module: Module, shape: Shape, most_dynamic: int) -> None:
    """Refuse a launch that a driver would refuse."""
    x, y, z = shape.block
    grid = shape.grid
    what = f"{name} on the emulator: cannot launch {grid} blocks of {shape.block} threads"
    if min(*grid, *shape.block) < 1:
        raise MinetError(what, f"{INVALID}: each of the sizes must be at least 1")
    if x * y * z > 1024 or max(x, y) > 1024 or z > 64:
        raise MinetError(what, f"{INVALID}: a block has up to 1024 threads, along z up to 64")
    if grid[0] >= 2**31 or max(grid[1:]) > 65535:
        raise MinetError(what, f"{INVALID}: a grid has up to 2147483647 blocks along x, 65535 along y and z")
    if module.shared > MOST_STATIC:
        found = f"{name} on the emulator: it declares {module.shared} bytes of shared memory"
        raise MinetError(found, f"nvcc refuses more than {MOST_STATIC}: take the rest as dynamic memory")
    total = shape.shared + module.shared
    most = max(most_dynamic, MOST_STATIC - module.shared)
    if shape.shared < 0 or total > MOST_SHARED or shape.shared > most:
        of = f"{shape.shared} dynamic and {module.shared} declared"
        found = f"{name} on the emulator: {total} bytes of shared memory, {of}, are too many"
        hint = f"a block has {MOST_STATIC} together; up to {MOST_SHARED} on an H100, for"
        raise MinetError(found, f"{hint} kernel.max_dynamic_shared_size_bytes = {max(shape.shared, 0)}")


class Run:
    """Launches of one call: the same arguments each time, from the same contents of memory."""

    def __init__(
        self, name: str, module: Module, arguments: Arguments, shape: Shape, settings: Settings,
        prints: bool = True,
    ) -> None:  # fmt: skip
        self.name, self.module, self.arguments = name, module, arguments
        self.shape, self.settings, self.prints = shape, settings, prints
        self.before = {name: one.content() for name, one in module.variables.items()}

    def __call__(self) -> None:
        """Run the kernel; what it wrote is in the arguments' blocks.

        Raises
        ------
        MinetError
            If a fault is found.
        """
        __tracebackhide__ = True
        launch, fault = self._start(0)
        self._print(launch)
        if launch.unwritten_bytes:
            self._unwritten(launch, bool(fault))
        elif launch.absent.code and not fault and self._depends():
            launch.fault, launch.who[0] = emulator_faults.ABSENT, launch.absent
            raise self.error(launch)
        if fault:
            raise self.error(launch)

    def results(self) -> list[bytes]:
        """What is in the arrays and variables now."""
        blocks = [one.content() for one in self.arguments.own()]
        return [*blocks, *(one.content() for one in self.module.variables.values())]

    def written(self, number: int, at: int) -> str:
        """An element of the results, and who wrote it last; `at` counts bytes, `number` the results."""
        blocks = self.arguments.own()
        variables = list(self.module.variables.values())
        address = at + (blocks[number].at if number < len(blocks) else variables[number - len(blocks)].at)
        launch, who = self._launch(0), emulator_faults.Who()
        name = next(
            (f"{name}[{(address - one.start) // one.unit}]" for name, one in self._spans()
             if one.start <= address < one.start + one.bytes), "",
        )  # fmt: skip
        if not self.module.library.emu_writer(ctypes.c_void_p(address), ctypes.byref(who)):
            return name
        place = emulator_faults.side(launch, who, str(self.module.path), str(self.module.built), FILES)
        return f"{name}, written at {place}"

    def reset(self) -> None:
        """Put back what was in memory before the call."""
        for block in self.arguments.blocks:
            block.fill()
        for name, content in self.before.items():
            self.module.variables[name].put(content)

    def _start(self, fill: int) -> tuple[Launch, int]:
        launch = self._launch(fill)
        return launch, self.module.library.emu_start(ctypes.byref(launch))

    def _launch(self, fill: int) -> Launch:
        spans = list(self._spans())
        array = (Array * max(1, len(spans)))(*[span for _, span in spans])
        flags = TELL_SAME_VALUE | GO_ON_UNWRITTEN | COOPERATIVE
        settings = self.settings
        flags |= ALLOW_SAME_VALUE if "same_value_writes" in (settings.allow or ()) else 0
        packed = ctypes.create_string_buffer(bytes(self.arguments.packed), len(self.arguments.packed) + 1)
        library = self.module.library
        library.emu_room.restype = ctypes.c_void_p
        launch = Launch(
            grid=self.shape.grid, block=self.shape.block, dynamic_shared=self.shape.shared,
            order=emulator.ORDERS.index(settings.order or "forward"), args_size=len(self.arguments.packed),
            args=ctypes.cast(packed, ctypes.c_void_p), arrays=len(spans), array=array,
            interrupted=emulator.SIGNALS, most_steps=settings.most_branches or 0,
            flags=flags, fill=fill, dynamic=library.emu_room(),
        )  # fmt: skip
        guards = (ctypes.c_uint64 * max(1, len(self.module.guards)))(*self.module.guards)
        launch.guards, launch.guard = len(self.module.guards) // 2, guards
        self._kept = packed, array, guards  # as long as the launch is read
        return launch

    def _spans(self) -> Iterator[tuple[str, Array]]:
        """Where the arrays of the call and the variables of the file are."""
        for block in self.arguments.blocks:
            for one in block.arrays:
                yield one.name, Array(block.place(one.array), one.array.nbytes, one.array.itemsize)
        for name, variable in self.module.variables.items():
            yield name, Array(variable.at, variable.size, max(1, variable.element.size))

    def _print(self, launch: Launch) -> None:
        if launch.output_bytes and self.prints:
            sys.stdout.write(emulator_faults.printed(launch))

    def _again(self, fills: tuple[int, ...]) -> Iterator[bool | None]:
        """Whether results are the same with other contents of what was not to be read; None after a fault."""
        first = self.results()
        for fill in fills:
            self.reset()
            fault = self._start(fill)[1]
            yield None if fault else self.results() == first

    def _depends(self) -> bool:
        """Whether a result depends on the values of lanes that are not there."""
        same = list(self._again(NOISE))
        if None in same:  # put back the results
            list(self._again((0,)))
        return False in same

    def _unwritten(self, launch: Launch, fault: bool) -> None:
        """A read of unwritten shared memory: does any result depend on what was there?"""
        __tracebackhide__ = True
        discarded = not fault and all(self._again(FILLS))
        if discarded and "discarded_reads" in (self.settings.allow or ()):
            return
        launch.fault, launch.bytes, launch.address = emulator_faults.UNWRITTEN, launch.unwritten_bytes, 0
        launch.who[0], launch.who[1] = launch.unwritten, emulator_faults.Who()
        error = self.error(launch)
        if discarded:
            lines = error.message.split("\n", 1)
            error.message = f"{lines[0]}; its value is discarded\n{lines[1]}"
            error.hint = "no result depends on it; guard the read, or check(allow=('discarded_reads',))"
        raise MinetError(error.message, error.hint)

    def error(self, launch: Launch) -> MinetError:
        """The error for a launch's fault."""
        text, hint = emulator_faults.fault_text(
            launch, self.name, self._spans(), str(self.module.path), str(self.module.built), FILES
        )
        if launch.fault == emulator_faults.REFUSED and "does not model" not in text:
            hint = self.module.advice or hint
        return MinetError(text.replace(f"{ENTRY}:1", "its arguments"), hint)

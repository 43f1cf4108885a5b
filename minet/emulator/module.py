"""A kernel of any CUDA file, compiled by g++ and loaded: its parameters, its variables, its shared memory."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from minet.backends import emulator, kernel_cache
from minet.core.errors import MinetError
from minet.core.files import write_whole
from minet.emulator.description import Global, Parameter, parameters, variables
from minet.emulator.diagnosis import ENTRY, advice, errors, leave_out, refusal
from minet.emulator.items import Item
from minet.emulator.source import Code

MOST_ROUNDS = 12  # of leaving out what does not compile
STANDARD = ("-std=c++11", "-std=c++14", "-std=gnu++11", "-std=gnu++14")  # the emulator's own headers need 17
ANY = ("-fpermissive", "-fno-threadsafe-statics", "-fno-strict-aliasing", "-fvisibility=hidden",
       "-fno-builtin-malloc", "-fno-builtin-free", "-fno-allocation-dce")  # fmt: skip
SECTIONS = ("-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections", "-Wl,-Bsymbolic-functions")


@dataclass
class Module:
    """A compiled kernel.

    Attributes
    ----------
    library : ctypes.PyDLL
    path : Path
        Where it was loaded from; `built` has its debug lines.
    parameters : list of Parameter
    variables : dict
        The file's ``__device__`` and ``__constant__`` variables, by name.
    shared : int
        Bytes of its ``__shared__`` variables.
    guards : list of int
        Where the compiler's own bytes among these begin and end.
    advice : str
        What may help a kernel that comes to code that was left out.
    """

    library: ctypes.PyDLL
    path: Path
    built: Path
    parameters: list[Parameter]
    variables: dict[str, Global]
    shared: int
    guards: list[int]
    advice: str

    def take(self, other: Module) -> None:
        """Give the file's variables what they hold in another of its modules."""
        for name, one in other.variables.items() if other is not self else ():
            self.variables[name].put(one.content())


def load(code: Code, name: str, options: tuple[str, ...], kind: str = "checked") -> Module:
    """Compile a kernel, leaving out what cannot be compiled here and is not needed by it.

    Parameters
    ----------
    code, name, options
        The file, the kernel in it, and the compiler's options.
    kind : {"checked", "unwatched", "zero", "pattern", "sanitized"}
        unwatched: without the checks of each access. zero and pattern: with local variables that begin so.

    Raises
    ------
    MinetError
        If there is no such kernel, or it cannot be compiled.
    """
    kernel = code.kernel(name)
    built = _built(code, kernel, name, options, kind)
    with tempfile.TemporaryDirectory() as folder:  # a copy has variables of its own
        path = Path(folder, "kernel.so")
        shutil.copyfile(built, path)
        try:
            library = ctypes.PyDLL(str(path))
        except OSError as error:
            missing = str(error).rpartition("undefined symbol: ")[2]
            why = f"{code.name}: {name} cannot be linked: it uses {missing}, which is in another file"
            raise MinetError(why, "#include that file") from error
        found = parameters(library, kernel.parameters)
        return Module(library, path, built, found, variables(library), *_shared(built), advice(code))


def check(code: Code, name: str, options: tuple[str, ...]) -> None:
    """Raise as `load` does, but in less time: no code is made, and so nothing is linked."""
    kernel, flags = code.kernel(name), _flags(options, "checked")
    notes = _Notes(code, name, flags)
    notes.read()
    for _ in range(MOST_ROUNDS):
        if kernel in code.left_out:
            raise refusal(code, name, code.left_out[kernel])
        found = errors(code.compiled(False) + entry(code, name, False), flags)
        if not found:
            notes.write()
            return
        if not leave_out(code, name, found):
            break
    raise MinetError(f"{code.name}: {name} cannot be compiled", advice(code))


def options_of(given: tuple[str, ...]) -> tuple[str, ...]:
    """Compiler options from those of a call: -D, -U, -I and -std.

    Raises
    ------
    MinetError
        If one is none of these.
    """
    parts, rest = [], list(given)
    while rest:
        part = rest.pop(0).strip()
        if part in ("-D", "-U", "-I", "-std", "--std"):
            part += ("=" if "std" in part else "") + (rest.pop(0) if rest else "")
        part = re.sub(r"^--", "-", part)
        if not re.match(r"-[DUI].|-std=", part):
            raise MinetError(
                f"options may be -D -U -I and -std, got {part!r}", 'options=("-DN=32", "-I", "include")'
            )
        if part.startswith("-I"):
            part = f"-I{Path(part[2:]).absolute()}"
        parts.append("-std=c++17" if part in STANDARD else part)
    return (*([] if any(part.startswith("-std") for part in parts) else ["-std=c++17"]), *parts)


def _built(code: Code, kernel: Item, name: str, options: tuple[str, ...], kind: str) -> Path:
    flags = _flags(options, kind)
    notes = _Notes(code, name, flags)
    notes.read()
    for _ in range(MOST_ROUNDS):
        if kernel in code.left_out:
            raise refusal(code, name, code.left_out[kernel])
        text = code.compiled(kind == "sanitized") + entry(code, name, kind == "sanitized")
        try:
            built = kernel_cache.build("g++", flags, text, ".ii", ".so")
        except kernel_cache.CompileError as error:
            if not leave_out(code, name, errors(text, flags)):
                raise MinetError(f"{code.name}: {name} cannot be compiled: {error}", advice(code)) from error
            continue
        notes.write()
        return built
    raise MinetError(f"{code.name}: {name} cannot be compiled: most of the file is not for it", advice(code))


class _Notes:
    """What was left out when a kernel was compiled, kept from process to process: each try takes a second."""

    def __init__(self, code: Code, name: str, flags: tuple[str, ...]) -> None:
        key = "\0".join([kernel_cache.version("g++"), _written(), name, *flags, code.text.text])
        total = hashlib.sha256(key.encode()).hexdigest()[:40]
        self.code, self.path = code, kernel_cache.folder() / f"{total}.left_out"

    def read(self) -> None:
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            for number, why, whole in json.loads(self.path.read_text()):
                self.code.leave_out(self.code.items[number], why, whole)

    def write(self) -> None:
        numbers = {id(item): i for i, item in enumerate(self.code.items)}
        left = [(numbers[id(i)], why, i in self.code.dropped) for i, why in self.code.left_out.items()]
        if left and not self.path.exists():
            write_whole(self.path, json.dumps(left).encode())


@cache
def _written() -> str:
    """What decides what is left out: this package, whose next version may need to leave out less."""
    return "".join(file.read_text() for file in sorted(Path(__file__).parent.glob("*.py")))


def _flags(options: tuple[str, ...], kind: str) -> tuple[str, ...]:
    """The compiler's options after preprocessing."""
    sanitize = kind == "sanitized"
    checked = not sanitize and kind != "unwatched"
    kinds = emulator.SANITIZED if sanitize else emulator.CHECKED if checked else ()
    # Not optimised: g++ takes a variable without a value as whichever value suits it.
    start = ("-O0", f"-ftrivial-auto-var-init={kind}") if kind in ("zero", "pattern") else ()
    runtime = emulator._runtime(checked, sanitize, kernel_cache.folder())
    standard = [part for part in options if part.startswith("-std")]
    own = (*emulator.OPTIONS, *standard, *ANY, *SECTIONS, *start)
    return (*own, *kinds, "-shared", str(runtime))


def entry(code: Code, name: str, sanitize: bool) -> str:
    """What is appended to the file: where the runtime begins, and what the compiler knows."""
    ends = "__start_emu_shared, __stop_emu_shared" if sanitize else "&emu_mark, &emu_mark"
    given = [item for item in code.variables if item not in code.left_out and not item.template]
    globals_ = "".join(f'emu_global("{item.qualified}", ::{item.qualified}),' for item in given)
    new = "" if sanitize else emulator.NEW
    if overload := re.fullmatch(r"(.+?)\s*\(([^()]*)\)", name, re.DOTALL):
        name = f"static_cast<void (*)({overload[2]})>({overload[1]})"
    return f'''
# 1 "{ENTRY}"
static void emu_body_kernel(const char *args) {{ emu_call({name}, args); }}
#pragma GCC visibility push(default)
{new}
extern "C" int emu_start(void *launch) {{ return emu_run(launch, emu_body_kernel, {ends}); }}
extern "C" void *emu_room() {{ return emu_dynamic; }}
extern "C" const EmuParameter *emu_parameters(unsigned *count) {{ return emu_signature({name}, count); }}
extern "C" const EmuGlobal *emu_globals(unsigned *count) {{
static EmuGlobal list[] = {{ {globals_} {{}} }};
return *count = {len(given)}, list; }}
#pragma GCC visibility pop
'''


def _shared(built: Path) -> tuple[int, list[int]]:
    """Bytes of the ``__shared__`` variables of the kernel and what it calls; the compiler's guards in them.

    g++ keeps a byte that says whether an array of a class has been constructed: where each begins and ends.
    """
    try:
        done = subprocess.run(["readelf", "-sW", str(built)], capture_output=True, text=True, check=False)
    except OSError:  # it comes with the compiler, but may be missing
        return 0, []
    found = re.findall(r": (\w+) +(\d+) TLS .* (\S+)$", done.stdout, re.MULTILINE)
    sizes = {name: (int(at, 16), int(size)) for at, size, name in found if "emu_mark" not in name}
    guards = [
        edge for name, (at, size) in sizes.items() if name.startswith("_ZGV") for edge in (at, at + size)
    ]
    return sum(size for name, (_, size) in sizes.items() if not name.startswith("_ZGV")), guards

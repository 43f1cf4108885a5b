"""Any CUDA file as g++ compiles it: preprocessed, its CUDA words replaced, parts of it left out."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from minet.core.errors import MinetError
from minet.core.files import shipped
from minet.core.naming import near_to, relative
from minet.emulator.items import ATTRIBUTES, MARK, PLACED, ROUND, Item, Text, users

REFUSED = {  # what the emulator does not have, by the words that use it
    r"<<<|\bcudaLaunch\w+": "launches from kernels",
    r"\b(?:asm|__asm__|__asm)\b": "inline assembly",
    r"\bwmma\b|\bnvcuda\b|\bmma\.h\b|\bwgmma\b": "tensor cores",
    r"\btex(?:[123]D|Cubemap)\w*|\bsurf(?:[123]D|Cubemap)\w*|\btexture\s*<": "textures",
    r"\bcub::": "cub",
    r"(?<!::)\bcuda::(?:std|ptx|atomic\w*(?!::)|barrier|pipeline|memcpy_async|thread_scope)\b": "libcu++",
    r"\bthrust::": "Thrust",
    r"\bcute::|\bcutlass::": "CUTLASS",
    r"\bcurand(?:_poisson|_discrete|_mtgp|Directions|State(?:MRG|Mtgp|S\w*obol))\w*": "this part of cuRAND",
    r"\bcluster_group\b|\bthis_cluster\b": "clusters",
    r"\b__nv_fp[864]\w*": "numbers of 8 bits and fewer",
}
MODELLED = r"the emulator does not model {}: {!r}"
UNKNOWN = re.compile(r"(?:^|: ).(__\w+). was not declared|(\w+). is not a member of .cooperative_groups.")
ASSEMBLY = re.compile(r"\b(?:asm|__asm__|__asm)\b\s*(?:(?:volatile|__volatile__|__volatile)\b\s*)?\(")
DYNAMIC = re.compile(
    r"((?:\b__shared__\s+)?\bextern\b[^;{}()\[\]]*?(?:\([^;{}]*?\))?[^;{}()\[\]]*?)\b(\w+)\s*\[[^\]]*\]((?:\s*\[[^\]]*\])*)\s*;"
)
SHARED = re.compile(rf"(?:\bstatic\s+)?\b__shared__\b(?:\s+static\b)?(\s*\balignas\s*{ROUND}\s*)?")
WORDS = {
    "__global__": "", "__host__": "", "__device__": "", "__constant__": "", "__managed__": "",
    "__forceinline__": "__attribute__((always_inline))", "__noinline__": "__attribute__((noinline))",
}  # fmt: skip
DEVICE = '__attribute__((section("emu_device")))'
SANITIZED_SHARED = 'static __attribute__((section("emu_shared"), used))'
HEADERS = ("emulator_cuda.h", "-I{kernels}", "-isystem", "{kernels}/emulator")


@dataclass
class Code:
    """A CUDA file, preprocessed.

    Attributes
    ----------
    text : Text
    items : list of Item
        Its functions, and its variables in the device's memory.
    missing : list of str
        Headers that do not exist here, and were taken as empty.
    left_out : dict
        The items whose bodies are left out, each with the reason.
    """

    text: Text
    items: list[Item]
    missing: list[str]
    left_out: dict[Item, str] = field(default_factory=dict)
    dropped: set[Item] = field(default_factory=set)  # left out as a whole

    @property
    def kernels(self) -> list[Item]:
        return [item for item in self.items if item.body and item.kernel]

    @property
    def variables(self) -> list[Item]:
        return [item for item in self.items if not item.body and item.name]

    def kernel(self, name: str) -> Item:
        """The kernel that a name means, which may be qualified and have template arguments."""
        base = re.sub(r"[<(].*", "", name, flags=re.DOTALL).strip().removeprefix("::")
        last = base.split("::")[-1].strip()
        found = [item for item in self.kernels if item.name == last]
        if not found:
            known = list(dict.fromkeys(item.qualified for item in self.kernels))
            near = near_to(base, known)
            hint = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(known) or 'none'}"
            raise MinetError(f"{self.name} has no kernel {base}", hint)
        own = [item for item in found if f"::{item.qualified}".endswith(f"::{base}")] or found
        asked = "".join(name[name.index("(") :].split()) if name.endswith(")") else "?"
        return next((item for item in own if "".join(item.overload.split()).endswith(asked)), own[0])

    @property
    def headers(self) -> list[Path]:
        """The user's files that it is made of."""
        return [Path(name) for name in dict.fromkeys(file for file, _, user in self.text.files if user)]

    @property
    def name(self) -> str:
        return next((file for file, _, user in self.text.files if user), "the source")

    def at(self, file: str, line: int, column: int) -> Item | None:
        """The smallest function or declaration at a place."""
        for position in self.text.positions(file, line, column):
            found = [item for item in self.items if item.start <= position < item.end]
            if found:
                return min(found, key=lambda item: item.end - item.start)
        return None

    def in_body(self, item: Item, places: list[tuple[str, int, int]]) -> bool:
        """Whether one of the places is on a line of the function's body: it may do without that."""
        file, first = self.text.place(item.body)
        last = first + self.text.text.count("\n", item.body, item.end)
        return any(place[0] == file and first <= place[1] <= last for place in places)

    def hides(self, item: Item, kernel: Item) -> bool:
        """Whether an item is a function of the host that has a kernel's name, and is not left out yet."""
        same = bool(item.body) and item.name == kernel.name and item not in self.dropped
        return same and not re.search(r"\b__(global|device)__\b", item.head)

    def leave_out(self, item: Item, why: str, whole: bool) -> None:
        """Leave out the body of a function, or a whole function or declaration."""
        self.left_out[item] = why
        if whole:
            self.dropped.add(item)

    def why_not(self, item: Item, otherwise: str) -> str:
        """The reason a function cannot be compiled: what it uses that does not exist here, with its line."""
        for pattern, what in REFUSED.items():
            if found := re.compile(pattern).search(self.text.masked, item.start, item.end):
                return f"{self.text.shown(found.start())}: {MODELLED.format(what, found[0])}"
        if (unknown := UNKNOWN.search(otherwise)) and not self.missing:
            place, what = otherwise.split(": ", 1)[0], unknown[1] or unknown[2]
            return f"{place}: {MODELLED.format('this part of CUDA', what)}"
        return otherwise

    def compiled(self, sanitize: bool) -> str:
        """The text for the compiler."""
        text, masked, edits = self.text.text, self.text.masked, []
        launching = [i for i in self.items if i.body and "<<<" in masked[i.body : i.end] and not i.kernel]
        left_out = {item: self.why_not(item, "") for item in launching} | self.left_out
        for item, why in left_out.items():
            start = item.start + len(re.match(r"\s*", masked[item.start :])[0])  # type: ignore[index]
            edits.append(_blanked(text, start if item in self.dropped else item.body, item.end, why))
        gaps = sorted((start, end) for start, end, _ in edits)
        edits += [edit for edit in self._words(sanitize) if not _inside(edit, gaps)]
        out, at = [], 0
        for start, end, new in sorted(edits, key=lambda edit: (edit[0], -edit[1])):
            if start < at:  # inside a larger one
                continue
            out += [text[at:start], new]
            at = end
        return "".join([*out, text[at:]])

    def _words(self, sanitize: bool) -> list[tuple[int, int, str]]:
        """The edits that replace CUDA's words: from, to, new text."""
        text, masked, first, edits = self.text.text, self.text.masked, self.text.first, []
        placed = {}
        for item in self.variables:
            found = PLACED.search(masked, item.start, item.end)
            const = re.search(r"\b(const|constexpr|inline|template)\b", item.head.split("=")[0])
            if found and not (const and "*" not in item.head):
                placed[found.start()] = DEVICE
        for found in re.compile(r"\b__\w+__\b").finditer(masked, first):
            if found[0] in WORDS:
                new = placed.get(found.start(), WORDS[found[0]])
                edits.append((*found.span(), new.ljust(len(found[0]))))  # columns stay what they are
        inner = [(item.body, item.end) for item in self.items if item.body]
        for found in DYNAMIC.finditer(masked, first):
            if "__shared__" not in found[1]:
                continue
            words = re.sub(r"\b(extern|__shared__)\b", " ", MARK.sub("", text[slice(*found.span(1))]))
            type_, name, rest = " ".join(ATTRIBUTES.sub(" ", words).split()), found[2], found[3]
            if _inside(found.span(), inner):
                star = f"(*const {name}){rest}" if rest else f"*const {name}"
                cast = f"{type_} (*){rest}" if rest else f"{type_} *"
                new = f"{type_} {star} = ({cast})emu_dynamic;"
            else:
                new = f'extern {type_} {name}[]{rest} __asm__("emu_dynamic");'
            edits.append(_replaced(text, *found.span(), new))
        # used: one that no code writes would be taken for zeros, and a read of it for none.
        shared = SANITIZED_SHARED if sanitize else "static thread_local __attribute__((used))"
        for found in SHARED.finditer(masked, first):  # g++ wants alignas before all else
            edits.append((*found.span(), f"{found[1] or ''}{shared}"))
        for found in ASSEMBLY.finditer(masked, first):
            close = _bracket(masked, found.end() - 1)
            word = found[0].split("(")[0].split()[0]
            why = f"{self.text.shown(found.start())}: {MODELLED.format('inline assembly', word)}"
            edits.append(_replaced(text, found.start(), close + 1, f"emu_refuse({_literal(why)})"))
        return edits


def preprocessed(source: str | Path, options: tuple[str, ...]) -> Code:
    """A CUDA file, or a text, as the preprocessor leaves it; headers that do not exist are taken as empty.

    Raises
    ------
    MinetError
        If it cannot be read or preprocessed.
    """
    kernels, missing = str(shipped("kernels")), list[str]()
    headers = [part.format(kernels=kernels) for part in HEADERS]
    with tempfile.TemporaryDirectory() as folder:
        path, name = (source, "") if isinstance(source, Path) else (Path(folder, "source.cu"), "source.cu")
        if not isinstance(source, Path):
            path.write_text(source)
        elif not path.is_file():
            raise MinetError(f"{path}: no such file")
        empty = Path(folder, "missing")
        command = ["g++", "-E", "-x", "c++", *options, "-include", *headers, "-idirafter", str(empty)]
        while True:
            done = subprocess.run(
                [*command, str(path.absolute())], capture_output=True, text=True, check=False
            )
            lost = re.search(r"fatal error: (\S+): No such file", done.stderr)
            if not done.returncode:
                break
            if not lost or len(missing) > 50 or lost[1].startswith("/"):
                found = done.stderr.replace(str(path.absolute()), name or str(path))
                raise MinetError(f"{name or path}: cannot be preprocessed:\n{found.strip()}")
            missing.append(lost[1])
            stub = empty / lost[1]
            stub.parent.mkdir(parents=True, exist_ok=True)
            stub.write_text("")
        text = done.stdout
        if name:
            text = text.replace(f'"{path.absolute()}"', f'"{name}"')
        text = MARK.sub(_shown, text.replace(f'"{folder}/', '"<missing>/'))
    marked = Text(text)
    return Code(marked, marked.items(), missing)


def _shown(mark: re.Match[str]) -> str:
    file = relative(mark[2]) if mark[2].startswith("/") and users(mark[2]) else mark[2]
    return f'# {mark[1]} "{file}"{mark[3]}'


def _blanked(text: str, start: int, end: int, why: str) -> tuple[int, int, str]:
    body = text[start] == "{"
    return _replaced(text, start, end, f"{{ emu_refuse({_literal(why)}); }}" if body else "")


def _replaced(text: str, start: int, end: int, new: str) -> tuple[int, int, str]:
    """An edit that keeps the line marks and the ends of lines."""
    lines = text[start:end].split("\n")
    kept = [line if re.match(r'# \d+ "', line) else "" for line in lines[1:-1]]
    last = [""] if len(lines) > 1 else []
    return start, end, "\n".join([new, *kept, *last])


def _literal(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _inside(span: tuple[int, ...] | tuple[int, int, str], gaps: list[tuple[int, int]]) -> bool:
    return any(start <= span[0] and span[1] <= end for start, end in gaps)


def _bracket(text: str, at: int) -> int:
    depth = 0
    for found in re.compile("[()]").finditer(text, at):
        depth += 1 if found[0] == "(" else -1
        if not depth:
            return found.start()
    return len(text) - 1

"""The functions and variables of a preprocessed CUDA file, found by its braces: where each begins and ends.

What a kernel's parameters are is asked of the compiler. This finds what the compiler cannot say: which bodies
to leave out when they cannot be compiled here, and what variables a file has.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

from minet.core.files import shipped

MARK = re.compile(r'^# (\d+) "((?:[^"\\]|\\.)*)"((?: \d)*)$', re.MULTILINE)
LITERAL = re.compile(r'"(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)*\'(?<![0-9a-fA-F]\')')
ROUND = r"\((?:[^()]|\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\))*\)"  # up to three more pairs inside
ATTRIBUTES = re.compile(rf"__attribute__\s*{ROUND}|alignas\s*{ROUND}|\[\[[^\]]*\]\]")
PLACED = re.compile(r"\b__(device|constant|managed)__\b")


def users(file: str) -> bool:
    """Whether a file is the user's: neither the system's nor the emulator's."""
    return not file.startswith((_ours(), "<", "/usr/include", "/usr/lib", "/usr/local/cuda"))


@cache
def _ours() -> str:
    return str(shipped("kernels") / "emulator")


@dataclass(frozen=True, eq=False)
class Item:
    """A function or a variable, from `start` to `end` in the text; `body` is a function's brace."""

    name: str
    head: str
    start: int
    end: int
    body: int = 0
    scope: tuple[str, ...] = ()
    member: bool = False

    @property
    def kernel(self) -> bool:
        return bool(re.search(r"\b__global__\b", self.head))

    @property
    def template(self) -> bool:
        return bool(re.match(r"\s*template\s*<\s*[^>\s]", self.head))

    @property
    def qualified(self) -> str:
        return "::".join((*self.scope, self.name))

    @property
    def example(self) -> str:
        """A name of one kernel of a template, with arguments for those of its parameters that need some."""
        inside = re.match(r"\s*template\s*<(.*)", self.head, re.DOTALL)
        assert inside
        given = []
        for one in _split(inside[1][: _end_of_list(inside[1])]):
            if "=" not in one:
                kind = re.match(r"\s*(class|typename|bool)?", one)
                given.append({"bool": "true", None: "32"}.get(kind and kind[1], "float"))
        return f"{self.qualified}<{', '.join(given)}>"

    @property
    def special(self) -> bool:
        """Whether it is a template's body for certain arguments."""
        return bool(re.match(r"\s*template\s*<\s*>", self.head))

    @property
    def parameters(self) -> list[str]:
        """The names of a function's parameters, as far as they have any."""
        found = [re.findall(r"[A-Za-z_]\w*", re.sub(r"\[[^\]]*\]", " ", part)) for part in self._declared]
        return [words[-1] if len(words) > 1 else "" for words in found]

    @property
    def overload(self) -> str:
        """Its name with the types of its parameters, for one of several kernels of that name."""
        pairs = zip(self._declared, self.parameters, strict=True)
        types = [" ".join(re.sub(rf"\b{name}\b(?!.*\b{name}\b)" if name else "$", "", part).split())
                 for part, name in pairs]  # fmt: skip
        return f"{self.qualified}({', '.join(types)})"

    @property
    def _declared(self) -> list[str]:
        bare = _bare(self.head)
        opened = bare.index("(", bare.index(self.name))
        inside = bare[opened + 1 : _closing(bare, opened)]
        return [part.partition("=")[0] for part in _split(inside)] if inside.strip() else []


@dataclass
class Text:
    """A preprocessed text with its line marks: which parts are the user's, and where each place is from."""

    text: str
    masked: str = field(init=False)  # all but the user's code as spaces; literals as well
    starts: list[int] = field(init=False)
    ends: list[int] = field(init=False)  # where the next mark begins
    files: list[tuple[str, int, bool]] = field(init=False)

    def __post_init__(self) -> None:
        marks = list(MARK.finditer(self.text))
        self.starts, self.files, pieces, before = [0], [("", 1, False)], list[str](), 0
        self.ends = [*(mark.start() for mark in marks), len(self.text)]
        for mark in [*marks, None]:
            piece = self.text[before : mark.start() if mark else len(self.text)]
            keep = self.files[-1][2] or piece.strip() == "extern"  # GL/glext.h has a macro of that name
            pieces.append(LITERAL.sub(_emptied, piece) if keep else re.sub(r"[^\n]", " ", piece))
            if mark:
                pieces.append(" " * (mark.end() - mark.start()))
                self.starts.append(mark.end() + 1)
                self.files.append((mark[2], int(mark[1]), users(mark[2]) and "3" not in mark[3].split()))
                before = mark.end()
        self.masked = "".join(pieces)

    def place(self, at: int) -> tuple[str, int]:
        """File and line of a position."""
        one = max(0, bisect_right(self.starts, at) - 1)
        file, line, _ = self.files[one]
        return file, line + self.text.count("\n", self.starts[one], at)

    def shown(self, at: int) -> str:
        return "{}:{}".format(*self.place(at))

    def positions(self, file: str, line: int, column: int) -> Iterator[int]:
        """The positions that a file's line and column have here: a header may come more than once."""
        for one, (name, first, user) in enumerate(self.files):
            if not user or name != file or line < first:
                continue
            if line < first + self.text[self.starts[one] : self.ends[one]].count("\n"):
                at = self.starts[one]
                for _ in range(line - first):
                    at = self.text.index("\n", at) + 1
                yield at + column - 1

    def items(self) -> list[Item]:
        return list(_items(self.masked, self.first, len(self.masked), (), False))

    @property
    def first(self) -> int:
        """Where the user's code begins, after hundreds of kilobytes of headers."""
        found = re.search(r"\S", self.masked)
        return found.start() if found else 0


def _emptied(found: re.Match[str]) -> str:
    quote = found[0][0]
    return quote + " " * (len(found[0]) - 2) + quote


def _items(text: str, at: int, end: int, scope: tuple[str, ...], member: bool) -> Iterator[Item]:
    start = at
    while (found := re.compile(r"[({};]").search(text, at, end)) is not None:
        at = found.end()
        if found[0] == "(":
            at = _closing(text, found.start()) + 1
            continue
        head = text[start : found.start()]
        if found[0] == "}":
            start = at
        elif found[0] == ";":
            yield from _declared(head, start, at, scope, member, text)
            start = at
        else:
            close = _closing(text, found.start())
            bare = _bare(head)
            if space := re.search(r"\bnamespace\b\s*([\w:]*)\s*$", bare):
                inner = (*scope, *filter(None, space[1].split("::")))
                yield from _items(text, at, close, inner, member)
                start = close + 1
            elif re.search(r'"[^"]*"\s*$', bare):  # extern "C"; g++ may mark extern as another file's
                yield from _items(text, at, close, scope, member)
                start = close + 1
            elif re.search(r"\b(class|struct|union)\b", bare) and "(" not in bare and "=" not in bare:
                name = re.search(r"\b(?:class|struct|union)\s+(\w+)", bare)
                yield from _items(text, at, close, (*scope, name[1] if name else ""), True)
            elif _begins_function(bare) and not re.match(r"\s*[,{]", text[close + 1 : close + 40]):
                body = found.start()  # rather than the initialiser of a member
                yield Item(_function_name(bare), head, start, close + 1, body, scope, member)
                start = close + 1
            at = close + 1


def _declared(
    head: str, start: int, end: int, scope: tuple[str, ...], member: bool, text: str
) -> Iterator[Item]:
    """The variables in the device's memory that a declaration declares; else one item without a name."""
    bare = _bare(text[start : end - 1])
    known = re.sub(r"\[[^\]]*\]", "[]", re.split(r"=|\{", bare)[0])  # a size may be (2 * R + 1)
    if member or not PLACED.search(known) or "(" in known or re.search(r"\b(extern|using|typedef)\b", known):
        if bare.strip():
            yield Item("", head, start, end, 0, scope, member)
        return
    for part in _split(re.sub(r"\{[^{}]*(\{[^{}]*\}[^{}]*)*\}", "", bare)):
        if name := re.search(r"(\w+)\s*((\[[^\]]*\]\s*)*)$", re.split(r"=|\{", part)[0]):
            yield Item(name[1], head, start, end, 0, scope)


def _bare(head: str) -> str:
    """A declaration without its attributes and template parameters; all else keeps its order."""
    head = ATTRIBUTES.sub(" ", head)
    while (found := re.match(r"\s*template\s*<", head)) is not None:
        head = head[found.end() :]
        head = head[_end_of_list(head) + 1 :]
    return head


def _end_of_list(text: str) -> int:
    """Where the list of template parameters ends that has begun before the text."""
    depth, round_ = 1, 0
    for at, letter in enumerate(text):
        round_ += {"(": 1, ")": -1}.get(letter, 0)
        if not round_ and text[at - 1 : at] != "-":
            depth += {"<": 1, ">": -1}.get(letter, 0)
        if not depth:
            return at
    return len(text)


def _function_name(bare: str) -> str:
    for found in re.finditer(r"([A-Za-z_]\w*)\s*(?:<[^()]*>)?\s*\(", bare):
        if found[1] not in ("decltype", "noexcept", "explicit", "sizeof"):
            return found[1]
    return ""


def _begins_function(bare: str) -> bool:
    return "(" in bare and not re.search(r"(?<!operator)(?<![=!<>])=(?!=)", _outside_parens(bare))


def _outside_parens(text: str) -> str:
    while (shorter := re.sub(r"\([^()]*\)", " ", text)) != text:
        text = shorter
    return text


def _split(text: str) -> list[str]:
    """The parts between the commas outside all brackets."""
    parts, depth, start = [], 0, 0
    for at, letter in enumerate(text):
        depth += {"(": 1, "<": 1, "[": 1, "{": 1, ")": -1, ">": -1, "]": -1, "}": -1}.get(letter, 0)
        if letter == "," and depth <= 0:
            parts.append(text[start:at])
            start = at + 1
    return [*parts, text[start:]]


def _closing(text: str, at: int) -> int:
    """The position of the bracket that closes the one there."""
    opened, closed = text[at], {"(": ")", "{": "}"}[text[at]]
    depth = 0
    for found in re.compile(f"[{opened}{closed}]").finditer(text, at):
        depth += 1 if found[0] == opened else -1
        if not depth:
            return found.start()
    return len(text) - 1

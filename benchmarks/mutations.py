"""Mutants of minet's own files: a small change each, drawn by a seed; `benchmarks.mutants` tries them."""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

PLACES = ("minet/layers/*.py", "minet/loops/**/*.py", "kernels/*.cu", "kernels/*.cuh")
SWAPS = {
    "+": ("-",), "-": ("+",), "*": ("/",), "/": ("*",), "//": ("*",), "%": ("//",),
    "<<": (">>",), ">>": ("<<",), "&": ("|",), "|": ("&",), "<": ("<=", ">="),
    "<=": ("<", ">"), ">": (">=", "<="), ">=": (">", "<"),
    "==": ("!=",), "!=": ("==",), "and": ("or",), "or": ("and",), "&&": ("||",), "||": ("&&",),
    "+=": ("=", "-="), "-=": ("=", "+="), "*=": ("=",), "/=": ("*=",), "min": ("max",), "max": ("min",),
}  # fmt: skip
# In a .cu file operators stand between spaces; signs, pointers and template brackets do not.
TOKENS = r"""
    (?<=[ ])(?:<=|>=|==|!=|<<|>>|&&|\|\||[-+*/]=|[-+*/%<>])(?=[ ])
    | \b(?:min|max)(?=\()
    | (?<![\w.])(?<![ep]-)\d+(?:\.\d+f?)?(?![\w.])
    | __sync(?:threads|warp)\(\);
"""
SYMBOLS = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%",
    ast.LShift: "<<", ast.RShift: ">>", ast.BitAnd: "&", ast.BitOr: "|", ast.Lt: "<",
    ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
    ast.Eq: "==", ast.NotEq: "!=", ast.And: "and", ast.Or: "or",
}  # fmt: skip
UNSEEN = ("annotation", "returns", "decorator_list")  # parts of Python's syntax tree that compute nothing


@dataclass(frozen=True)
class Mutant:
    """A change of a file: `new` instead of the text from `start` to `end`."""

    path: str  # from the root
    line: int
    start: int
    end: int
    old: str
    new: str

    def applied(self, text: str) -> str:
        return text[: self.start] + self.new + text[self.end :]

    def shown(self, text: str) -> str:
        line = text.splitlines()[self.line - 1].strip()
        return f"{self.path}:{self.line}: {self.old} -> {self.new or 'nothing'}   in   {line}"


def mutants_of(path: str, text: str) -> list[Mutant]:
    """All mutants of a file, in the order of its text."""
    places = python_places(text) if path.endswith(".py") else cuda_places(text)
    return [
        Mutant(path, text.count("\n", 0, start) + 1, start, end, text[start:end], new)
        for start, end in sorted(set(places))
        for new in replacements(text[start:end], path)
    ]


def replacements(old: str, path: str) -> tuple[str, ...]:
    """What may stand instead of an operator, a name or a constant."""
    if old in SWAPS:
        return ("/",) if old == "%" and not path.endswith(".py") else SWAPS[old]
    if old in ("True", "False"):
        return (str(old != "True"),)
    if old.startswith(("__sync", "not")):
        return ("",)
    number, suffix = (old[:-1], "f") if old[-1] == "f" and "." in old else (old, "")
    value = ast.literal_eval(number)
    if isinstance(value, float):
        return (f"{2 * value + 1}{suffix}",)
    return tuple(str(other) for other in (value + 1, value - 1) if other >= 0)


def cuda_places(text: str) -> Iterator[tuple[int, int]]:
    """Where tokens of a CUDA source can be changed: not in comments, strings and includes."""
    hidden = r'//[^\n]*|/\*.*?\*/|"[^"\n]*"|^[ ]*\#[ ]*(?:include|pragma|line)[^\n]*|_Pragma\([^\n]*?"\)'
    bare = re.sub(hidden, lambda found: " " * len(found[0]), text, flags=re.DOTALL | re.MULTILINE)
    return (found.span() for found in re.finditer(TOKENS, bare, re.VERBOSE))


def python_places(text: str) -> Iterator[tuple[int, int]]:
    """Where tokens of a Python source can be changed: not in annotations, messages, decorators, examples."""
    lines = [0]
    for line in text.splitlines(keepends=True):
        lines.append(lines[-1] + len(line))

    def at(line: int, column: int) -> int:  # of ast, whose columns count bytes
        whole = text[lines[line - 1] : lines[line]]
        return lines[line - 1] + len(whole.encode()[:column].decode())

    def ends(node: ast.expr) -> tuple[int, int]:
        assert node.end_lineno is not None and node.end_col_offset is not None
        return at(node.lineno, node.col_offset), at(node.end_lineno, node.end_col_offset)

    def between(left: ast.expr, symbol: str, right: ast.expr) -> Iterator[tuple[int, int]]:
        start = text.find(symbol, ends(left)[1], ends(right)[0])
        if start >= 0:
            yield start, start + len(symbol)

    def visit(node: ast.AST) -> Iterator[tuple[int, int]]:
        match node:
            case ast.Raise() | ast.JoinedStr() | ast.FunctionDef(name="examples"):
                return
            case ast.BinOp(left, op, right) if type(op) in SYMBOLS:
                yield from between(left, SYMBOLS[type(op)], right)
            case ast.AugAssign(target, op, value) if (symbol := SYMBOLS.get(type(op), "") + "=") in SWAPS:
                yield from between(target, symbol, value)
            case ast.Compare(left, ops, rights):
                for one, op, other in zip([left, *rights], ops, rights, strict=False):
                    if type(op) in SYMBOLS:
                        yield from between(one, SYMBOLS[type(op)], other)
            case ast.BoolOp(op, values):
                for one, other in pairwise(values):
                    yield from between(one, SYMBOLS[type(op)], other)
            case ast.UnaryOp(ast.Not() | ast.USub()):
                start = ends(node)[0]
                yield start, start + (4 if isinstance(node.op, ast.Not) else 1)
            case ast.Constant(bool() | int() | float()):
                yield ends(node)
            case ast.Name("min" | "max"):
                yield ends(node)
        for name, children in ast.iter_fields(node):
            if name not in UNSEEN:
                for child in children if isinstance(children, list) else [children]:
                    if isinstance(child, ast.AST):
                        yield from visit(child)

    return visit(ast.parse(text))


def sources(root: Path) -> dict[str, str]:
    """The text of every file that mutants are drawn from, by its path."""
    paths = sorted({path for place in PLACES for path in root.glob(place)})
    return {path.relative_to(root).as_posix(): path.read_text() for path in paths}


def drawn(texts: dict[str, str], seed: int, words: Iterable[str] = ()) -> list[Mutant]:
    """All mutants of files whose path holds one of the words, in an order that the seed decides."""
    chosen = [path for path in texts if not words or any(word in path for word in words)]
    every = [mutant for path in chosen for mutant in mutants_of(path, texts[path])]
    random.Random(seed).shuffle(every)
    return every

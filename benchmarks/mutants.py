"""Do the tests notice? `python -m benchmarks.mutants --seed 1 --count 20` plants faults and counts who dies.

A mutant is one small change in a layer, its loops or its kernels: an operator, a comparison, a constant, a
sum that is overwritten, a barrier that is missing. Mutants are drawn by the seed, the same on every machine.
Each gets a copy of the tree, in which the tests that belong to its file run until the first failure: those
named after its stem, and after the stems of all files that import or include it. A mutant that crashes, or
one of whose tests does not end in time, has been noticed too; one that does not compile is no mutant, and the
next takes its place. What survives is printed with its line: a test is missing, or the change makes no
difference.

The unchanged tree comes first: its tests must pass, and leave compiled kernels that mutants share, all but
those of the changed file and of its users. As many mutants are on trial at once as there are cores. One takes
seconds if it dies, else minutes.
"""

from __future__ import annotations

import argparse
import ast
import itertools
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACES = ("minet/layers/*.py", "minet/loops/**/*.py", "kernels/*.cu", "kernels/*.cuh")
EVERYWHERE = (  # tests of more than one file, the slow ones last
    "tests/train/test_sgd.py",
    "tests/backends/test_backends.py",
    "tests/testing/test_paths.py",
)
UNCOPIED = shutil.ignore_patterns(".git", ".venv", ".*_cache", "runs", "dist")
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
NO_TESTS = 5  # pytest's exit status
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


def users(path: str, texts: dict[str, str]) -> list[str]:
    """A source, then those that import or include it, then those that use them, and so on."""
    found = [path]
    for used in found:
        name = re.escape(Path(used).name)
        dotted = re.escape(used.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
        uses = rf'#\s*include\s+"{name}"|\b(?:from|import)\s+{dotted}\b'
        found += [other for other, text in texts.items() if other not in found and re.search(uses, text)]
    return found


def tests_of(root: Path, path: str, texts: dict[str, str]) -> list[str]:
    """The test files that belong to a source: named by its stem, or by that of a file which uses it."""
    found = list[str]()
    for stem in dict.fromkeys(Path(user).stem for user in users(path, texts)):
        found += sorted(test.relative_to(root).as_posix() for test in root.glob(f"tests/**/test_{stem}*.py"))
    found += [test for test in EVERYWHERE if (root / test).exists()]
    return list(dict.fromkeys(found))


def outcome(root: Path, tests: Sequence[str], limit: float) -> tuple[str, str]:
    """Run tests up to the first failure; return "passed", "failed", "late" or "invalid", and the output.

    "late" if no test ends for `limit` seconds. The slow tests come last: most mutants die before.
    """
    for which in ("not slow", "slow"):
        status, text = _ended([*tests, "-m", which], root, limit)
        if status not in (0, NO_TESTS):
            break
    if status is None:
        return "late", text
    if status in (0, NO_TESTS):
        return "passed", text
    return ("invalid" if "cannot compile a kernel" in text else "failed"), text


def _ended(words: Sequence[str], root: Path, limit: float) -> tuple[int | None, str]:
    """pytest's exit status, None if no test ends for `limit` seconds, and its output."""
    command = [sys.executable, "-u", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *words]
    env = {**os.environ, "PYTHONPATH": str(root)}
    with tempfile.TemporaryFile("w+") as output:
        run = subprocess.Popen(
            command, cwd=root, env=env, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            status = _waited(run, Path(f"/proc/self/fd/{output.fileno()}"), limit)
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
                run.wait()
        output.seek(0)
        return status, output.read()


def _waited(run: subprocess.Popen[bytes], output: Path, limit: float) -> int | None:
    """The exit status of a process; None if it writes nothing for `limit` seconds."""
    size = -1
    while True:
        try:
            return run.wait(limit)
        except subprocess.TimeoutExpired:
            if size == (size := output.stat().st_size):
                return None


def trial(tree: Path, mutant: Mutant, texts: dict[str, str], tests: Sequence[str], limit: float) -> str:
    """The outcome of the tests in a copy of a tree with the mutant."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "tree"
        shutil.copytree(tree, copy, symlinks=True)
        (copy / mutant.path).write_text(mutant.applied(texts[mutant.path]))
        sound = {(copy / path).with_suffix("") for path in texts.keys() - set(users(mutant.path, texts))}
        for index in copy.rglob("*.nbi"):  # __pycache__/<module>.<function>-<line>.<Python's version>.nbi
            if index.parents[1] / index.name.split(".")[0] in sound:
                os.utime(index)  # else minet takes it for older than the code that it may have inlined
            else:
                index.unlink()
        return outcome(copy, tests, limit)[0]


def drawn(texts: dict[str, str], seed: int, words: Iterable[str] = ()) -> list[Mutant]:
    """All mutants of files whose path holds one of the words, in an order that the seed decides."""
    chosen = [path for path in texts if not words or any(word in path for word in words)]
    every = [mutant for path in chosen for mutant in mutants_of(path, texts[path])]
    random.Random(seed).shuffle(every)
    return every


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.mutants", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("word", nargs="*", help="draw from files whose path contains one of these")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--limit", type=float, default=200, help="seconds without the end of a test")
    parser.add_argument(
        "--proven", action="store_true", help="the tests of the unchanged tree are known to pass"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="mutants on trial at once")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=UNCOPIED, symlinks=True)
        texts = sources(tree)
        queue = drawn(texts, options.seed, options.word)
        tests = {path: tests_of(tree, path, texts) for path in texts}
        known = options.count if not options.proven else 0
        first = sorted({test for mutant in queue[:known] for test in tests[mutant.path]})
        parts = [part for job in range(options.jobs) if (part := first[job :: options.jobs])]
        with ThreadPoolExecutor(options.jobs) as pool:
            for status, output in pool.map(lambda part: outcome(tree, part, options.limit), parts):
                if status != "passed":
                    print(f"{output}\nthe tests fail without a mutant", file=sys.stderr)
                    return 2

        def fate(mutant: Mutant) -> tuple[Mutant, str]:
            return mutant, trial(tree, mutant, texts, tests[mutant.path], options.limit)

        alive, tried, left = list[str](), 0, iter(queue)
        with ThreadPoolExecutor(options.jobs) as pool:
            while batch := list(itertools.islice(left, options.count - tried)):
                for mutant, status in pool.map(fate, batch):
                    if status == "invalid":
                        continue
                    tried += 1
                    shown = mutant.shown(texts[mutant.path])
                    print(f"{'SURVIVED' if status == 'passed' else status:8}  {shown}", flush=True)
                    alive += [shown] if status == "passed" else []
    print(f"\n{tried - len(alive)} of {tried} died" + (f" ({1 - len(alive) / tried:.1%})" if tried else ""))
    print("\n".join(["survivors:", *alive] if alive else []))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

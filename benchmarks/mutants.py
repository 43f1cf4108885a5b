"""Do the tests notice? `python -m benchmarks.mutants --seed 1 --count 20` plants faults and counts who dies.

A mutant is one small change in a layer, its loops or its kernels: an operator, a comparison, a constant, a
sum that is overwritten, a barrier that is missing. Mutants are drawn by the seed, the same on every machine.
Each gets a copy of the tree, in which the tests that belong to its file run until the first failure: of the
tests of paths those of its layers, then those named after its stem, its users' and its layers', then those of
magnitudes. For loops of the cpu none runs on the emulator. A mutant that crashes, or one of whose tests does
not end in time, has been noticed too; one that does not compile is no mutant, and the next takes its place.
What survives is printed with its line: a test is missing, or the change makes no difference.

The unchanged tree comes first: its tests must pass, and leave compiled kernels that mutants share, all but
those of the changed file and of its users. As many mutants are on trial at once as there are cores. One takes
seconds if it dies, else minutes.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from benchmarks.mutations import Mutant, drawn, sources

ROOT = Path(__file__).resolve().parent.parent
PATHS = "tests/testing/test_paths.py"
MAGNITUDES = "tests/test_magnitudes.py"
EVERYWHERE = (  # tests of more than one file, the slow ones last
    "tests/train/optim/test_sgd.py",
    "tests/train/optim/test_solver.py",
    "tests/backends/test_backends.py",
    "tests/loops/test_fences.py",
    PATHS,
)
ROOMS = {  # of loops and kernels that belong to no layer
    "minet/loops/gather.py": "data",
    "minet/loops/layout.py": "torch",
    "kernels/layout.cu": "torch",
}
SKIPPED = shutil.ignore_patterns(".git", ".venv", ".*_cache", "dist")
NO_TESTS = 5  # pytest's exit status


def uncopied(folder: str, names: list[str]) -> set[str]:
    """What a copy of the tree leaves out: ``runs/`` at its top, but not ``minet/runs/``."""
    return SKIPPED(folder, names) | ({"runs"} if Path(folder) == ROOT else set())


def users(path: str, texts: dict[str, str]) -> list[str]:
    """A source, then those that import or include it, then those that use them, and so on."""
    found = [path]
    for used in found:
        name = re.escape(Path(used).name)
        module = used.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        package, _, last = module.rpartition(".")
        uses = "|".join((
            rf'#\s*include\s+"{name}"',
            rf"\b(?:from|import)\s+{re.escape(module)}\b",
            rf"\bfrom\s+{re.escape(package)}\s+import\s[^\n]*\b{last}\b",
        ))  # fmt: skip
        found += [other for other, text in texts.items() if other not in found and re.search(uses, text)]
    return found


def layers_of(path: str, texts: dict[str, str]) -> list[str]:
    """The stems of the layers that compute by a source: they use it, or begin its name."""
    stems = {Path(user).stem for user in users(path, texts)}
    layers = [Path(other).stem for other in texts if other.startswith("minet/layers/")]
    return [name for name in layers if any(f"{stem}_".startswith(f"{name}_") for stem in stems)]


def tests_of(root: Path, path: str, texts: dict[str, str]) -> list[str]:
    """The test files of a source: named by its stem, its users' or its layers', and those of its room."""
    found = list[str]()
    stems = [Path(user).stem for user in users(path, texts)]
    names = [f"**/test_{stem}*.py" for stem in stems]
    names += [f"**/test_{stem[: cut.start()]}.py" for stem in stems for cut in re.finditer("_", stem)]
    names += [f"layers/test_{layer}*.py" for layer in layers_of(path, texts)]
    for name in [*names, *([f"{ROOMS[path]}/test_*.py"] if path in ROOMS else [])]:
        found += sorted(test.relative_to(root).as_posix() for test in root.glob(f"tests/{name}"))
    found += [test for test in EVERYWHERE if (root / test).exists()]
    return list(dict.fromkeys(found))


def stages(root: Path, path: str, texts: dict[str, str], quick: bool = False) -> list[list[str]]:
    """pytest's arguments for one run after another: what notices most comes first, what takes long last."""
    layers, own = layers_of(path, texts), f"not {'emu' if path.startswith('minet/loops/') else 'test_fences'}"
    having = layers and (root / PATHS).exists()
    first = [[PATHS, "-k", f"{own} and ({' or '.join(layers)})"]] if having else []
    if quick:
        found = sorted(root.glob(f"tests/**/test_{Path(path).stem}*.py"))
        named = [test.relative_to(root).as_posix() for test in found]  # run in a copy
        return [*first, [*named, *EVERYWHERE[:3], "-m", "not slow", "-k", own]]
    tests = [test for test in tests_of(root, path, texts) if test != PATHS]
    classes = " or ".join(layer.replace("_", "") for layer in layers)  # -k does not mind capitals
    last = [[MAGNITUDES, "-k", f"{own} and ({classes})"]] if layers and (root / MAGNITUDES).exists() else []
    return [*first, *([*tests, "-m", pace, "-k", own] for pace in ("not slow", "slow")), *last]


def outcome(root: Path, runs: Sequence[Sequence[str]], limit: float) -> tuple[str, str]:
    """Run tests up to the first failure; return "passed", "failed", "late" or "invalid", and the output.

    "late" if no test ends for `limit` seconds.
    """
    text = ""
    for words in runs:
        status, text = _ended(words, root, limit)
        if status is None:
            return "late", text
        if status not in (0, NO_TESTS):
            return ("invalid" if "cannot compile a kernel" in text else "failed"), text
    return "passed", text


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


def trial(
    tree: Path, mutant: Mutant, texts: dict[str, str], runs: Sequence[Sequence[str]], limit: float
) -> str:
    """The outcome of runs of pytest in a copy of a tree with the mutant."""
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
        return outcome(copy, runs, limit)[0]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.mutants", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("word", nargs="*", help="draw from files whose path contains one of these")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--after", metavar="N", type=int, default=0, help="leave out the first N drawn")
    parser.add_argument("--limit", type=float, default=200, help="seconds without the end of a test")
    parser.add_argument(
        "--proven", action="store_true", help="do not test the unchanged tree: its tests are known to pass"
    )
    parser.add_argument(
        "--quick", action="store_true", help="of the tests only those of paths and those named after the file"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="mutants on trial at once")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=uncopied, symlinks=True)
        texts = sources(tree)
        queue = drawn(texts, options.seed, options.word)[options.after :]
        planned = [] if options.proven else queue[: options.count]
        first = sorted({test for mutant in planned for test in tests_of(tree, mutant.path, texts)})
        parts = [part for job in range(options.jobs) if (part := first[job :: options.jobs])]
        with ThreadPoolExecutor(options.jobs) as pool:
            for status, output in pool.map(lambda part: outcome(tree, [part], options.limit), parts):
                if status != "passed":
                    print(f"{output}\nthe tests fail without a mutant", file=sys.stderr)
                    return 2

        def fate(mutant: Mutant) -> tuple[Mutant, str]:
            runs = stages(tree, mutant.path, texts, options.quick)
            return mutant, trial(tree, mutant, texts, runs, options.limit)

        alive, tried, left = list[str](), 0, iter(queue)
        with ThreadPoolExecutor(options.jobs) as pool:
            while batch := list(itertools.islice(left, options.count - tried)):
                for done in as_completed([pool.submit(fate, mutant) for mutant in batch]):
                    mutant, status = done.result()
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

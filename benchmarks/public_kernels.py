"""Kernels of public repositories on the emulator, unedited: how many run and are right, and why not.

``python -m benchmarks.public_kernels FOLDER`` is given a folder with the repositories of `COMMITS`, each in a
folder OWNER+NAME, and prints benchmarks/public_kernels.md. Nothing of them is in this repository. Each kernel
is called once in each order of threads with small inputs, and its results are compared with NumPy's. A kernel
is never taken out of the list.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from benchmarks.public_cases import CASES, COMMITS, Case
from minet import MinetError
from minet.backends.emulator import ORDERS
from minet.emulator import RawKernel
from minet.emulator.overview import Entry, entries

ALLOW = ("same_value_writes", "discarded_reads")
HEAD = """# Public kernels on the emulator

Kernels that nobody here wrote, from public repositories, run unedited by `minet.emulator.RawKernel`
([docs/emulator.md](../docs/emulator.md)) in three orders of threads, with every access watched, and compared
with NumPy. `python -m benchmarks.public_kernels FOLDER` makes this page; `benchmarks/public_cases/` has the
list: kernels without textures, tensor cores and assembly. These repositories' kernels had been compiled
before it was made, and what that showed to be missing had been added. No case had been launched; none was
taken out since. The first launches showed a false alarm in the emulator, which was fixed, and five mistakes
in the list itself: four launches, and one expected value.

- **right**: no fault, and NumPy's numbers.
- **told**: a write of the same value by several threads, or a read of an unwritten place whose value is not
  used: reported as that, and right with `allow=`.
- **fault**: a fault is reported: below the table is what each is.
- **refused**: the kernel uses what the emulator does not have.
- **wrong**: no fault, but not NumPy's numbers.
"""
FAULTS = """## The faults

- `softmax_forward_kernel4`: one place of shared memory for the maximum and for the sum, with no barrier
  between the last read of the one and the first write of the other. A real race;
  [the page](../docs/emulator.md#two-races) shows it.
- `softmax_forward_kernel7`: threads beyond the row's end read its last element, which its owner replaces
  meanwhile. Formally a race in global memory; the value read is not used.
- `furthest_point_sampling_kernel`: no barrier between the read of the winner and the next round's writes. A
  real race; [the page](../docs/emulator.md#two-races) shows it.
- `sgemmVectorize<64, 64, ...>`, the fallback for small matrices: 64 threads load half of each tile, and all
  of it is read. By the source a real fault; it was not run on a card.
"""


def outcome(case: Case, folder: Path) -> tuple[str, str]:
    """What happened to a kernel: one word, and what was said."""
    path = folder / case.repository / case.file
    root = folder / case.repository
    options = [f"-I{root / part}" for part in case.include] + list(case.options)
    kernel = RawKernel(path, case.name, options)
    kernel.max_dynamic_shared_size_bytes = 100_000
    for order in ORDERS:
        try:
            if wrong := differs(case, kernel, order, ()):
                return "wrong", f"{order}: {wrong}"
        except MinetError as error:
            lines = [line.strip() for line in error.message.split("\n")]
            said = "; ".join(shortened(line) for line in lines[:3])
            if not ("a race" in said or "its value is discarded" in said):
                refused = any(word in said for word in ("does not model", "cannot", "has no kernel", "takes"))
                return "refused" if refused else "fault", said
            for again in ORDERS:
                try:
                    if wrong := differs(case, kernel, again, ALLOW):
                        return "wrong", f"{again}: {wrong}"
                except MinetError:
                    return "fault", said
            return "told", said
    return "right", ""


def differs(case: Case, kernel: RawKernel, order: str, allow: tuple[str, ...]) -> str:
    """Run a kernel; say where its results differ from what is expected."""
    args, expected = case.make()
    kernel.check(order, allow=allow)(case.grid, case.block, args, case.shared)
    for number, (got, wanted) in enumerate(expected):
        try:
            np.testing.assert_allclose(np.asarray(got, float), wanted, rtol=case.rtol, atol=case.atol)
        except AssertionError as error:
            return f"result {number}: {' '.join(str(error).split())[:120]}"
    return ""


def shortened(text: str) -> str:
    """A message without the folders before a file's name."""
    words = [word.rsplit("/", 1)[-1] if "/" in word and "." in word else word for word in text.split()]
    return " ".join(words).replace("|", "\\|")


def everything(folder: Path) -> str:
    """What becomes of all kernels of the repositories, templates that need arguments aside."""
    count: Counter[str] = Counter()
    for repository in COMMITS:
        root = folder / repository
        shared = {part for case in CASES if case.repository == repository for part in case.include}
        for file in sorted(root.rglob("*.cu")):
            options = tuple(f"-I{path}" for path in (file.parent, *(root / part for part in sorted(shared))))
            try:
                found = entries(file, "", options)[0]
            except MinetError as error:
                count[f"the file cannot be preprocessed ({error.message.split(': ')[-1][:40]})"] += 1
                continue
            count.update(kind(entry) for entry in found)
    rows = [f"| {what} | {number} |" for what, number in count.most_common()]
    return "\n".join(["## All kernels of these repositories", "", "| | kernels |", "|---|---|", *rows, ""])


def kind(entry: Entry) -> str:
    """What becomes of a kernel, in a few words."""
    refused = re.search(r"does not model ([^:]+):", entry.why_not)
    if entry.why_not:
        return f"refused: {refused[1]}" if refused else "does not compile"
    return "a template, to be named with its arguments" if entry.example else "compiles"


def page(results: Iterable[tuple[Case, str, str]], all_kernels: str) -> str:
    """The page: a table of the kernels."""
    rows = [f"| `{c.repository.split('+')[1]}` | `{c.file.split('/')[-1]}` | `{c.name}` | {word} | {why} |"
            for c, word, why in results]  # fmt: skip
    count = Counter(row.split("|")[4].strip() for row in rows)
    total = ", ".join(f"{count[word]} {word}" for word in ("right", "told", "fault", "refused", "wrong"))
    commits = [f"- {name.replace('+', '/')} at {commit[:12]}" for name, commit in COMMITS.items()]
    table = ["| repository | file | kernel | | what is said |", "|---|---|---|---|---|", *rows]
    return "\n".join(
        [HEAD, *commits, "", f"**Of {len(rows)}: {total}.**", "", *table, "", FAULTS, all_kernels]
    )


def main(folder: str) -> None:
    """Run all cases, and print the page."""
    results = []
    for case in CASES:
        word, why = outcome(case, Path(folder).absolute())
        print(f"{case.name}: {word} {why}", file=sys.stderr, flush=True)
        results.append((case, word, why))
    print(page(results, everything(Path(folder).absolute())), end="")


if __name__ == "__main__":
    main(*sys.argv[1:])

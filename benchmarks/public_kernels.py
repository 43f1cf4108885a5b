"""Kernels of public repositories on the emulator, unedited: how many run and are right, and why not.

``python -m benchmarks.public_kernels FOLDER`` is given a folder with the repositories of `COMMITS`, each in a
folder OWNER+NAME, and prints benchmarks/public_kernels.md, or with ``--plant`` or ``--count`` a part of it.
Nothing of them is in this repository. Each kernel is called once in each order of threads with small inputs,
and its results are compared with NumPy's. A kernel is never taken out of the list.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from benchmarks.public_cases import CASES, COMMITS, Case, planted
from benchmarks.public_cases.count import everything
from minet import MinetError
from minet.backends.emulator import ORDERS
from minet.emulator import RawKernel

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


PLANTED = """## Planted faults

A small edit of a kernel that is right makes it faulty: `benchmarks/public_cases/planted.py` has the edits,
and `python -m benchmarks.public_kernels FOLDER --plant` makes this table. Each array is a slice of a larger
one. A fault counts as found if the message says what it is, and names no other lines, in each of the three
orders.
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


def page(results: Iterable[tuple[Case, str, str]], faults: str, all_kernels: str) -> str:
    """The page: a table of the kernels, of planted faults, and of what becomes of all."""
    rows = [f"| `{c.repository.split('+')[1]}` | `{c.file.split('/')[-1]}` | `{c.name}` | {word} | {why} |"
            for c, word, why in results]  # fmt: skip
    count = Counter(row.split("|")[4].strip() for row in rows)
    total = ", ".join(f"{count[word]} {word}" for word in ("right", "told", "fault", "refused", "wrong"))
    commits = [f"- {name.replace('+', '/')} at {commit[:12]}" for name, commit in COMMITS.items()]
    table = ["| repository | file | kernel | | what is said |", "|---|---|---|---|---|", *rows]
    return "\n".join(
        [
            HEAD,
            *commits,
            "",
            f"**Of {len(rows)}: {total}.**",
            "",
            *table,
            "",
            FAULTS,
            PLANTED,
            faults,
            all_kernels,
        ]
    )


def main(folder: str, only: str = "") -> None:
    """Print the page, or a part of it alone: --count of all kernels, --plant for the planted faults."""
    root = Path(folder).absolute()
    if only:
        print({"--count": everything, "--plant": planted.table}[only](root), end="")
        return
    results = []
    for case in CASES:
        word, why = outcome(case, root)
        print(f"{case.name}: {word} {why}", file=sys.stderr, flush=True)
        results.append((case, word, why))
    print(page(results, planted.table(root), everything(root)), end="")


if __name__ == "__main__":
    main(*sys.argv[1:])

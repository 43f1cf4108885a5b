"""Compile what the contests on a card need before the first one: each case in a process for each core.

Whatever is compiled stays in caches on disk: PyTorch's, Numba's for the reference, and nvcc's results. So the
contests find it there, and compile only what is missing because a process failed or had no time left.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

from minet.bench import cases, rivals
from minet.bench.cases import Case
from minet.bench.contest import MINET
from minet.bench.process import Contender, Failed, How, threads
from minet.bench.rivals import COMPILED, Rival

LIMIT = 120  # seconds after which no more is started


def jobs(chosen: list[Case], others: list[Rival], backend: str) -> list[tuple[Case, How]]:
    """Return what compiles: PyTorch in each form, the reference, minet's kernels; the longest first."""
    found = []
    for case in sorted(chosen, key=lambda case: not case.is_model):
        compiled = [rival for rival in others if rival.name.startswith(COMPILED) and rival.can(case)]
        found += [(case, How(rival.module, rival.variant, backend)) for rival in compiled]
        found += [(case, How(MINET, "", "cpu")), (case, How(MINET, "", backend))]
    return found


def compile_ahead(chosen: list[Case], others: list[Rival], backend: str) -> int:
    """Compile for these cases; return the number of jobs that were done."""
    todo = jobs(chosen, others, backend)
    left, end = iter(todo), time.monotonic() + LIMIT

    def work(contender: Contender) -> int:
        done = 0
        with contextlib.closing(contender):
            for case, how in left:
                if time.monotonic() > end:
                    break
                with contextlib.suppress(Failed):  # the contest reports it
                    contender.prove(case, how, keep=False)
                    done += 1
        return done

    processes = min(threads(), len(todo))
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(processes) as pool:
        contenders = [Contender(f"ahead-{number}", folder, threads=1) for number in range(processes)]
        try:
            return sum(pool.map(work, contenders))
        except BaseException:  # an interrupt does not wait for what is left
            todo.clear()
            for contender in contenders:
                contender.close()
            raise


if __name__ == "__main__":
    backend, *words = sys.argv[1:]
    others, _ = rivals.chosen(None, backend)
    print(f"{compile_ahead(cases.chosen(words), others, backend)} compiled")

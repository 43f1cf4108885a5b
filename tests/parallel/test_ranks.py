"""Ranks and their exchange of gradients, in processes that an MPI launcher starts."""

import sys
import textwrap

import pytest
from mpi import launcher, run
from slow import slow

HEAD = """
import sys
import numpy as np
from mpi4py import MPI
from minet.core.errors import MinetError
from minet.parallel.buckets import Bucket
from minet.parallel.exchange import Exchange
from minet.parallel.ranks import Ranks
ranks = Ranks(MPI.COMM_WORLD)
rank, size = ranks.rank, ranks.size
"""


@pytest.fixture
def program(tmp_path):
    """Run a program in each of `count` ranks; what they print, by lines, sorted."""
    launcher()

    def start(count, text, status=0):
        file = tmp_path / "program.py"
        file.write_text(HEAD + textwrap.dedent(text))
        return sorted(run(count, sys.executable, file, cwd=tmp_path, status=status).splitlines())

    return start


def test_what_ranks_tell_each_other(program, tmp_path):
    (tmp_path / "file").write_bytes(b"of rank 0")
    lines = program(
        3,
        """
        from pathlib import Path
        assert ranks.texts("ä" * rank, "x") == ["", "ä", "ää"]
        assert ranks.told({"rank": rank}, "x") == [{"rank": 0}, {"rank": 1}, {"rank": 2}]
        assert ranks.numbers([rank, 0.5], "x").tolist() == [[0, 0.5], [1, 0.5], [2, 0.5]]
        assert ranks.added({"all": 0.1 + rank} | ({"one": 7.0} if rank == 1 else {})) == {
            "all": 0.1 + 1.1 + 2.1, "one": 7.0
        }
        mine = ranks.file(Path("file") if rank == 0 else None)
        assert mine.read_bytes() == b"of rank 0" and (mine == Path("file")) == (rank == 0)
        assert ranks.file(None) is None
        assert (ranks.here, ranks.beside, ranks.machines) == (rank, 3, 1)
        print("fine", rank)
        """,
    )
    assert lines == ["fine 0", "fine 1", "fine 2"]


def test_parts_are_added_rank_by_rank(program):
    """Numbers whose sum depends on the order, which is that of one process with six parts."""
    lines = program(
        2,
        """
        every = np.random.default_rng(1).standard_normal((6, 999)) * 10.0 ** np.arange(6)[:, None]
        total = every[0].copy()
        for other in every[1:]:
            total += other
        *earlier, last = every[3 * rank : 3 * rank + 3]
        bucket = Bucket(0, last, ["w"], earlier=earlier)
        exchange = Exchange(ranks.sums, ranks.waiting, True, False)
        exchange.send(bucket)
        exchange.finish()
        assert (bucket.values == total).all() and (bucket.values != every.sum(0)).any()
        print("fine")
        """,
    )
    assert lines == ["fine", "fine"]


SUMS = """
    rng = np.random.default_rng(rank)
    exchange = Exchange(ranks.sums, ranks.waiting, {ordered}, {beside})
    for _ in range(2):
        values = [rng.standard_normal(n) * 10.0 ** rng.integers(-6, 6, n) for n in (1, 7, 3000)]
        values = [v.astype({dtype!r}) for v in values]
        before = [v.copy() for v in values]
        for i, v in enumerate(values):
            exchange.send(Bucket(i, v, [str(i)]))
        exchange.finish()
        for v, b in zip(values, before):
            every = np.empty((size, *b.shape), b.dtype)
            MPI.COMM_WORLD.Allgather(b, every)
            total = every[0].copy()
            for other in every[1:]:
                total += other
            if {ordered}:
                assert (v == total).all()
            scale = np.abs(every).sum(0)
            assert (abs(v - total) <= size * np.finfo(b.dtype).eps * scale).all()
            assert len(set(ranks.texts(v.tobytes().hex(), "x"))) == 1
    print("fine")
"""


@pytest.mark.sweep(2)
@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("count, dtype", [(2, "float32"), slow(4, "float32"), slow(3, "float64")])
def test_buckets_are_summed_in_place(program, count, dtype, beside, ordered):
    assert program(count, SUMS.format(ordered=ordered, beside=beside, dtype=dtype)) == ["fine"] * count


def test_an_error_of_one_rank_before_the_first_step_is_one_message(program):
    lines = program(
        3,
        """
        def work():
            if rank == 2:
                raise MinetError("no such file", "look there")
            return rank
        try:
            with ranks.ending():
                ranks.together(work)
        except MinetError as error:
            print(error)
            raise SystemExit(2)
        """,
        status=2,
    )
    told = [line for line in lines if "no such file" in line or "look there" in line]
    assert told == ["  hint: look there", "rank 2: no such file"]


@pytest.mark.slow
def test_a_rank_that_does_not_answer_is_named(program):
    lines = program(
        3,
        """
        import time
        ranks.waiting.patience = 1.0
        if rank == 1:
            time.sleep(1000)
        ranks.texts("", "the gradients of 0/conv.w")
        """,
        status=2,
    )
    found = [line for line in lines if "did not answer" in line]
    assert len(found) == 1 and "rank 1 of 3" in found[0] and "the gradients of 0/conv.w" in found[0]

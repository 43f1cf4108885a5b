"""benchmarks/rank_losses.py: ranks follow one process, by the command of docs/scaling.md."""

import re
import sys

import pytest
from mpi import launcher, run

COMMAND = [sys.executable, "-m", "benchmarks.rank_losses", "digits", "--epochs", "1"]


@pytest.mark.slow
def test_two_ranks_against_one_process(tmp_path):
    launcher()
    run(1, *COMMAND, "--json", "one.json", cwd=tmp_path)
    said = run(2, *COMMAND, "--against", "one.json", cwd=tmp_path)
    assert re.search(r"^2 ranks, float64: \d+ steps, mean ", said, re.MULTILINE)
    assert float(re.search(r"a step's loss: (\S+) of it", said)[1]) < 1e-12

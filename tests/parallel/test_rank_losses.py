"""benchmarks/rank_losses.py: ranks follow one process, by the command of docs/scaling.md."""

import json
import re
import sys

import pytest
from mpi import launcher, run

from benchmarks import rank_losses

WORDS = ["digits", "--epochs", "1"]


@pytest.mark.slow
def test_two_ranks_against_one_process(tmp_path):
    launcher()
    one = tmp_path / "one.json"
    rank_losses.main([*WORDS, "--json", str(one)])
    said = run(2, sys.executable, "-m", "benchmarks.rank_losses", *WORDS, "--against", one, cwd=tmp_path)
    assert re.search(r"^2 ranks, float64: \d+ steps, mean ", said, re.MULTILINE)
    assert float(re.search(r"a step's loss: (\S+)", said)[1]) < 1e-12


@pytest.mark.slow
def test_it_says_where_losses_part(tmp_path, capsys):
    one = tmp_path / "one.json"
    rank_losses.main([*WORDS, "--json", str(one)])
    losses = json.loads(one.read_text())
    losses[3] *= 1 + 5e-6
    losses[7] *= 1 + 5e-3
    one.write_text(json.dumps(losses))
    rank_losses.main([*WORDS, "--against", str(one)])
    said = capsys.readouterr().out
    assert "difference of a step's loss: 5.0e-03\n" in said
    assert re.findall(r"above (\S+) first at step (\d+)", said) == [
        ("1e-06", "3"), ("1e-05", "7"), ("1e-04", "7"), ("1e-03", "7"),
    ]  # fmt: skip

"""The benchmark of training by ranks: what it measures, reads out of traces, and prints."""

import json
import re
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks import rank_jobs, ranks
from benchmarks.rank_jobs import Job
from minet.core.errors import MinetError

DOCS = Path(__file__).parents[2] / "docs"


def test_jobs_on_two_cores():
    found = [(job.kind, job.count, job.cores, job.images) for job in rank_jobs.jobs(128, [1, 2, 4], 2)]
    assert found == [
        ("alone", 1, 2, 128), ("alone", 1, 1, 128), ("alone", 1, 1, 32), ("alone", 1, 1, 8),
        ("apart", 2, 1, 64), ("ranks", 2, 1, 64), ("apart", 4, 1, 32), ("ranks", 4, 1, 32),
        ("ranks", 2, 1, 128),
    ]  # fmt: skip


def test_jobs_share_cores_and_leave_out_what_cannot_be_shared():
    found = [(job.kind, job.count, job.cores, job.images) for job in rank_jobs.jobs(12, [1, 4, 5], 8)]
    assert found == [
        ("alone", 1, 8, 12), ("alone", 1, 1, 12), ("alone", 1, 1, 3), ("alone", 1, 1, 1),
        ("apart", 4, 2, 3), ("ranks", 4, 2, 3),
    ]  # fmt: skip
    assert len(rank_jobs.jobs(1, [1], 1)) == 1  # the same one core, several times


def event(name, begin, duration, lane=0, rank=0, **facts):
    found = {"name": name, "ph": "X", "pid": rank, "tid": lane, "ts": begin, "dur": duration}
    return found | ({"args": facts} if facts else {})


def of_step(begin, rank=0):
    """fprop 300 us, bprop 600 us; two buckets, 100 us from the middle of bprop, 50 us at its end."""
    return [
        event("fprop", begin, 300, rank=rank),
        event("loss", begin + 300, 100, rank=rank),
        event("bprop", begin + 400, 600, rank=rank),
        event("b", begin + 700, 100, 1, rank, bytes=4000),
        event("a", begin + 1000, 50, 1, rank, bytes=1000),
        event("wait for gradients", begin + 1000, 50, rank=rank),
    ]


def test_what_a_trace_says(monkeypatch):
    monkeypatch.setattr(rank_jobs, "FIRST", 1)
    job = Job("ranks", 2, 1, 8)
    slow = [event("fprop", 0, 9000, rank=0), event("a", 100, 8000, 1, 0, bytes=9)]
    one = [*slow, *of_step(10_000), *of_step(12_000)]
    other = [event("fprop", 0, 1, rank=1), *of_step(10_000, 1), *of_step(12_000, 1)]
    named = {"name": "process_name", "ph": "M", "pid": 0, "tid": 0, "args": {"name": "rank 0"}}
    rank_jobs.add_trace(job, [named, *one, *other])
    assert job.exchange == pytest.approx([150e-6])
    assert job.hidden == pytest.approx([100 / 150])
    assert job.bprop == pytest.approx([0.6])
    assert job.buckets == [(4000, 0.5), (1000, 1.0)] and job.bytes == 5000


def test_a_trace_without_enough_steps(monkeypatch):
    with pytest.raises(MinetError, match="too short"):
        rank_jobs.add_trace(Job("ranks", 1, 1, 8), of_step(0))


def measured():
    """Figures as of two cores: 100 ms for 128 images on one, 55 ms on two."""
    return [
        Job("alone", 1, 2, 128, steps=[0.054, 0.056, 0.055]),
        Job("alone", 1, 1, 128, steps=[0.100]),
        Job("alone", 1, 1, 32, steps=[0.028]),
        Job("apart", 2, 1, 64, steps=[0.055]),
        Job("ranks", 2, 1, 64, [0.060], [0.002], [0.45], [0.6], [(4e5, 0.5), (1e5, 1.0)]),
        Job("ranks", 4, 1, 32, failed="not done in 120 s"),
        Job("alone", 1, 1, 8, steps=[0.010]),
    ]


def test_the_table_of_figures():
    assert ranks.measured(measured()).splitlines()[2:] == [
        "| 1 process, 2 cores each | 128 | 55.0 ±2 % | 2,327 |  |  |  |",
        "| 1 process, 1 core each | 128 | 100.0 | 1,280 |  |  |  |",
        "| 1 process, 1 core each | 32 | 28.0 | 1,143 |  |  |  |",
        "| 2 apart, 1 core each | 64 | 55.0 | 2,327 |  |  |  |",
        "| 2 ranks, 1 core each | 64 | 60.0 | 2,133 | 2.00 | 45 % | 500,000 |",
        "| 4 ranks, 1 core each | 32 | not done in 120 s | | | | |",
        "| 1 process, 1 core each | 8 | 10.0 | 800 |  |  |  |",
    ]


def test_the_goals():
    assert ranks.verdicts(measured()) == [
        "2 ranks, 1 core each: 0.92 of the speed of 1 process, 2 cores each",
        "2 ranks, 1 core each: 0.45 of the exchange is hidden  < goal: at least 0.5",
    ]


def test_the_step_of_a_core():
    """100, 28 and 10 ms lie on a line: 4 ms, and 0.75 ms an image."""
    core = ranks.core_of(measured())
    assert (core.images, core.bprop, core.buckets) == (128, 0.6, ((4e5, 0.5), (1e5, 1.0)))
    assert core.fixed == pytest.approx(0.004) and core.each == pytest.approx(0.00075)
    busy = [*measured()[:-1], Job("alone", 1, 1, 8, steps=[0.011])]
    core = ranks.core_of(busy)  # the line leaves no point by more percents than another
    assert core.fixed + 8 * core.each == pytest.approx(0.011, rel=0.02)
    with pytest.raises(MinetError, match="one core at two sizes"):
        ranks.core_of(measured()[:3])


def test_the_figures_beside_the_model():
    """55 ms apart, then the last sum, 2 messages of 1 ms and 100 kB at 1 GB/s, and 1 ms for the loss."""
    mpi = {"2": {"small": 1e-3, "net": 5e-4, "bytes": 5e5}}
    found = [Job("apart", 4, 1, 32, steps=[0.2]), *measured()]
    (line,) = ranks.against_model(found, mpi).splitlines()[2:]
    assert line == "| 2 ranks, 1 core each | 64 | 60.0 | 58.3 | 1.03 |"


def test_processes_that_fail_or_hang(tmp_path):
    def python(code):
        return rank_jobs.start([sys.executable, "-c", code], tmp_path)

    with pytest.raises(MinetError, match="status 2: error: no such model"):
        rank_jobs.finish([python("print('error: no such model\\n  hint: none'); exit(2)")])
    hangs = python("import signal; signal.pause()")
    with pytest.raises(MinetError, match=r"not done in 0\.1 s"):
        rank_jobs.finish([hangs], limit=0.1)
    assert hangs.poll() is not None
    assert rank_jobs.finish([python("print(1)"), python("print(2)")]) == "2\n"


def test_a_job_that_fails_is_not_run_again(tmp_path, monkeypatch):
    job = Job("alone", 1, 1, 8)
    rank_jobs.measure(job, "nonesuch", 1, [0])
    assert "nonesuch" in job.failed
    monkeypatch.setattr(rank_jobs, "run", None)
    rank_jobs.measure(job, "nonesuch", 1, [0])


def test_predictions_are_of_a_file(tmp_path, capsys):
    file = tmp_path / "ranks.json"
    file.write_text(json.dumps({"jobs": [asdict(job) for job in measured()]}))
    assert ranks.main(["--predict", str(file), "--plot", str(tmp_path / "a.svg")]) == 0
    assert capsys.readouterr().out.startswith(
        "a core: 4.0 ms and 0.750 ms an image, 0.60 of it bprop, of which leave: "
        "400,000 bytes after 0.50, 100,000 bytes after 1.00\n\n| step | network |"
    )
    assert (tmp_path / "a.svg").exists()
    file.write_text("{}")
    assert ranks.main(["--predict", str(file)]) == 2
    assert "a file that --json has written" in capsys.readouterr().err


def test_the_page_has_what_the_file_says(capsys):
    """docs/scaling.md shows the tables of docs/scaling.json."""
    page = (DOCS / "scaling.md").read_text()
    assert ranks.main(["--predict", str(DOCS / "scaling.json")]) == 0
    kept = json.loads((DOCS / "scaling.json").read_text())
    found = [Job(**job) for job in kept["jobs"]]
    printed = capsys.readouterr().out, ranks.measured(found), ranks.against_model(found, kept["mpi"])
    rows = [
        line for text in printed for line in text.splitlines() if re.match(r"\| (?!ranks|step|proc)", line)
    ]
    assert len(rows) > 20
    assert [row for row in rows if row not in page] == []


@pytest.mark.slow
def test_a_measurement(tmp_path, capsys):
    pytest.importorskip("mpi4py", reason="mpi4py is not installed: pip install 'minet-layers[mpi]'")
    file = tmp_path / "ranks.json"
    options = ["--ranks", "1,2", "--batch", "8", "--steps", "2", "--rounds", "1", "--json", str(file)]
    assert ranks.main(["digits", *options]) == 0
    kept = json.loads(file.read_text())
    assert not any(job["failed"] for job in kept["jobs"])
    assert all(job["buckets"] for job in kept["jobs"] if job["kind"] == "ranks")
    printed = capsys.readouterr().out
    assert "MPI between 2 ranks" in printed and "measured / model" in printed

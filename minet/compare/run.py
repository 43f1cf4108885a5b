"""`minet compare`: train what is missing, and set everything side by side."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minet.compare import grid, page, plot, table
from minet.compare.grid import Combination, Job
from minet.compare.processes import Processes
from minet.compare.table import Row
from minet.core.errors import MinetError
from minet.core.files import write_whole
from minet.runs import folders
from minet.runs.listing import FINISHED, Run, found
from minet.train import modelfile
from minet.train.plots import save

TABLE, RUNS, PLOT, PAGE = "table.csv", "runs.csv", "compare.png", "report.html"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Comparison:
    """A model with every combination of settings, by every seed.

    Attributes
    ----------
    model : str
        File or name.
    combinations : list of Combination
    jobs : list of Job
    folder : Path
        Where the runs and what is made of them are.
    waiting : dict
        What is left to do of each job that is not done.
    """

    model: str
    combinations: list[Combination]
    jobs: list[Job]
    folder: Path
    waiting: dict[Job, str]

    @classmethod
    def of(
        cls,
        model: str,
        settings: Sequence[tuple[str, list[Any]]],
        seeds: int,
        out: Path | None,
        **common: Any,
    ) -> Comparison:
        """Plan it; nothing is written.

        Raises
        ------
        MinetError
            If the model cannot take a setting, or if a folder holds another run.
        """
        loaded, combinations = grid.combinations(model, settings, **common)
        folder = folders.RUNS / f"compare-{loaded.name}" if out is None else out
        jobs = grid.jobs(combinations, seeds, folder)
        left = {job: grid.left(job, grid.check(job, loaded)) for job in jobs}
        return cls(model, combinations, jobs, folder, {job: what for job, what in left.items() if what})

    def opening(self) -> list[str]:
        """What there is to do, and which combinations are the same."""
        done, name = len(self.jobs) - len(self.waiting), modelfile.find(self.model).stem
        counts = f"{_count(self.combinations, 'combination')}, {_count(self.jobs, 'run')}"
        return [f"{name}: {counts}, {done} of them done, in {self.folder}", *self.same()]

    def same(self) -> list[str]:
        """Which combinations are one."""
        return [f"{one.name}: the same net, trained once" for one in self.combinations if one.same]

    def train(self, count: int, backend: str, say: Say) -> list[Row]:
        """Train what is left, `count` runs at once, and tell of each as it ends; the rows of the table."""
        processes, why, total = Processes(count, self.model, backend), dict[Job, str](), len(self.waiting)
        for number, (job, failed) in enumerate(processes.run(list(self.waiting)), 1):
            run = job.run()
            if not failed and (run is None or run.state != FINISHED):
                failed = (run.why if run else "") or "ended before its last epoch"
            if failed:
                why[job] = failed
                say(f"[{number}/{total}] {job.label}: failed: {failed}")
            else:
                say(f"[{number}/{total}] {job.label}: {_measured(run)}")
        rows = [Row(one.labels) for one in self.combinations]
        for job in self.jobs:
            row, run = rows[self.combinations.index(job.combination)], job.run()
            if job in why:
                row.failed.append((job.label, why[job]))
            elif run is not None and run.whole_log:
                row.runs.append(run)
            else:
                row.failed.append((job.label, f"its log lacks its last epoch: {job.folder / folders.LOG}"))
        return rows


def _count(things: Sequence[Any], name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


def _measured(run: Run | None) -> str:
    assert run is not None
    return f"{run.measured_text}, {run.seconds:.1f} s" if run.measured else "done"


def finished(names: Sequence[str]) -> list[Row]:
    """Rows of finished runs, given as for `minet.runs.folders.find`, or by a folder that holds several."""
    runs = list[Run]()
    for name in names:
        path = Path(name) if Path(name).exists() else folders.RUNS / name
        inside = [] if folders.holds_run(path) else [one for one in found(path) if one.parent == path]
        runs += map(Run.of, inside or [folders.find(name)])
    return table.of_runs(runs)


def write(
    rows: Sequence[Row], folder: Path, title: str, command: Sequence[str] = (), notes: Sequence[str] = ()
) -> list[Path]:
    """Write the table, its picture and its page to a folder; their paths."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MinetError(
            f"{folder!s:.200}: cannot be created: {error.strerror}", "choose another --out"
        ) from error
    files = [folder / name for name in (TABLE, RUNS, PLOT, PAGE)]
    write_whole(files[0], table.table_csv(rows))
    write_whole(files[1], table.runs_csv(rows))
    save(plot.figure(rows, title), files[2])
    write_whole(files[3], page.html(rows, title, shlex.join(command), notes).encode())
    return files

"""Contests: contenders, each in its own process, are compared on a case first, then timed in turn."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from minet.backends import nvidia
from minet.bench import targets
from minet.bench.cases import Case
from minet.bench.counts import bound
from minet.bench.process import Contender, Failed, How
from minet.bench.rivals import COMPILED, RIVALS, Rival

REST = 0.02  # seconds for the previous contender's threads on the cpu to go to sleep
MINET = "contender_minet"
SIDE_BY_SIDE = 4  # cases whose contenders are proven at once on a card; then they are timed one by one
ROOM = 12 << 30  # bytes of the card for each of them: about seven contenders' contexts and arrays


def run(
    cases: Iterable[Case], rivals: list[Rival], backend: str, rounds: int, peaks: dict[str, Any] | None
) -> Generator[list[dict[str, Any]]]:
    """Run a contest for each case; yield its rows, one for each phase, as `_row` makes them."""
    cases, at_once = list(cases), places_on(backend)
    with tempfile.TemporaryDirectory() as folder:
        places = [_Place(f"{folder}/{i}", rivals) for i in range(min(at_once, len(cases)))]
        try:
            for start in range(0, len(cases), at_once):
                some = cases[start : start + at_once]
                contests = [_Contest(case, backend, place) for case, place in zip(some, places, strict=False)]
                with ThreadPoolExecutor(at_once) as pool:
                    try:
                        list(pool.map(_Contest.prove, contests))
                    except BaseException:  # an interrupt need not wait for answers
                        _close(places)
                        raise
                for one in contests:
                    yield one.rows(rounds, peaks)
        finally:
            _close(places)


def places_on(backend: str) -> int:
    """Return how many cases are proven side by side: on a card as many as its memory allows."""
    if backend != "cuda":
        return 1
    try:
        _, devices = nvidia.driver()
    except (nvidia.NoDriver, nvidia.DriverFails):
        return 1
    return max(1, min([SIDE_BY_SIDE, *(device.memory // ROOM for device in devices)]))


class _Place:
    """The contenders of a case; they stay for the next one."""

    def __init__(self, folder: str, rivals: list[Rival]) -> None:
        Path(folder).mkdir()
        self.rivals = rivals
        self.ours, self.reference = Contender("minet", folder), Contender("cpu", folder)
        self.others = {rival.name: Contender(rival.name, folder) for rival in rivals}

    @property
    def all(self) -> list[Contender]:
        return [self.ours, self.reference, *self.others.values()]


def _close(places: Iterable[_Place]) -> None:
    for contender in (contender for place in places for contender in place.all):
        contender.close()


class _Contest:
    def __init__(self, case: Case, backend: str, place: _Place) -> None:
        self.case, self.backend = case, backend
        self.rivals = [rival for rival in place.rivals if rival.can(case)]
        self.ours, self.reference, self.others = place.ours, place.reference, place.others
        self.fit: list[Contender] = []
        self.notes: dict[str, str] = {}
        self.facts: dict[str, dict[str, Any]] = {}
        self.failed = ""

    def prove(self) -> None:
        """Let all compute the case; those that agree with minet's cpu backend are fit to be timed."""
        try:
            how = {self.others[r.name]: How(r.module, r.variant, self.backend) for r in self.rivals}
            late = [self.others[r.name] for r in self.rivals if r.name == COMPILED]
            first = {c: each for c, each in how.items() if c not in late}
            if self.backend == "cpu":
                self._admit({self.ours: How(MINET, "", "cpu")}, None)
                self._admit(first, self.ours.file)
            else:
                self._admit({self.reference: How(MINET, "", "cpu")}, None)
                self._admit({self.ours: How(MINET, "", self.backend)} | first, self.reference.file)
                self.fit.remove(self.reference)
            for contender in late:
                best = How(how[contender].module, f"compiled+{self._best_format()}", self.backend)
                self._admit({contender: best}, self.ours.file)
            doubts = [f"{name} {why}" for name, why in self.notes.items() if why.startswith("differs")]
            if doubts and self.fit == [self.ours]:
                raise Failed(f"no rival agrees with it: {'; '.join(doubts)}")
        except Failed as error:
            self.failed = str(error)

    def rows(self, rounds: int, peaks: dict[str, Any] | None) -> list[dict[str, Any]]:
        """Time who is fit; return a row for each phase."""
        asked = self.case.phases_on(self.backend)
        try:
            if self.failed:
                raise Failed(self.failed)
            return [self._row(phase, rounds, peaks) for phase in asked]
        except Failed as error:
            return [self._row_without(phase, str(error)) for phase in asked]

    def _admit(self, how: dict[Contender, How], against: Path | None) -> None:
        """Let contenders compute the case, on a card all at once; those that do it right may take part."""

        def prove(contender: Contender) -> str:
            try:
                facts = self.facts[contender.name] = contender.prove(self.case, how[contender], against)
            except Failed as error:
                return f"failed: {error}"
            return f"differs: {facts['differs']}" if facts["differs"] else ""

        with ThreadPoolExecutor(1 if self.backend == "cpu" else max(1, len(how))) as pool:
            try:
                found = dict(zip(how, pool.map(prove, how), strict=True))
            except BaseException:  # an interrupt need not wait for answers
                for contender in how:
                    contender.close()
                raise
        for contender, why in found.items():
            if why and contender in (self.ours, self.reference):
                kind, _, what = why.partition(": ")
                raise Failed(f"differs from the cpu backend: {what}" if kind == "differs" else what)
            if why:
                self.notes[contender.name] = why
            else:
                self.fit.append(contender)

    def _best_format(self) -> str:
        """Return the variant of PyTorch that is fastest so far."""
        phase = self.case.phases_on(self.backend)[-1]
        variants = {rival.name: rival.variant for rival in RIVALS if rival.package == "torch"}
        times = {c.name: self._milliseconds(c, phase) for c in self.fit if c.name in variants}
        return variants[min(times, key=times.__getitem__)] if times else "channels_last"

    def _milliseconds(self, contender: Contender, phase: str) -> float:
        if self.backend == "cpu":
            time.sleep(REST)
        return contender.milliseconds(phase)

    def _row(self, phase: str, rounds: int, peaks: dict[str, Any] | None) -> dict[str, Any]:
        times = self._timed(phase, rounds)
        medians = {name: statistics.median(each) for name, each in times.items()}
        memory = {name: self.facts[name]["mib"] for name in times if "mib" in self.facts[name]}
        facts = self.facts["minet"]
        ours = medians.pop("minet")
        rival = min(medians, key=medians.__getitem__) if medians else None
        best = medians[rival] if rival else None
        moved, done = facts["bytes"][phase], facts["operations"][phase]
        least = bound(moved, done, peaks)
        found = {
            "ratio": best / ours if best else None,
            "share": least[0] * 1e3 / ours if least else None,
            "memory": memory["minet"] / min(memory[n] for n in medians) if medians and memory else None,
        }
        return {
            "case": self.case.as_dict(), "phase": phase, "failed": "", "notes": self.notes, "times": times,
            "minet": ours, "rival": rival, "best": best, **found, "bound": least[1] if least else None,
            "bytes": moved, "operations": done, "gb_per_s": moved / ours / 1e6 if moved else None,
            "mib": memory, "planned_mib": facts["planned_mib"],
            "missed": targets.missed(self.backend, self.case, phase, {**found, "ms": ours}),
        }  # fmt: skip

    def _timed(self, phase: str, rounds: int) -> dict[str, list[float]]:
        """Return times in ms, by contender; drop rivals that fail."""
        able = [c for c in self.fit if phase in self.facts[c.name]["phases"]]
        times: dict[str, list[float]] = {c.name: [] for c in able}
        for _ in range(rounds):
            for contender in [c for c in able if c.name in times]:
                try:
                    times[contender.name].append(self._milliseconds(contender, phase))
                except Failed as error:
                    if contender is self.ours:
                        raise
                    self.notes[contender.name] = f"failed: {error}"
                    self.fit.remove(contender)
                    del times[contender.name]
        return times

    def _row_without(self, phase: str, why: str) -> dict[str, Any]:
        nothing = dict.fromkeys(("minet", "rival", "best", "ratio", "share", "memory", "bound", "gb_per_s"))
        return {
            "case": self.case.as_dict(), "phase": phase, "failed": why, "notes": self.notes, "times": {},
            **nothing, "mib": {}, "missed": [],
        }  # fmt: skip

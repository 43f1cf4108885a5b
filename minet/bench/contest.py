"""Contests: contenders, each in its own process, are compared on a case first, then timed in turn."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from minet.bench import targets
from minet.bench.cases import Case
from minet.bench.compare import differs
from minet.bench.counts import bound
from minet.bench.process import Contender, Failed, How
from minet.bench.rivals import COMPILED, RIVALS, Rival

REST = 0.02  # seconds for the previous contender's threads on the cpu to go to sleep
MINET = "contender_minet"


def run(
    cases: Iterable[Case], rivals: list[Rival], backend: str, rounds: int, peaks: dict[str, Any] | None
) -> Generator[list[dict[str, Any]]]:
    """Run a contest for each case; yield its rows, one for each phase, as `_row` makes them."""
    with tempfile.TemporaryDirectory() as folder:
        ours, reference = Contender("minet", folder), Contender("cpu", folder)
        others = {rival.name: Contender(rival.name, folder) for rival in rivals}
        try:
            for case in cases:
                taking_part = [rival for rival in rivals if rival.can(case)]
                contest = _Contest(case, backend, ours, reference, others)
                yield contest.run(taking_part, rounds, peaks)
        finally:
            for contender in (ours, reference, *others.values()):
                contender.close()


class _Contest:
    def __init__(
        self, case: Case, backend: str, ours: Contender, reference: Contender, others: dict[str, Contender]
    ) -> None:
        self.case, self.backend = case, backend
        self.ours, self.reference, self.others = ours, reference, others
        self.fit: list[Contender] = []
        self.notes: dict[str, str] = {}
        self.facts: dict[str, dict[str, Any]] = {}

    def run(self, rivals: list[Rival], rounds: int, peaks: dict[str, Any] | None) -> list[dict[str, Any]]:
        asked = self.case.phases_on(self.backend)
        try:
            self._check()
            self._admit({rival: rival.variant for rival in rivals if rival.name != COMPILED})
            compiled = [rival for rival in rivals if rival.name == COMPILED]
            if compiled:
                self._admit(dict.fromkeys(compiled, f"compiled+{self._best_format(asked[-1])}"))
            doubts = [f"{name} {why}" for name, why in self.notes.items() if why.startswith("differs")]
            if doubts and not self.fit:
                raise Failed(f"no rival agrees with it: {'; '.join(doubts)}")
            self.fit.insert(0, self.ours)
            return [self._row(phase, rounds, peaks) for phase in asked]
        except Failed as error:
            return [self._row_without(phase, str(error)) for phase in asked]

    def _check(self) -> None:
        """Let minet compute the case; on any backend but cpu it must agree with the cpu backend."""
        both = {self.ours: How(MINET, "", self.backend)}
        if self.backend != "cpu":
            both[self.reference] = How(MINET, "", "cpu")
        for why in self._proven(both).values():
            if why:
                raise Failed(why)
        if len(both) > 1 and (why := differs(self.case, self.reference.file, self.ours.file)):
            raise Failed(f"differs from the cpu backend: {why}")

    def _admit(self, rivals: dict[Rival, str]) -> None:
        """Let rivals, each in its variant, take part if they compute what minet computes."""
        how = {self.others[r.name]: How(r.module, variant, self.backend) for r, variant in rivals.items()}
        for contender, why in self._proven(how).items():
            if why:
                self.notes[contender.name] = f"failed: {why}"
                continue
            phases = self.facts[contender.name]["phases"]
            whole = any("bprop" in phase or phase == "step" for phase in phases)
            if why := differs(self.case, self.ours.file, contender.file, whole):
                self.notes[contender.name] = f"differs: {why}"
            else:
                self.fit.append(contender)

    def _proven(self, how: dict[Contender, How]) -> dict[Contender, str]:
        """Let contenders compute the case, on a card all at once; return why those that failed did."""

        def prove(contender: Contender) -> str:
            try:
                self.facts[contender.name] = contender.prove(self.case, how[contender])
            except Failed as error:
                return str(error)
            return ""

        with ThreadPoolExecutor(1 if self.backend == "cpu" else max(1, len(how))) as pool:
            try:
                return dict(zip(how, pool.map(prove, how), strict=True))
            except BaseException:  # an interrupt need not wait for answers
                for contender in how:
                    contender.close()
                raise

    def _best_format(self, phase: str) -> str:
        """Return the variant of PyTorch that is fastest so far."""
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

"""The outcome of checks, and how it is reported: the first cause, or everything, or one line."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from html import escape

WHY = ("likely cause: ", "the contract: ", "  hint: ")  # how the lines begin that follow what was found

COLORS = {"PASS": "#2a9d5c", "FAIL": "#c62828", "SKIP": "#999999"}


@dataclass
class Check:
    """The outcome of one check: "PASS", "FAIL" or "SKIP", with the finding or the reason.

    The first line of `detail` is what was found, the next its cause; `place` is the file, line and name of
    the code at fault, and `warnings` says what it was warned of, and where.
    """

    name: str
    status: str
    detail: str = ""
    place: str = ""
    warnings: tuple[str, ...] = ()


@dataclass
class Report:
    """The outcomes of all checks of one layer or loss; `ok` is False if any failed.

    ``str(report)`` lists all checks if none failed. Else it opens with the first cause, and names the other
    checks that fail: they often fail for the same reason.
    """

    title: str
    checks: list[Check]
    warnings: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.warnings = list(dict.fromkeys(text for check in self.checks for text in check.warnings))

    @property
    def ok(self) -> bool:
        return not self.failed

    @property
    def failed(self) -> list[Check]:
        return [check for check in self.checks if check.status == "FAIL"]

    @property
    def counts(self) -> Counter[str]:
        """The number of checks with each status."""
        return Counter(check.status for check in self.checks)

    def __str__(self) -> str:
        if self.ok:
            return self.full()
        first, *others = self.failed
        lines = [self.title, *_told(first, len(first.name))]
        if others:
            lines.append(f"  also fails: {', '.join(check.name for check in others)}")
        return "\n".join(lines + self._warned())

    def full(self) -> str:
        """Every check, on a line or more."""
        width = max(len(check.name) for check in self.checks)
        lines, told = [self.title], dict[str, str]()
        for check in self.checks:
            found = check.detail.partition("\n")[0]
            same = told.setdefault(found, check.name) if check.status == "FAIL" else check.name
            lines += _told(check, width, f"same as in {same}" if same != check.name else "")
        return "\n".join(lines + self._warned())

    def line(self) -> str:
        """One line: how many checks passed, or the first cause."""
        if self.ok:
            skipped = f", {self.counts['SKIP']} skipped" if self.counts["SKIP"] else ""
            return f"ok    {self.title}: {self.counts['PASS']} passed{skipped}"
        first, *others = self.failed
        more = f" (and {len(others)} more)" if others else ""
        found = " ".join(line.strip() for line in first.detail.splitlines() if not line.startswith(WHY))
        return f"FAIL  {self.title}: {first.name}{more}: {found}" + (
            f" at {first.place}" if first.place else ""
        )

    def _repr_html_(self) -> str:
        """The checks as a table, in a notebook."""
        rows = [
            f'<tr><td style="color: {COLORS[check.status]}"><b>{check.status}</b></td><td>{check.name}</td>'
            f'<td style="text-align: left">{_html(check.detail, check.place)}</td></tr>'
            for check in self.checks
        ]
        warned = "".join(f"<p>warning: {escape(text)}</p>" for text in self.warnings)
        return f"<p><b>{escape(self.title)}</b></p><table>{''.join(rows)}</table>{warned}"

    def _warned(self) -> list[str]:
        return [f"  warning: {text}" for text in self.warnings]


def _told(check: Check, width: int, instead: str = "") -> list[str]:
    """The lines of one check, with `instead` of what it found."""
    found, *why = check.detail.splitlines() or [""]
    lines = [instead or found, *why, *([f"at {check.place}"] if check.place else [])]
    head, *rest = lines if any(lines) else [""]
    return [
        f"  {check.status}  {check.name:<{width}}  {head}".rstrip(),
        *(" " * (width + 10) + more for more in rest),
    ]


def _html(*texts: str) -> str:
    return "<br>".join(escape(line) for text in texts for line in text.splitlines())

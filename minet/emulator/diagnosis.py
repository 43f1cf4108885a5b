"""What the compiler refuses: which functions a kernel may do without, and what to tell its author."""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path

from minet.backends.emulator_faults import MESSAGES, REFUSED
from minet.core.errors import MinetError
from minet.emulator.items import users
from minet.emulator.source import Code

ENTRY = "the kernel's entry point"
SAID = re.compile(r"(.+?):(\d+):(\d+):\s+(error: |fatal error: |required (?:from|by)|.*)(.*)")
NOT_THE_CAUSE = re.compile(r"variable or field .* declared void")  # another error says why
Errors = list[tuple[str, list[tuple[str, int, int]]]]


def errors(text: str, flags: tuple[str, ...]) -> Errors:
    """The compiler's errors: each with its places, that of the error first, then where that came from."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.ii")
        path.write_text(text)
        command = ["g++", *(f for f in flags if f.startswith(("-std", "-f")) and "sanitize" not in f)]
        done = subprocess.run(
            [*command, "-w", "-fsyntax-only", str(path)], capture_output=True, text=True, check=False
        )
    found, came = Errors(), list[tuple[str, int, int]]()
    for line in done.stderr.splitlines():
        if not (at := SAID.match(line)):
            continue
        place = at[1], int(at[2]), int(at[3])
        if "error: " in at[4]:
            places = [place, *came]
            file, number, _ = next((one for one in places if users(one[0])), place)
            found.append((f"{file}:{number}: {at[5]}", places))
            came = []
        elif at[4].startswith("required"):
            came.append(place)
    return [one for one in found if not NOT_THE_CAUSE.search(one[0])] or found


def leave_out(code: Code, name: str, found: Errors) -> bool:
    """Leave out what the errors are about; False if there is nothing to leave out.

    Raises
    ------
    MinetError
        If the name does not mean one kernel.
    """
    any_new, before = False, set(code.left_out)
    for why, places in found:
        if places[0][0] == ENTRY and not any_new:
            kernel = code.kernel(name)
            if namesakes := [item for item in code.items if code.hides(item, kernel)]:
                for one in namesakes:  # the host's functions, which launch it
                    code.leave_out(one, why, True)
                return True
            raise _not_one(code, name, why.split(": ", 1)[1])
        item = next(filter(None, (code.at(*place) for place in places)), None)
        if item is not None:
            whole = item in before or not item.body or not code.in_body(item, places)
            if item in code.dropped or (item in code.left_out and not whole):
                continue
            code.leave_out(item, code.left_out.get(item) or code.why_not(item, why), whole)
            any_new = True
    return any_new


def _not_one(code: Code, name: str, why: str) -> MinetError:
    item = code.kernel(name)
    overloads = [one for one in code.kernels if one.qualified == item.qualified]
    if item.template and "<" not in name:
        return MinetError(f"{code.name}: {name} is a template", f'name one of it: "{item.example}"')
    if item.template:
        head = " ".join(item.head.split())
        return MinetError(f"{code.name}: there is no {name}: {why}", f"it is {head}")
    if "<" in name:
        return MinetError(f"{code.name}: {item.qualified} is not a template", f'name it "{item.qualified}"')
    if len(overloads) > 1:
        names = ", or ".join(f'"{one.overload}"' for one in overloads)
        found = f"{code.name}: there are {len(overloads)} kernels {item.qualified}"
        return MinetError(found, f"name one: {names}")
    return MinetError(f"{code.name}: {name} does not mean one kernel: {why}", advice(code))


def refusal(code: Code, name: str, why: str) -> MinetError:
    """The error for a kernel that uses what the emulator does not have, or what does not compile."""
    hint = MESSAGES[REFUSED][1] if "does not model" in why else advice(code)
    return MinetError(f"{name} cannot run on the emulator: {why}", hint)


def advice(code: Code) -> str:
    """What may be the matter with a file that does not compile: headers that it includes."""
    if not code.missing:
        return ""
    return f"these headers were not found, and taken as empty: {', '.join(code.missing)}; -I names a folder"

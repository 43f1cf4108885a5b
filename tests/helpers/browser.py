"""A real browser for tests of pages: Chromium without a display, driven through a pipe.

It opens a file at a width, and says what a reader would notice: what it fetched, errors, how wide it became.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
PATIENCE = 60  # seconds for an answer
SHOTS = os.environ.get("MINET_SHOTS")  # a folder for pictures of the pages, to look at


@dataclass
class Opened:
    """A page as a browser shows it.

    Attributes
    ----------
    fetched : list of str
        The addresses asked for, besides the page's own and data within it.
    errors : list of str
        What the console says, and exceptions.
    width, height : int
        Of all that is to scroll, in pixels.
    wide : list of str
        What reaches beyond the window's right edge and is not inside something that scrolls.
    pictures : list of bool
        Whether each image, in its order, was decoded.
    text : str
        As it is read.
    """

    fetched: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    width: int = 0
    height: int = 0
    wide: list[str] = field(default_factory=list)
    pictures: list[bool] = field(default_factory=list)
    text: str = ""


# Chromium reads its file 3 and writes to its file 4.
BEGIN = """import os, sys
for end, number in zip(sys.argv[1:3], (3, 4)):
    os.dup2(int(end), number)
os.execvp(sys.argv[3], sys.argv[3:])"""

LOOK = """(() => {
  const root = document.documentElement, wide = [];
  const scrolls = e => {
    for (e = e.parentElement; e && e !== document.body; e = e.parentElement)
      if (getComputedStyle(e).overflowX !== "visible" && !(e instanceof SVGElement)) return true;
    return false;
  };
  for (const e of document.body.querySelectorAll("*"))
    if (!e.ownerSVGElement && e.getBoundingClientRect().right > innerWidth + 1 && !scrolls(e))
      wide.push(e.tagName + "." + (e.getAttribute("class") || ""));
  return {width: root.scrollWidth, height: root.scrollHeight, wide,
    pictures: [...document.images].map(i => i.complete && i.naturalWidth > 0), text: document.body.innerText};
})()"""


def program() -> str | None:
    """Where a browser is; None if there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """Chromium, in a process of its own, with one tab."""

    def __init__(self, profile: Path) -> None:
        (tasks, self.put), (self.get, answers) = os.pipe(), os.pipe()
        self.number, self.rest, self.session, self.events = 0, b"", "", list[dict[str, Any]]()
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (tasks, answers)]  # clear of 3 and 4
        self.process = subprocess.Popen(
            [
                sys.executable, "-c", BEGIN, *map(str, ends), str(program()), "--headless", "--no-sandbox",
                "--disable-gpu", "--disable-background-networking", "--remote-debugging-pipe",
                f"--user-data-dir={profile}", "about:blank",
            ],
            pass_fds=ends,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for end in (tasks, answers, *ends):
            os.close(end)
        try:
            self._attach()
        except BaseException:
            self.close()
            raise

    def _attach(self) -> None:
        (page,) = (one for one in self.ask("Target.getTargets")["targetInfos"] if one["type"] == "page")
        attached = self.ask("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self.session = attached["sessionId"]
        for part in ("Page", "Network", "Runtime", "Log"):
            self.ask(f"{part}.enable")

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; what happens meanwhile is added to `events`."""
        self.number += 1
        message: dict[str, Any] = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.put, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self.number:
                assert "error" not in answer, (method, answer)
                return dict(answer["result"])
            self.events.append(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.get], [], [], PATIENCE)
            got = os.read(self.get, 1 << 16) if ready else b""
            assert got, "the browser does not answer"
            self.rest += got
        text, _, self.rest = self.rest.partition(b"\0")
        return dict(json.loads(text))

    def open(self, page: Path, width: int, dark: bool = False) -> Opened:
        """Open a file in a window of that width."""
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self.events.clear()
        address = page.resolve().as_uri()
        self.ask("Page.navigate", url=address)
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())
        found = self.ask("Runtime.evaluate", expression=LOOK, returnByValue=True)["result"]["value"]
        opened = Opened(**found)
        for event in self.events:
            what, told = event["method"], event.get("params", {})
            if what == "Network.requestWillBeSent" and told["request"]["url"] != address:
                if not told["request"]["url"].startswith("data:"):
                    opened.fetched.append(told["request"]["url"])
            elif what in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
                opened.errors.append(json.dumps(told))
        if SHOTS:
            self.shoot(Path(SHOTS) / f"{page.stem}-{width}{'-dark' if dark else ''}.png", opened.height)
        return opened

    def shoot(self, file: Path, height: int) -> None:
        """A picture of the whole page."""
        width = self.ask("Runtime.evaluate", expression="innerWidth", returnByValue=True)["result"]["value"]
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        taken = self.ask("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(taken["data"]))

    def close(self) -> None:
        self.session = ""
        with contextlib.suppress(AssertionError, OSError):
            self.ask("Browser.close")
        try:
            self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            self.process.wait()
            os.close(self.put)
            os.close(self.get)

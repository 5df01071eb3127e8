"""A headless Chromium, driven by its DevTools protocol over two pipes: no package is needed, and no port is opened."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
#: What the browser must not do: it says what goes wrong on the page in these events.
FAULTS = ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled")


class Browser:
    """One page in a Chromium.

    faults: what went wrong on the page: exceptions, and everything on the console
    requests: the addresses that the page asked for, without those of data in it
    """

    def __init__(self, reading: int, writing: int) -> None:
        self.reading, self.writing = reading, writing
        self.number, self.session, self.rest = 0, "", b""
        self.faults: list[str] = []
        self.requests: list[str] = []
        self.seen: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Calls a method of the protocol and returns its result; notes the events that come before it."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.writing, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.read()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]

    def read(self) -> dict[str, Any]:
        """The next message of the browser."""
        while b"\0" not in self.rest:
            part = os.read(self.reading, 2**16)
            assert part, "Chromium has ended"
            self.rest += part
        text, _, self.rest = self.rest.partition(b"\0")
        message = json.loads(text)
        self.seen.append(message.get("method", ""))
        if message.get("method") in FAULTS:
            self.faults.append(json.dumps(message["params"])[:500])
        if message.get("method") == "Network.requestWillBeSent":
            address = message["params"]["request"]["url"]
            self.requests += [] if address.startswith("data:") else [address]
        return message

    def open(self, page: Path, width: int = 1600, height: int = 1000, dark: bool = False) -> None:
        """Opens a file at a size of the window, and waits until it is loaded."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.send("Emulation.setEmulatedMedia", features=scheme)
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.seen = []
        self.send("Page.navigate", url=page.resolve().as_uri())
        end = time.monotonic() + 60
        while "Page.loadEventFired" not in self.seen:
            assert time.monotonic() < end
            self.read()

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        found = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def screenshot(self, file: Path) -> None:
        """Saves a picture of the whole page, however long."""
        shot = self.send("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def browser() -> Iterator[Browser]:
    """A Chromium, which ends with the context."""
    assert CHROMIUM is not None
    to_browser, writing = os.pipe()
    reading, from_browser = os.pipe()

    def as_3_and_4() -> None:  # where Chromium reads and writes
        inputs, outputs = os.dup(to_browser), os.dup(from_browser)
        os.dup2(inputs, 3)
        os.dup2(outputs, 4)

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
        process = subprocess.Popen(
            [CHROMIUM, *options, f"--user-data-dir={profile}", "--remote-debugging-pipe", "--no-first-run"],
            pass_fds=(3, 4), preexec_fn=as_3_and_4, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_browser)
        os.close(from_browser)
        try:
            yield Browser(reading, writing)
        finally:
            process.kill()
            process.wait()
            os.close(reading)
            os.close(writing)

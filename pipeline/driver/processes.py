"""The stages as processes: started side by side, watched, signalled once, and never left behind.

They stay in the driver's process group. A signal reaches the driver alone (``kill``), or all of them (Ctrl-C, a closed
terminal); the driver hands each one on at once, and a stage that gets the same signal twice in a moment counts it as
one (system/signals.py). When the driver dies, however it dies, Linux sends its stages SIGTERM.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import Empty, Queue
from threading import Thread
from types import FrameType

from pipeline.driver.view import View
from pipeline.system.errors import FoldwiseError
from pipeline.system.places import CHECKOUT
from pipeline.system.signals import LEFT_AT_ONCE, SIGNALS, STOPPED, Stopped, handling, is_repeat

#: Seconds between two looks at the processes, and between two drawings of the view.
LOOK_EVERY, DRAW_EVERY = 0.05, 0.5


@dataclass
class Child:
    """A stage that runs. fold: the one it trains, if it trains one."""

    process: subprocess.Popen[str]
    name: str
    fold: int | None
    reader: Thread | None = None


def interpreter() -> str:
    """A Python that has the packages; raises FoldwiseError where none is set up."""
    if importlib.util.find_spec("torch") is not None:
        return sys.executable
    installed = CHECKOUT / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if installed.exists():
        return str(installed)
    raise FoldwiseError("the packages are not installed yet; type: make setup")


class Processes:
    """The stages that run now."""

    def __init__(self, view: View | None = None) -> None:
        self.running: list[Child] = []
        self.view = view
        self.asked = ""  # the reason, once a signal asked to stop
        self.spoke = self.left_at_once = False  # whether a stage has said that it was stopped, or was asked twice
        self.said: Queue[str] = Queue()
        self.number = 0  # of the last signal
        self.drawn = 0.0

    def note(self, number: int, frame: FrameType | None) -> None:
        """The signal handler: hands the signal on. make sends a second SIGTERM where the group has got one already."""
        if is_repeat(number):
            return
        self.number = number
        self.asked = f"stopped by {signal.Signals(number).name}"
        for child in list(self.running):
            child.process.send_signal(number)

    @contextmanager
    def signalled(self) -> Iterator[None]:
        """Within, signals are handed on, and nothing is left running at the end."""
        try:
            with handling(self.note):
                yield
        finally:
            for child in self.running:  # only after an error of our own
                if not self.asked:  # a second signal would not let them save
                    child.process.terminate()
            for child in self.running:
                child.process.wait()
            self.running.clear()

    def start(self, command: list[str], environment: dict[str, str], name: str, fold: int | None = None) -> None:
        """Starts ``python <command>`` with these variables beside the driver's own."""
        viewed = self.view is not None and fold is not None
        given = {"FOLDWISE_PARENT": str(os.getpid()), "FOLDWISE_DRIVEN": "1", **environment}
        given |= {"FOLDWISE_VIEW": "1"} if viewed else {}
        output = subprocess.PIPE if viewed else None
        process = subprocess.Popen(
            [interpreter(), *command], env={**os.environ, **given}, stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT if viewed else None, text=True, encoding="utf-8", errors="replace",
        )  # fmt: skip
        child = Child(process, name, fold)
        self.running.append(child)
        if self.asked:  # the signal came while it started
            process.send_signal(self.number or signal.SIGTERM)
        if viewed and self.view is not None and fold is not None:
            child.reader = Thread(target=self.read, args=(process,), daemon=True)
            child.reader.start()
            self.view.add(fold)

    def read(self, process: subprocess.Popen[str]) -> None:
        """Takes in the lines that a process prints."""
        assert process.stdout is not None
        for line in process.stdout:
            self.said.put(line.rstrip("\n"))

    def next_ended(self) -> tuple[Child, int]:
        """Waits for one of them to end; returns it with its status: 0, STOPPED if it was stopped and can go on,
        LEFT_AT_ONCE after a second signal, else 1, in which case it has said why."""
        while True:
            for child in self.running:
                if child.process.poll() is not None:
                    if child.reader is not None:
                        child.reader.join()
                    self.show()
                    self.running.remove(child)
                    if self.view is not None and child.fold is not None:
                        self.view.remove(child.fold)
                    return child, self.status_of(child)
            self.show()
            time.sleep(LOOK_EVERY)

    def status_of(self, child: Child) -> int:
        """How a process ended; says it of one that was killed and so could not."""
        code = child.process.returncode
        self.asked = self.asked or ("stopped" if code in (STOPPED, LEFT_AT_ONCE) else "")
        self.spoke = self.spoke or code in (STOPPED, LEFT_AT_ONCE)
        self.left_at_once = self.left_at_once or code == LEFT_AT_ONCE
        if code in (0, STOPPED, LEFT_AT_ONCE):
            return code
        if self.asked and -code in SIGNALS:  # before it could heed signals
            return STOPPED
        if code < 0:
            name = signal.Signals(-code).name
            most_often = "; most often the memory is full: end what else runs there" if -code == 9 else ""
            sys.stderr.write(
                f"error: {child.name} was ended by {name}{most_often}; the same command goes on after what it saved\n"
            )
        return 1

    def require_unasked(self) -> None:
        """Ends the driver if a signal asked to stop: as the stages did, or in words of its own where none could."""
        if self.left_at_once:
            sys.exit(LEFT_AT_ONCE)
        if self.asked and self.spoke:
            sys.exit(STOPPED)
        if self.asked:
            raise Stopped(self.asked)

    def show(self) -> None:
        """Prints what they said since, and draws the view."""
        lines = []
        with suppress(Empty):
            while True:
                lines.append(self.said.get_nowait())
        if self.view is not None and (lines or time.monotonic() - self.drawn >= DRAW_EVERY):
            self.drawn = time.monotonic()
            self.view.draw(*lines)

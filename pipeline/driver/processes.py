"""Runs stages as child processes: starts them side by side, watches them, passes signals on, and leaves none behind.

The stages stay in the driver's process group. A signal reaches the driver alone (``kill``) or the whole group (Ctrl-C,
a closed terminal). The driver passes each signal on at once. A stage that gets the same signal twice within a second
counts it as one (system/signals.py). If the driver dies for any reason, Linux sends SIGTERM to its stages.
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
from pipeline.system.errors import MachineError
from pipeline.system.places import CHECKOUT
from pipeline.system.signals import EXITED_AT_ONCE, SIGNALS, STOPPED, Stopped, handling, is_repeat

#: Seconds between two checks of the processes, and between two updates of the view.
POLL_SECONDS, DRAW_EVERY = 0.05, 0.5


@dataclass
class Child:
    """A running stage.

    process: its process
    name: its name in messages
    fold: the fold that it trains, or None
    reader: the thread that reads its output, if the view is drawn
    """

    process: subprocess.Popen[str]
    name: str
    fold: int | None
    reader: Thread | None = None


def interpreter() -> str:
    """Path of a Python that has the packages; raises FoldwiseError if none is installed."""
    if importlib.util.find_spec("torch") is not None:
        return sys.executable
    installed = CHECKOUT / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if installed.exists():
        return str(installed)
    raise MachineError("the packages are not installed yet; type: make setup")


class Processes:
    """The stages that run now.

    running: the stages that have not ended
    view: progress lines in a terminal, or None
    asked: why to stop; "" until a signal arrives or a stage is stopped
    reported: True if a stage has printed that it was stopped
    exited_at_once: True if a stage was stopped by a second signal
    output: lines of output that are not yet printed
    number: number of the last signal, 0 for none
    drawn: time.monotonic() of the last update of the view
    """

    def __init__(self, view: View | None = None) -> None:
        self.running: list[Child] = []
        self.view = view
        self.asked = ""
        self.reported = self.exited_at_once = False
        self.output: Queue[str] = Queue()
        self.number = 0
        self.drawn = 0.0

    def pass_on(self, number: int, frame: FrameType | None) -> None:
        """The signal handler: passes the signal on.

        Ignores a repeated one: if the whole group gets SIGTERM, make sends it once more.
        """
        if is_repeat(number):
            return
        self.number = number
        self.asked = f"stopped by {signal.Signals(number).name}"
        for child in list(self.running):
            child.process.send_signal(number)

    @contextmanager
    def signalled(self) -> Iterator[None]:
        """Context in which signals are passed on; at its end, no stage is left running."""
        try:
            with handling(self.pass_on):
                yield
        finally:
            for child in self.running:  # not empty only after an error in the driver
                if not self.asked:  # after a second signal they would exit without saving
                    child.process.terminate()
            for child in self.running:
                child.process.wait()
            self.running.clear()

    def start(self, command: list[str], environment: dict[str, str], name: str, fold: int | None = None) -> None:
        """Starts ``python <command>`` with the driver's variables and those of ``environment``."""
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
        if self.asked:  # a signal arrived while the process started
            process.send_signal(self.number or signal.SIGTERM)
        if viewed and self.view is not None and fold is not None:
            child.reader = Thread(target=self.read, args=(process,), daemon=True)
            child.reader.start()
            self.view.add(fold)

    def read(self, process: subprocess.Popen[str]) -> None:
        """Reads the lines that a process prints; runs in a thread."""
        assert process.stdout is not None
        for line in process.stdout:
            self.output.put(line.rstrip("\n"))

    def next_ended(self) -> tuple[Child, int]:
        """Waits until one of the stages ends; returns it and its status.

        The status is 0, STOPPED if the stage was stopped and can continue, EXITED_AT_ONCE after a second signal, or 1
        after an error, which has been printed.
        """
        while True:
            for child in self.running:
                if child.process.poll() is not None:
                    if child.reader is not None:
                        child.reader.join()
                    self.print_output()
                    self.running.remove(child)
                    if self.view is not None and child.fold is not None:
                        self.view.remove(child.fold)
                    return child, self.status_of(child)
            self.print_output()
            time.sleep(POLL_SECONDS)

    def status_of(self, child: Child) -> int:
        """The status of an ended process, as in ``next_ended``; prints an error for a process that was killed."""
        code = child.process.returncode
        self.asked = self.asked or ("stopped" if code in (STOPPED, EXITED_AT_ONCE) else "")
        self.reported = self.reported or code in (STOPPED, EXITED_AT_ONCE)
        self.exited_at_once = self.exited_at_once or code == EXITED_AT_ONCE
        if code in (0, STOPPED, EXITED_AT_ONCE):
            return code
        if self.asked and -code in SIGNALS:  # before it could handle signals
            return STOPPED
        if code < 0:
            name = signal.Signals(-code).name
            memory_advice = "; usually the memory is full: close other programs" if -code == 9 else ""
            sys.stderr.write(f"error: {child.name} was killed by {name}{memory_advice}; the same command continues\n")
        return 1

    def exit_if_stopped(self) -> None:
        """Exits if a signal asked to stop; raises Stopped instead if no stage has reported the stop."""
        if self.exited_at_once:
            sys.exit(EXITED_AT_ONCE)
        if self.asked and self.reported:
            sys.exit(STOPPED)
        if self.asked:
            raise Stopped(self.asked)

    def print_output(self) -> None:
        """Prints new output of the stages, and updates the view."""
        lines = []
        with suppress(Empty):
            while True:
                lines.append(self.output.get_nowait())
        if self.view is not None and (lines or time.monotonic() - self.drawn >= DRAW_EVERY):
            self.drawn = time.monotonic()
            self.view.draw(*lines)


def run_one(words: list[str], name: str, environment: dict[str, str] | None = None) -> None:
    """Runs one process to its end; exits if it fails, after it has printed its error."""
    processes = Processes()
    with processes.signalled():
        processes.start(words, environment or {}, name)
        _, status = processes.next_ended()
    processes.exit_if_stopped()
    if status:
        sys.exit(1)

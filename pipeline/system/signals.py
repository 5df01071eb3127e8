"""An orderly end: what SIGTERM, Ctrl-C, a closed terminal and the clock do to a stage.

A first signal ends a stage with exit 75 ("temporary failure": the same command goes on) and leaves no half-written
file; a second one leaves at once. Where work would be lost, a ``Stop`` lets the work come to a point where it is saved.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, NoReturn

#: Exit status of a stage that was stopped and can go on (EX_TEMPFAIL of sysexits.h; make reports its own 2 for it).
STOPPED = 75
#: Exit status after a second signal (the shell's own for Ctrl-C).
LEFT_AT_ONCE = 130
TIME_OVER = "the time is over"
#: Seconds within which two of the same signal count as one: a group gets it from the terminal, and each of its
#: processes once more from the one that started it.
ONE_EVENT = 1.0
#: Ctrl-C, what schedulers and ``timeout`` send, and what a closed terminal sends.
SIGNALS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]

Handler = Callable[[int, FrameType | None], Any]
#: The last signal that counted, and when.
_last: list[float] = [0, 0.0]


def is_repeat(number: int) -> bool:
    """Whether this is the signal that came a moment ago, on another way."""
    now = time.monotonic()
    if number == _last[0] and now - _last[1] < ONE_EVENT:
        return True
    _last[:] = [number, now]
    return False


def forget_last() -> None:
    """The next signal counts, whatever came before."""
    _last[:] = [0, 0.0]


class Stopped(BaseException):
    """This process was asked to stop. Its message says why and what is saved. Like KeyboardInterrupt, no Exception:
    nothing that mends faults should catch it."""

    status = STOPPED
    number: int | None = None  # of the signal, where it was raised on the spot


class TimeOver(Stopped):
    """The clock asked, as it was told to: that is no failure."""

    status = 0


def unignored_signals() -> list[signal.Signals]:
    """The signals that the parent did not tell us to ignore (as nohup does)."""
    return [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


@contextmanager
def handling(handler: Handler) -> Iterator[None]:
    """The signals go to ``handler``. Python gives them to the main thread alone; in another nothing is changed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in unignored_signals()}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def exit_at_once(*_: object) -> NoReturn:
    """The end of a process that was asked twice."""
    sys.stderr.write("\nleft at once; what was saved before is whole\n")
    sys.stderr.flush()
    os._exit(LEFT_AT_ONCE)


def end_now(number: int, frame: FrameType | None) -> None:
    """Raises Stopped where the process stands, so that temporary files are removed on the way out."""
    if is_repeat(number):
        return

    def again(other: int, frame: FrameType | None) -> None:
        if not is_repeat(other):
            exit_at_once()

    for other in unignored_signals():
        signal.signal(other, again)
    stopped = Stopped(f"stopped by {signal.Signals(number).name}")
    stopped.number = number
    raise stopped


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """The signals end what is within by ``Stopped``. Python drops an exception that meets a destructor; then the signal
    is sent once more, a moment later."""
    before = sys.unraisablehook
    forget_last()

    def send_again(dropped: Any) -> None:
        if not isinstance(dropped.exc_value, Stopped) or dropped.exc_value.number is None:
            before(dropped)
            return
        for number in unignored_signals():
            signal.signal(number, end_now)
        forget_last()
        threading.Timer(0.01, os.kill, (os.getpid(), dropped.exc_value.number)).start()

    sys.unraisablehook = send_again
    try:
        with handling(end_now):
            yield
    finally:
        sys.unraisablehook = before


@contextmanager
def cpu_limit(seconds: float) -> Iterator[None]:
    """Raises TimeoutError when what is done within takes more CPU time; Python's ``re`` looks for signals as it works.

    Counts in the main thread of a Unix process only.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def give_up(number: int, frame: FrameType | None) -> NoReturn:
        raise TimeoutError

    before = signal.signal(signal.SIGPROF, give_up)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


class Stop:
    """Within ``with stop:`` a first signal is only noted, and work goes on to a point where it asks ``stop.asked``,
    saves, and calls ``stop.leave``. ``until``: seconds since 1970 at which the clock asks too."""

    def __init__(self, until: float | None = None) -> None:
        self.until = until
        self.reason = ""
        self.kept_back = 0.0

    def note(self, number: int, frame: FrameType | None) -> None:
        """The signal handler. When a parent dies, each of its threads may send the same (see end_with_parent)."""
        if is_repeat(number):
            return
        if self.reason:
            exit_at_once()
        self.reason = f"stopped by {signal.Signals(number).name}"

    @property
    def asked(self) -> bool:
        """Whether it is time to save and leave."""
        if self.until is not None and time.time() >= self.until - self.kept_back and not self.reason:
            self.reason = TIME_OVER
        return bool(self.reason)

    def reserve(self, seconds: float) -> None:
        """The clock asks so much earlier, and a half more: what must still be done will take that long."""
        self.kept_back = 1.5 * seconds

    def leave(self, saved: str) -> None:
        """Raises Stopped if asked to; ``saved`` says how far the work got."""
        if self.asked:
            raise (TimeOver if self.reason == TIME_OVER else Stopped)(f"{self.reason}; {saved}")

    def ask(self, *reasons: str) -> None:
        """Asks for the first of these reasons that is one, such as another rank's."""
        self.reason = next(filter(None, (self.reason, *reasons)))

    def __enter__(self) -> Stop:
        self._handling = handling(self.note)
        self._handling.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._handling.__exit__(None, None, None)
        if error is None and self.reason:  # noted after the last question
            raise Stopped(self.reason)

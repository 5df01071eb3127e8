"""Stops a stage cleanly after SIGTERM, Ctrl-C, a closed terminal, or at the end of a time limit.

The first signal ends a stage with exit status 75 ("temporary failure": the same command continues) and leaves no
partial file. A second one exits at once. If work would be lost, a ``Stop`` lets the work continue until it is saved.
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

#: Exit status of a stage that was stopped and can continue (EX_TEMPFAIL of sysexits.h; make itself then exits with 2).
STOPPED = 75
#: Exit status after a second signal (the one that shells use for Ctrl-C).
EXITED_AT_ONCE = 130
TIME_OVER = "the time limit is reached"
#: Seconds within which two equal signals count as one: the terminal sends a signal to the whole process group, and a
#: parent passes it on to its child processes.
REPEAT_SECONDS = 1.0
#: The signals of Ctrl-C, of schedulers and ``timeout``, and of a closed terminal.
SIGNALS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]

Handler = Callable[[int, FrameType | None], Any]
#: Number of the last signal that counted, and its time.monotonic().
_last: list[float] = [0, 0.0]


def is_repeat(number: int) -> bool:
    """True if the same signal came less than REPEAT_SECONDS seconds ago; otherwise records this one as the last."""
    now = time.monotonic()
    if number == _last[0] and now - _last[1] < REPEAT_SECONDS:
        return True
    _last[:] = [number, now]
    return False


def forget_last() -> None:
    """Makes the next signal count, even if the same one came just before."""
    _last[:] = [0, 0.0]


class Stopped(BaseException):
    """This process was asked to stop; the message says why, and what is saved.

    Not a subclass of Exception, like KeyboardInterrupt, so that error handling does not catch it.
    status: exit status
    number: number of the signal if ``end_now`` raised this, else None
    """

    status = STOPPED
    number: int | None = None


class TimeOver(Stopped):
    """The time limit is reached; this is not a failure, so the exit status is 0."""

    status = 0


def unignored_signals() -> list[signal.Signals]:
    """The signals that this process does not ignore; nohup, for example, starts it with SIGHUP ignored."""
    return [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


@contextmanager
def handling(handler: Handler) -> Iterator[None]:
    """Context in which ``handler`` handles the signals.

    Does nothing outside the main thread, since Python allows signal handlers only there.
    """
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
    """Exits immediately after a second signal, without saving."""
    sys.stderr.write("\nexited at once after a second signal; what was saved before is complete\n")
    sys.stderr.flush()
    os._exit(EXITED_AT_ONCE)


def end_now(number: int, frame: FrameType | None) -> None:
    """Signal handler that raises Stopped, so that temporary files are deleted; a second signal exits at once."""
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
    """Context in which a signal raises Stopped.

    Python drops an exception that is raised inside a destructor; in this case the signal is sent again a moment later.
    """
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
    """Context that raises TimeoutError after ``seconds`` of CPU time, also inside ``re``, which checks for signals.

    Has no effect outside the main thread, or on Windows.
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
    """Lets work reach a point where it can save before it stops.

    Within ``with stop:``, the first signal is only recorded. The work checks ``stop.asked`` where it can save; if it is
    true, it saves and calls ``stop.leave``. A second signal exits at once.

    until: time limit (seconds since 1970), after which ``asked`` is true too; None for no limit
    reason: why to stop; "" before that
    reserved: seconds before ``until`` at which ``asked`` becomes true
    """

    def __init__(self, until: float | None = None) -> None:
        self.until = until
        self.reason = ""
        self.reserved = 0.0

    def note(self, number: int, frame: FrameType | None) -> None:
        """The signal handler.

        Ignores repeats: when a parent dies, each of its threads may cause the same signal (see end_with_parent).
        """
        if is_repeat(number):
            return
        if self.reason:
            exit_at_once()
        self.reason = f"stopped by {signal.Signals(number).name}"

    @property
    def asked(self) -> bool:
        """True if the work should save and stop."""
        if self.until is not None and time.time() >= self.until - self.reserved and not self.reason:
            self.reason = TIME_OVER
        return bool(self.reason)

    def reserve(self, seconds: float) -> None:
        """Keeps 1.5 times ``seconds`` of the time limit free for the work that must follow."""
        self.reserved = 1.5 * seconds

    def leave(self, saved: str) -> None:
        """Raises Stopped if asked to stop; ``saved`` is the part of its message that says what is saved."""
        if self.asked:
            raise (TimeOver if self.reason == TIME_OVER else Stopped)(f"{self.reason}; {saved}")

    def ask(self, *reasons: str) -> None:
        """Asks to stop for the first reason that is not empty, such as another rank's; an earlier reason stays."""
        self.reason = next(filter(None, (self.reason, *reasons)))

    def __enter__(self) -> Stop:
        self._handling = handling(self.note)
        self._handling.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._handling.__exit__(None, None, None)
        if error is None and self.reason:  # the signal came after the last check
            raise Stopped(self.reason)

"""What every stage shares on the command line: errors in one sentence, progress on any output, exit codes."""

from __future__ import annotations

import argparse
import errno
import io
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn, TypeVar

from pipeline.system.errors import FoldwiseError
from pipeline.system.places import error_log, shown
from pipeline.system.processes import end_children, end_with_parent, rank
from pipeline.system.signals import STOPPED, Stopped, stop_on_signals

T = TypeVar("T")

OUT_OF_MEMORY = (  # also in the words of torch, on a CPU and on a GPU
    "the memory is full; end what else runs there, or take fewer loader processes (WORKERS=1), and type the same "
    'again; or pass each batch in parts, as a run of its own (SET="accumulate=2")'
)
_FAULTS_OF_THE_MACHINE = {
    errno.ENOSPC: "the disk is full; free some space and run the same command again",
    errno.EDQUOT: "your disk quota is used up; free some space and run the same command again",
    errno.EROFS: "it is on a read-only disk; set FOLDWISE_ROOT to a folder that can be written, or move the project",
    errno.EACCES: "permission is denied; make it readable and writable for you (chmod u+rwX)",
    errno.EISDIR: "a folder is in the place of a file; move it away and run the same command again",
    errno.ENOTDIR: "a file is in the place of a folder; move it away and run the same command again",
    errno.EEXIST: "something else is in its place; move it away and run the same command again",
    errno.ENAMETOOLONG: "the name is too long for the file system; shorten it",
    errno.EPERM: "permission is denied; make it readable and writable for you (chmod u+rwX)",
}

#: Seconds by which the other ranks let the first one speak of a fault that all of them find.
FIRST_WORD = 2


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one sentence."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; --help lists the options\n")


def has_progress_view() -> bool:
    """Whether the driver shows how far this fold is (driver/view.py), so that it need not say it."""
    return "FOLDWISE_VIEW" in os.environ


def whole_number(least: int, most: int, advice: str) -> Callable[[str], int]:
    """The type of an option that takes a whole number from ``least`` to ``most``."""

    def number(text: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,9}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from {least} to {most}{advice}")
        return int(text)

    return number


def answer_early(parser: argparse.ArgumentParser, loads: str = "") -> None:
    """What a stage does before its imports, which take seconds: answers --help and wrong options, and says what it
    ``loads``. Until run_stage takes over, Ctrl-C ends the process without a traceback."""
    plain_output()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    end_with_driver()
    parser.parse_args()
    if loads and not is_driven():
        say(loads, "loading torch and the other packages, which takes some seconds")


def end_with_driver() -> None:
    """A process that the driver started (and none that it starts in turn) ends, saved, when the driver dies."""
    parent = os.environ.pop("FOLDWISE_PARENT", "")
    if parent:
        end_with_parent()
        if os.name == "posix" and os.getppid() != int(parent):
            sys.exit(STOPPED)


def plain_output() -> None:
    """Where standard output cannot print a character, such as in a terminal without UTF-8, it is escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def is_driven() -> bool:
    """Whether the driver started this stage, so that it need not say what comes before and after."""
    return "FOLDWISE_DRIVEN" in os.environ


def run_stage(main: Callable[[], object]) -> None:
    """Runs a stage's main: an expected fault ends in one sentence and exit 1, an unexpected one in a sentence
    that names the log with its traceback, a signal in exit 75, the end of its time in exit 0 (see signals.py)."""
    plain_output()
    try:
        with stop_on_signals():
            main()
    except FoldwiseError as fault:
        if rank():  # the others found the same, and the first of them may say it
            time.sleep(FIRST_WORD)
        sys.exit(f"error: {fault}")
    except Stopped as reason:
        note = f" (exit {reason.status}, an error to make)" if reason.status else ""
        print(f"\n{reason}; the same command goes on{note}", file=sys.stderr)
        sys.exit(reason.status)
    except BrokenPipeError:
        go_silent()
        sys.exit(1)
    except Exception as error:  # the last resort, which hides nothing: the log holds it whole
        if isinstance(error, MemoryError) or re.search("out of memory|can't allocate memory", str(error)):
            sys.exit(f"error: {OUT_OF_MEMORY}")
        if isinstance(error, OSError) and error.errno in _FAULTS_OF_THE_MACHINE:
            where = f"{error.filename}: " if error.filename else ""
            sys.exit(f"error: {where}{_FAULTS_OF_THE_MACHINE[error.errno]}")
        log = error_log()
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text(traceback.format_exc(), encoding="utf-8")
        except OSError:
            traceback.print_exc()
        sys.exit(
            f"error: unexpected {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''} "
            f"(the traceback is in {shown(log)})"
        )
    finally:
        end_children()


def say(stage: str, message: str) -> None:
    """One line of a stage, flushed so that stages running side by side keep their order. Where nobody reads any more,
    the work goes on in silence. Of several ranks the first speaks."""
    if rank():
        return
    try:
        print(f"[{stage}] {message}\n", end="", flush=True)  # in one piece, also where output is unbuffered
    except BrokenPipeError:
        go_silent()


def go_silent() -> None:
    """Where nobody reads standard output any more, such as after ``| head``: what is still said goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def folds_at_once() -> int:
    """How many folds the driver trains at once, this one counted."""
    return int(os.environ.get("FOLDWISE_BESIDE") or 1)


def side_by_side_note() -> str:
    """``", one of 2 folds side by side"`` where several train at once, else nothing."""
    return f", one of {folds_at_once()} folds side by side" if folds_at_once() > 1 else ""


def progress(items: Iterable[T], total: int, stage: str, doing: str, every_s: float = 15) -> Iterator[T]:
    """Yields the items behind a bar with the time left, or, where no terminal looks, a line every ``every_s``."""
    if sys.stderr.isatty() and not side_by_side_note() and not rank():  # bars of processes side by side would mix
        from tqdm import tqdm

        yield from tqdm(items, total=total, desc=f"[{stage}] {doing}", leave=False)
        return
    start = last = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if done and now - last >= every_s:
            last = now
            left = (now - start) / done * (total - done)
            say(stage, f"{doing}: {done:,} of {total:,}, about {duration(left)} left")
        yield item


def duration(seconds: float) -> str:
    """``"48 s"``, ``"12 min 5 s"`` or ``"2 h 40 min"``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"

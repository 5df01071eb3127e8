"""Runs a stage on the command line: prints its lines, progress and errors, and sets the exit status."""

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

from pipeline.system.errors import FoldwiseError, is_out_of_memory
from pipeline.system.places import error_log, shown
from pipeline.system.processes import end_children, end_with_parent, rank
from pipeline.system.signals import STOPPED, Stopped, stop_on_signals

T = TypeVar("T")

OUT_OF_MEMORY = (  # replaces torch's own messages too, on a CPU and on a GPU
    "the memory is full; close other programs or use fewer loader processes (WORKERS=1), and run the same command "
    'again; or split each batch into parts, which starts a new run (SET="accumulate=2")'
)
_MACHINE_ERRORS = {
    errno.ENOSPC: "the disk is full; free some space and run the same command again",
    errno.EDQUOT: "your disk quota is used up; free some space and run the same command again",
    errno.EROFS: "it is on a read-only disk; set FOLDWISE_ROOT to a writable folder, or move the project",
    errno.EACCES: "permission denied; make it readable and writable for you (chmod u+rwX)",
    errno.EISDIR: "a folder is where a file is expected; move it away and run the same command again",
    errno.ENOTDIR: "a file is where a folder is expected; move it away and run the same command again",
    errno.EEXIST: "a file or folder of this name already exists; move it away and run the same command again",
    errno.ENAMETOOLONG: "the name is too long for the file system; shorten it",
    errno.EPERM: "permission denied; make it readable and writable for you (chmod u+rwX)",
}

#: Seconds that the other ranks wait before they print an error, so that the first rank prints it first.
LATER_RANKS_WAIT = 2


class Parser(argparse.ArgumentParser):
    """An argument parser that prints an error in one line and exits with status 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; --help lists the options\n")


def has_progress_view() -> bool:
    """True if the driver shows the progress of this fold (driver/view.py), so that the stage does not print it."""
    return "FOLDWISE_VIEW" in os.environ


def whole_number(least: int, most: int, advice: str) -> Callable[[str], int]:
    """Returns an argparse type: a whole number from ``least`` to ``most``.

    advice: end of the error message, such as the reason for ``most``
    """

    def number(text: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,9}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from {least} to {most}{advice}")
        return int(text)

    return number


def answer_early(parser: argparse.ArgumentParser, stage: str = "") -> None:
    """Handles --help and wrong options before the imports of a stage, which take seconds.

    Until run_stage takes over, Ctrl-C ends the process without a traceback.
    stage: name of a stage that loads torch, to print a note about it; "" for no note
    """
    plain_output()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    end_with_driver()
    parser.parse_args()
    if stage and not is_driven():
        say(stage, "loading torch and other packages, which takes a few seconds")


def end_with_driver() -> None:
    """Makes a process that the driver started save and exit when the driver dies; exits now if it is already dead.

    FOLDWISE_PARENT is removed from the environment, so child processes of this one are not affected.
    """
    parent = os.environ.pop("FOLDWISE_PARENT", "")
    if parent:
        end_with_parent()
        if os.name == "posix" and os.getppid() != int(parent):
            sys.exit(STOPPED)


def plain_output() -> None:
    """Escapes characters that standard output or error cannot print, such as in a terminal without UTF-8."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def is_driven() -> bool:
    """True if the driver started this stage, so that it does not print what it loads or which command is next."""
    return "FOLDWISE_DRIVEN" in os.environ


def run_stage(main: Callable[[], object]) -> None:
    """Runs the main function of a stage; turns each exception into one message and an exit status.

    - FoldwiseError: its message, status 1
    - full memory or disk, or missing permissions: what to do, status 1
    - an unexpected exception: a message with the path of the log that holds the traceback, status 1
    - a signal: status 75; the end of the time limit: status 0 (see signals.py)
    """
    plain_output()
    try:
        with stop_on_signals():
            main()
    except FoldwiseError as fault:
        if rank():  # all ranks find the same error; the first one prints it
            time.sleep(LATER_RANKS_WAIT)
        sys.exit(printable(f"error: {fault}"))
    except Stopped as reason:
        note = f" (exit status {reason.status}, which make reports as an error)" if reason.status else ""
        print(f"\n{reason}; the same command continues{note}", file=sys.stderr)
        sys.exit(reason.status)
    except BrokenPipeError:
        discard_output()
        sys.exit(1)
    except Exception as error:  # unexpected: the log gets the complete traceback
        if is_out_of_memory(error):
            sys.exit(f"error: {OUT_OF_MEMORY}")
        if isinstance(error, OSError) and error.errno in _MACHINE_ERRORS:
            where = f"{error.filename}: " if error.filename else ""
            sys.exit(f"error: {where}{_MACHINE_ERRORS[error.errno]}")
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
    """Prints one line of a stage; of several ranks, only the first one prints.

    The line is flushed, so that the lines of stages that run side by side stay in order. If standard output is closed,
    the work continues without output.
    """
    if rank():
        return
    try:
        print(printable(f"[{stage}] {message}\n"), end="", flush=True)  # one write, even if output is unbuffered
    except BrokenPipeError:
        discard_output()


def printable(text: str) -> str:
    """The text with control characters written as Python does: a name could move the cursor of a terminal."""
    return "".join(char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in text)


def discard_output() -> None:
    """Discards all further standard output, after its reader has closed it (such as ``| head``)."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def folds_at_once() -> int:
    """Number of folds that the driver trains at once, including this one."""
    return int(os.environ.get("FOLDWISE_BESIDE") or 1)


def side_by_side_note() -> str:
    """``", one of 2 folds side by side"`` if several train at once, else ``""``."""
    return f", one of {folds_at_once()} folds side by side" if folds_at_once() > 1 else ""


def progress(items: Iterable[T], total: int, stage: str, doing: str, every_s: float = 15) -> Iterator[T]:
    """Yields the items and shows the progress: a bar in a terminal, else a line every ``every_s`` seconds.

    total: number of items; doing: name of the work, for the bar or line
    """
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

"""Runs a stage as several processes (ranks) on this machine, as torchrun does, but prints an error in one line.

    make train GPUS=4 FOLD=0
    python -m pipeline.tools.ranks 4 train --competition dogs-vs-cats --fold 0

Starts ``python -m pipeline.<stage>`` that many times and waits. If one process fails, all are stopped. Exits with the
status of the stage. For several machines or automatic restarts, call torchrun itself (pipeline/driver/README.md, "One
fold on many GPUs").
"""

from __future__ import annotations

import logging
import signal
import sys
import tempfile
import uuid
from pathlib import Path
from types import FrameType

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from pipeline.system.console import end_with_driver
from pipeline.system.signals import STOPPED, is_repeat, unignored_signals


def error_message(failed: ChildFailedError, logs: Path, size: int) -> str:
    """The error message of the rank that failed first; "" if it has printed the message itself."""
    rank, failure = failed.get_first_failure()
    if failure.exitcode < 0:
        name = signal.Signals(-failure.exitcode).name
        return f"error: process {rank} of {size} was killed by {name}; the same command continues from its checkpoint\n"
    if rank == 0 or failure.exitcode == STOPPED:
        return ""
    lines = [line for log in logs.rglob(f"{rank}/stderr.log") for line in log.read_text(errors="replace").splitlines()]
    faults = [line for line in lines if line.startswith("error: ")] or lines[-1:]
    return faults[-1].replace("error: ", f"error: process {rank} of {size}: ", 1) + "\n" if faults else ""


def stop(number: int, frame: FrameType | None) -> None:
    """Signal handler: torchrun then hands the first signal on to the ranks, and waits until they have saved."""
    if not is_repeat(number):
        raise SignalException(f"stopped by {signal.Signals(number).name}", signal.Signals(number))


def start(size: int, command: list[str]) -> int:
    """Runs ``python -m <command>`` as ``size`` ranks until all have ended; returns the exit status."""
    logging.disable(logging.ERROR)  # hides torchrun's own error report, which is a page long
    with tempfile.TemporaryDirectory() as logs:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=size,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,  # the user should read the error first; the same command continues
            logs_specs=DefaultLogsSpecs(logs, redirects=dict.fromkeys(range(1, size), Std.ERR)),
        )
        config.signals_to_handle = ""  # torchrun's own handler raises for repeated signals too, even while it stops
        try:
            elastic_launch(config, sys.executable)("-m", *command)
        except SignalException:
            return STOPPED
        except ChildFailedError as failed:
            sys.stderr.write(error_message(failed, Path(logs), size))
            return max(1, failed.get_first_failure()[1].exitcode)
    return 0


def main() -> None:
    if len(sys.argv) < 3 or not sys.argv[1].isdecimal() or int(sys.argv[1]) < 1:
        sys.exit("error: wrong arguments; type: python -m pipeline.tools.ranks <number of ranks> <stage> <options>")
    end_with_driver()
    for number in unignored_signals():
        signal.signal(number, stop)  # until the process has ended: make may repeat a signal at any moment
    try:
        status = start(int(sys.argv[1]), [f"pipeline.{sys.argv[2]}", *sys.argv[3:]])
    except SignalException:  # before the ranks started
        status = STOPPED
    sys.exit(status)


if __name__ == "__main__":
    main()

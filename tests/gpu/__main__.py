"""Checks on a GPU that all of Foldwise works there, and how fast it is, in nine minutes.

    make check-gpu                                       # all steps on the GPU
    make check-gpu DEVICE=cpu TINY=1                     # the same steps on a CPU, with small sizes
    make check-gpu ONLY=digits,resume                    # some of them
    bash tests/gpu/offline.sh                            # on a machine without make or network; see tests/README.md

Reads   this checkout
Writes  <out>/results.json and <out>/log.txt; the data and runs of the check are in a temporary folder, and are deleted

Prints a table of the steps with what they found. The exit status is 1 if a step failed or did not end in time.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from pipeline.driver.options import parse_switch
from pipeline.system.errors import FoldwiseError, InputError, MachineError
from pipeline.system.signals import Stopped, stop_on_signals
from tests.gpu.here import CHECKOUT, Failed, Here
from tests.gpu.steps import STEPS

#: Seconds for all steps on a GPU; the machine may be lent for ten minutes.
BUDGET = 520
#: Steps that run at once on a GPU, and on a CPU: much of each is the start of processes.
LANES, LANES_ON_CPU = 5, 2
#: How much longer a step may take on a CPU.
CPU_FACTOR = 5
#: Beginning of the line with which the process of a step tells what it found.
FOUND = "[found] "


def run_inside(here: Here, name: str) -> None:
    """Runs one step in this process and prints what it found; the exit status is 1 if it failed."""
    try:
        print(f"{FOUND}{STEPS[name].work(here)}", flush=True)
    except Failed as wrong:
        sys.exit(f"{FOUND}{wrong}")


class Running:
    """A step in a process of its own, with its time limit and its output in the log."""

    def __init__(self, here: Here, name: str, seconds: float, log: Path) -> None:
        self.name, self.began, self.seconds, self.log = name, time.monotonic(), seconds, log
        self.output = here.root / f"{name}.txt"
        words = ["--device", here.device, *(["--tiny"] if here.tiny else []), "--inside", str(here.root), name]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "FOLDWISE_ROOT": str(here.root)}
        print(f"[check-gpu] {name}, up to {seconds:.0f} s", flush=True)
        with self.output.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.gpu", *words], cwd=CHECKOUT, env=environment, stdout=file, stderr=file,
                start_new_session=True,
            )  # fmt: skip

    @property
    def has_ended(self) -> bool:
        """True if the process has ended, or its time is over."""
        return self.process.poll() is not None or time.monotonic() > self.began + self.seconds

    def kill(self) -> None:
        """Ends the process and all that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def finish(self) -> dict[str, Any]:
        """Waits for its end, or ends it when its time is over; returns step, status, seconds and found."""
        try:
            status = self.process.wait(max(1, self.began + self.seconds - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.kill()
            status = 124
        took, text = time.monotonic() - self.began, self.output.read_text(errors="replace")
        lines = [line for line in text.splitlines() if line.strip()]
        found = next((line.removeprefix(FOUND) for line in reversed(lines) if line.startswith(FOUND)), "")
        found = found or ("it did not end in time" if status == 124 else lines[-1] if lines else "")
        with self.log.open("a") as log:
            log.write(f"==== {self.name}: status {status}, {took:.0f} s\n{text}\n")
        result = {"step": self.name, "status": status, "seconds": round(took, 1), "found": found}
        print(line_of(result), flush=True)
        return result


def line_of(result: dict[str, Any]) -> str:
    """A line of the table."""
    verdict = {0: "ok", 124: "TIME"}.get(result["status"], "FAIL")
    return f"{verdict:<5}{result['seconds']:>6.0f} s  {result['step']:<22}{result['found']}"


def can_start(name: str, running: list[Running], left: list[str]) -> bool:
    """True if a step may start: what it needs is done, and neither it nor one that runs wants to be alone.

    Steps that want to be alone come after all others.
    """
    names = [other.name for other in running]
    if {*STEPS[name].after} & {*left, *names}:
        return False
    if STEPS[name].alone:
        return not running and all(STEPS[other].alone for other in left)
    return not any(STEPS[other].alone for other in names)


def run_steps(here: Here, names: list[str], log: Path) -> list[dict[str, Any]]:
    """Runs the steps, several at once, except those that are timed."""
    end, lanes = time.monotonic() + BUDGET, LANES if here.on_gpu else LANES_ON_CPU
    results: list[dict[str, Any]] = []
    running: list[Running] = []
    left = list(names)
    try:
        while left or running:
            for name in list(left):
                failed = [each["step"] for each in results if each["status"] and each["step"] in STEPS[name].after]
                if failed:
                    left.remove(name)
                    results.append({"step": name, "status": 1, "seconds": 0.0, "found": f"not run: {failed[0]} failed"})
                elif len(running) < lanes and can_start(name, running, left):
                    left.remove(name)
                    seconds = float(STEPS[name].seconds)
                    seconds = min(seconds, end - time.monotonic()) if here.on_gpu else seconds * CPU_FACTOR
                    running.append(Running(here, name, max(1.0, seconds), log))
            for each in [each for each in running if each.has_ended]:
                running.remove(each)
                results.append(each.finish())
            time.sleep(0.1)
    finally:  # some run only if the check itself is stopped
        for each in running:
            each.kill()
    return results


def require_device(name: str) -> None:
    """Raises FoldwiseError for a device that does not exist; does not start the GPU, which a step may want alone."""
    if not re.fullmatch(r"cpu|cuda(:[0-9]{1,3})?", name):
        raise InputError(f"unknown DEVICE={name}; known: cpu, cuda, cuda:1")
    number = int(name.partition(":")[2] or 0)
    if name != "cpu" and torch.cuda.device_count() <= number:
        raise MachineError(
            f"torch {torch.__version__} finds no {name} here; on a CPU, type: make check-gpu DEVICE=cpu TINY=1"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 or cpu (default: cuda)")
    parser.add_argument("--tiny", nargs="?", const="1", default="", metavar="1", help="small sizes, for a CPU")
    parser.add_argument("--only", default="", help=f"some of the steps: {', '.join(STEPS)}")
    parser.add_argument("--out", type=Path, help="folder of results.json and log.txt (default: a temporary one)")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("step", nargs="?", help=argparse.SUPPRESS)
    options = parser.parse_args()
    tiny = parse_switch("TINY", options.tiny)
    if options.inside:
        run_inside(Here(options.device, tiny, options.inside), options.step)
        return
    require_device(options.device)
    names = options.only.replace(",", " ").split() if options.only else [*STEPS]
    if not names or (unknown := [name for name in names if name not in STEPS]):
        wrong = f"unknown step '{unknown[0]}'" if names else f"ONLY={options.only} names no step"
        raise InputError(f"{wrong}; known: {', '.join(STEPS)}")
    needed = {before for name in names for before in STEPS[name].after}
    names = [name for name in STEPS if name in needed or name in names]
    out = options.out or Path(tempfile.mkdtemp(prefix="foldwise-check-gpu-"))
    out.mkdir(parents=True, exist_ok=True)
    (out / "log.txt").write_text("")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="foldwise-gpu-", ignore_cleanup_errors=True) as root:
        results = run_steps(Here(options.device, tiny, Path(root)), names, out / "log.txt")
    results.sort(key=lambda result: names.index(result["step"]))
    (out / "results.json").write_text(json.dumps(results, indent=1))
    bad = [result["step"] for result in results if result["status"]]
    verdict = f"{len(bad)} of {len(results)} steps failed: {', '.join(bad)}" if bad else f"all {len(results)} are fine"
    print("\n".join(["", *map(line_of, results)]))
    print(f"[check-gpu] {verdict}; {time.monotonic() - began:.0f} s; {out}/results.json, {out}/log.txt")
    sys.exit(bool(bad))


if __name__ == "__main__":
    if "--inside" in sys.argv:  # a step
        main()
        sys.exit()
    try:
        with stop_on_signals():
            main()
    except Stopped as stopped:
        sys.exit(f"[check-gpu] {stopped}; its steps are ended")
    except FoldwiseError as fault:
        sys.exit(f"error: {fault}")

"""Trains the folds of a run on a Ray cluster, each in a process like that of ``make train FOLD=k``.

    make train CLUSTER=auto
    make submit COMPETITION=dogs-vs-cats CLUSTER=host:6379 GPUS=0.5 CPUS=4
    python -m pipeline.driver.cluster --address auto --competition dogs-vs-cats --gpus 0.5 --cpus 4

All machines must see the same checkout, with its data/ and runs, at the same path (for example on NFS). Trained folds
are skipped. Ray distributes the others. If a machine is lost, its fold starts again on another machine, from its last
checkpoint. A fold that fails is not tried again. Ctrl-C saves and stops all folds.

Reads   what train reads
Writes  what train writes, and runs/<run>/fold<k>/console.log: the output of the fold
"""

from __future__ import annotations

from pipeline.records.command_line import parser_for
from pipeline.system.console import answer_early

PARSER = parser_for(__doc__, "run", "folds", "device")
PARSER.add_argument("--address", default="auto", help="host:port of the cluster's head (default: this machine's)")
PARSER.add_argument("--gpus", type=float, metavar="N", help="GPUs for each fold, such as 0.5 (default: 1 if any)")
PARSER.add_argument("--cpus", type=int, metavar="N", help="CPUs for each fold, which is also its number of threads")
PARSER.add_argument("--until", type=float, metavar="S", help="save and stop at this time (seconds since 1970)")
if __name__ == "__main__":  # before the imports that take seconds
    answer_early(PARSER)

import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.driver.ray_machines import check_machines, connected, load_ray, resources_per_fold
from pipeline.driver.view import View
from pipeline.records.job import Job, job_of
from pipeline.records.names import fold_name, typed_folds
from pipeline.system import places
from pipeline.system.console import duration, progress, run_stage, say
from pipeline.system.errors import MachineError, count_of
from pipeline.system.files import read_json
from pipeline.system.locks import living_owner, owned
from pipeline.system.places import CHECKOUT, shown
from pipeline.system.signals import TIME_OVER, Stop

#: Number of times that a fold is restarted after its machine or its process was lost.
RETRIES = 3
#: Seconds between two checks of the folds, and seconds that they get to save and exit.
POLL_SECONDS, SAVE_SECONDS = 1.0, 60


def train_in_task(command: list[str], checkout: str, folder: str, environment: dict[str, str]) -> str:
    """Trains a fold in a child process that ends if this process ends; returns this machine's name.

    Raises ChildProcessError if the child was ended by a signal or was stopped, and RuntimeError with its last line of
    output if it failed.

    command: arguments for Python
    checkout: working directory of the child
    folder: folder of the fold, for its lock and console.log
    environment: variables that are added to those of this process
    """
    import platform
    import signal
    import sys

    sys.path.insert(0, checkout)
    from pipeline.system.locks import DEAD_AFTER, HEARTBEAT, living_owner
    from pipeline.system.processes import end_with_parent
    from pipeline.system.threads import cores

    if "--threads" in command:  # Ray may be configured with more CPUs than there are
        at = command.index("--threads") + 1
        command = [*command[:at], str(min(int(command[at]), cores())), *command[at + 1 :]]

    lock, end = Path(folder, "lock"), time.monotonic() + DEAD_AFTER + HEARTBEAT
    while living_owner(lock) and time.monotonic() < end:  # a lost machine, or a process that is still saving
        time.sleep(1)

    def begin() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        end_with_parent()  # if Ray's process dies, the fold saves and exits

    log = Path(folder, "console.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        log_start = file.tell()
        process = subprocess.Popen(
            [sys.executable, *command], cwd=checkout, env={**os.environ, **environment}, stdout=file, stderr=file,
            stdin=subprocess.DEVNULL, preexec_fn=begin, start_new_session=True,
        )  # fmt: skip
        try:
            while process.poll() is None:
                time.sleep(0.1)
        finally:  # also if Ray cancels the task
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    process.kill()
    if process.returncode in (75, *range(-64, 0)):
        raise ChildProcessError(f"{platform.node()}: stopped from outside (exit status {process.returncode})")
    if process.returncode:
        lines = log.read_bytes()[log_start:].decode(errors="replace").splitlines()
        last = [line for line in lines if line.strip()][-1:]
        raise RuntimeError(f"{platform.node()}: {''.join(last).removeprefix('error: ')}")
    return platform.node()


def command_of(job: Job, fold: int, gpus: float, cpus: int) -> list[str]:
    """Arguments for Python that train one fold: the stage or, with several GPUs, the tool that starts its ranks."""
    call, machine = job.call, job.machine
    words = ["-m", "pipeline.tools.ranks", str(int(gpus)), "train"] if gpus > 1 else ["-m", "pipeline.train"]
    words += ["--competition", call.competition, "--fold", typed_folds([fold]), "--threads", str(cpus)]
    words += ["--device", machine.device]
    words += ["--dry-run"] if call.dry_run else []
    words += ["--seed", str(call.seed)] if call.seed else []
    words += ["--recipe", call.recipe] if call.recipe else []
    words += ["--workers", str(machine.workers)] if machine.workers is not None else []
    words += ["--deterministic"] if machine.deterministic else []
    words += ["--until", str(machine.until)] if machine.until else []
    return words + (["--set", *call.settings] if call.settings else [])


def environment_of_tasks(gpus: float) -> dict[str, str]:
    """The environment variables of a fold's process; with a part of a GPU, it learns how many folds share the GPU."""
    ours = {name: value for name, value in os.environ.items() if name.startswith("FOLDWISE_")}
    beside = {"FOLDWISE_BESIDE": str(math.floor(1 / gpus + 1e-9))} if 0 < gpus < 1 else {}
    return {**ours, "FOLDWISE_ROOT": str(places.ROOT.absolute()), **beside}


def epochs_done(job: Job, fold: int) -> int:
    """Number of finished epochs of a fold, from its log."""
    with suppress(OSError):
        return max(0, len((job.fold_folder(fold) / "log.csv").read_text().splitlines()) - 1)
    return 0


class Tasks:
    """The folds that train on the cluster.

    running: Ray task -> fold, for the tasks that have not ended
    view: progress lines in a terminal, or None
    faults: fold -> error message, for the folds that failed
    places: fold -> (host, process id) of its training process, as printed last
    epochs: fold -> number of finished epochs
    """

    def __init__(self, ray: Any, job: Job, running: dict[Any, int], view: View | None) -> None:
        self.ray, self.job, self.running, self.view = ray, job, running, view
        self.faults: dict[int, str] = {}
        self.places: dict[int, tuple] = {}
        self.epochs = {fold: epochs_done(job, fold) for fold in running.values()}

    def say(self, message: str) -> None:
        """Prints a line, above the view if there is one."""
        if self.view is None:
            say("cluster", message)
        else:
            self.view.draw(f"[cluster] {message}")

    def watch(self, stop: Stop) -> Iterator[None]:
        """Yields once for each epoch that a fold has finished, until all tasks have ended or it is time to stop."""
        while self.running and not stop.asked:
            ended, _ = self.ray.wait(list(self.running), timeout=POLL_SECONDS)
            for fold in self.running.values():
                self.print_place(fold)
                for _ in range(epochs_done(self.job, fold) - self.epochs[fold]):
                    self.epochs[fold] += 1
                    yield
            for task in ended:
                self.end(task)
            if self.view is not None:
                self.view.draw()

    def print_place(self, fold: int) -> None:
        """Prints on which machine a fold runs, if that has changed."""
        owner = living_owner(self.job.fold_folder(fold) / "lock")
        place = owner and (owner["host"], owner["pid"])
        if place and self.places.get(fold) != place:
            again = "again " if fold in self.places else ""
            self.say(f"{fold_name(fold)}: started {again}on {place[0]}, process {place[1]}")
            self.places[fold] = place
            if self.view is not None:
                self.view.add(fold)

    def end(self, task: Any) -> None:
        """Prints how a task ended, and records its error if it failed."""
        fold = self.running.pop(task)
        if self.view is not None:
            self.view.remove(fold)
        try:
            host = self.ray.get(task)
        except self.ray.exceptions.RayError as error:
            self.faults[fold] = str(getattr(error, "cause", None) or error).strip().splitlines()[-1]
            self.say(f"{fold_name(fold)}: failed")
            return
        record = self.job.fold_folder(fold) / "trained.json"
        if not record.exists():
            self.say(f"{fold_name(fold)}: {TIME_OVER}; its progress is saved; the same command continues")
            return
        facts = read_json(record, "last_epoch", "seconds")
        score = facts["last_epoch"].get("val_score")  # none for a training on all rows
        scored = "trained" if score is None else f"{score:.4f}"
        self.say(f"{fold_name(fold)}: {scored} in {duration(facts['seconds'])} on {host}")


def train_on(ray: Any, job: Job, folds: list[int], request: tuple[float, int], stop: Stop) -> None:
    """Trains folds on the cluster, each with the requested (GPUs, CPUs).

    Raises FoldwiseError if a fold failed, after the other folds have ended.
    """
    gpus, cpus = request
    remote = ray.remote(train_in_task).options(
        num_gpus=gpus, num_cpus=cpus, max_retries=RETRIES, retry_exceptions=[ChildProcessError]
    )
    environment = environment_of_tasks(gpus)
    running = {}
    for fold in folds:
        command, folder = command_of(job, fold, gpus, cpus), str(job.fold_folder(fold).absolute())
        running[remote.remote(command, str(CHECKOUT), folder, environment)] = fold
    total = sum(job.recipe.epochs - epochs_done(job, fold) for fold in folds)
    view = View({fold: job.fold_folder(fold) for fold in folds}) if sys.stderr.isatty() else None
    tasks = Tasks(ray, job, running, view)
    epochs = tasks.watch(stop)
    if view is None:
        epochs = progress(epochs, total, "cluster", f"{count_of(len(folds), 'fold')}, epochs")
    for _ in epochs:
        pass
    if stop.asked:
        say("cluster", f"saving and stopping {count_of(len(running), 'fold')}")
        for task in running:
            ray.cancel(task)
        ray.wait(list(running), num_returns=len(running), timeout=SAVE_SECONDS)
        stop.leave("the progress of the folds is saved")
    if tasks.faults:
        named = "; ".join(f"{fold_name(fold)} on {fault}" for fold, fault in sorted(tasks.faults.items()))
        raise MachineError(f"{count_of(len(tasks.faults), 'fold')} of {len(folds)} failed: {named}")


def run(job: Job, address: str = "auto", gpus: float | None = None, cpus: int | None = None) -> None:
    """Trains the untrained folds of the job on a Ray cluster.

    address: host:port of the cluster's head, or "auto" for the cluster of this machine
    gpus, cpus: resources of each fold; None to choose them
    """
    folds = [fold for fold in job.folds if not (job.fold_folder(fold) / "trained.json").exists()]
    if len(folds) < len(job.folds):
        say("cluster", f"{count_of(len(job.folds) - len(folds), 'fold')} of {job.run.name} trained already")
    if not folds:
        return

    ray = load_ray()
    # Stop only notes a signal: an exception in the middle of a Ray call could leave Ray in an inconsistent state.
    with owned(job.run_folder / "cluster.lock"), connected(ray, address), Stop() as stop:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        request = resources_per_fold(nodes, len(folds), gpus, cpus, job.machine.device)
        able = [
            node for node in nodes if node["Resources"].get("GPU", 0) >= request[0] and node["Resources"].get("CPU", 0)
        ]
        check_machines(ray, able, job.paths)
        stop.leave("no fold was started")
        say(
            "cluster",
            f"{count_of(len(folds), 'fold')} of {job.run.name} on {count_of(len(able), 'machine')}, each fold with "
            f"{request[0]:g} GPUs and {request[1]} CPUs; output: {shown(job.run_folder)}/fold*/console.log",
        )
        train_on(ray, job, folds, request, stop)


def main(argv: list[str] | None = None) -> None:
    args = PARSER.parse_args(argv)
    run(job_of(args), args.address, args.gpus, args.cpus)


if __name__ == "__main__":
    run_stage(main)

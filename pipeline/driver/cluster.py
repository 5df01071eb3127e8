"""The folds of a run on the machines of a Ray cluster, each as the process that ``make train FOLD=k`` starts.

    make train CLUSTER=auto
    make submit COMPETITION=dogs-vs-cats CLUSTER=host:6379 GPUS=0.5 CPUS=4
    python -m pipeline.driver.cluster --address auto --competition dogs-vs-cats --gpus 0.5 --cpus 4

All machines see one checkout, with its data/ and runs, at the same path (NFS or the like). Folds that are trained are
skipped. Ray places the others, and begins a fold again elsewhere, from its checkpoint, when its machine is lost; one
that ends with a fault is not tried again. Ctrl-C stops all of them, saved.

Reads   what train reads
Writes  what train writes, and runs/<run>/fold<k>/console.log: what it said
"""

from __future__ import annotations

from pipeline.records.console import answer_early, parser_for

PARSER = parser_for(__doc__, run=True, folds=True, device=True)
PARSER.add_argument("--address", default="auto", help="host:port of the cluster's head (default: the one here)")
PARSER.add_argument("--gpus", type=float, metavar="N", help="GPUs for each fold, also 0.5 (default: 1, if any)")
PARSER.add_argument("--cpus", type=int, metavar="N", help="CPUs, and so threads, for each fold")
PARSER.add_argument("--until", type=float, metavar="S", help="save and stop at this time (seconds since 1970)")
if __name__ == "__main__":  # before the imports that take seconds
    answer_early(PARSER)

import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pipeline
from pipeline.driver.view import View
from pipeline.records.competition import load_competition
from pipeline.records.console import duration, paths_of, progress, run_stage, say
from pipeline.records.errors import FoldwiseError, count_of
from pipeline.records.files import read_json
from pipeline.records.locks import living_owner, owned
from pipeline.records.paths import ROOT, Paths, parse_folds, shown
from pipeline.records.provenance import PACKAGES
from pipeline.records.recipe import Recipe
from pipeline.records.runs import asked_run
from pipeline.records.signals import TIME_OVER, Stop

CHECKOUT = Path(pipeline.__file__).parents[1]
#: Times that a fold is begun again when its machine, or its process, is lost.
RETRIES = 3
#: Seconds between two looks at the folds, for Ray and each machine to answer, and for a fold to save and end.
LOOK_EVERY, ANSWER, LAST_WORDS = 1.0, 30, 60


def load_ray() -> Any:
    """The package, which tells nobody that it is used; raises FoldwiseError where it is not installed."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_DEDUP_LOGS_SKIP_REGEX"] = "."  # what it says of a lost machine, a page long; we say it in a line
    # The head asks for a token if it had one when it started.
    told = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
    if told or Path("~/.ray/auth_token").expanduser().exists():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        import ray
    except ModuleNotFoundError as error:
        raise FoldwiseError(
            "CLUSTER needs Ray, which is not installed; type: "
            ".venv/bin/python -m pip install -c constraints.txt -e '.[cluster]'"
        ) from error
    return ray


def require_answer(address: str) -> None:
    """Raises FoldwiseError unless a Ray cluster answers, asked by a process that can be ended: Ray itself would try for
    minutes, and heed no signal."""
    if address != "auto" and not re.fullmatch(r"[^\s:]+:\d+", address):
        raise FoldwiseError(f"CLUSTER={address} is neither auto nor a machine and its port, such as CLUSTER=head:6379")
    asked = [] if address == "auto" else ["--address", address]
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", *asked]
    try:
        subprocess.run(command, capture_output=True, timeout=ANSWER, check=True)
    except subprocess.SubprocessError as error:
        raise FoldwiseError(
            f"no Ray cluster answers at '{address}'; start one: .venv/bin/ray start --head --disable-usage-stats here, "
            "and .venv/bin/ray start --address=<this machine>:6379 on the others"
        ) from error


@contextmanager
def connected(ray: Any, address: str) -> Iterator[None]:
    """A connection to a cluster that runs; raises FoldwiseError where there is none, or one of other versions."""
    require_answer(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
    except (OSError, RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())
        raise FoldwiseError(f"the Ray cluster at '{address}' cannot be used: {said}") from error
    try:
        yield
    finally:
        ray.shutdown()


# --- what runs on the machines: plain functions that Ray carries there ------------------------------------------------


def look_around(checkout: str, home: str, token: str, packages: list[str]) -> dict[str, Any]:
    """What a machine sees: the code's fingerprint, versions, and whether it can read and write the shared folder."""
    import hashlib
    import importlib.metadata
    import platform
    from pathlib import Path

    code = hashlib.sha256()
    for path in sorted(Path(checkout, "pipeline").rglob("*")):
        if path.suffix in (".py", ".toml"):
            code.update(str(path.relative_to(checkout)).encode() + path.read_bytes())
    versions = {"Python": platform.python_version()}
    for name in packages:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    try:
        shared = Path(home, f"probe.{token}").read_text() == token
        answer = Path(home, f"probe.{token}.{platform.node()}.{os.getpid()}")
        answer.write_text(token)
        answer.unlink()
    except OSError:
        shared = False
    return {"code": code.hexdigest(), "versions": versions, "shared": shared, "exists": Path(checkout).is_dir()}


def train_here(command: list[str], checkout: str, folder: str, environment: dict[str, str]) -> str:
    """Trains a fold in a process that ends with this one; returns this machine's name.

    Raises ChildProcessError when that process was ended from outside, RuntimeError with its sentence when it failed.
    """
    import platform
    import signal
    import subprocess
    import sys
    import time
    from pathlib import Path

    sys.path.insert(0, checkout)
    from pipeline.records.locks import BEAT, DEAD_AFTER, living_owner
    from pipeline.records.processes import end_with_parent
    from pipeline.records.threads import cores

    if "--threads" in command:  # Ray may have been told of more CPUs than there are
        at = command.index("--threads") + 1
        command = [*command[:at], str(min(int(command[at]), cores())), *command[at + 1 :]]

    lock, end = Path(folder, "lock"), time.monotonic() + DEAD_AFTER + BEAT
    while living_owner(lock) and time.monotonic() < end:  # of a machine that is lost, or of a process that still saves
        time.sleep(1)

    def begin() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        end_with_parent()  # and save, when Ray's process dies

    log = Path(folder, "console.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        said = file.tell()
        process = subprocess.Popen(
            [sys.executable, *command], cwd=checkout, env={**os.environ, **environment}, stdout=file, stderr=file,
            stdin=subprocess.DEVNULL, preexec_fn=begin, start_new_session=True,
        )  # fmt: skip
        try:
            while process.poll() is None:
                time.sleep(0.1)
        finally:  # also when Ray takes the task back
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    process.kill()
    if process.returncode in (75, *range(-64, 0)):
        raise ChildProcessError(f"{platform.node()}: it was ended from outside ({process.returncode})")
    if process.returncode:
        lines = log.read_bytes()[said:].decode(errors="replace").splitlines()
        last = [line for line in lines if line.strip()][-1:]
        raise RuntimeError(f"{platform.node()}: {''.join(last).removeprefix('error: ')}")
    return platform.node()


# --- what the driver does ---------------------------------------------------------------------------------------------


def name_of(node: dict[str, Any]) -> str:
    """A machine as its user knows it."""
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"


def request_of(nodes: list[dict], folds: int, gpus: float | None, cpus: int | None, device: str) -> tuple[float, int]:
    """GPUs and CPUs for each fold. If they are not given: a GPU where there are some; the folds' part of all CPUs, as
    far as one machine has them. Raises FoldwiseError where no machine has as much."""
    has = [(node["Resources"].get("GPU", 0), int(node["Resources"].get("CPU", 0))) for node in nodes]
    if gpus is None:
        gpus = 1 if device != "cpu" and any(of_node for of_node, _ in has) else 0
    fitting = [of_node for gpus_there, of_node in has if gpus_there >= gpus and of_node]
    if cpus is None and fitting:
        at_once = min(folds, sum(int(there // gpus) for there, _ in has)) if gpus else folds
        cpus = max(1, min(min(fitting), sum(fitting) // max(1, at_once)))
    if not fitting or max(fitting) < (cpus or 1):
        most = "; ".join(f"{name_of(node)}: {gpus:g} and {cpus}" for node, (gpus, cpus) in zip(nodes, has, strict=True))
        raise FoldwiseError(
            f"no machine of the cluster has {gpus:g} GPUs and {count_of(cpus or 1, 'CPU')} for a fold (they have "
            f"{most}); ask for less with GPUS and CPUS"
        )
    return gpus, cpus or 1


def require_alike(ray: Any, nodes: list[dict], paths: Paths) -> None:
    """Raises FoldwiseError, naming the machine, unless all have this code and these versions, and share this folder."""
    token = f"{time.time_ns():x}"
    probe = paths.home / f"probe.{token}"
    probe.write_text(token)
    try:
        arguments = (str(CHECKOUT), str(paths.home.absolute()), token, PACKAGES)
        here = look_around(*arguments)
        affinity = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        look, answers = ray.remote(look_around), []
        for node in nodes:
            there = affinity(node["NodeID"], soft=False)
            answers.append(look.options(num_cpus=0, max_retries=0, scheduling_strategy=there).remote(*arguments))
        for node, answer in zip(nodes, answers, strict=True):
            try:
                there = ray.get(answer, timeout=ANSWER)
            except ray.exceptions.RayError as error:
                reason = str(error).strip().splitlines()[-1]
                raise FoldwiseError(f"{name_of(node)} does not answer ({reason}); start its Ray again") from error
            require_same(name_of(node), here, there)
    finally:
        probe.unlink(missing_ok=True)


def require_same(machine: str, here: dict[str, Any], there: dict[str, Any]) -> None:
    """Raises FoldwiseError for the first thing that a machine sees otherwise."""
    if not there["exists"]:
        raise FoldwiseError(f"{machine} has no {CHECKOUT}; all machines need the checkout at the same path")
    if not there["shared"]:
        raise FoldwiseError(
            f"{machine} cannot read and write {ROOT / 'data'} as this machine sees it; share that folder at the same "
            "path (NFS or the like)"
        )
    for name, version in here["versions"].items():
        if there["versions"][name] != version:
            raise FoldwiseError(
                f"{machine} has {name} {there['versions'][name]}, this machine {version}; install what constraints.txt "
                "names there (make setup)"
            )
    if there["code"] != here["code"]:
        raise FoldwiseError(f"{machine} has other code in {CHECKOUT}/pipeline than this machine; bring it up to date")


def command_of(args: Any, fold: int, gpus: float, cpus: int) -> list[str]:
    """What trains one fold: the stage, or on several GPUs its ranks."""
    words = ["-m", "pipeline.tools.ranks", str(int(gpus)), "train"] if gpus > 1 else ["-m", "pipeline.train"]
    words += ["--competition", args.competition, "--fold", str(fold), "--threads", str(cpus), "--device", args.device]
    words += ["--dry-run"] if args.dry_run else []
    words += ["--recipe", args.recipe] if args.recipe else []
    words += ["--workers", str(args.workers)] if args.workers is not None else []
    words += ["--deterministic"] if args.deterministic else []
    words += ["--until", str(args.until)] if args.until else []
    return words + (["--set", *args.set] if args.set else [])


def epochs_done(paths: Paths, run: str, fold: int) -> int:
    """Epochs of a fold so far, by its log."""
    with suppress(OSError):
        return max(0, len((paths.fold(run, fold) / "log.csv").read_text().splitlines()) - 1)
    return 0


def watched(
    ray: Any, tasks: dict[Any, int], faults: dict[int, str], paths: Paths, run: str, stop: Stop, view: View | None
) -> Iterator[None]:
    """Yields once for each epoch that a fold has finished, until all tasks have ended, or it is time to stop; says what
    becomes of the folds, and puts what went wrong into ``faults``."""
    seen = {fold: epochs_done(paths, run, fold) for fold in tasks.values()}
    places: dict[int, tuple] = {}

    def tell(message: str) -> None:
        if view is None:
            say("cluster", message)
        else:
            view.draw(f"[cluster] {message}")

    while tasks and not stop.asked:
        ended, _ = ray.wait(list(tasks), timeout=LOOK_EVERY)
        for fold in tasks.values():
            owner = living_owner(paths.fold(run, fold) / "lock")
            place = owner and (owner["host"], owner["pid"])
            if place and places.get(fold) != place:
                tell(f"fold {fold}: {'again, ' if fold in places else ''}on {place[0]}, process {place[1]}")
                places[fold] = place
                if view is not None:
                    view.add(fold)
            for _ in range(epochs_done(paths, run, fold) - seen[fold]):
                seen[fold] += 1
                yield
        for task in ended:
            fold = tasks.pop(task)
            if view is not None:
                view.remove(fold)
            try:
                host = ray.get(task)
            except ray.exceptions.RayError as error:
                faults[fold] = str(getattr(error, "cause", None) or error).strip().splitlines()[-1]
                tell(f"fold {fold}: failed")
                continue
            record = paths.fold(run, fold) / "trained.json"
            if not record.exists():
                tell(f"fold {fold}: {TIME_OVER}; what was done is saved; the same command goes on")
                continue
            facts = read_json(record, "last_epoch", "seconds")
            score = facts["last_epoch"]["val_score"]
            tell(f"fold {fold}: {score:.4f} in {duration(facts['seconds'])} on {host}")
        if view is not None:
            view.draw()


def train_on(
    ray: Any, args: Any, paths: Paths, run: str, recipe: Recipe, folds: list[int], request: tuple, stop: Stop
) -> None:
    """Trains folds on the cluster; raises FoldwiseError when one of them failed, after the others have ended."""
    gpus, cpus = request
    remote = ray.remote(train_here).options(
        num_gpus=gpus, num_cpus=cpus, max_retries=RETRIES, retry_exceptions=[ChildProcessError]
    )
    ours = {name: value for name, value in os.environ.items() if name.startswith("FOLDWISE_")}
    environment = {**ours, "FOLDWISE_ROOT": str(ROOT.absolute())}
    tasks = {}
    for fold in folds:
        command, folder = command_of(args, fold, gpus, cpus), str(paths.fold(run, fold).absolute())
        tasks[remote.remote(command, str(CHECKOUT), folder, environment)] = fold
    faults: dict[int, str] = {}
    total = sum(recipe.epochs - epochs_done(paths, run, fold) for fold in folds)
    view = View({fold: paths.fold(run, fold) for fold in folds}) if sys.stderr.isatty() else None
    events = watched(ray, tasks, faults, paths, run, stop, view)
    if view is None:
        events = progress(events, total, "cluster", f"{count_of(len(folds), 'fold')}, epochs")
    for _ in events:
        pass
    if stop.asked:
        say("cluster", f"stopping {count_of(len(tasks), 'fold')}, which save first")
        for task in tasks:
            ray.cancel(task)
        ray.wait(list(tasks), num_returns=len(tasks), timeout=LAST_WORDS)
        stop.leave("what the folds had done is saved")
    if faults:
        named = "; ".join(f"fold {fold} on {fault}" for fold, fault in sorted(faults.items()))
        raise FoldwiseError(f"{count_of(len(faults), 'fold')} of {len(folds)} failed: {named}")


def main() -> None:
    args = PARSER.parse_args()
    paths = paths_of(args)
    competition = load_competition(paths)
    run, recipe = asked_run(args, competition)
    chosen = parse_folds(args.folds, competition.folds.n)
    folds = [fold for fold in chosen if not (paths.fold(run, fold) / "trained.json").exists()]
    if len(folds) < len(chosen):
        say("cluster", f"{count_of(len(chosen) - len(folds), 'fold')} of {run} trained already")
    if not folds:
        return

    ray = load_ray()
    # A signal is only noted: it would leave Ray's own calls in disorder.
    with owned(paths.run(run) / "cluster.lock"), connected(ray, args.address), Stop() as stop:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        gpus, cpus = request_of(nodes, len(folds), args.gpus, args.cpus, args.device)
        able = [node for node in nodes if node["Resources"].get("GPU", 0) >= gpus and node["Resources"].get("CPU", 0)]
        require_alike(ray, able, paths)
        stop.leave("no fold was begun")
        say(
            "cluster",
            f"{count_of(len(folds), 'fold')} of {run} on {count_of(len(able), 'machine')}, each with {gpus:g} GPUs and "
            f"{cpus} CPUs of it; what they say: {shown(paths.run(run))}/fold*/console.log",
        )
        train_on(ray, args, paths, run, recipe, folds, (gpus, cpus), stop)


if __name__ == "__main__":
    run_stage(main)

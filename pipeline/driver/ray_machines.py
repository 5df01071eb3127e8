"""Connects to a Ray cluster, computes the GPUs and CPUs of each fold, and checks that all machines are alike."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.records.paths import Paths
from pipeline.system import places
from pipeline.system.errors import MachineError, count_of
from pipeline.system.extras import command_for
from pipeline.system.places import CHECKOUT
from pipeline.system.provenance import PACKAGES

#: Seconds within which Ray and each machine must answer.
ANSWER_SECONDS = 30


def load_ray() -> Any:
    """Imports Ray, with its usage statistics turned off; raises FoldwiseError if it is not installed."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_DEDUP_LOGS_SKIP_REGEX"] = "."  # drops its long log of a lost machine; we print one line
    # The head requires a token if it had one when it started.
    token_variables = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
    if token_variables or Path("~/.ray/auth_token").expanduser().exists():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        import ray
    except ModuleNotFoundError as error:
        raise MachineError(f"CLUSTER needs Ray, which is not installed; type: {command_for('cluster')}") from error
    return ray


def require_answer(address: str) -> None:
    """Raises FoldwiseError if no Ray cluster answers.

    Asks in a child process with a timeout: Ray itself would retry for minutes and ignore signals.
    """
    if address != "auto" and not re.fullmatch(r"[^\s:]+:\d+", address):
        raise MachineError(f"CLUSTER={address} is neither auto nor host:port, such as CLUSTER=head:6379")
    asked = [] if address == "auto" else ["--address", address]
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", *asked]
    try:
        subprocess.run(command, capture_output=True, timeout=ANSWER_SECONDS, check=True)
    except subprocess.SubprocessError as error:
        raise MachineError(
            f"no Ray cluster answers at '{address}'; start one: .venv/bin/ray start --head --disable-usage-stats here, "
            "and .venv/bin/ray start --address=<this machine>:6379 on the others"
        ) from error


@contextmanager
def connected(ray: Any, address: str) -> Iterator[None]:
    """Context with a connection to a running cluster; raises FoldwiseError if there is none or its versions differ."""
    require_answer(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise MachineError(f"the Ray cluster at '{address}' cannot be used: {reason}") from error
    try:
        yield
    finally:
        ray.shutdown()


def machine_facts(checkout: str, home: str, token: str, packages: list[str]) -> dict[str, Any]:
    """Collects facts about the machine on which it runs; Ray runs it on each machine.

    checkout, home: the folders of the checkout and of the competition
    token: content and part of the name of the probe file in ``home``
    packages: packages whose versions are compared

    Returns code (sha256 of pipeline/), versions (name -> version), shared (True if ``home`` has the probe file and can
    be written) and exists (True if the checkout exists).
    """
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


def name_of(node: dict[str, Any]) -> str:
    """Host name and address of a machine, for messages."""
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"


def resources_per_fold(
    nodes: list[dict], folds: int, gpus: float | None, cpus: int | None, device: str
) -> tuple[float, int]:
    """Returns (GPUs, CPUs) for each fold; raises FoldwiseError if no machine has as many.

    If they are None: one GPU if a machine has one and the device is not the CPU; an equal share of all CPUs, but not
    more than the smallest machine has.
    """
    has = [(node["Resources"].get("GPU", 0), int(node["Resources"].get("CPU", 0))) for node in nodes]
    if gpus is None:
        gpus = 1 if device != "cpu" and any(of_node for of_node, _ in has) else 0
    fitting = [of_node for gpus_there, of_node in has if gpus_there >= gpus and of_node]
    if cpus is None and fitting:
        at_once = min(folds, sum(int(there // gpus) for there, _ in has)) if gpus else folds
        cpus = max(1, min(min(fitting), sum(fitting) // max(1, at_once)))
    if not fitting or max(fitting) < (cpus or 1):
        most = "; ".join(f"{name_of(node)}: {gpus:g} and {cpus}" for node, (gpus, cpus) in zip(nodes, has, strict=True))
        raise MachineError(
            f"no machine of the cluster has {gpus:g} GPUs and {count_of(cpus or 1, 'CPU')} for a fold (GPUs and CPUs: "
            f"{most}); ask for less with GPUS and CPUS"
        )
    return gpus, cpus or 1


def check_machines(ray: Any, nodes: list[dict], paths: Paths) -> None:
    """Raises FoldwiseError if a machine has other code or versions, or does not share the competition's folder."""
    token = f"{time.time_ns():x}"
    probe = paths.home / f"probe.{token}"
    probe.write_text(token)
    try:
        arguments = (str(CHECKOUT), str(paths.home.absolute()), token, PACKAGES)
        here = machine_facts(*arguments)
        affinity = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        look, answers = ray.remote(machine_facts), []
        for node in nodes:
            there = affinity(node["NodeID"], soft=False)
            answers.append(look.options(num_cpus=0, max_retries=0, scheduling_strategy=there).remote(*arguments))
        for node, answer in zip(nodes, answers, strict=True):
            try:
                there = ray.get(answer, timeout=ANSWER_SECONDS)
            except ray.exceptions.RayError as error:
                reason = str(error).strip().splitlines()[-1]
                raise MachineError(f"{name_of(node)} does not answer ({reason}); restart Ray there") from error
            check_machine(name_of(node), here, there)
    finally:
        probe.unlink(missing_ok=True)


def check_machine(machine: str, here: dict[str, Any], there: dict[str, Any]) -> None:
    """Raises FoldwiseError for the first difference between a machine and this one.

    here, there: what ``machine_facts`` returned on this machine and on the other
    """
    if not there["exists"]:
        raise MachineError(f"{machine} has no {CHECKOUT}; all machines need the checkout at the same path")
    if not there["shared"]:
        raise MachineError(
            f"{machine} cannot read and write this machine's {places.ROOT / 'data'}; share that folder at the same "
            "path (for example by NFS)"
        )
    for name, version in here["versions"].items():
        if there["versions"][name] != version:
            raise MachineError(
                f"{machine} has {name} {there['versions'][name]}, this machine {version}; install the packages of "
                "constraints.txt there (make setup)"
            )
    if there["code"] != here["code"]:
        raise MachineError(f"{machine} has other code in {CHECKOUT}/pipeline than this machine; update its checkout")

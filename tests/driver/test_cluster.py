"""Folds on a Ray cluster. The tests on a cluster of two raylets need the extra: they are skipped visibly without it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pipeline.driver.cluster import command_of, environment_of_tasks, train_in_task
from pipeline.records.command_line import Machine
from pipeline.records.job import make_job
from pipeline.records.paths import Paths
from pipeline.system import places
from pipeline.system.locks import living_owner, owned
from pipeline.system.places import CHECKOUT
from pipeline.system.signals import STOPPED
from tests.conftest import Stage, start_stage, wait_for

pytestmark = pytest.mark.xdist_group("ray")  # one cluster on this machine, whatever the number of processes


LONG, SHORT = ["epochs=500", "model_args.dropout=0.2"], ["epochs=2"]


def test_a_fold_on_several_gpus_is_several_ranks(shapes: Paths) -> None:
    job = make_job("shapes", settings=["lr=1"], machine=Machine(workers=2))
    assert command_of(job, 3, 4, 8)[:4] == ["-m", "pipeline.tools.ranks", "4", "train"]
    assert command_of(job, 3, 0.5, 8) == [
        "-m", "pipeline.train", "--competition", "shapes", "--fold", "3", "--threads", "8", "--device", "auto",
        "--workers", "2", "--set", "lr=1",
    ]  # fmt: skip


def test_folds_that_share_a_gpu_know_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FOLDWISE_BESIDE", raising=False)
    beside = {gpus: environment_of_tasks(gpus).get("FOLDWISE_BESIDE") for gpus in (0.25, 1 / 3, 0.3, 0, 1, 4)}
    assert beside == {0.25: "4", 1 / 3: "3", 0.3: "3", 0: None, 1: None, 4: None}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head that trains nothing, and two nodes of one CPU each."""
    pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # Ray would give no task a GPU of a node that hides all
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 80_000_000, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
    made.two = [made.add_node(num_cpus=1, **small) for _ in range(2)]
    made.another = lambda **resources: made.add_node(**resources, **small)
    yield made
    made.shutdown()


def drive(cluster: Any, *arguments: str) -> subprocess.Popen:
    """The driver, on the shapes."""
    of_cluster = ["--address", cluster.address, "--cpus", "1"]
    return start_stage(places.ROOT, "driver.cluster", *of_cluster, *arguments)


def wait_until(found: Callable[[], object], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_lost_node_and_a_lost_driver_cost_nothing(cluster: Any, split: Paths, stage: Stage) -> None:
    """Also Ctrl-C. The weights are, bit for bit, those of ``make train`` on one thread."""
    run = "tiny~" + "~".join(LONG)
    folders = [split.fold(run, fold) for fold in range(3)]

    def at_work() -> list[int]:
        return [fold for fold, folder in enumerate(folders) if living_owner(folder / "lock")]

    stage("train", "--fold", "2", "--threads", "1", "--set", *LONG)
    driver = drive(cluster, "--set", *LONG)
    wait_for(lambda: all(list(folder.glob("checkpoints/*/manifest.json")) for folder in folders[:2]), driver)
    cluster.remove_node(cluster.two.pop())
    wait_for(lambda: len(at_work()) == 1, driver)
    cluster.two.append(cluster.another(num_cpus=1))
    wait_for(lambda: len(at_work()) == 2, driver)
    driver.kill()
    wait_until(lambda: not at_work())

    driver = drive(cluster, "--set", *LONG)
    wait_for(lambda: len(at_work()) == 2, driver)
    driver.send_signal(signal.SIGINT)
    said, faults = driver.communicate(timeout=90)
    assert driver.returncode == STOPPED and "stopping 2 folds" in said and not at_work(), faults

    driver = drive(cluster, "--set", *LONG)
    said, faults = driver.communicate(timeout=300)
    assert driver.returncode == 0 and not faults
    assert re.search(r"1 fold of tiny.* trained already", said) and "fold 2" not in said
    for fold in range(2):
        assert (folders[fold] / "console.log").read_text().count("continuing after step") >= 1
    together = [load_file(folder / "weights.safetensors") for folder in folders[:2]]
    split.run(run).rename(split.runs / "on-the-cluster")
    for fold in range(2):
        stage("train", "--fold", str(fold), "--threads", "1", "--set", *LONG)
        alone = load_file(folders[fold] / "weights.safetensors")
        assert all(torch.equal(alone[name], together[fold][name]) for name in alone)


def test_a_fault_is_not_tried_again(cluster: Any, split: Paths) -> None:
    """The folds' sentence, and the machine, are told; finished folds are skipped."""
    (split.home / "raw" / "train" / "circle_0.png").write_bytes(b"")
    driver = drive(cluster, "--folds", "1", "--set", *SHORT)
    faults = driver.communicate(timeout=120)[1]
    assert driver.returncode == 1 and faults.strip().count("\n") == 0
    assert re.search(r"error: 1 fold of 1 failed: fold 1 on \S+: \S*circle_0.png has changed", faults)
    assert (split.fold("tiny~epochs=2", 1) / "console.log").read_text().count("error: ") == 1


def test_each_task_sees_the_gpus_that_it_was_given(cluster: Any, tmp_path: Path) -> None:
    """Fake ones: Ray gives each task its devices, and half ones share one."""
    import ray

    cluster.another(num_cpus=4, num_gpus=2)
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        look = ["-c", "import os, time; print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True); time.sleep(3)"]
        for gpus, seen in ((1, ["0", "1"]), (2, ["0,1"]), (0.5, ["0", "0", "1", "1"])):
            task = ray.remote(train_in_task).options(num_gpus=gpus)
            folders = [tmp_path / f"{gpus}-{number}" for number in range(len(seen))]
            ray.get([task.remote(look, str(CHECKOUT), str(folder), {}) for folder in folders], timeout=60)
            assert sorted((folder / "console.log").read_text().strip() for folder in folders) == seen
    finally:
        ray.shutdown()


def test_no_cluster_is_said(split: Paths, failure: Callable[..., str]) -> None:
    """Also where something else listens."""
    pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
    with socket.socket() as other:
        other.bind(("localhost", 0))
        other.listen()
        said = failure("driver.cluster", "--address", f"localhost:{other.getsockname()[1]}")
    assert "start one: .venv/bin/ray start --head" in said
    assert "CLUSTER=local is neither auto nor" in failure("driver.cluster", "--address", "local")


def test_one_driver_trains_a_run(cluster: Any, split: Paths, failure: Callable[..., str]) -> None:
    with owned(split.run("tiny") / "cluster.lock"):
        assert re.search(
            r"process \d+ on \S+ is already working in .*tiny; ", failure("driver.cluster", "--address", "a:1")
        )

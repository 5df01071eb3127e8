"""The machines of a Ray cluster."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest

from pipeline.driver.ray_machines import check_machine, machine_facts, resources_per_fold
from pipeline.records.paths import Paths
from pipeline.system.errors import FoldwiseError
from pipeline.system.places import CHECKOUT
from pipeline.system.provenance import PACKAGES

pytestmark = pytest.mark.xdist_group("ray")  # one cluster on this machine, whatever the number of processes


def node(name: str, gpus: float, cpus: int) -> dict[str, Any]:
    return {"NodeManagerHostname": name, "NodeManagerAddress": "10.0.0.1", "Resources": {"GPU": gpus, "CPU": cpus}}


def test_without_the_extra_the_message_installs_it(split: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names what pip needs, and the command is one that this checkout understands."""
    hidden = "import sys; sys.modules['ray'] = None; sys.argv = ['cluster', '--competition', 'shapes']; "
    begun = "from pipeline.driver.cluster import main, run_stage; run_stage(main)"
    ended = subprocess.run([sys.executable, "-c", hidden + begun], capture_output=True, text=True, cwd=CHECKOUT)
    said = ".venv/bin/python -m pip install -c constraints.txt -e '.[cluster]'"
    assert ended.returncode == 1 and ended.stderr.strip().endswith(said) and ended.stderr.count("\n") == 1
    assert re.search(r"^cluster = \[\"ray", (CHECKOUT / "pyproject.toml").read_text(), re.M)
    assert re.search(r"^ray==", (CHECKOUT / "constraints.txt").read_text(), re.M)


def test_each_fold_asks_for_its_part() -> None:
    cpus_only = [node("a", 0, 8), node("b", 0, 8)]
    assert resources_per_fold(cpus_only, 5, None, None, "auto") == (0, 3)
    assert resources_per_fold(cpus_only, 1, None, None, "auto") == (0, 8)
    assert resources_per_fold([node("a", 0, 1), node("b", 0, 1)], 5, None, None, "auto") == (0, 1)
    with_gpus = [node("a", 4, 32), node("b", 0, 64)]
    assert resources_per_fold(with_gpus, 5, None, None, "auto") == (1, 8)
    assert resources_per_fold(with_gpus, 5, 0.5, 4, "auto") == (0.5, 4)
    assert resources_per_fold(with_gpus, 5, None, None, "cpu") == (0, 19)
    with pytest.raises(FoldwiseError, match=r"no machine .* has 8 GPUs and 1 CPU .*a \(10.0.0.1\): 4 and 32; b"):
        resources_per_fold(with_gpus, 5, 8, None, "auto")
    with pytest.raises(FoldwiseError, match="ask for less with GPUS and CPUS"):
        resources_per_fold(cpus_only, 5, None, 16, "auto")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("exists", False, "node-7 has no .*; all machines need the checkout at the same path"),
        ("shared", False, "node-7 cannot read and write this machine's .*/data; share that folder"),
        ("code", "other", "node-7 has other code in .*/pipeline than this machine"),
        ("versions", {"torch": "1.0"}, "node-7 has torch 1.0, this machine 2"),
    ],
)
def test_a_machine_that_differs_is_named(split: Paths, key: str, value: Any, said: str) -> None:
    (split.home / "probe.x").write_text("x")
    here = machine_facts(str(CHECKOUT), str(split.home), "x", PACKAGES)
    check_machine("node-7", here, here)
    there = {**here, key: {**here[key], **value} if isinstance(value, dict) else value}
    with pytest.raises(FoldwiseError, match=said):
        check_machine("node-7", here, there)
    assert not machine_facts(str(CHECKOUT), str(split.home), "y", PACKAGES)["shared"]
    assert machine_facts("/nowhere", str(split.home), "x", PACKAGES)["exists"] is False


def test_one_file_imports_ray() -> None:
    files = [path for path in (CHECKOUT / "pipeline").rglob("*.py") if re.search(r"\bimport ray\b", path.read_text())]
    assert [path.name for path in files] == ["ray_machines.py"]

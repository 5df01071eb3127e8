"""Whether a process that left its number somewhere is still alive."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pipeline.system.processes import is_alive, rank, start_time_of


def test_a_process_is_alive_until_it_ends_and_a_reused_number_is_noticed() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    start = start_time_of(process.pid)
    assert is_alive(process.pid) and is_alive(process.pid, start)
    if start:  # Linux shows it
        assert not is_alive(process.pid, str(int(start) - 1))
    process.communicate(b"\n")
    assert not is_alive(process.pid, start)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the state of a process is read from /proc")
def test_a_process_whose_status_nobody_has_asked_for_is_dead() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert start_time_of(process.pid) == "dead" and not is_alive(process.pid)
    process.wait()


def test_the_rank_is_torchruns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "3")
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert rank() == 0  # a variable of that name alone means nothing
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    assert rank() == 3

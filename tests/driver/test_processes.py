"""Real processes under make: what signals, faults and the clock do to folds that train side by side."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest

from pipeline.system.locks import living_owner
from pipeline.system.signals import EXITED_AT_ONCE, STOPPED
from pipeline.system.threads import cores
from tests.checkouts import at_work, environment, heed_signals, make, start, start_make
from tests.conftest import PLAIN_TOML, archive

ON_SHAPES = ["COMPETITION=shapes", "DEVICE=cpu"]
LONG = [*ON_SHAPES, "SET=epochs=4000 ema_decay=0.9"]
SHORT = [*ON_SHAPES, "SET=epochs=2"]
ALONE = {"OMP_NUM_THREADS": "1"}


def wait_for(found: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Waits until something is there that the process makes."""
    end = time.monotonic() + 120
    while not found():
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.02)


def steps(drawn: Path) -> dict[str, int]:
    """The step of the newest checkpoint of each fold."""
    found: dict[str, int] = {}
    for manifest in drawn.glob("runs/*/fold*/checkpoints/*/manifest.json"):
        fold = manifest.parents[2].name
        found[fold] = max(found.get(fold, 0), int(manifest.parent.name))
    return found


def driver_of(drawn: Path) -> int:
    """The process of the driver."""
    return next(pid for pid, line in at_work(drawn.parents[1]).items() if "-m pipeline train" in line)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize(
    ("number", "to"),
    [
        (signal.SIGINT, "group"),  # Ctrl-C
        (signal.SIGTERM, "make"),  # a scheduler
        (signal.SIGTERM, "group"),  # timeout: the driver and its folds get it from the system and from make
        (signal.SIGHUP, "group"),  # a closed terminal
        (signal.SIGKILL, "driver"),  # which cannot hand anything on
        (signal.SIGKILL, "make"),
    ],
)
def test_a_signal_saves_both_folds_and_leaves_no_process(folded: Path, number: int, to: str) -> None:
    checkout = folded.parents[1]
    process = start_make(checkout, "-j2", "train", *LONG, **ALONE)
    wait_for(lambda: len(steps(folded)) == 2, process)
    before, began = steps(folded), time.monotonic()
    if to == "group":
        os.killpg(process.pid, number)
    else:
        os.kill(process.pid if to == "make" else driver_of(folded), number)
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - began < 30
    assert process.returncode in (2, -number), err
    end = time.monotonic() + 30
    while at_work(checkout):
        assert time.monotonic() < end, at_work(checkout)
        time.sleep(0.05)
    assert "Traceback" not in err and "exited at once" not in err and not (checkout / "data" / "error.log").exists()
    assert number == signal.SIGKILL or (out + err).count("is saved after step") == 2, err  # in validation too
    after = steps(folded)
    assert all(after[fold] >= before[fold] for fold in before)
    assert not any(living_owner(lock) for lock in folded.glob("runs/*/fold*/lock"))
    assert not list(folded.rglob("trained.json"))


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_closed_terminal_saves_both_folds(folded: Path) -> None:
    """The driver, which draws its view there, and its folds."""
    checkout = folded.parents[1]
    main, end = pty.openpty()

    def begin() -> None:
        heed_signals()
        fcntl.ioctl(end, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        ["make", "-j2", "train", *LONG], cwd=checkout, env=environment(**ALONE), stdin=end, stdout=end, stderr=end,
        start_new_session=True, preexec_fn=begin, text=True,
    )  # fmt: skip
    os.close(end)

    def read() -> None:  # as a terminal does, until it is closed
        with suppress(OSError):
            while os.read(main, 4096):
                pass

    Thread(target=read, daemon=True).start()
    wait_for(lambda: len(steps(folded)) == 2, process)
    before = steps(folded)
    for pid in at_work(checkout):  # what the system does to all of them when a terminal is closed, and its end of it
        os.kill(pid, signal.SIGHUP)
    os.close(main)
    process.wait(60)
    end_at = time.monotonic() + 30
    while at_work(checkout):
        assert time.monotonic() < end_at, at_work(checkout)
        time.sleep(0.05)
    assert all(step >= before[fold] for fold, step in steps(folded).items()) and not list(folded.rglob("trained.json"))
    assert not (checkout / "data" / "error.log").exists()


def test_several_ranks_train_and_predict_a_fold(folded: Path) -> None:
    """GPUS=2 without a GPU: two processes on two cores, and none of them is left when the driver is killed."""
    checkout = folded.parents[1]
    if cores() < 2:
        pytest.skip("needs two cores")
    ended = make(checkout, "predict", "FOLD=0", "GPUS=2", *SHORT)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(next(folded.rglob("trained.json")).read_text())["ranks"] == 2
    process = start_make(checkout, "train", "FOLD=1", "GPUS=2", *LONG)
    wait_for(lambda: steps(folded), process)
    os.kill(driver_of(folded), signal.SIGKILL)
    end = time.monotonic() + 120
    while at_work(checkout):
        assert time.monotonic() < end, at_work(checkout)
        time.sleep(0.05)
    _, err = process.communicate(timeout=10)
    assert "Traceback" not in err and "is saved after step" in err, err


def test_the_driver_ends_with_75_and_after_a_second_signal_with_130(folded: Path) -> None:
    checkout = folded.parents[1]
    command = [sys.executable, "-m", "pipeline", "train", "FOLD=0", *LONG]
    for second, status in ((None, STOPPED), (signal.SIGINT, EXITED_AT_ONCE)):
        process = start(checkout, command, **ALONE)
        events = len(list(folded.rglob("events*")))
        wait_for(lambda: len(list(folded.rglob("events*"))) > events and steps(folded), process)  # noqa: B023
        child = next(pid for pid, line in at_work(checkout).items() if "pipeline.train" in line)
        os.kill(child, signal.SIGSTOP)  # so that both signals wait for it together
        process.send_signal(signal.SIGTERM)
        if second is not None:
            time.sleep(0.2)
            process.send_signal(second)
        time.sleep(0.3)
        os.kill(child, signal.SIGCONT)
        out, err = process.communicate(timeout=60)
        assert process.returncode == status, (out, err)
        assert err.count("stopped by SIGTERM") == (second is None), err


def test_when_one_fold_fails_those_that_run_finish_and_none_starts(folded: Path) -> None:
    """Fold 0 of three cannot be begun, since its folder is a file."""
    checkout = folded.parents[1]
    assert make(checkout, "folds", *SHORT).returncode == 0
    run = folded / "runs" / "tiny~epochs=2"
    run.mkdir(parents=True)
    (run / "fold0").write_text("no folder")
    ended = make(checkout, "-j2", "train", *SHORT, **ALONE)
    assert ended.returncode == 2 and (run / "fold1" / "trained.json").exists() and not (run / "fold2").exists()
    assert "error: fold 0 failed, see above; fold 2 was not started" in ended.stderr
    ended = make(checkout, "-j2", "-k", "train", *SHORT, **ALONE)
    assert ended.returncode == 2 and (run / "fold2" / "trained.json").exists()
    weights = [(run / f"fold{fold}" / "weights.safetensors").stat().st_mtime_ns for fold in (1, 2)]
    for flag in ("-j1", "-j3", "-k", "-B"):
        make(checkout, flag, "train", "FOLDS=1,2", *SHORT)
    assert weights == [(run / f"fold{fold}" / "weights.safetensors").stat().st_mtime_ns for fold in (1, 2)]


def test_several_commands_train_the_folds_of_one_folder_at_once(folded: Path) -> None:
    """As the tasks of a Slurm array do: nothing but a fold is locked."""
    checkout = folded.parents[1]
    assert make(checkout, "folds", *SHORT).returncode == 0
    tasks = [start_make(checkout, "train", f"FOLD={fold}", *SHORT, **ALONE) for fold in range(3)]
    ended = [(task.communicate(timeout=200), task.returncode) for task in tasks]
    assert [status for _, status in ended] == [0, 0, 0], ended
    assert "waiting" not in "".join(out for (out, _), _ in ended).replace(
        "waiting for another process that decodes", ""
    )
    submitted = make(checkout, "submit", *SHORT)
    assert submitted.returncode == 0 and "[train]" not in submitted.stdout


def test_the_time_is_over_and_what_is_done_is_submitted(folded: Path) -> None:
    checkout = folded.parents[1]
    assert make(checkout, "train", "FOLD=1", *SHORT).returncode == 0
    ended = make(checkout, "submit", "HOURS=0.008", *SHORT)  # 30 seconds are kept back: it is over at once
    assert ended.returncode == 0, ended.stderr
    assert (
        "the time limit is reached; fold 0 was not started" in ended.stdout and "PARTIAL: 1 of 3 folds" in ended.stdout
    )
    (about,) = (checkout / "submissions" / "shapes").glob("*~folds=1.json")
    assert json.loads(about.read_text())["score"]["folds"] == [1]
    nothing = make(checkout, "submit", "HOURS=0.008", "COMPETITION=shapes", "SET=epochs=3")
    assert nothing.returncode == 2 and "no fold is trained after 0.008 hours" in nothing.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_in_the_instant_when_prepare_ends(checkout: Path, number: int) -> None:
    home = checkout / "data" / "shapes"
    (home / "raw").mkdir(parents=True)
    archive(home / "raw" / "all.zip", [f"train/{'ab'[n % 2]}/{n}.png" for n in range(20)])
    (home / "competition.toml").write_text(
        PLAIN_TOML.replace('"train.csv"', '"folders"').replace('"images"', '"train"')
    )
    process = start_make(checkout, "prepare", "COMPETITION=shapes")
    while not (home / "prepared.json").exists() and process.poll() is None:
        time.sleep(0.0005)
    os.killpg(process.pid, number)
    process.communicate()
    again = make(checkout, "prepare", "COMPETITION=shapes")
    assert again.returncode == 0 and len(list(home.rglob("images/**/*.png"))) == 20

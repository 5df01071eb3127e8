"""Kills a run at random moments, each time types the same again, and compares the CSV with an undisturbed run's.

    make chaos                 five folds of the digits, 20 kills: about a quarter of an hour
    python -m tests.chaos --kills 3 --recipe tiny --folds 0,1

Reads   this checkout
Writes  two folders below the system's temporary one, removed at the end; prints where each kill struck
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
#: Seconds after which a run is taken to hang.
PATIENCE = 1200


def make_checkout(folder: Path) -> Path:
    """A checkout with nothing made yet, which shares the code and the installed packages with this one."""
    (folder / "data" / "digits").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "pipeline", ".venv"):
        (folder / name).symlink_to(CHECKOUT / name)
    shutil.copy(CHECKOUT / "data" / "digits" / "competition.toml", folder / "data" / "digits")
    return folder


def start(checkout: Path, words: list[str]) -> subprocess.Popen:
    """``make submit ...`` as a process group of its own, its output in log.txt."""
    environment = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    environment.pop("FOLDWISE_ROOT", None)
    with (checkout / "log.txt").open("a") as log:
        return subprocess.Popen(
            ["make", "submit", *words], cwd=checkout, env=environment, stdout=log, stderr=log, start_new_session=True
        )


def finish(checkout: Path, words: list[str]) -> bytes:
    """Runs to the end; returns the CSV."""
    status = start(checkout, words).wait(timeout=PATIENCE)
    log = (checkout / "log.txt").read_text()
    if status:
        sys.exit(f"make submit ended with {status}:\n{log[-4000:]}")
    assert "Traceback" not in log and not (checkout / "data" / "error.log").exists(), log
    left = [str(path) for path in checkout.rglob(".*.tmp-*")]
    assert not left, f"half-written files were left: {left}"
    return next((checkout / "submissions" / "digits").glob("*.csv")).read_bytes()


def any_of(folder: Path, pattern: str) -> bool:
    """Whether such a file is there, in a folder where others come and go."""
    try:
        return next(folder.rglob(pattern), None) is not None
    except OSError:
        return False


def moments(checkout: Path, num_folds: int, rng: random.Random) -> dict[str, Callable[[], bool]]:
    """What to wait for before a kill: each says whether it is time."""
    home, submissions = checkout / "data" / "digits", checkout / "submissions"
    after = time.monotonic() + rng.uniform(0, 25)
    in_predicting = rng.uniform(0, 9)
    seen: list[float] = []

    def predicting() -> bool:
        if not seen and len(list(home.glob("runs/*/fold*/trained.json"))) == num_folds:
            seen.append(time.monotonic())
        return bool(seen) and time.monotonic() > seen[0] + in_predicting

    return {
        "at any time": lambda: time.monotonic() > after,
        "saving": lambda: time.monotonic() > after and any_of(home, "checkpoints/*/.*.tmp-*"),
        "predicting": predicting,
        "writing tables": lambda: any_of(home / "runs", ".oof.tmp-*") or any_of(home / "runs", ".score*.tmp-*"),
        "writing the CSV": lambda: any_of(submissions, ".*.tmp-*"),
    }


def undo(checkout: Path, rng: random.Random) -> None:
    """Takes back the last steps of a finished run, sometimes a whole fold, so that there is something to kill."""
    run = next((checkout / "data" / "digits" / "runs").iterdir())
    shutil.rmtree(checkout / "submissions")
    for path in [*run.glob("score*.json"), *run.glob("fold*/predicted.json")]:
        path.unlink()
    if rng.random() < 0.3:
        shutil.rmtree(rng.choice(sorted(run.glob("fold*"))))


def kill_at_random(checkout: Path, words: list[str], kills: int, num_folds: int, rng: random.Random) -> None:
    """Starts the run again and again, and kills it and all its processes, until it was killed so many times."""
    struck = 0
    while struck < kills:
        group = start(checkout, words)
        waits = moments(checkout, num_folds, rng)
        late = ["predicting", "writing tables", "writing the CSV", "at any time"]
        what = rng.choice(["at any time", "saving"] if struck < kills / 2 else late)
        while group.poll() is None and not waits[what]():
            time.sleep(0.0005)
        if group.poll() is not None:
            if group.returncode:
                sys.exit(f"make submit failed:\n{(checkout / 'log.txt').read_text()[-4000:]}")
            undo(checkout, rng)
            continue
        os.killpg(group.pid, signal.SIGKILL)
        group.wait()
        struck += 1
        steps = [f"{place.parent.parent.name} step {int(place.name)}" for place in checkout.rglob("checkpoints/0*")]
        print(f"[chaos] kill {struck} of {kills}: {what}; {', '.join(sorted(steps)) or 'no checkpoint'}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--recipe", default="digits")
    parser.add_argument("--folds", default="0,1,2,3,4")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    words = [f"RECIPE={args.recipe}", f"FOLDS={args.folds}"]
    num_folds = len(args.folds.split(","))
    with tempfile.TemporaryDirectory() as folder:
        undisturbed = make_checkout(Path(folder) / "undisturbed")
        expected = finish(undisturbed, words)
        print(f"[chaos] the undisturbed run made {len(expected):,} bytes", flush=True)
        killed = make_checkout(Path(folder) / "killed")
        kill_at_random(killed, words, args.kills, num_folds, random.Random(args.seed))
        found = finish(killed, words)
        assert found == expected, "the CSV of the killed run is another one"
        for name in ("oof", "test"):  # and the probabilities behind it
            one, other = (next(home.glob(f"data/digits/runs/*/{name}*.csv")) for home in (undisturbed, killed))
            assert one.read_bytes() == other.read_bytes(), f"{one.name} is another one"
    print(f"[chaos] after {args.kills} kills: the same CSV, the same probabilities, to the last bit")


if __name__ == "__main__":
    main()

"""Checks this machine and this project; prints what is correct, what is wrong, and what to do.

    make doctor
    python -m pipeline.tools.doctor

Reads   everything; changes nothing

Exits with 1 if there is something to fix. Also runs before the packages are installed.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pipeline.records.paths import Paths, known_competitions
from pipeline.system import places
from pipeline.system.errors import FoldwiseError, count_of
from pipeline.system.files import fingerprint, is_left_behind, read_json, read_record
from pipeline.system.locks import living_owner
from pipeline.system.places import shown
from pipeline.system.threads import cores

CHECKOUT = Path(__file__).parents[2]
#: Free disk space (bytes) below which the packages or a cache may not fit.
LITTLE_DISK = 10e9


class Finding(NamedTuple):
    """The result of one check.

    level: "ok", "note" or "fix"
    text: what was found
    advice: what to do, "" for nothing
    """

    level: str
    text: str
    advice: str = ""


def machine() -> Iterator[Finding]:
    """Checks Python, cores, memory, disk space, shared memory and GPU."""
    version = platform.python_version()
    known = (3, 11) <= sys.version_info < (3, 15)
    advice = "" if known else "make setup PYTHON=python3.12"
    yield Finding("ok" if known else "fix", f"Python {version} on {platform.platform(terse=True)}", advice)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    yield Finding("ok", f"{count_of(cores(), 'core')}" + (f", {memory / 1e9:.0f} GB of memory" if memory else ""))
    free = shutil.disk_usage(next(place for place in (places.ROOT, *places.ROOT.parents) if place.exists())).free
    advice = "make clean; or move the project to a larger disk" if free < LITTLE_DISK else ""
    yield Finding("fix" if free < LITTLE_DISK else "ok", f"{free / 1e9:.0f} GB of disk free in {places.ROOT}", advice)
    if places.ROOT.exists() and not os.access(places.ROOT, os.W_OK):
        yield Finding("fix", f"{places.ROOT} is not writable", "set FOLDWISE_ROOT to a writable folder")
    shared = Path("/dev/shm")
    if shared.is_dir():
        size = shutil.disk_usage(shared).free
        little = size < 1e9
        advice = "in Docker: --shm-size=2g (without it, fewer loader processes are started)" if little else ""
        yield Finding("note" if little else "ok", f"{size / 1e9:.1f} GB of shared memory for loader processes", advice)
    yield gpu()


def gpu() -> Finding:
    """Checks whether nvidia-smi and torch find a GPU."""
    try:
        asked = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
        found = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        found = ""
    if importlib.util.find_spec("torch") is None:
        return Finding("note", f"GPU: {found or 'none found'} (torch is not installed yet)")
    import torch

    if torch.cuda.is_available():
        return Finding("ok", f"GPU: {found or torch.cuda.get_device_name()}; torch {torch.__version__} uses it")
    if found:
        return Finding(
            "fix",
            f"GPU: {found}, but torch {torch.__version__} cannot use it (built for CUDA {torch.version.cuda})",
            "update the driver, or install a torch that is built for it",
        )
    if torch.backends.mps.is_available():
        return Finding("ok", "GPU: Apple's, through mps")
    return Finding("note", "no GPU: everything runs on the CPU; use small images there, about 64 px")


def installed(name: str) -> str | None:
    """The version of a package; None if it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def packages() -> Iterator[Finding]:
    """Compares the installed packages with constraints.txt, and checks the builds of OpenCV."""
    setup = "rm -f .venv/ready && make setup"
    if installed("torch") is None:
        yield Finding("fix", "the packages are not installed yet", "make setup")
        return
    pinned: dict[str, set[str]] = {}
    for line in (CHECKOUT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if pin := re.match(r"([\w.-]+)==([^\s;]+)", line):
            pinned.setdefault(pin[1], set()).add(pin[2])
    here = {name: version for name in pinned if (version := installed(name)) is not None}
    drifted = [name for name, version in here.items() if version.partition("+")[0] not in pinned[name]]
    listing = ", ".join(f"{name} {here[name]} instead of {'/'.join(sorted(pinned[name]))}" for name in drifted[:4])
    more = f" and {len(drifted) - 4} more" if len(drifted) > 4 else ""
    if drifted:
        yield Finding("note", f"{count_of(len(drifted), 'package')} not as in constraints.txt: {listing}{more}", setup)
    else:
        yield Finding("ok", f"{count_of(len(here), 'package')} as in constraints.txt")
    if installed("albumentationsx"):
        yield Finding(
            "fix",
            "albumentationsx (AGPL) is installed over albumentations",
            f"pip uninstall -y albumentationsx; {setup}",
        )
    yield opencv(setup)


def opencv(setup: str) -> Finding:
    """Checks OpenCV: both wheels install into one folder, so they need the same version, and cv2 must be importable."""
    versions = {name: installed(name) for name in ("opencv-python", "opencv-python-headless")}
    both = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    if len({version for version in versions.values() if version}) > 1:
        return Finding("fix", f"{both}: two versions in one folder", f"pip uninstall -y {' '.join(versions)}; {setup}")
    tried = subprocess.run([sys.executable, "-c", "import cv2; cv2.imread"], capture_output=True, text=True)
    if tried.returncode:
        reason = tried.stderr.strip().splitlines()[-1]
        return Finding("fix", f"{both} cannot be imported: {reason}", f"pip uninstall -y {' '.join(versions)}; {setup}")
    return Finding("ok", both)


def command(paths: Paths, run: str = "", target: str = "submit") -> str:
    """The make command for a competition, or for one of its runs."""
    recipe, *settings = run.split("~")
    if settings and settings[-1].startswith("-"):  # a shorten name, which lacks some settings
        return "type the command that started it"
    words = ["make", target, f"COMPETITION={paths.competition}", f"RECIPE={recipe}" if recipe else ""]
    words += [f'SET="{" ".join(settings)}"' if settings else "", "DRY=1" if paths.dry_run else ""]
    return " ".join(filter(None, words))


def tables(paths: Paths) -> Iterator[Finding]:
    """Checks competition.toml, the manifest, the caches and the folds, and finds runs that no longer match them."""
    from pipeline.pixels.cache import cache_path, readable_rows
    from pipeline.records.competition import load_competition
    from pipeline.records.runs import fingerprints, made_of
    from pipeline.records.tables import read_folds, read_manifest
    from pipeline.records.task import metric_of, read_task

    competition = load_competition(paths)
    if not paths.manifest.exists():
        yield Finding("ok", f"{paths.competition}: not started", command(paths))
        return
    manifest = read_manifest(paths.manifest)
    by_split = ", ".join(f"{number:,} {split}" for split, number in manifest["split"].value_counts().items())
    name = f"{paths.competition}{', dry run' if paths.dry_run else ''}"
    task = read_task(paths, competition)
    targets = f"{task.kind} of {count_of(len(task.target_names), 'target')}, {metric_of(competition, task, paths).name}"
    yield Finding("ok", f"{name}: {by_split} rows in manifest.csv; {targets}")
    for cache in paths.cache.glob("side*.u8"):
        side = int(cache.name[4:].partition("-")[0])
        if cache != cache_path(paths, readable_rows(manifest), side):
            size = cache.stat().st_size / 1e6
            yield Finding("note", f"{shown(cache)} ({size:,.0f} MB) was made from other images", f"rm {shown(cache)}")
    if not paths.folds.exists():
        return
    read_folds(paths.folds, competition.folds.n, manifest)
    now = fingerprints(paths, manifest)
    for run in sorted(path for path in paths.runs.glob("*") if path.is_dir()):
        before = made_of(paths, run.name) or now
        changed = [name.removesuffix("_sha256") for name, sha256 in now.items() if before.get(name) != sha256]
        if changed:
            text = f"{shown(run)} was made with other {' and '.join(changed)}: it will be refused"
            yield Finding("fix", text, f"restore them, or rm -r {shown(run)}")


def damaged(folder: Path) -> Iterator[Finding]:
    """Finds files of a fold that are missing, or whose sha256 differs from their record."""
    expected: dict[str, tuple[str, str]] = {}
    if (folder / "trained.json").exists():
        sha256 = read_json(folder / "trained.json", "weights_sha256")["weights_sha256"]
        expected["weights.safetensors"] = sha256, f"rm -r {shown(folder)}; then the fold is trained again"
    if (folder / "predicted.json").exists():
        for kind, sha256 in read_record(folder / "predicted.json", "sha256")["sha256"].items():
            expected[f"{kind}.npz"] = sha256, f"rm {shown(folder)}/predicted.json; then it predicts again"
    for manifest in folder.glob("checkpoints/*/manifest.json"):
        for name, sha256 in read_record(manifest, "files")["files"].items():
            expected[f"checkpoints/{manifest.parent.name}/{name}"] = sha256, "nothing; the previous checkpoint is used"
    for name, (sha256, advice) in expected.items():
        if not (folder / name).exists() or fingerprint(folder / name) != sha256:
            yield Finding("fix", f"{shown(folder / name)} is damaged or missing", advice)


def folds(paths: Paths) -> Iterator[Finding]:
    """Finds folds that are running, unfinished or diverged, and files that they left behind."""
    for folder in paths.all_trainings:
        yield from damaged(folder)
        run, done = folder.relative_to(paths.runs).parts[0], (folder / "trained.json").exists()
        owner = living_owner(folder / "lock")
        checkpoints = sorted(folder.glob("checkpoints/*/manifest.json"))
        if owner:
            yield Finding("note", f"{shown(folder)}: process {owner['pid']} on {owner['host']} is working there")
        elif done and checkpoints:
            yield Finding(
                "note", f"{shown(folder)} is trained but still has checkpoints", f"rm -r {shown(folder)}/checkpoints"
            )
        elif checkpoints:
            step = int(checkpoints[-1].parent.name)
            yield Finding(
                "note", f"{shown(folder)}: stopped after step {step:,}; it continues there", command(paths, run)
            )
        elif (folder / "diverged.json").exists() and not done:
            yield Finding(
                "fix", f"{shown(folder)}: {read_json(folder / 'diverged.json', 'what')['what']}", "use a smaller lr"
            )
    places = [paths.home, paths.output, paths.cache, paths.submissions, *paths.runs.rglob("*/")]
    left = [path for place in {*places} for path in place.glob(".*.tmp-*") if is_left_behind(path)]
    if left:
        yield Finding(
            "note", f"{count_of(len(left), 'half-written file')} of dead processes; the next stage removes them"
        )


def has_no_images(paths: Paths) -> bool:
    """True if a competition has no built-in images, no images in data/ and no manifest."""
    if paths.raw.exists() or paths.images.exists() or paths.manifest.exists():
        return False
    try:
        return "builtin" not in paths.facts()
    except FoldwiseError:  # tables() reports it
        return False


def project() -> Iterator[Finding]:
    """Checks every competition of data/."""
    if importlib.util.find_spec("pandas") is None:
        return
    names = known_competitions()
    bare = [name for name in names if has_no_images(Paths(name))]
    if bare:
        text = f"{count_of(len(bare), 'competition')} without images so far: {', '.join(bare)}"
        where = shown(places.ROOT / "data" / "<name>" / "raw")
        yield Finding("ok", text, f"make submit COMPETITION=<name>, once the archives are in {where}/")
    for name in (name for name in names if name not in bare):
        for dry_run in (False, True):
            paths = Paths(name, dry_run)
            if dry_run and not paths.output.exists():
                continue
            try:
                yield from tables(paths)
                yield from folds(paths)
            except (FoldwiseError, ImportError) as fault:  # ImportError: caches cannot be checked without OpenCV
                yield Finding("fix", f"{name}: {fault}")


def main() -> None:
    to_fix = 0
    for title, findings in (("machine", machine()), ("packages", packages()), ("project", project())):
        print(f"\n{title}")
        for level, text, advice in findings:
            to_fix += level == "fix"
            print(f"  {level:<5} {text}" + (f"\n        to do: {advice}" if advice else ""))
    print(f"\n{count_of(to_fix, 'thing')} to fix" if to_fix else "\nnothing to fix")
    sys.exit(bool(to_fix))


if __name__ == "__main__":
    main()

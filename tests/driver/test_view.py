"""The progress of folds that train side by side."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from pathlib import Path

import pytest

from pipeline.driver.view import View
from pipeline.system.progress import forget_progress, write_progress
from tests.checkouts import environment


def test_a_line_for_each_fold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    folders = {fold: tmp_path / f"fold{fold}" for fold in range(2)}
    for folder in folders.values():
        folder.mkdir()
    view = View(folders)
    view.add(0)
    view.add(1)
    write_progress(folders[1], epoch=12, epochs=60, step=115, steps=600, left=185.0, **{"train loss": 0.5})
    capsys.readouterr()
    view.draw("[train] something happened")
    drawn = capsys.readouterr().err
    assert drawn.startswith("\x1b[2F\x1b[J[train] something happened\n")  # over the two lines that were there
    lines = drawn.splitlines()[1:]
    assert lines[0] == f"fold 0  [{'.' * 10}]  starting"
    assert lines[1] == "fold 1  [#.........]  epoch 12 of 60, 3 min 5 s left, loss 0.5000"[:59]
    forget_progress(folders[1])
    view.draw()
    assert f"fold 1  [{'#' * 10}]  drawing its pictures" in capsys.readouterr().err
    view.remove(0)
    assert "fold 0" not in capsys.readouterr().err


def test_a_terminal_shows_the_folds_and_a_file_plain_lines(folded: Path) -> None:
    """The same command, once at a terminal of 100 columns."""
    checkout = folded.parents[1]
    words = ["make", "-j2", "train", "COMPETITION=shapes", "FOLDS=0,1", "SET=epochs=150"]
    main, end = pty.openpty()
    process = subprocess.Popen(
        words, cwd=checkout, env=environment(COLUMNS="100", OMP_NUM_THREADS="1"), stdin=end, stdout=end, stderr=end
    )
    os.close(end)
    shown = b""
    while True:
        try:
            shown += os.read(main, 65536)
        except OSError:  # the other side is closed
            break
    os.close(main)
    assert process.wait() == 0
    text = shown.decode().replace("\r\n", "\n")
    frames = text.split("\x1b[J")
    both = [frame for frame in frames if re.search(r"fold 0  \[.*\nfold 1  \[", frame)]
    assert any(re.search(r"epoch \d+ of 150, \d+ s left, loss \d", frame) for frame in both), text[-3000:]
    assert max(len(line) for line in text.splitlines() if line.startswith("fold ")) < 100
    assert text.count("s it was trained on") == 2 and "Traceback" not in text
    assert not re.search(r"\[train\] fold \d, epoch", text)  # the lines that say it elsewhere
    assert not list(folded.rglob("progress.json"))
    words[-1] = "SET=epochs=3"
    plain = subprocess.run(words, cwd=checkout, env=environment(), capture_output=True, text=True)
    assert plain.returncode == 0 and "\x1b" not in plain.stdout + plain.stderr
    assert re.search(r"\[train\] fold 0, epoch 3 of 3: .* left", plain.stdout)

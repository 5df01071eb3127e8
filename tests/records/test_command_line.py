"""Options of the stages."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--threads", "9999", "'9999' is not a whole number from 0 to"),
        ("--threads", "-1", "'-1' is not a whole number"),
        ("--workers", "999", "'999' is not a whole number from 0 to"),
        ("--workers", "-1", "'-1' is not a whole number"),
        ("--fold", "one", "'one' is not the number of a fold, or 'all'"),
    ],
)
def test_an_option_that_cannot_be_obeyed(option: str, value: str, said: str) -> None:
    """One sentence, before anything heavy is imported."""
    words = ["--fold", "0", option, value] if option != "--fold" else [option, value]
    answer = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "pipeline.train", *words], capture_output=True, text=True
    )
    told = [line for line in answer.stderr.splitlines() if not line.startswith("import time:")]
    assert answer.returncode == 2 and len(told) == 1 and told[0].startswith("error: argument ") and said in told[0]
    assert "| torch\n" not in answer.stderr and "pandas" not in answer.stderr

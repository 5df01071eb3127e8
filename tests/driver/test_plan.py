"""The plan of a call."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.driver.options import read_options
from pipeline.driver.plan import make_plan
from pipeline.system.errors import FoldwiseError


def test_a_run_that_was_made_under_a_longer_name_is_not_trained_again(drawn: Path) -> None:
    settings = [f"augment.color_jitter.key{number}=0.{number}" for number in range(6)]
    older = drawn / "runs" / "~".join(["tiny", *sorted(settings)])
    older.mkdir(parents=True)
    with pytest.raises(FoldwiseError, match="was made before names were shortened; rename it to tiny~augment"):
        make_plan(read_options(["COMPETITION=shapes", f"SET={' '.join(settings)}"], {}))

"""The command ``python -m pipeline <verb> NAME=value ...``, which make calls and which also works without make.

    python -m pipeline submit COMPETITION=dogs-vs-cats RECIPE=resnet18
    python -m pipeline train FOLD=0
    python -m pipeline why

If the verb is a stage, all stages up to it run, each only if something that it read or made has changed.
"""

import signal
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until run_stage takes over, Ctrl-C ends this without a traceback

if not (3, 11) <= sys.version_info < (3, 15):  # as in pyproject.toml; checked before imports that need a new Python
    sys.exit(
        "error: Foldwise needs Python 3.11 to 3.14, this is %d.%d; use another: make PYTHON=python3.12"  # noqa: UP031
        % sys.version_info[:2]
    )

from pipeline.driver.main import main
from pipeline.system.console import run_stage

if __name__ == "__main__":
    run_stage(main)

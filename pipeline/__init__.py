"""Foldwise: from a folder of images to a checked Kaggle submission, in seven stages that meet in files."""

import os
import signal
import sys
import types

# While a stage still imports, Ctrl-C ends it without a traceback; then signals.py takes over. (Python says "-m" only
# until it has found the module that it was told to run, and our ancestors may have told us to ignore Ctrl-C.)
if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

# albumentations asks the package index for news at import; worker processes inherit the answer "no".
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

# pandas takes over a second to import, and --help of a stage without torch reads no table: it answers without.
_TORCH_FREE = [f"pipeline.{stage}" for stage in ("prepare", "manifest", "folds", "ensemble", "submit")]
if sys.orig_argv[1:] in [["-m", stage, flag] for stage in _TORCH_FREE for flag in ("--help", "-h")]:
    sys.modules.setdefault("pandas", types.ModuleType("pandas"))

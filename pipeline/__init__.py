"""Foldwise: from a folder of images to a checked Kaggle submission, in seven stages that meet in files."""

import os
import sys
import types

# albumentations asks the package index for news at import; worker processes inherit the answer "no".
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

# pandas takes over a second to import, and --help of a stage without torch reads no table: it answers without.
_TORCH_FREE = [f"pipeline.{stage}" for stage in ("prepare", "manifest", "folds", "ensemble", "submit")]
if sys.orig_argv[1:] in [["-m", stage, flag] for stage in _TORCH_FREE for flag in ("--help", "-h")]:
    sys.modules.setdefault("pandas", types.ModuleType("pandas"))

"""Foldwise: from a folder of images to a checked Kaggle submission, in seven stages that meet in files."""

import os

# albumentations asks the package index for news at import; worker processes inherit the answer "no".
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

"""Foldwise: from a folder of images to a checked Kaggle submission, in seven stages that exchange files."""

import os

# Keeps albumentations from checking the package index for a new version at import; worker processes inherit this.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

"""Makes the small images of a page: of files, of what a model looks at, and of augmented train images."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import cached_property

import cv2
import numpy as np
import pandas as pd
import torch

from pipeline.learner.gradcam import grad_cam
from pipeline.learner.outside import Outside
from pipeline.pixels.augment import has_alternating_flip, train_transforms
from pipeline.pixels.cache import Pixels
from pipeline.pixels.dataset import ImageDataset
from pipeline.pixels.decode import Unreadable, decode_to_side
from pipeline.records.job import Job
from pipeline.report.material import image_file
from pipeline.system.console import say
from pipeline.system.errors import FoldwiseError

#: Longest side of an image on the page, in pixels. Smaller images stay as they are, and are shown with sharp pixels.
SIDE = 144


def as_data(image: np.ndarray) -> str:
    """An image (H, W, 3) uint8 as the address of an <img>: a PNG if it is small, else a JPEG."""
    kind, options = (".png", []) if max(image.shape) <= 64 else (".jpg", [cv2.IMWRITE_JPEG_QUALITY, 82])
    content = cv2.imencode(kind, np.ascontiguousarray(image[..., ::-1]), options)[1].tobytes()
    return f"data:image/{'png' if kind == '.png' else 'jpeg'};base64,{base64.b64encode(content).decode()}"


def shrunk(pixels: np.ndarray) -> np.ndarray:
    """The image (H, W, 3) with no side longer than SIDE."""
    scale = SIDE / max(pixels.shape[:2])
    if scale >= 1:
        return pixels
    width, height = (max(1, round(side * scale)) for side in pixels.shape[1::-1])
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)


def heated(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A heat map (S, S) in 0..1 over an image (S, S, 3) uint8, which becomes grey."""
    colours = cv2.applyColorMap((255 * heat).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    strength = (0.25 + 0.5 * heat)[..., None]
    return (image.mean(axis=2, keepdims=True) * (1 - strength) + colours * strength).astype(np.uint8)


class Examples:
    """The images of a competition, and the models of a run that look at them.

    rows: of the manifest, for "train" and "test", by image_id; a train and a test image may have the same id
    """

    def __init__(self, job: Job, manifest: pd.DataFrame) -> None:
        self.job = job
        self.rows = {split: rows.set_index("image_id", drop=False) for split, rows in manifest.groupby("split")}

    def thumbnail(self, image_id: str, split: str) -> str:
        """The address of a train or test image; "" if it cannot be read."""
        row = self.rows[split].loc[image_id]
        file = image_file(self.job, row["path"])
        if file is None or not row["width"]:
            return ""
        try:
            return as_data(shrunk(decode_to_side(file.read_bytes(), SIDE, int(row["height"]), int(row["width"]))))
        except (Unreadable, OSError):
            return ""

    @cached_property
    def models(self) -> Outside | None:
        """The models of the run, with its first seed; None for a blend, or if they are not there any more."""
        if self.job.call.blend:
            return None
        try:
            return Outside(self.job.of_seed(0))
        except FoldwiseError as fault:
            say("report", f"note: no heat maps: {fault}")
            return None

    def train_rows(self, ids: Sequence[str]) -> pd.DataFrame:
        """The rows of train images, as ``Outside.dataset`` needs them, without those that are no images of ours."""
        rows = self.rows["train"].loc[list(ids)]
        rows = rows[[image_file(self.job, path) is not None for path in rows["path"]]]
        return rows.assign(position=np.arange(len(rows)))

    def heat_map(self, image_id: str, fold: int, target: int) -> str:
        """What the model of a fold looks at in a train image, as evidence for a target (Grad-CAM); "" without maps."""
        outside, rows = self.models, self.train_rows([image_id])
        trained = [each for each in self.job.folds if (self.job.fold_folder(each) / "trained.json").exists()]
        if outside is None or rows.empty or fold not in trained:
            return ""
        try:
            image = outside.dataset(rows)[0, 0]
        except FoldwiseError:
            return ""
        inputs = outside.normalize(torch.from_numpy(image)[None].to(outside.compute.device))
        heat = grad_cam(outside.models[trained.index(fold)].module, inputs, target)
        return "" if heat is None else as_data(shrunk(heated(image, heat)))

    def augmented(self, ids: Sequence[str]) -> dict[str, str]:
        """Train images as the models see them in their last epoch, by id; {} if they see them without augmentation."""
        recipe, outside = self.job.recipe, self.models
        if outside is None or not (recipe.kind == "network" or recipe.augment):
            return {}
        transforms = train_transforms(recipe, self.job.competition.symmetries, outside.preprocessing)
        rows = self.train_rows(ids)
        pixels = Pixels(self.job.paths.home, rows, recipe.cache_side, None)
        flips = has_alternating_flip(recipe, self.job.competition.symmetries)
        dataset = ImageDataset(pixels, rows, transforms, recipe.seed, flips)
        try:
            return {name: as_data(shrunk(dataset[len(transforms) - 1, row])) for row, name in enumerate(dataset.ids)}
        except FoldwiseError:
            return {}

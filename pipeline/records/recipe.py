"""Choices: what we try on a competition. One TOML each in pipeline/recipes/."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from pipeline.records.paths import recipe_path
from pipeline.system.errors import FoldwiseError
from pipeline.system.places import shown
from pipeline.system.settings import Settings, validated
from pipeline.system.toml import check_settings, parse_toml, read_toml


class Recipe(Settings):
    """All choices of one run. Sizes are in pixels, rates per step, warm-up in epochs."""

    # model
    model: str  # a timm name, torchvision/<name>, or one registered in pipeline/learner/networks.py
    model_args: dict[str, Any] = {}  # keyword arguments of its builder, such as drop_path_rate
    pretrained: bool | str = False  # true: the hub's weights; a path: those of a .safetensors or .pth file
    freeze: bool = False  # only the head learns; the backbone and the statistics of its BatchNorm stay as they are
    unfreeze_after: int | None = Field(None, ge=0)  # epochs, with freeze; then all of it learns
    # pixels
    image_size: int = Field(ge=4, le=2048)  # side of the square that validation and test images become
    train_scale: float = Field(
        1, ge=0.25, le=1
    )  # side in training / image_size; less is cheaper (FixRes, Touvron 2019)
    start_scale: float = Field(1, ge=0.25, le=1)  # side in the first epoch / side in training; it grows (progressive)
    # How a whole picture becomes a square when predicting; letterbox keeps all of it and its shape, on grey.
    resize: Literal["squash", "crop", "letterbox"] = "squash"
    # With "crop": side of the centre crop / shorter side; if absent, as the pretrained weights have it, or 0.875.
    crop_share: float | None = Field(None, gt=0, le=1)
    symmetries: bool = True  # augment by the symmetries that the competition grants
    alternating_flip: bool = False  # hflip in every other epoch, each image from a side of its own, not by chance
    augment: dict[str, dict[str, Any]] = {}  # functions of pipeline/pixels/augment.py with their arguments
    tta: bool = True  # predict over the symmetries too
    # optimization
    epochs: int = Field(ge=1)
    batch_size: int = Field(64, ge=1)  # images per optimizer step
    accumulate: int = Field(1, ge=1)  # in how many parts a batch passes through the model
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    lr: float = Field(gt=0)
    head_lr_scale: float = Field(1, gt=0)  # learning rate of the head / lr
    layer_decay: float = Field(1, gt=0, le=1)  # learning rate of a layer / that of the next (Clark et al., 2020)
    momentum: float = Field(0.9, ge=0, lt=1)  # of sgd
    weight_decay: float = Field(0.05, ge=0)  # not on norms and biases
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_epochs: float = Field(0, ge=0)  # at most half of the epochs are warm-up
    clip_grad: float = Field(0, ge=0)  # largest norm of the gradient; 0 = off
    ema_decay: float = Field(0, ge=0, lt=1)  # moving average of the weights; 0 = off
    sync_batchnorm: bool = False  # of a fold on several GPUs: statistics of the whole batch, not of each GPU's part
    amp: Literal["auto", "bf16", "fp16", "off"] = "auto"  # autocast on CUDA: auto takes bf16 where the GPU has it
    # loss
    label_smoothing: float = Field(0, ge=0, lt=1)
    class_weights: Literal["none", "balanced"] = "none"
    mixup: float = Field(0, ge=0)  # alpha of the Beta distribution; 0 = off
    cutmix: float = Field(0, ge=0)
    mix_probability: float = Field(1, ge=0, le=1)  # share of the batches that are mixed
    seed: int = Field(0, ge=0, lt=2**32)

    @model_validator(mode="after")
    def consistent(self) -> Recipe:
        if self.accumulate > self.batch_size:
            raise ValueError(
                f"accumulate = {self.accumulate} leaves no image in a part of a batch of {self.batch_size}"
            )
        if self.unfreeze_after is not None and not self.freeze:
            raise ValueError("unfreeze_after needs freeze = true")
        return self

    def is_frozen(self, epoch: int) -> bool:
        """Whether the backbone is frozen in an epoch."""
        return self.freeze and (self.unfreeze_after is None or epoch < self.unfreeze_after)

    def side_at(self, epoch: int) -> int:
        """Side (pixels) of the training images of an epoch, from 0. It grows evenly, in steps of 8 or, from 64 on, 16
        (networks halve it four or five times, and what is left at the end of a map costs as much as a whole pixel), and
        is at its full length for the last fifth of the epochs at least (progressive resizing: Howard, 2018)."""
        full = round(self.image_size * self.train_scale)
        grown = min(1.0, epoch / max(1, math.ceil(0.8 * self.epochs) - 1))
        side = full * (self.start_scale + grown * (1 - self.start_scale))
        step = 16 if full >= 64 else 8
        return full if side == full else min(full, max(4, round(side / step) * step))

    @property
    def cache_side(self) -> int:
        """Shorter side (pixels) of the decoded pictures that a run keeps: room for crops, in steps of 8 so that
        recipes of like size share a cache. Large pictures need less room: their crops keep enough detail."""
        room = 1.5 if self.image_size < 128 else 1.25
        return math.ceil(self.image_size * room / 8) * 8


def load_recipe(name: str, settings: Sequence[str]) -> Recipe:
    """The recipe of this name with ``key=value`` settings on top (``augment.affine.degrees=5`` reaches into tables).

    Raises FoldwiseError for an unknown recipe or key, or a value of the wrong kind.
    """
    path = recipe_path(name)
    content = read_toml(path)
    source = shown(path)
    check_settings(settings)
    for setting in settings:
        key, _, text = setting.partition("=")
        table = content
        *tables, last = key.split(".")
        for part in tables:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise FoldwiseError(f"--set {setting}: '{part}' is a value, not a table")
        try:
            table[last] = parse_toml(f"value = {text}")["value"]
        except ValueError:
            table[last] = text  # a bare word: model=resnet34
        source = f"{shown(path)} with --set {' '.join(settings)}"
    return validated(Recipe, content, source)

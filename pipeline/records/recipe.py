"""Defines the keys of a recipe (model, augmentation, optimizer, ...) and loads recipes from pipeline/recipes/."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from pipeline.records.paths import recipe_path
from pipeline.system.errors import InputError
from pipeline.system.places import shown
from pipeline.system.settings import Settings, validated
from pipeline.system.toml import check_settings, parse_toml, read_toml
from pipeline.tasks.objective import LossName, Objective

#: Keys that older runs do not have. They count only if they are set, so that such a run stays valid.
LATER_KEYS = (
    "loss", "focal_gamma", "soft_grades", "clip", "mean", "std", "interpolation", "kind", "augmented_views",
    "freeze_blocks", "freeze_statistics", "head_first", "grad_checkpointing", "average_last",
    "average_spacing",
)  # fmt: skip


#: The keys that have an effect with ``kind = "features"``.
FEATURE_KEYS = {
    "kind", "augmented_views", "model", "model_args", "pretrained", "image_size", "resize", "crop_share", "mean", "std",
    "interpolation", "symmetries", "augment", "tta", "amp", "loss", "focal_gamma", "label_smoothing", "soft_grades",
    "class_weights", "clip", "seed",
}  # fmt: skip

Positive = Annotated[float, Field(gt=0)]
#: Height and width of an image in pixels.
Size = tuple[int, int]


class Recipe(Settings):
    """The keys of a recipe. Sizes are in pixels; rates and decays apply to each step; warm-up is in epochs."""

    # "network": all weights learn by gradient steps. "features": the backbone is frozen, and the head is fitted to its
    # features, exactly; only the keys of FEATURE_KEYS have an effect.
    kind: Literal["network", "features"] = "network"
    augmented_views: int = Field(0, ge=0, le=100)  # features: augmented views of each train image, beside the plain
    # model
    model: str  # a name of timm, torchvision/<name>, or a name in pipeline/learner/networks.py
    model_args: dict[str, Any] = {}  # keyword arguments of the model, such as drop_path_rate
    pretrained: bool | str = False  # true: from data/weights/, a package or the hub; else the path of a file
    freeze: bool = False  # only the head learns; the backbone and the statistics of its BatchNorm do not change
    freeze_blocks: int = Field(0, ge=0)  # number of blocks, from the input on, that never change
    freeze_statistics: bool = False  # all BatchNorms keep their statistics, as with small batches or few images
    # The head starts as if kind = "features" had fitted it, so as not to spoil the backbone (Kumar et al., 2022).
    head_first: bool = False
    grad_checkpointing: bool = False  # timm's models: less memory for more time; the result is the same
    unfreeze_after: int | None = Field(None, ge=0)  # with freeze: number of epochs after which all weights learn
    # pixels
    image_size: int | tuple[int, int]  # side of the square images for validation and prediction, or (height, width)
    train_scale: float = Field(1, ge=0.25, le=1)  # side in training / image_size; less is faster (FixRes, Touvron 2019)
    start_scale: float = Field(1, ge=0.25, le=1)  # side in the first epoch / side in the last; it grows (``side_at``)
    # How an image gets this size: stretched, cropped at the centre, or padded with grey to keep its aspect ratio.
    resize: Literal["squash", "crop", "letterbox"] = "squash"
    # For "crop": side of the centre crop / that of the image it is cut from; None: as for the weights, or 0.875.
    crop_share: float | None = Field(None, gt=0, le=1)
    # None: what the pretrained weights expect, or the model's default. Mean and std are for pixels in 0..1.
    mean: tuple[float, float, float] | None = None
    std: tuple[Positive, Positive, Positive] | None = None
    interpolation: Literal["bilinear", "bicubic", "nearest"] | None = None
    symmetries: bool = True  # augment with the symmetries of competition.toml
    alternating_flip: bool = False  # mirror each image in every other epoch instead of at random; needs hflip
    augment: dict[str, dict[str, Any]] = {}  # functions of pipeline/pixels/augment.py with their arguments
    tta: bool = True  # average the predictions over the symmetries
    # optimization
    epochs: int = Field(ge=1)
    batch_size: int = Field(64, ge=1)  # images per optimizer step
    accumulate: int = Field(1, ge=1)  # number of parts in which a batch passes through the model
    optimizer: Literal["adam", "adamw", "sgd"] | Annotated[str, Field(pattern="^timm/")] = (
        "adamw"  # such as "timm/lion"
    )
    lr: float = Field(gt=0)
    head_lr_scale: float = Field(1, gt=0)  # learning rate of the head / lr
    layer_decay: float = Field(1, gt=0, le=1)  # learning rate of a layer / that of the next (Clark et al., 2020)
    momentum: float = Field(0.9, ge=0, lt=1)  # for sgd
    weight_decay: float = Field(0.05, ge=0)  # not for norms and biases
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_epochs: float = Field(0, ge=0)  # limited to half of the epochs
    clip_grad: float = Field(0, ge=0)  # maximum norm of the gradient; 0 = off
    ema_decay: float = Field(0, ge=0, lt=1)  # decay of the exponential moving average of the weights; 0 = off
    average_last: int = Field(0, ge=0, le=1000)  # number of checkpoints, up to the last, whose mean is kept; 0 = off
    average_spacing: float = Field(1, gt=0)  # epochs between these checkpoints
    sync_batchnorm: bool = False  # if a fold uses several GPUs: statistics of the whole batch, not of each GPU's part
    amp: Literal["auto", "bf16", "fp16", "off"] = "auto"  # autocast on CUDA; auto: bf16 if the GPU has it, else fp16
    # loss
    loss: LossName | None = None  # None: cross_entropy, for several labels bce, for numbers mse
    focal_gamma: float = Field(2, ge=0, le=10)  # for loss = "focal": exponent of (1 - probability)
    label_smoothing: float = Field(0, ge=0, lt=1)
    soft_grades: float = Field(0, ge=0, le=10)  # ordinal: standard deviation of the targets around the grade, in grades
    # "balanced", "effective" (number of images: Cui et al., 2019), or a weight for each class: {cat = 1, dog = 2}.
    class_weights: Literal["none", "balanced", "effective"] | dict[str, Positive] = "none"
    clip: bool = True  # limit predicted numbers to the range of the train labels
    mixup: float = Field(0, ge=0)  # alpha of the Beta distribution; 0 = off
    cutmix: float = Field(0, ge=0)
    mix_probability: float = Field(1, ge=0, le=1)  # probability that a batch is mixed
    seed: int = Field(0, ge=0, lt=2**32)

    @field_validator("image_size", mode="before")
    @classmethod
    def check_size(cls, value: Any) -> Any:
        sides = value if isinstance(value, list | tuple) else [value, value]
        if len(sides) != 2 or any(type(side) is not int or not 4 <= side <= 2048 for side in sides):
            raise ValueError("it must be a whole number of pixels from 4 to 2048, or two of them: [height,width]")
        return value

    @model_validator(mode="before")
    @classmethod
    def check_feature_keys(cls, content: dict[str, Any]) -> dict[str, Any]:
        if content.get("kind") != "features":
            return content
        defaults = {"epochs": 1, "lr": 1, **{key: field.default for key, field in cls.model_fields.items()}}
        changed = {key for key, value in content.items() if key in defaults and value != defaults[key]}
        if unused := sorted(changed - FEATURE_KEYS):
            raise ValueError(f"{', '.join(unused)} have no effect with kind = 'features'; leave them out")
        return {"epochs": 1, "lr": 1, **content}

    @model_validator(mode="after")
    def check_consistency(self) -> Recipe:
        if self.kind == "features" and not self.pretrained:
            raise ValueError("kind = 'features' needs pretrained weights: set pretrained = true, or to a file's path")
        if self.kind == "features" and self.loss == "l1":
            raise ValueError("kind = 'features' needs a smooth loss: choose loss = 'huber' or 'mse' instead of 'l1'")
        if self.head_first and not self.pretrained:
            raise ValueError("head_first needs pretrained weights: set pretrained = true, or to the path of a file")
        if self.head_first and self.loss == "l1":
            raise ValueError("head_first needs a smooth loss: choose loss = 'huber' or 'mse' instead of 'l1'")
        if self.freeze_blocks and self.freeze and self.unfreeze_after is None:
            raise ValueError("freeze_blocks has no effect with freeze = true, which freezes all blocks but the head")
        if self.average_last and self.ema_decay:
            raise ValueError("average_last and ema_decay are two averages of the weights; set one of them to 0")
        if self.average_spacing != 1 and not self.average_last:
            raise ValueError("average_spacing has an effect only with average_last")
        if self.augmented_views and self.kind != "features":
            raise ValueError("augmented_views has an effect only with kind = 'features'")
        if self.kind == "features" and bool(self.augment) != bool(self.augmented_views):
            raise ValueError("with kind = 'features', augment and augmented_views have an effect only together")
        if self.accumulate > self.batch_size:
            raise ValueError(f"accumulate = {self.accumulate} is more than batch_size = {self.batch_size}; lower it")
        if self.unfreeze_after is not None and not self.freeze:
            raise ValueError("unfreeze_after needs freeze = true")
        if self.focal_gamma != 2 and self.loss != "focal":
            raise ValueError("focal_gamma has an effect only with loss = 'focal'")
        if self.soft_grades and self.loss not in (None, "cross_entropy", "focal"):
            raise ValueError(f"soft_grades has no effect with loss = '{self.loss}'; leave one of them out")
        return self

    @property
    def objective(self) -> Objective:
        """What the recipe says about the loss."""
        return Objective(**{field.name: getattr(self, field.name) for field in fields(Objective)})

    @property
    def choices(self) -> dict[str, Any]:
        """All keys with their values, as a part of what a run is made from; see LATER_KEYS."""
        defaults = {key: Recipe.model_fields[key].default for key in LATER_KEYS}
        dumped = self.model_dump(mode="json")
        return {key: value for key, value in dumped.items() if key not in defaults or value != defaults[key]}

    def is_frozen(self, epoch: int) -> bool:
        """True if the backbone is frozen in an epoch."""
        return self.freeze and (self.unfreeze_after is None or epoch < self.unfreeze_after)

    @property
    def size(self) -> Size:
        """Height and width in pixels of the images for validation and prediction."""
        return (self.image_size, self.image_size) if isinstance(self.image_size, int) else self.image_size

    def size_at(self, epoch: int) -> Size:
        """Height and width in pixels of the training images of an epoch, counted from 0 (``grown_side``)."""
        height, width = (self.grown_side(side, epoch) for side in self.size)
        return height, width

    def grown_side(self, whole: int, epoch: int) -> int:
        """What an epoch uses of a side of the images, in pixels (progressive resizing: Howard, 2018).

        It grows linearly, and has its full length for at least the last fifth of the epochs. It is rounded to a
        multiple of 8, or of 16 if the full side is at least 64: networks halve the maps four or five times, and a
        remainder costs as much as a whole pixel of the smaller map.
        """
        full = round(whole * self.train_scale)
        grown = min(1.0, epoch / max(1, math.ceil(0.8 * self.epochs) - 1))
        side = full * (self.start_scale + grown * (1 - self.start_scale))
        step = 16 if full >= 64 else 8
        return full if side == full else min(full, max(4, round(side / step) * step))

    @property
    def cache_side(self) -> int:
        """Shorter side in pixels of the decoded images in the cache.

        It is larger than image_size, so that crops keep enough detail; large images need less of that. It is a multiple
        of 8, so that recipes with similar image sizes share a cache.
        """
        side = math.sqrt(math.prod(self.size))  # of the square with as many pixels
        room = 1.5 if side < 128 else 1.25
        return math.ceil(side * room / 8) * 8


def load_recipe(name: str, settings: Sequence[str]) -> Recipe:
    """Loads a recipe and applies ``key=value`` settings; dots lead into tables (``augment.affine.degrees=5``).

    Raises FoldwiseError for an unknown recipe or key, or a value of the wrong type.
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
                raise InputError(f"the setting {setting}: '{part}' is a value, not a table")
        try:
            table[last] = parse_toml(f"value = {text}")["value"]
        except ValueError:
            table[last] = text  # text without quotation marks: model=resnet34
        source = f"{shown(path)} with the settings {' '.join(settings)}"
    return validated(Recipe, content, source)

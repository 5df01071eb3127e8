"""Reads the first frame of a DICOM file: rescaled, in its window, and dark on light as it is meant to be seen.

Only pixels are taken from the file; no text of its header, which may name a patient, is kept or printed.
Supported transfer syntaxes: without compression, RLE, JPEG baseline (8 bits), JPEG 2000.
"""

from __future__ import annotations

import io
import logging
import warnings
from typing import Any

import numpy as np
from PIL import Image

from pipeline.system.errors import FoldwiseError, InputError
from pipeline.system.extras import imported

#: UIDs of the transfer syntaxes (DICOM PS3.6, table A-1). Deflated files are left out: they could inflate to any size.
TRANSFER_SYNTAXES = {
    "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91",
}  # fmt: skip


RLE = "1.2.840.10008.1.2.5"


def is_dicom(content: bytes) -> bool:
    """True for the bytes of a DICOM file (PS3.10)."""
    return content[128:132] == b"DICM"


def too_large(width: int, height: int, max_pixels: int) -> str:
    """The message about an image with too many pixels."""
    return (
        f"{width} x {height} pixels are more than the limit of {max_pixels:,}; raise max_pixels in competition.toml, "
        "or make the image smaller"
    )


def dicom_pixels(content: bytes, max_pixels: int | None = None) -> np.ndarray:
    """The pixels (H, W, 3) of the first frame; uint8 if the file says how to display them, else of any depth.

    Raises FoldwiseError, without any text of the header, if the file cannot be read or is larger than ``max_pixels``.
    """
    pydicom = imported("pydicom", "the images are DICOM files")
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)  # its warnings quote the header
    warnings.filterwarnings("ignore", module="pydicom")
    try:
        dataset = pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True)
        syntax = str(dataset.file_meta.TransferSyntaxUID)
        if syntax not in TRANSFER_SYNTAXES:
            known = getattr(pydicom.uid.UID(syntax), "name", syntax)
            name = known if known != syntax else "an unknown one"
            raise InputError(
                f"its DICOM transfer syntax ({name}) is not supported, only uncompressed files, RLE, JPEG baseline and "
                "JPEG 2000; convert it, for example with gdcmconv --raw"
            )
        if max_pixels is not None and dataset.Rows * dataset.Columns > max_pixels:
            raise InputError(too_large(dataset.Columns, dataset.Rows, max_pixels))
        whole = pydicom.dcmread(io.BytesIO(content))
        require_stated_size(pydicom, whole)
        return displayed(pydicom, without_empty_tags(whole))
    except (FoldwiseError, MemoryError):
        raise
    except Exception as error:  # for a damaged file, pydicom may raise any exception, with text of the header
        raise InputError(f"a damaged DICOM file, or one without an image ({type(error).__name__})") from None


def require_stated_size(pydicom: Any, dataset: Any) -> None:
    """Raises FoldwiseError if a compressed frame is larger than the header says."""
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated or dataset.file_meta.TransferSyntaxUID == RLE:
        return
    frames = int(dataset.get("NumberOfFrames") or 1)
    frame = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=frames))
    with Image.open(io.BytesIO(frame), formats=["JPEG", "JPEG2000"]) as image:
        if image.size != (dataset.Columns, dataset.Rows):
            raise InputError("its DICOM header states another size than the image in it has")


def without_empty_tags(dataset: Any) -> Any:
    """The dataset without tags of the display that have no value, or no valid one: the standard allows empty tags."""
    for name in ("RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth", "VOILUTSequence"):
        if name in dataset and (dataset.get(name) is None or str(dataset.get(name)) in ("", "[]")):
            del dataset[name]
    if ("RescaleSlope" in dataset) != ("RescaleIntercept" in dataset):
        dataset.RescaleSlope = dataset.get("RescaleSlope", 1)
        dataset.RescaleIntercept = dataset.get("RescaleIntercept", 0)
    widths = np.ravel(dataset.get("WindowWidth", 0)).astype(float)
    if not ("WindowCenter" in dataset and "WindowWidth" in dataset and widths[0] > 1):
        for name in ("WindowCenter", "WindowWidth"):
            if name in dataset:
                del dataset[name]
    return dataset


def displayed(pydicom: Any, dataset: Any) -> np.ndarray:
    """The first frame of a dataset as it is meant to be seen (PS3.3, C.11.1 and C.11.2)."""
    stored = pydicom.pixels.pixel_array(dataset, index=0)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        stored = pydicom.pixels.apply_color_lut(stored, dataset)
        return (stored >> 8).astype(np.uint8) if stored.dtype == np.uint16 else stored
    if stored.ndim == 3:
        return stored
    values = pydicom.pixels.apply_rescale(stored, dataset)
    if "WindowCenter" in dataset or "VOILUTSequence" in dataset:
        # What is darkest and brightest in the window depends on the form of the window: ask for extreme values.
        extremes = np.array([[-1e9, 1e9]]) if "WindowCenter" in dataset else np.array([[-(2**31), 2**31 - 1]])
        low, high = sorted(pydicom.pixels.apply_voi_lut(extremes, dataset).ravel().tolist())
        shown = pydicom.pixels.apply_voi_lut(values, dataset).astype(np.float64)
        values = np.round((shown - low) * (255 / max(high - low, 1e-12))).clip(0, 255).astype(np.uint8)
    if dataset.PhotometricInterpretation == "MONOCHROME1":  # the smallest value is white
        values = 255 - values if values.dtype == np.uint8 else values.max() - values + min(0, values.min())
    return np.repeat(values[..., None], 3, axis=2)

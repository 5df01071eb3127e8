"""DICOM images, of which only the pixels are read."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit

from pipeline.pixels.decode import Unreadable, as_uint8, decode, inspect
from pipeline.records.paths import Paths
from tests.conftest import Failure, Stage

#: 12 bits, from 0 to 4,095.
VALUES = (np.arange(48 * 64).reshape(48, 64) * 4 // 3).astype(np.uint16)


def dicom(values: np.ndarray = VALUES, **tags: object) -> bytes:
    """The bytes of a DICOM file with a name in its header."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.PatientName = "Secret^Patient"
    dataset.Rows, dataset.Columns = values.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.PixelData = values.tobytes()
    for name, value in tags.items():
        setattr(dataset, name, value)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def test_a_window_follows_the_formula_of_the_standard() -> None:
    """PS3.3, C.11.2.1.2.1: ((x - (c - 0.5)) / (w - 1) + 0.5) * 255, after the rescale."""
    pixels = decode(dicom(RescaleSlope=2, RescaleIntercept=-1024, WindowCenter=[40, 600], WindowWidth=[400, 1500]))
    rescaled = VALUES * 2.0 - 1024
    expected = np.clip(((rescaled - 39.5) / 399 + 0.5) * 255, 0, 255)
    assert pixels.shape == (48, 64, 3) and np.abs(pixels[..., 0] - expected).max() <= 0.51


def test_without_a_window_the_contrast_is_kept_and_monochrome1_is_inverted() -> None:
    plain = decode(dicom())
    assert np.abs(plain[..., 0].astype(int) - as_uint8(VALUES)).max() <= 1  # of floats and of integers
    assert len(np.unique(plain)) == 256
    inverted = decode(dicom(PhotometricInterpretation="MONOCHROME1"))
    assert np.abs(inverted.astype(int) + plain - 255).max() <= 1
    one = decode(dicom(WindowCenter=2000, WindowWidth=1000))
    other = decode(dicom(WindowCenter=2000, WindowWidth=1000, PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(255 - one, other)


@pytest.mark.parametrize(
    "tags",
    [
        {"WindowCenter": None, "WindowWidth": None},
        {"WindowCenter": 2000},
        {"WindowCenter": 2000, "WindowWidth": 0},
        {"VOILUTSequence": pydicom.Sequence([])},
        {"RescaleSlope": None, "RescaleIntercept": None},
        {"RescaleIntercept": 0},
    ],
)
def test_empty_tags_are_as_missing_ones(tags: dict) -> None:
    assert np.abs(decode(dicom(VALUES, **tags)).astype(int) - decode(dicom())).max() <= 1


def test_a_compressed_frame_that_is_larger_than_stated_is_not_decoded(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("L", (3000, 3000)).save(buffer, "JPEG")
    dataset = pydicom.dcmread(io.BytesIO(dicom()))
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelData = pydicom.encaps.encapsulate([buffer.getvalue()])
    dataset["PixelData"].VR = "OB"
    dataset.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    with pytest.raises(Unreadable, match="states another size than the image in it has"):
        inspect(tmp_path / "x.dcm")


def real(name: str) -> bytes:
    path = get_testdata_file(name, download=False)
    assert path is not None
    return Path(str(path)).read_bytes()


@pytest.mark.parametrize(
    ("name", "same_as"),
    [
        ("MR_small_RLE.dcm", "MR_small.dcm"),
        ("MR_small_jp2klossless.dcm", "MR_small.dcm"),
        ("MR_small_bigendian.dcm", "MR_small.dcm"),
        ("MR_small_implicit.dcm", "MR_small.dcm"),
        ("SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_rle.dcm"),
    ],
)
def test_every_transfer_syntax_gives_the_same_picture(name: str, same_as: str) -> None:
    """Files of pydicom: the same scan, stored in other ways."""
    one, other = decode(real(name)).astype(int), decode(real(same_as)).astype(int)
    assert one.shape == other.shape and np.abs(one - other).mean() < (0.01 if "MR" in name else 5)


def test_a_palette_and_colours_are_those_of_pydicom() -> None:
    palette, colours = real("examples_palette.dcm"), real("examples_rgb_color.dcm")
    dataset = pydicom.dcmread(io.BytesIO(palette))
    wanted = pydicom.pixels.apply_color_lut(dataset.pixel_array, dataset)
    np.testing.assert_array_equal(decode(palette), wanted if wanted.dtype == np.uint8 else wanted >> 8)
    np.testing.assert_array_equal(decode(colours), pydicom.dcmread(io.BytesIO(colours)).pixel_array)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("JPEGLSNearLossless_16.dcm", r"transfer syntax \(JPEG-LS Lossy \(Near-Lossless\) Image Compression\) is not"),
        ("image_dfl.dcm", r"transfer syntax \(Deflated Explicit VR Little Endian\) is not supported"),
        ("rtplan.dcm", "a damaged DICOM file, or one without an image"),
        ("MR_truncated.dcm", "a damaged DICOM file"),
    ],
)
def test_other_files_are_refused_in_one_sentence(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "x.dcm").write_bytes(real(name))
    with pytest.raises(Unreadable, match=said):
        inspect(tmp_path / "x.dcm")


def test_no_text_of_a_header_is_kept_and_huge_images_are_refused_unread(
    shapes: Paths, stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    content = dicom()
    for number, damage in enumerate((content, content[:-900], dicom(Rows=60_000, Columns=60_000), content[:400])):
        (shapes.raw / "test" / f"{number + 1}.png").write_bytes(damage)
    stage("prepare")
    stage("manifest")
    said = capsys.readouterr()
    written = [path.read_bytes() for path in shapes.home.glob("*") if path.is_file()]
    assert not any(b"Secret" in text for text in [*written, said.out.encode(), said.err.encode()])
    assert "60000 x 60000 pixels are more than the limit" in shapes.problems.read_text()
    assert shapes.problems.read_text().count("unreadable") == 3


def test_without_pydicom_the_message_names_the_command(
    shapes: Paths, failure: Failure, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shapes.raw / "test" / "1.png").write_bytes(dicom())
    monkeypatch.setitem(sys.modules, "pydicom", None)
    assert "the images are DICOM files, which needs the package pydicom; type: " in failure("manifest")

"""Writes images that are stored in tables: a column for each pixel, or all pixels of an image in one cell.

``train.csv`` becomes ``train/<id>.png``, and a CSV with the id and the other columns. A table without a column of ids
is numbered by its rows, from 0.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from math import isqrt
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from pipeline.formats.listing import PARQUET, TABLES, pixel_cell, pixel_columns
from pipeline.formats.parts import reading_file, require_file_name, require_space
from pipeline.system.errors import InputError
from pipeline.system.extras import imported
from pipeline.system.places import shown

BLOCK = 512  # rows in memory at once
#: Names of columns that hold ids, in lower case and without underscores.
ID_NAMES = ("id", "imageid", "imgid", "image", "img", "imagename", "filename", "file", "name", "rowid")


class Layout(NamedTuple):
    """The columns of a table.

    pixels: names of the columns of pixels, or of the one column with all pixels in a cell
    in_one_cell: True for the latter
    others: the other columns
    id_column: the one of them that holds ids; "" for none
    shape: height and width, and 3 if the pixels have colours
    """

    pixels: list[str]
    in_one_cell: bool
    others: list[str]
    id_column: str
    shape: tuple[int, ...]


def write_tables(
    tables: Iterable[Path], folder: Path, with_progress: Callable[[list, str], Iterator], shape: list[int] | None
) -> int:
    """Writes the images of tables below ``folder``; returns their number.

    Raises FoldwiseError if a value is not a whole number from 0 to 255, an id occurs twice or is no file name, or the
    number of pixels does not fit the shape.
    shape: of competition.toml; by default, the images are square and grey
    """
    count = 0
    for path in tables:
        count += write_table(path, folder, with_progress, shape)
    return count


def write_table(
    path: Path, folder: Path, with_progress: Callable[[list, str], Iterator], shape: list[int] | None
) -> int:
    """As ``write_tables``, for one table."""
    import cv2

    is_parquet = path.name.lower().endswith(PARQUET)
    with reading_file(path):
        rows, layout = (parquet_layout if is_parquet else csv_layout)(path, shape)
    stem = path.name.split(".")[0]
    target, rest = folder / stem, folder / TABLES / f"{stem}.csv"
    if target.exists() or rest.exists():
        raise InputError(f"{shown(path)} and another file both hold '{stem}'; move one of them out of raw/")
    require_space(path, folder, rows, rows * int(np.prod(layout.shape)))
    target.mkdir(parents=True)
    rest.parent.mkdir(exist_ok=True)
    blocks = (parquet_blocks if is_parquet else csv_blocks)(path, layout)
    seen: set[str] = set()
    start = 0
    with rest.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        others = [name for name in layout.others if name != layout.id_column]
        writer.writerow([layout.id_column or unused("id", others), *others])
        bar = iter(with_progress(list(range(0, rows, BLOCK)), f"writing the images of {path.name}"))
        while True:
            next(bar, None)
            with reading_file(path):
                block = next(blocks, None)
            if block is None:
                break
            table, values = block
            images = as_images(values, layout, path, start)
            numbers = [str(start + row) for row in range(len(table))]
            ids = table[layout.id_column].tolist() if layout.id_column else numbers
            for name, image in zip(ids, images, strict=True):
                require_file_name(name, path, "id")
                if name in seen:
                    raise InputError(f"{shown(path)} has the id '{name}' twice")
                seen.add(name)
                stored = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
                (target / f"{name}.png").write_bytes(cv2.imencode(".png", stored)[1].tobytes())
            cells = (table[name].tolist() for name in others)
            writer.writerows(zip(ids, *cells, strict=True))
            start += len(table)
    return start


def layout_of(header: list[str], row: list[str] | None, path: Path, shape: list[int] | None) -> Layout:
    """The columns of a table, by its header and its first row; raises FoldwiseError if they do not fit the shape."""
    pixels = pixel_columns(header, row)
    cell = "" if pixels or row is None else pixel_cell(header, row)
    number = len(row[header.index(cell)].split()) if cell and row else len(pixels)
    if not number:
        raise InputError(
            f"{shown(path)} has no columns of pixels, such as pixel0, pixel1, ...; move it out of raw/, or list the "
            "files to use in competition.toml: raw = ['...']"
        )
    side = isqrt(number)
    wanted = tuple(shape or (side, side))
    if int(np.prod(wanted)) != number:
        advice = f"pixel_shape = {shape} has {int(np.prod(wanted))}" if shape else "which is not a square"
        raise InputError(
            f"{shown(path)} has {number} pixels for each image, {advice}; set pixel_shape = [height, width], or "
            "[height, width, 3] for colours, at the top of competition.toml"
        )
    others = [name for name in header if name not in {*pixels, cell}]
    named = [name for name in others if name.lower().replace("_", "").strip() in ID_NAMES]
    return Layout(pixels or [cell], bool(cell), others, named[0] if named else "", wanted)


def csv_layout(path: Path, shape: list[int] | None) -> tuple[int, Layout]:
    """The number of rows of a CSV, and its columns."""
    first = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", nrows=1)
    layout = layout_of(list(first.columns), first.iloc[0].tolist(), path, shape)
    with path.open("rb") as file:
        lines = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
        file.seek(-1, 2)
        lines += file.read(1) != b"\n"
    return lines - 1, layout


def csv_blocks(path: Path, layout: Layout) -> Iterator[tuple[pd.DataFrame, np.ndarray]]:
    """Yields the other columns (as text) and the pixels (rows, pixels) of blocks of a CSV."""
    as_text = dict.fromkeys([*layout.others, *(layout.pixels if layout.in_one_cell else [])], str)
    reader = pd.read_csv(path, dtype=as_text, keep_default_na=False, encoding="utf-8-sig", chunksize=BLOCK)
    for block in reader:
        if layout.in_one_cell:
            yield block[layout.others], split_cells(block[layout.pixels[0]], layout)
        else:
            yield block[layout.others], block[layout.pixels].to_numpy()


def split_cells(cells: pd.Series, layout: Layout) -> np.ndarray:
    """The pixels (rows, pixels) of cells that hold all pixels of an image; raises ValueError for another number."""
    values, number = [cell.split() for cell in cells], int(np.prod(layout.shape))
    wrong = next((row for row, cell in enumerate(values) if len(cell) != number), None)
    if wrong is not None:
        raise ValueError(f"row {cells.index[wrong] + 2} has {len(values[wrong])} pixels, not {number}")
    return np.array(values).astype(np.float64)


def parquet_layout(path: Path, shape: list[int] | None) -> tuple[int, Layout]:
    """The number of rows of a parquet table, and its columns."""
    parquet = imported("pyarrow.parquet", f"{shown(path)} is a parquet table")
    with parquet.ParquetFile(path) as file:
        names = file.schema_arrow.names
        texts = [name for name in names if str(file.schema_arrow.field(name).type) in ("string", "large_string")]
        row = None
        if texts and not pixel_columns(names):
            first = next(file.iter_batches(batch_size=1, columns=texts), None)
            cells = first.to_pydict() if first is not None else {}
            row = [str(cells[name][0]) if cells.get(name) else "" for name in names]
        return file.metadata.num_rows, layout_of(names, row, path, shape)


def parquet_blocks(path: Path, layout: Layout) -> Iterator[tuple[pd.DataFrame, np.ndarray]]:
    """As ``csv_blocks``, of a parquet table."""
    parquet = imported("pyarrow.parquet", f"{shown(path)} is a parquet table")
    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=BLOCK):
            others = {name: list(map(str, batch.column(name).to_pylist())) for name in layout.others}
            table = pd.DataFrame(others, index=range(batch.num_rows))
            if layout.in_one_cell:
                yield table, split_cells(pd.Series(batch.column(layout.pixels[0]).to_pylist(), dtype=str), layout)
                continue
            columns = [batch.column(name).to_numpy(zero_copy_only=False) for name in layout.pixels]
            yield table, np.stack(columns, axis=1)


def as_images(values: np.ndarray, layout: Layout, path: Path, start: int) -> np.ndarray:
    """The pixels (rows, pixels) as images (rows, height, width[, 3]) uint8; raises FoldwiseError for other values."""
    numbers = values
    if values.dtype.kind not in "iuf":
        numbers = pd.DataFrame(values).apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    wrong = ~((numbers >= 0) & (numbers <= 255) & (numbers % 1 == 0))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise InputError(
            f"{shown(path)} row {start + row + 2}: a pixel is '{values[row, column]}', not a whole number from 0 to 255"
        )
    return numbers.astype(np.uint8).reshape(len(values), *layout.shape)


def unused(name: str, names: list[str]) -> str:
    """The name, with underscores if it is one of ``names``."""
    while name in names:
        name += "_"
    return name

"""Reads precomputed image vectors and their metadata, as clip-retrieval and other tools write them.

A folder has ``img_emb/img_emb_0.npy``, ``img_emb_1.npy`` and so on, or ``.npy`` and ``.safetensors`` files in it, and,
per file, the paths of its images: ``metadata/metadata_0.parquet``, or ``.jsonl``, with a column ``image_path`` (or
``path``, ``url``, ``key``) and perhaps ``caption``. ``text_emb/text_emb_0.npy`` has the vectors of captions. Files are
read block by block, and never as a whole.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xmodal_cli.errors import BadData, MissingData, Unavailable
from xmodal_cli.file_identity import reason_not_folder
from xmodal_cli.retrieval.half_precision import half_to_float32
from xmodal_cli.shell_commands import install_command

PATHS = ("image_path", "path", "url", "key")
SUFFIXES = (".npy", ".safetensors")
_BATCH = 65_536  # rows of metadata


@dataclass(frozen=True)
class VectorFile:
    """A file with a matrix (count, dim) of ``dtype`` from the byte ``start`` on, and the file of its metadata."""

    path: Path
    start: int
    dtype: np.dtype[np.floating[Any]]
    count: int
    dim: int
    metadata: Path | None = None

    def read(self, first: int, num: int) -> np.ndarray:
        """(num, dim) float32: rows from ``first`` on. Raises BadData for elements that are not finite."""
        offset = self.start + first * self.dim * self.dtype.itemsize
        found = np.fromfile(self.path, self.dtype, num * self.dim, offset=offset)
        with np.errstate(over="ignore"):  # to infinity, which is refused
            found = half_to_float32(found) if self.dtype == np.float16 else found.astype(np.float32, copy=False)
        if len(found) != num * self.dim:
            raise BadData(f"{self.path} is truncated", "write it again")
        if not np.isfinite(found).all():
            row = first + int(np.flatnonzero(~np.isfinite(found))[0]) // self.dim
            raise BadData(f"{self.path} has numbers that are not finite, in row {row}", "compute the vectors again")
        return found.reshape(num, self.dim)

    def photos(self) -> Iterator[tuple[str, str | None]]:
        """The path and the caption, if any, of each row. Raises BadData unless there is one for each."""
        if self.metadata is None:
            yield from ((f"{self.path}#{row}", None) for row in range(self.count))
            return
        count = 0
        for path, caption in read_metadata_file(self.metadata):
            count += 1
            yield path, caption
        if count != self.count:
            raise BadData(
                f"{self.metadata} has {count} rows, but {self.path} has {self.count} vectors", "write both files again"
            )


def find_vector_files(folder: Path, kind: str = "img_emb") -> list[VectorFile]:
    """The files of vectors of a folder, in the order of their numbers. Raises MissingData, BadData."""
    inside = folder / kind if (folder / kind).is_dir() else folder
    if problem := reason_not_folder(inside):
        raise MissingData(f"{folder} {problem}", "give the folder of the vectors")
    files = sorted((p for p in inside.iterdir() if p.suffix in SUFFIXES), key=_order)
    if not files:
        raise MissingData(f"{inside} has no .npy or .safetensors files", "write vectors as img_emb/img_emb_0.npy")
    found = [_open(path, _metadata_of(folder, path)) for path in files]
    for file in found:
        if file.dim != found[0].dim:
            raise BadData(
                f"{file.path} has vectors of size {file.dim}, {found[0].path} of size {found[0].dim}",
                "give a folder with the vectors of one model",
            )
    return [file for file in found if file.count]


def read_metadata_file(path: Path) -> Iterator[tuple[str, str | None]]:
    """The path and the caption of each row of a ``.parquet`` or ``.jsonl`` file. Raises BadData, Unavailable."""
    rows = _parquet_rows(path) if path.suffix == ".parquet" else _json_rows(path)
    for number, row in enumerate(rows, 1):
        name = next((row[key] for key in PATHS if row.get(key)), None)
        if not isinstance(name, str):
            raise BadData(f"{path} has no path in row {number}", f"add a column named {' or '.join(PATHS)}")
        caption = row.get("caption")
        yield name, caption if isinstance(caption, str) else None


def _order(path: Path) -> tuple[str, int, str]:
    stem, _, number = path.stem.rpartition("_")
    return (stem, int(number), "") if number.isdecimal() else ("", 0, path.stem)


def _metadata_of(folder: Path, path: Path) -> Path | None:
    """The file of the metadata of ``path``: of the same number in ``metadata``, or of the same name next to it."""
    number = path.stem.rpartition("_")[2]
    for suffix in (".parquet", ".jsonl"):
        for candidate in (folder / "metadata" / f"metadata_{number}{suffix}", path.with_suffix(suffix)):
            if candidate.is_file():
                return candidate
    return None


def _open(path: Path, metadata: Path | None) -> VectorFile:
    try:
        start, dtype, shape = _npy_header(path) if path.suffix == ".npy" else _safetensors_header(path)
        if len(shape) != 2 or dtype.kind != "f" or shape[1] == 0:
            raise ValueError(f"it has an array of shape {shape} and type {dtype}, not a matrix of numbers")
        if path.stat().st_size < start + math.prod(shape) * dtype.itemsize:
            raise ValueError("it is truncated")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadData(f"{path} cannot be read as vectors: {error}", "write one vector per row") from error
    return VectorFile(path, start, dtype, *shape, metadata)


def _npy_header(path: Path) -> tuple[int, np.dtype[np.floating[Any]], tuple[int, ...]]:
    with open(path, "rb") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read(file)
        if is_fortran:
            raise ValueError("its columns are contiguous, not its rows")
        start = file.seek(0, os.SEEK_CUR)
        return start, dtype, shape


def _safetensors_header(path: Path) -> tuple[int, np.dtype[np.floating[Any]], tuple[int, ...]]:
    """That of the array ``images``, or of the only one."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > path.stat().st_size:
            raise ValueError("it is truncated")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    if "images" not in header and len(header) != 1:
        raise ValueError("it has several arrays, none of which is called images")
    entry = header["images"] if "images" in header else next(iter(header.values()))
    types: dict[str, np.dtype[np.floating[Any]]] = {
        "F16": np.dtype("<f2"),
        "F32": np.dtype("<f4"),
        "F64": np.dtype("<f8"),
    }
    if entry["dtype"] not in types:
        raise ValueError(f"numbers of type {entry['dtype']} are not supported")
    return 8 + length + entry["data_offsets"][0], types[entry["dtype"]], tuple(entry["shape"])


def _parquet_rows(path: Path) -> Iterator[dict[str, object]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise Unavailable(f"reading {path} needs pyarrow", f"install it: {install_command('pyarrow>=18')}") from error
    try:
        file = parquet.ParquetFile(path)
        columns = [name for name in (*PATHS, "caption") if name in file.schema_arrow.names]
        for batch in file.iter_batches(_BATCH, columns=columns):
            yield from batch.to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise BadData(f"{path} cannot be read: {error}", "write it again") from error


def _json_rows(path: Path) -> Iterator[dict[str, object]]:
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError(f"line {number} is not an object")
                yield row
    except (OSError, ValueError, RecursionError) as error:
        raise BadData(f"{path} cannot be read: {error}", "write one JSON object per line") from error

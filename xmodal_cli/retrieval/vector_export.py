"""Writes the vectors of an index, with paths and captions, to files that vector databases and other tools read.

A folder gets ``img_emb/img_emb_0.npy`` and ``metadata/metadata_0.jsonl``, and so on, which ``xmodal vectors import``
reads; ``.parquet`` has the columns ``path``, ``caption`` and ``vector`` (pandas, DuckDB, LanceDB, Milvus); ``.jsonl``
has one point per line, ``{"id", "vector", "payload"}``, as in the API of Qdrant.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xmodal_cli.drafts import draft_folder, sync
from xmodal_cli.errors import ConfigError, Unavailable
from xmodal_cli.paths import atomic_path, storage_errors
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.retrieval.index import Index
from xmodal_cli.shell_commands import install_command

FILE_ROWS = 1_000_000  # vectors per .npy file
_ROWS = 8192  # photos per block


@dataclass(frozen=True)
class ExportedVectors:
    """The file or folder that was written, with (photos, dim) vectors of ``dtype``."""

    index: str
    out: Path
    photos: int
    dim: int
    dtype: str


@dataclass(frozen=True)
class _ExportBlock:
    """Photos in the order of paths, and their vectors (rows, dim)."""

    paths: list[str]
    captions: list[str | None]
    vectors: np.ndarray


def export_index(index: Index, name: str, out: Path, reporter: Reporter = SILENT) -> ExportedVectors:
    """Write all photos, in the order of paths. Raises ConfigError, Unavailable, StorageError."""
    writers = {".parquet": _write_parquet, ".jsonl": _write_points, "": _write_arrays}
    if out.suffix not in writers:
        raise ConfigError(f"{out} has an unknown format", "use FILE.parquet, FILE.jsonl or a folder")
    if os.path.lexists(out):
        raise ConfigError(f"{out} already exists", "choose another path")
    dtype = "float16" if all(part.layout.dtype == "fp16" for part in index.vectors.parts) else "float32"
    with reporter.task("exporting", len(index), "photos") as task, storage_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)

        def blocks() -> Iterator[_ExportBlock]:
            for block in _read(index, dtype):
                yield block
                task.advance(len(block.paths))

        writers[out.suffix](out, blocks(), index.vectors.dim, dtype)
    return ExportedVectors(name, out, len(index), index.vectors.dim, dtype)


def _read(index: Index, dtype: str) -> Iterator[_ExportBlock]:
    for entries, captions in index.items.with_captions(_ROWS):
        vectors = index.vectors.take_once(index.vectors.rows_of(entries)).astype(dtype)
        yield _ExportBlock([entry.item.path for entry in entries], captions, vectors)


def _write_arrays(out: Path, blocks: Iterator[_ExportBlock], dim: int, dtype: str) -> None:
    with draft_folder(out) as draft:  # the folder appears as a whole
        _write_parts(draft, blocks)
        for file in (*draft.rglob("*"), draft):
            sync(file)
        draft.rename(out)
        sync(out.parent)


def _write_parts(folder: Path, blocks: Iterator[_ExportBlock]) -> None:
    arrays, texts = folder / "img_emb", folder / "metadata"
    arrays.mkdir()
    texts.mkdir()
    pending: list[_ExportBlock] = []
    number = 0
    for block in blocks:
        pending.append(block)
        if sum(len(part.paths) for part in pending) >= FILE_ROWS:
            _write_part(arrays, texts, number, pending)
            pending, number = [], number + 1
    if pending:
        _write_part(arrays, texts, number, pending)


def _write_part(arrays: Path, texts: Path, number: int, blocks: list[_ExportBlock]) -> None:
    count, dim = sum(len(block.paths) for block in blocks), blocks[0].vectors.shape[1]
    with open(arrays / f"img_emb_{number}.npy", "wb") as file:
        header = {"descr": blocks[0].vectors.dtype.str, "fortran_order": False, "shape": (count, dim)}
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(np.ascontiguousarray(block.vectors).data)
    with open(texts / f"metadata_{number}.jsonl", "w", encoding="utf-8") as file:
        for block in blocks:
            for path, caption in zip(block.paths, block.captions, strict=True):
                file.write(_json({"image_path": path} if caption is None else {"image_path": path, "caption": caption}))


def _write_points(out: Path, blocks: Iterator[_ExportBlock], dim: int, dtype: str) -> None:
    number = 0
    with atomic_path(out) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for block in blocks:
            for path, caption, vector in zip(block.paths, block.captions, block.vectors, strict=True):
                payload = {"path": path} if caption is None else {"path": path, "caption": caption}
                values = [float(text) for text in np.char.mod("%.6g", vector)]
                file.write(_json({"id": number, "vector": values, "payload": payload}))
                number += 1


def _write_parquet(out: Path, blocks: Iterator[_ExportBlock], dim: int, dtype: str) -> None:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise Unavailable(f"writing {out} needs pyarrow", f"install it: {install_command('pyarrow>=18')}") from error
    element: Any = pyarrow.float16() if dtype == "float16" else pyarrow.float32()
    vector: Any = pyarrow.list_(element, dim)
    columns = [("path", pyarrow.string()), ("caption", pyarrow.string()), ("vector", vector)]
    schema = pyarrow.schema(columns)
    with atomic_path(out) as temporary, parquet.ParquetWriter(temporary, schema) as writer:
        for block in blocks:
            flat = pyarrow.array(block.vectors.reshape(-1), element)
            vectors = pyarrow.FixedSizeListArray.from_arrays(flat, dim)
            paths = [_valid(path) for path in block.paths]
            writer.write_table(pyarrow.table([paths, block.captions, vectors], schema=schema))


def _valid(path: str) -> str:
    """A path as valid text: bytes that are not are replaced."""
    return path.encode("utf-8", "replace").decode()


def _json(row: dict[str, object]) -> str:
    return json.dumps(row) + "\n"

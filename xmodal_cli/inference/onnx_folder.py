"""The folder of an export: ``export.json`` (metadata and checksums), ONNX graphs, and their memory-mapped weights.

Reading one needs neither torch nor the model file. Folders are written by ``onnx_writing``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from xmodal_cli import json_checksum
from xmodal_cli.errors import BadData, MissingData, StorageError, is_out_of_memory
from xmodal_cli.file_errors import reading
from xmodal_cli.file_identity import sha256_of, size_and_mtime
from xmodal_cli.paths import write_text

FORMAT = 1
METADATA = "export.json"
HINT = "the next use exports it again"


class OnnxFolder:
    """The export in ``path`` of the weights with ``fingerprint``.

    Raises MissingData if there is none, BadData if a file has changed. ``check`` raises any exception for invalid
    metadata of a successful export. ``export_error`` is the reason of a failed export, which has no graphs.
    """

    def __init__(self, path: Path, fingerprint: str, check: Callable[[dict[str, Any]], None]) -> None:
        self.path = path
        self.metadata = _read_metadata(path, check)
        if self.metadata["fingerprint"] != fingerprint:
            raise MissingData(f"{path} is the export of another model", HINT)
        self.export_error = str(self.metadata.get("refused", ""))
        self._check_files()

    def is_export_of(self, source: str) -> bool:
        """Whether ``source`` is the exported model and its file has the same size and modification time."""
        record = self.metadata["source"]
        return bool(record["name"] == source and record["stamp"] == _stamp(record["path"]))

    def set_source(self, source: str, path: Path) -> None:
        """Record that the model is at ``path`` under the name ``source``."""
        self.metadata["source"] = source_record(source, path)
        self._save_metadata()

    def _check_files(self) -> None:
        """Compare size and modification time, or once the checksum if the time differs. Raises BadData."""
        has_new_stamp = False
        for name, record in self.metadata["files"].items():
            stamp = _stamp(self.path / name)
            if stamp == record["stamp"]:
                continue
            if stamp[0] != record["stamp"][0] or _checksum(self.path / name) != record["sha256"]:
                raise BadData(f"{self.path / name} is not the file that was exported", HINT)
            record["stamp"], has_new_stamp = stamp, True
        if has_new_stamp:
            self._save_metadata()

    def _save_metadata(self) -> None:
        try:
            write_text(self.path / METADATA, json_checksum.to_text(self.metadata, indent=2) + "\n")
        except StorageError:
            return  # without the cache, the next start is only slower


def verify_export(folder: Path) -> int:
    """Read all files of an export and compare their checksums; returns their size. Raises MissingData, BadData."""
    metadata, num_bytes = _read_metadata(folder, lambda _: None), 0
    for name, record in metadata["files"].items():
        if _checksum(folder / name) != record["sha256"]:
            raise BadData(f"{folder / name} is not the file that was exported", f"delete {folder}; {HINT}")
        num_bytes += (folder / name).stat().st_size
    return num_bytes


def open_session(graph: Path, packed: bool, convolutional: bool = False) -> Any:
    """An onnxruntime session that loads fast, or with ``packed`` weights runs fast. Raises BadData.

    Measured with MiniLM: packing adds 50 ms of load time and saves 5 ms of 9 ms per sentence; memory reuse adds 15 ms
    and saves a few kilobytes; the graph is optimized when it is exported. ``convolutional``: also use the layout of
    this processor for convolutions, which adds 30 ms of load time and saves a third of 40 ms per image; it is not
    part of the export, which may be read by another processor.
    """
    import onnxruntime

    options, levels = onnxruntime.SessionOptions(), onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if convolutional else levels.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_mem_reuse = convolutional
    options.log_severity_level = 4  # errors are raised, too
    options.add_session_config_entry("session.disable_prepacking", "0" if packed else "1")
    try:
        return onnxruntime.InferenceSession(os.fspath(graph), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no common error class
        raise BadData(f"{graph} cannot be loaded: {error}", HINT) from error


def source_record(name: str, path: Path) -> dict[str, Any]:
    """The entry of ``export.json`` for the model file."""
    return {"name": name, "path": str(path), "stamp": _stamp(path)}


def file_records(folder: Path) -> dict[str, Any]:
    """The entries of ``export.json`` for the files in ``folder``."""
    return {f.name: {"stamp": _stamp(f), "sha256": _checksum(f)} for f in sorted(folder.iterdir())}


@contextlib.contextmanager
def running(graph: Path, hint: str = HINT) -> Iterator[None]:
    """Raise an error of onnxruntime, which has no common class, as BadData that names ``graph``.

    Raises MemoryError if there is not enough memory, whatever the graph.
    """
    failed: Exception | None = None
    with reading(graph, hint, what="cannot be run"):
        try:
            yield
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            failed = error
    if failed is not None:
        raise MemoryError(str(failed)) from failed


def _read_metadata(folder: Path, check: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    with reading(folder / METADATA, HINT):
        try:
            metadata = json_checksum.parse((folder / METADATA).read_bytes())
        except FileNotFoundError as error:
            raise MissingData(f"{folder} has no export", HINT) from error
        if metadata["format"] != FORMAT:
            raise ValueError("it has another format")
        if "refused" in metadata and not metadata.get("permanent"):  # of xmodal 0.1: may be due to a full disk
            raise ValueError("it records a failure of an older version")
        _check_records(metadata)
        if "refused" not in metadata:
            check(metadata)
    return metadata


def _check_records(metadata: dict[str, Any]) -> None:
    """Raise an exception, of any type, for records that this module did not write."""
    source = metadata["source"]
    texts = [source["name"], source["path"], metadata["fingerprint"]]
    texts += [record["sha256"] for record in metadata["files"].values()]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a name, path or checksum is not text")
    for stamp in [source["stamp"], *(record["stamp"] for record in metadata["files"].values())]:
        if len(stamp) != 2 or not all(type(number) is int for number in stamp):
            raise ValueError("a size or modification time is not a number")


def _stamp(path: Path | str) -> list[int]:
    """Size and modification time; -1 and -1 for a missing file."""
    return list(size_and_mtime(path) or (-1, -1))


def _checksum(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError:
        return ""

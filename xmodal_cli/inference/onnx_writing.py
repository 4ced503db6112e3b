"""Writes the folder of an export: atomically, with a record of failures, and without torch.

The graphs come from ``onnx_tracing``, or from the bundled ones in ``starter``.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnxruntime

from xmodal_cli import atomic_folder, json_checksum
from xmodal_cli.errors import StorageError, Unavailable, XmodalError
from xmodal_cli.file_errors import parse_json_object
from xmodal_cli.file_identity import size_and_mtime
from xmodal_cli.inference.export_cleaning import remove_unused_exports
from xmodal_cli.inference.onnx_folder import FORMAT, METADATA, file_records
from xmodal_cli.paths import is_machine_failure, storage_errors
from xmodal_cli.version import __version__

MIN_EXTERNAL_SIZE = 4096  # bytes; larger weights are stored outside the graph, to be memory-mapped
WAIT_SECONDS = 300.0  # for another process that writes the same export
MIN_FREE_BYTES = 256 << 20  # below it, an error is not recorded as one of the model


@dataclass(frozen=True)
class ExportRecord:
    """What is exported: ``what`` (``text encoder``) of the model ``name``; ``source`` is its ``source_record``."""

    what: str
    name: str
    fingerprint: str
    source: dict[str, Any]

    def save(self, folder: Path, facts: dict[str, Any]) -> None:
        """Write ``export.json`` with ``facts`` and the checksums of the other files."""
        (folder / METADATA).unlink(missing_ok=True)
        made_by = {"xmodal": __version__, "onnxruntime": onnxruntime.__version__}
        if "torch" in sys.modules:
            made_by["torch"] = sys.modules["torch"].__version__
        common = {"format": FORMAT, "fingerprint": self.fingerprint, "model": self.name, "source": self.source}
        metadata = {**common, **facts, "made_by": made_by, "files": file_records(folder)}
        (folder / METADATA).write_text(json_checksum.to_text(metadata, indent=2) + "\n", encoding="utf-8")


def write_export(folder: Path, record: ExportRecord, write: Callable[[Path], None]) -> None:
    """Replace ``folder`` by what ``write`` puts into a new folder, and remove the exports that no model can use.

    If another process writes it at the same time, its export is used. Raises Unavailable if ``write`` fails; the reason
    is saved in ``folder``, so that the export is not tried again, unless the disk, the memory, permissions or packages
    are the reason. Raises StorageError.
    """
    before = size_and_mtime(folder / METADATA)
    with atomic_folder.write_lock(folder, record.what, wait_seconds=WAIT_SECONDS), storage_errors(folder):
        if size_and_mtime(folder / METADATA) in (before, None):
            reason = _replace(folder, record, write)
        else:  # written by another process during the wait
            reason = parse_json_object((folder / METADATA).read_bytes()).get("refused", "")
    remove_unused_exports(folder)
    if reason:
        raise Unavailable(f"the {record.what} of {record.name} cannot be exported: {reason}", "torch is used instead")


def _replace(folder: Path, record: ExportRecord, write: Callable[[Path], None]) -> str:
    """Write a new folder; returns the reason if the model cannot be exported, which is then saved, else ""."""
    atomic_folder.recover(folder)
    reason = ""
    with atomic_folder.draft_path(folder) as draft:
        try:
            write(draft)
        except Exception as error:  # an exporter may raise anything
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            if is_machine_failure(error) or _has_little_space(draft):
                raise _not_now(record, reason, error) from error
            for file in draft.iterdir():
                file.unlink()
            record.save(draft, {"refused": reason, "permanent": True})
        atomic_folder.replace_folder(draft, folder)
    return reason


def _has_little_space(folder: Path) -> bool:
    """Whether a full disk may be the reason of an error: the messages of onnxruntime do not mention it."""
    return shutil.disk_usage(folder).free < MIN_FREE_BYTES


def _not_now(record: ExportRecord, reason: str, error: Exception) -> XmodalError:
    """The error for a full disk or memory, or missing packages: nothing is recorded, and the next use tries again."""
    if isinstance(error, StorageError):
        return error
    hint = "free memory or disk space; the next use tries again"
    return Unavailable(f"the {record.what} of {record.name} cannot be exported now: {reason}", hint)


def save_graph(graph: Any, folder: Path, stem: str) -> None:
    """Write ``stem.onnx``, optimized, and its large weights to ``stem.bin``. ``graph`` is an onnx.ModelProto."""
    optimized = folder / "optimized.onnx"
    _optimize(graph, optimized)
    for suffix in (".onnx", ".bin"):
        (folder / f"{stem}{suffix}").unlink(missing_ok=True)
    onnx.save_model(
        onnx.load(optimized),
        folder / f"{stem}.onnx",
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=f"{stem}.bin",
        size_threshold=MIN_EXTERNAL_SIZE,
    )
    optimized.unlink()
    weights = folder / f"{stem}.bin"
    weights.touch()  # the file is missing if no weight is large
    weights.chmod((folder / f"{stem}.onnx").stat().st_mode)  # it is created for the owner only, whatever the umask


def step_inputs(graph: Path) -> list[str]:
    """The names of the inputs of a saved graph; those that it does not use are removed when it is optimized."""
    return [i.name for i in onnx.load(graph, load_external_data=False).graph.input]


def _optimize(graph: Any, target: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(target)
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])

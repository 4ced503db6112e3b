"""The log of a run: ``log.jsonl`` with one line per logged step or evaluation, and the same metrics for TensorBoard."""

from __future__ import annotations

import contextlib
import json
import math
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from xmodal_cli.file_errors import parse_json_object, reading
from xmodal_cli.paths import make_folder, storage_errors, write_text

FILE = "log.jsonl"


class RunLog:
    """Appends records; each is ``{"event": "step" | "eval", "step": int, "epoch": int, ...metrics}``, epochs from 1."""

    def __init__(self, folder: Path, tensorboard: bool) -> None:
        self._path = folder / FILE
        make_folder(folder)
        with storage_errors(self._path):
            self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115 (closed in __exit__)
            self._tensorboard = _TensorBoard(folder / "tensorboard") if tensorboard else None

    def write(self, event: str, step: int, epoch: int, metrics: dict[str, float]) -> None:
        """Append one record and flush it. Values that are not finite become null. Raises StorageError."""
        finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        record: dict[str, Any] = {"event": event, "step": step, "epoch": epoch, **finite}
        with storage_errors(self._path):
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()
            if self._tensorboard is not None:
                self._tensorboard.write(event, step, metrics)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with storage_errors(self._path), contextlib.ExitStack() as stack:  # both are closed, also after an error
            stack.callback(self._file.close)
            if self._tensorboard is not None:
                stack.callback(self._tensorboard.close)


class _TensorBoard:
    """Writes TensorBoard events in this thread: tensorboardX's own thread does not report a full disk."""

    def __init__(self, folder: Path) -> None:
        from tensorboardX.record_writer import RecordWriter

        make_folder(folder)
        self._records = RecordWriter(str(folder / f"events.out.tfevents.{time.time_ns()}"))
        self._add(file_version="brain.Event:2")

    def write(self, event: str, step: int, metrics: dict[str, float]) -> None:
        from tensorboardX.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=f"{event}/{name}", simple_value=value) for name, value in metrics.items()]
        self._add(step=step, summary=Summary(value=values))
        if event == "eval":
            self._records.flush()

    def close(self) -> None:
        self._records.close()

    def _add(self, **fields: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._records.write(Event(wall_time=time.time(), **fields).SerializeToString())


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The records so far; lines that are not such records, such as an incomplete last one, are skipped.

    Raises BadData if the file cannot be read.
    """
    file = folder / FILE
    records = []
    with reading(file, "delete it; the run can be resumed without it"):
        lines = file.read_bytes().splitlines() if file.exists() else []
    for line in lines:
        with contextlib.suppress(ValueError):
            record = parse_json_object(line)
            if all(isinstance(record.get(key), int | float) for key in ("step", "epoch")) and "event" in record:
                records.append(record)
    return records


def rewind_log(folder: Path, step: int) -> None:
    """Drop the records after ``step``, whose steps are repeated when the run resumes."""
    kept = [json.dumps(record) + "\n" for record in read_log(folder) if record["step"] <= step]
    write_text(folder / FILE, "".join(kept))

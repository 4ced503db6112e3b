"""The record of a run: ``log.jsonl`` with a line per step or evaluation, and the same numbers for TensorBoard."""

from __future__ import annotations

import contextlib
import json
import math
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from xmodal_cli.paths import storage_errors, write_text

FILE = "log.jsonl"


class RunLog:
    """Appends records; each is ``{"event": "step" | "eval", "step": int, "epoch": int, ...numbers}``."""

    def __init__(self, folder: Path, tensorboard: bool) -> None:
        self._path = folder / FILE
        with storage_errors(self._path):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115 (closed in __exit__)
            self._board = _Board(folder / "tensorboard") if tensorboard else None

    def write(self, event: str, step: int, epoch: int, numbers: dict[str, float]) -> None:
        """One record; it is on disk when this returns. Raises StorageError."""
        finite = {name: value if math.isfinite(value) else None for name, value in numbers.items()}  # as JSON has it
        record: dict[str, Any] = {"event": event, "step": step, "epoch": epoch, **finite}
        with storage_errors(self._path):
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()
            if self._board is not None:
                self._board.write(event, step, numbers)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with storage_errors(self._path), contextlib.ExitStack() as stack:  # both are closed, whatever happens
            stack.callback(self._file.close)
            if self._board is not None:
                stack.callback(self._board.close)


class _Board:
    """The numbers for TensorBoard, written in this thread: on a full disk tensorboardX's own would die unheard."""

    def __init__(self, folder: Path) -> None:
        from tensorboardX.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        self._records = RecordWriter(str(folder / f"events.out.tfevents.{time.time_ns()}"))
        self._add(file_version="brain.Event:2")

    def write(self, event: str, step: int, numbers: dict[str, float]) -> None:
        from tensorboardX.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=f"{event}/{name}", simple_value=value) for name, value in numbers.items()]
        self._add(step=step, summary=Summary(value=values))
        if event == "eval":
            self._records.flush()

    def close(self) -> None:
        self._records.close()

    def _add(self, **fields: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._records.write(Event(wall_time=time.time(), **fields).SerializeToString())


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The records so far; a last line cut short by a kill is left out."""
    file = folder / FILE
    records = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records


def rewind_log(folder: Path, step: int) -> None:
    """Drop what was logged after ``step``: those steps are about to be taken again."""
    kept = [json.dumps(record) + "\n" for record in read_log(folder) if record["step"] <= step]
    write_text(folder / FILE, "".join(kept))

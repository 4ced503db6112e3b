"""The record of a run: ``log.jsonl`` with a line per step or evaluation, and the same numbers for TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from xmodal_cli.paths import write_text

FILE = "log.jsonl"


class RunLog:
    """Appends records; each is ``{"event": "step" | "eval", "step": int, "epoch": int, ...numbers}``."""

    def __init__(self, folder: Path, tensorboard: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = open(folder / FILE, "a", encoding="utf-8")  # noqa: SIM115 (closed in __exit__)
        self._board = _open_board(folder) if tensorboard else None

    def write(self, event: str, step: int, epoch: int, numbers: dict[str, float]) -> None:
        """One record; it is on disk when this returns."""
        record: dict[str, Any] = {"event": event, "step": step, "epoch": epoch, **numbers}
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in numbers.items():
                self._board.add_scalar(f"{event}/{name}", value, step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()


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


def _open_board(folder: Path) -> Any:
    from tensorboardX import SummaryWriter

    return SummaryWriter(logdir=str(folder / "tensorboard"))

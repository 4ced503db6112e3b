"""The record of a run in its files, during training and afterwards. torch is not imported."""

from __future__ import annotations

import contextlib
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xmodal_cli.config import flatten
from xmodal_cli.errors import MissingData, XmodalError
from xmodal_cli.file_errors import parse_json_object, reading
from xmodal_cli.file_identity import size_and_mtime
from xmodal_cli.file_lock import folder_is_locked
from xmodal_cli.models.model_file import read_header
from xmodal_cli.paths import CONFIG_FILE, MODEL_FILE, is_folder
from xmodal_cli.training import log

METRICS_FILE = "metrics.json"
TRAINING, FINISHED, STOPPED = "training", "finished", "stopped"
_HINT = "delete the folder, or train again"
_NO_METRICS = ("event", "step", "epoch")


@dataclass(frozen=True)
class RunRecord:
    """A run. ``best`` are the val metrics of its model, from epoch ``best_epoch``; 0 if that is not known yet.

    ``state`` is ``training`` while a process writes it, ``finished``, or ``stopped`` before the last of ``epochs``
    (early stopping counts as finished). ``steps`` and ``evals`` are the records of its log, ``updated`` is the time of
    the last one in seconds since 1970. ``error`` is why its files cannot be read.
    """

    name: str
    folder: Path
    state: str
    preset: str = ""
    data: str = ""
    epoch: int = 0
    epochs: int = 0
    best_epoch: int = 0
    best: dict[str, float] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)
    evals: list[dict[str, Any]] = field(default_factory=list)
    updated: float = 0.0
    has_model: bool = False
    error: str = ""


def find_runs(folder: Path) -> list[Path]:
    """``folder`` if it is a run, else the runs directly in it, by name; none if it does not exist."""
    if _is_run(folder):
        return [folder]
    found: list[Path] = []
    with contextlib.suppress(OSError):
        found = sorted(path for path in folder.iterdir() if _is_run(path))
    return found


def read_run(folder: Path, name: str = "") -> RunRecord:
    """The run in ``folder``; one whose files cannot be read has an ``error``. Raises MissingData if it is gone."""
    if not _is_run(folder):
        raise MissingData(f"{folder} contains no training run", "train one: xmodal train --model vse --data f8k")
    name = name or folder.name
    try:
        return _read(folder, name)
    except XmodalError as error:
        return RunRecord(name, folder, STOPPED, error=error.message)


def files_state(folder: Path) -> tuple[object, ...]:
    """Changes when ``read_run`` may return another record: sizes and times of the files, and whether it is locked."""
    files = (CONFIG_FILE, log.FILE, METRICS_FILE, MODEL_FILE)
    return folder_is_locked(folder), *(size_and_mtime(folder / name) for name in files)


def _is_run(folder: Path) -> bool:
    return is_folder(folder) and (folder / CONFIG_FILE).is_file()


def _read(folder: Path, name: str) -> RunRecord:
    file = folder / CONFIG_FILE
    with reading(file, _HINT):
        config = tomllib.loads(file.read_text(encoding="utf-8"))
    records = log.read_log(folder)
    evals = [record for record in records if record["event"] == "eval"]
    metrics, epochs = _metrics(folder), _integer(config, "training", "epochs")
    has_model = (folder / MODEL_FILE).is_file()
    best = metrics.get("best") or (read_header(folder / MODEL_FILE).metrics if has_model else {})
    return RunRecord(
        name=name,
        folder=folder,
        state=_state(folder, metrics, config, epochs),
        preset=str(config.get("preset", "")),
        data=str(_at(config, "data", "path") or _at(config, "data", "name") or ""),
        epoch=max((int(record["epoch"]) for record in records), default=0),
        epochs=epochs,
        best_epoch=_best_epoch(metrics, evals, best),
        best={key: value for key, value in best.items() if key not in _NO_METRICS and _is_number(value)},
        settings=flatten(config),
        steps=[record for record in records if record["event"] == "step"],
        evals=evals,
        updated=_updated(folder),
        has_model=has_model,
    )


def _metrics(folder: Path) -> dict[str, Any]:
    file = folder / METRICS_FILE
    with reading(file, _HINT):
        return parse_json_object(file.read_bytes()) if file.exists() else {}


def _state(folder: Path, metrics: Mapping[str, Any], config: Mapping[str, Any], epochs: int) -> str:
    if folder_is_locked(folder):
        return TRAINING
    patience, done = _integer(config, "training", "patience"), _number(metrics.get("epochs"))
    has_waited = bool(patience) and _num_since_best(metrics) >= patience
    return FINISHED if metrics and (done >= epochs or has_waited) else STOPPED


def _num_since_best(metrics: Mapping[str, Any]) -> int:
    """The number of evaluations after the best one, which may be several per epoch, or one in several epochs."""
    history = metrics.get("history")
    if not isinstance(history, list) or metrics.get("best") not in history:
        return 0
    return len(history) - 1 - history.index(metrics["best"])


def _best_epoch(metrics: Mapping[str, Any], evals: Iterable[Mapping[str, Any]], best: Mapping[str, Any]) -> int:
    """The epoch of the best model: after the run from its metrics, before from the evaluation with equal ones."""
    if metrics:
        return int(_number(metrics.get("best_epoch")))
    names = [name for name in best if name not in _NO_METRICS]
    same = [r["epoch"] for r in evals if names and all(r.get(name) == best[name] for name in names)]
    return int(same[0]) if same else 0


def _updated(folder: Path) -> float:
    for name in (log.FILE, CONFIG_FILE):
        with contextlib.suppress(OSError):
            return (folder / name).stat().st_mtime
    return 0.0


def _at(config: Mapping[str, Any], section: str, name: str) -> Any:
    found = config.get(section)
    return found.get(name) if isinstance(found, Mapping) else None


def _integer(config: Mapping[str, Any], section: str, name: str) -> int:
    return int(_number(_at(config, section, name)))


def _number(value: object) -> float:
    return value if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else 0


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

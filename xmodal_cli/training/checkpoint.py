"""The checkpoint that a run resumes from: one safetensors file, written atomically.

It holds the tensors of the models and the optimizer, and the loop state as JSON in the header. It holds no state of
random number generators: every epoch seeds them.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn, optim

from xmodal_cli import json_checksum
from xmodal_cli.errors import BadModel, ConfigError
from xmodal_cli.file_errors import open_safetensors, reading
from xmodal_cli.models.tensor_digest import digest_of
from xmodal_cli.models.towers import load_trainable_state_dict, trainable_state_dict
from xmodal_cli.paths import STATE_FILE, atomic_path

DIGEST = "tensors"  # the key of their sha256 in the header


@dataclass
class LoopState:
    """Progress of the loop: completed epochs, steps taken, and the best score so far, negated if lower is better.

    ``origin`` identifies data, features and vocabulary; a run resumes only with the same ``origin`` and ``adapted``.
    """

    origin: str = ""
    epoch: int = 0
    step: int = 0
    best_score: float | None = None
    best_epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)  # val metrics, one per evaluation
    scaler: dict[str, Any] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)  # the entry of ``history`` with the best score
    waited: int = 0  # evaluations since then
    adapted: dict[str, float] = field(default_factory=dict)  # settings that were adapted to a small dataset


def save_state(folder: Path, state: LoopState, models: Mapping[str, nn.Module], optimizer: optim.Optimizer) -> None:
    """Write ``folder/state.safetensors``; ``models`` by name. Raises StorageError."""
    tensors: dict[str, Tensor] = {}
    for part, model in models.items():
        tensors |= {f"{part}.{name}": value for name, value in trainable_state_dict(model).items()}
    for number, entry in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{key}": value for key, value in entry.items()}
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    header = {**asdict(state), DIGEST: digest_of(tensors)}
    with atomic_path(folder / STATE_FILE) as partial_file:
        save_file(tensors, partial_file, metadata={"loop": json_checksum.to_text(header)})


def load_state(
    folder: Path, models: Mapping[str, nn.Module], optimizer: optim.Optimizer, origin: str = ""
) -> LoopState:
    """Restore models and optimizer, and return the loop state.

    Raises BadModel for an invalid file, ConfigError for another ``origin``.
    """
    state, tensors = read_state(folder)
    if state.origin != origin:
        hint = "resume with the same data and features, or train in another folder with --out"
        raise ConfigError(f"{folder.parent} was trained on other data", hint)
    with _reading(folder):
        for part, model in models.items():
            prefix = f"{part}."
            own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            load_trainable_state_dict(model, own)
        optimizer.load_state_dict({**optimizer.state_dict(), "state": _optimizer_state(tensors, optimizer)})
    return state


def read_state(folder: Path) -> tuple[LoopState, dict[str, Tensor]]:
    """The loop state and the tensors of ``folder/state.safetensors``, whose checksums are compared. Raises BadModel."""
    with _reading(folder):
        with open_safetensors(folder / STATE_FILE, "pt") as opened:
            fields = json_checksum.parse(opened.metadata()["loop"])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dict)
        digest = fields.pop(DIGEST, None)  # older versions have none
        if digest is not None and digest != digest_of(tensors):
            raise ValueError("the checksum of its tensors is wrong")
        return _state_from(fields), tensors


def _reading(folder: Path) -> AbstractContextManager[None]:
    return reading(folder / STATE_FILE, "delete the run's folder and train again", BadModel, "cannot be resumed from")


def _state_from(fields: dict[str, Any]) -> LoopState:
    """The loop state of its JSON. Raises TypeError, ValueError."""
    state = LoopState(**fields)
    if not all(type(number) is int and number >= 0 for number in (state.epoch, state.step, state.best_epoch)):
        raise ValueError("its epoch and step are not counts")
    if not isinstance(state.origin, str) or not isinstance(state.best_score, float | int | None):
        raise ValueError("its origin or best_score has another type")
    if not isinstance(state.scaler, dict) or not isinstance(state.history, list):
        raise ValueError("its history or scaler has another type")
    if not all(isinstance(entry, dict) and "epoch" in entry for entry in state.history):
        raise ValueError("its history is not a list of metrics")
    if not isinstance(state.best, dict) or not isinstance(state.adapted, dict) or type(state.waited) is not int:
        raise ValueError("its best, adapted or waited has another type")
    if "best" not in fields:  # of an older version: both follow from its history
        state.best = next((entry for entry in state.history if entry["epoch"] == state.best_epoch), {})
        state.waited = state.epoch - state.best_epoch
    return state


def _optimizer_state(tensors: dict[str, Tensor], optimizer: optim.Optimizer) -> dict[int, dict[str, Tensor]]:
    """Parameter number -> its optimizer tensors by name. Raises ValueError for tensors of other shapes."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    entries: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, number, key = name.split(".", 2)
            if value.ndim and value.shape != parameters[int(number)].shape:
                raise ValueError(f"{name} has the shape {tuple(value.shape)}")
            entries.setdefault(int(number), {})[key] = value
    if entries and (len({frozenset(entry) for entry in entries.values()}) > 1 or len(entries) > len(parameters)):
        raise ValueError("its optimizer state is incomplete")
    return entries


def seed_epoch(seed: int, epoch: int, rank: int = 0) -> None:
    """Seed the global generators of torch before an epoch; the processes of one training have different dropout."""
    torch.manual_seed((seed + 1) * 1_000_003 + epoch + (rank << 40))

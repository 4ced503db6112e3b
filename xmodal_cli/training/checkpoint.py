"""What a run needs to go on exactly where it stopped: one safetensors file, written in one step.

Tensors of the model and of the optimiser, and the counters of the loop as JSON in the header. Random numbers need
no keeping: every epoch seeds its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn, optim

from xmodal_cli.errors import BadModel, ConfigError
from xmodal_cli.models.towers import load_trainable_state_dict, trainable_state_dict
from xmodal_cli.paths import atomic_path

FILE = "state.safetensors"


@dataclass
class LoopState:
    """Where the loop is: epochs that are complete, steps taken, and the best score so far.

    ``origin`` names what is trained on; a run goes on with the same only.
    """

    origin: str = ""
    epoch: int = 0
    step: int = 0
    best_score: float | None = None
    best_epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)  # val metrics, one per epoch
    scaler: dict[str, Any] = field(default_factory=dict)


def save_state(folder: Path, state: LoopState, models: Mapping[str, nn.Module], optimizer: optim.Optimizer) -> None:
    """Write ``folder/state.safetensors``; ``models`` by a name of their own. Raises StorageError."""
    tensors: dict[str, Tensor] = {}
    for part, model in models.items():
        tensors |= {f"{part}.{name}": value.contiguous() for name, value in trainable_state_dict(model).items()}
    for number, entry in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{key}": value.contiguous() for key, value in entry.items()}
    with atomic_path(folder / FILE) as draft:
        save_file(tensors, draft, metadata={"loop": json.dumps(asdict(state))})


def load_state(
    folder: Path, models: Mapping[str, nn.Module], optimizer: optim.Optimizer, origin: str = ""
) -> LoopState:
    """Put models and optimiser back as they were saved, and return the counters.

    Raises BadModel for a file that cannot be used, ConfigError for one of another ``origin``.
    """
    file = folder / FILE
    try:
        with safe_open(file, framework="pt") as opened:
            state = LoopState(**json.loads(opened.metadata()["loop"]))
            if state.origin != origin:
                hint = "resume with the data and features it was started with, or train elsewhere with --out"
                raise ConfigError(f"{folder.parent} was trained on other data", hint)
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dict)
        for part, model in models.items():
            head = f"{part}."
            load_trainable_state_dict(
                model, {k.removeprefix(head): v for k, v in tensors.items() if k.startswith(head)}
            )
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise BadModel(f"{file} cannot be resumed from: {error}", "delete the run's folder and train again") from error
    saved = optimizer.state_dict()
    saved["state"] = _by_parameter(tensors)
    optimizer.load_state_dict(saved)
    return state


def _by_parameter(tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    entries: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, number, key = name.split(".", 2)
            entries.setdefault(int(number), {})[key] = value
    return entries


def seed_epoch(seed: int, epoch: int) -> None:
    """Seed every generator that an epoch may draw from."""
    torch.manual_seed((seed + 1) * 1_000_003 + epoch)

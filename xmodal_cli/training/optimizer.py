"""Optimizers, parameter groups and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from torch import nn, optim
from torch.nn import Parameter

from xmodal_cli.errors import UnknownName

OPTIMIZERS: dict[str, type[optim.Adam] | type[optim.AdamW]] = {"adam": optim.Adam, "adamw": optim.AdamW}
SCHEDULES = ("constant", "step", "cosine", "linear")


def build_optimizer(
    parameters: Iterable[Parameter] | Iterable[dict[str, Any]], name: str, lr: float, weight_decay: float
) -> optim.Adam | optim.AdamW:
    """``adam`` or ``adamw``, in the fused implementation. Raises UnknownName."""
    if name not in OPTIMIZERS:
        raise UnknownName.of("optimizer", name, OPTIMIZERS)
    return OPTIMIZERS[name](parameters, lr=lr, weight_decay=weight_decay, fused=True)


def group_parameters(model: nn.Module, lr_scale: Callable[[str], float], weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups by learning-rate multiplier and weight decay, with the keys ``params lr_scale weight_decay``.

    ``lr_scale`` maps a parameter's name to its multiplier. Biases, norms and scales have no weight decay; frozen
    parameters are left out.
    """
    groups: dict[tuple[float, float], list[Parameter]] = {}
    for name, value in model.named_parameters():
        if value.requires_grad:
            decay = weight_decay if value.ndim > 1 else 0.0
            groups.setdefault((lr_scale(name), decay), []).append(value)
    return [{"params": values, "lr_scale": scale, "weight_decay": decay} for (scale, decay), values in groups.items()]


def build_schedule(
    name: str, steps_per_epoch: int, epochs: int, warmup_steps: int, step_epochs: int, gamma: float
) -> Callable[[int], float]:
    """A function from the step (0-based) to the factor on the learning rate, in [0, 1]. Raises UnknownName."""
    if name not in SCHEDULES:
        raise UnknownName.of("schedule", name, SCHEDULES)
    total = max(1, steps_per_epoch * epochs - warmup_steps)

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        done = min(1.0, (step - warmup_steps) / total)
        if name == "step":
            return gamma ** (step // (steps_per_epoch * step_epochs))
        if name == "cosine":
            return 0.5 * (1 + math.cos(math.pi * done))
        return 1 - done if name == "linear" else 1.0

    return factor


def lower_lr(lr: float) -> float:
    """A learning rate to suggest after ``lr`` failed: a tenth, and never more than usual ones."""
    return min(lr / 10, 1e-3)
